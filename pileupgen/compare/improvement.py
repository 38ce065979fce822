"""How far a cut on a score improves the significance of a signal: ε_S / √ε_B (2001.04990)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pileupgen.arrays import Flags, Floats
from pileupgen.compare.two_sample import roc_auc
from pileupgen.errors import InputError
from pileupgen.fields import PlainRecord
from pileupgen.measure.bootstrap import Estimate, estimate, resample

N_DRAWS = 200
FEWEST = 20
"""Background events that a cut has to leave, so that ε_B is known to a quarter."""
EFFICIENCY = 0.01
"""Background efficiency at which the improvement is given beside its maximum."""


@dataclass(frozen=True)
class Improvement(PlainRecord):
    """What a score is worth on labelled events."""

    largest: Estimate
    """Max SIC over all cuts that leave ``FEWEST`` background events. It is the largest of many, so
    that a score without any power has more than 1, by its scatter."""
    at_efficiency: Estimate
    """SIC at the background efficiency ``EFFICIENCY``."""
    auc: float


def significance_improvement(
    scores: Floats, is_signal: Flags, seed: int = 0, n_draws: int = N_DRAWS
) -> Improvement:
    """Measure the improvement, with intervals from resampled events.

    Parameters
    ----------
    scores : float64 array, shape (n,)
        Higher for what is like signal; equal ones are cut together.
    is_signal : bool array, shape (n,)

    Raises
    ------
    InputError
        If there is no signal, or too little background for a cut.
    """
    n_signal, n_background = int(is_signal.sum()), int((~is_signal).sum())
    if not n_signal or n_background < 2 * FEWEST:
        raise InputError(
            f"{n_signal} signal and {n_background} background events are too few to judge a cut.",
            f"Give at least 1 and {2 * FEWEST}.",
        )
    rng = np.random.default_rng([seed, 31])
    counts = np.ones((len(scores), 1 + n_draws))
    for rows in (np.flatnonzero(is_signal), np.flatnonzero(~is_signal)):
        counts[rows, 1:] = resample(len(rows), n_draws, rng)
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf) != 0)
    passed = [
        np.cumsum(counts[order] * kind[order, None], axis=0)[last]
        for kind in (is_signal, ~is_signal)
    ]
    signal, background = passed[0] / n_signal, passed[1] / n_background
    curve = np.where(passed[1] >= FEWEST, signal / np.sqrt(np.maximum(background, 1e-12)), 0.0)
    largest = curve.max(axis=0)
    at = np.array(
        [
            np.interp(EFFICIENCY, b, s, left=0.0) / np.sqrt(EFFICIENCY)
            for s, b in zip(signal.T, background.T, strict=True)
        ]
    )
    return Improvement(
        estimate(float(largest[0]), largest[1:], lower=0.0),
        estimate(float(at[0]), at[1:], lower=0.0),
        roc_auc(scores, is_signal, np.ones(len(scores))),
    )
