"""Release weights r(x_t, t_release), clipped, and a summary of their clipping."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pileupgen.arrays import Floats
from pileupgen.fields import PlainRecord


def clipped_weights(log_ratio: Floats, limit: float) -> Floats:
    """exp(ln r), ln r clipped to ∓ ``limit``, shape (N,)."""
    return np.asarray(np.exp(np.clip(log_ratio, -limit, limit)))


def effective_fraction(log_ratio: Floats) -> float:
    """(Σr)² / (N Σr²), in (0, 1].

    >>> effective_fraction(np.zeros(3))
    1.0
    """
    return float(effective_fractions(log_ratio))


def effective_fractions(log_ratio: Floats) -> Floats:
    """:func:`effective_fraction` of the events along the last axis, for each of the others."""
    r = np.exp(log_ratio - log_ratio.max(axis=-1, keepdims=True))
    total, squares = r.sum(axis=-1), (r**2).sum(axis=-1)
    return np.asarray(total**2 / (r.shape[-1] * squares))


@dataclass(frozen=True)
class WeightSummary(PlainRecord):
    """Effective sample size and clipping of a sample's weights."""

    ess: float
    """(Σw)² / (N Σw²) of the clipped weights."""
    clipped: float
    """Fraction of events whose ln r was clipped."""
    limit: float
    """Largest ``|ln r|``; what is beyond is clipped to it."""

    @classmethod
    def of(cls, log_ratio: Floats, limit: float) -> WeightSummary:
        """Summarise ln r of N ≥ 1 events."""
        clipped = float(np.mean(np.abs(log_ratio) > limit))
        return cls(effective_fraction(np.clip(log_ratio, -limit, limit)), clipped, limit)
