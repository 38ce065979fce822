"""Estimates with intervals from resampled events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import BeforeValidator, ConfigDict, WithJsonSchema

from pileupgen.arrays import Floats
from pileupgen.errors import InputError

LEVEL = 0.6827
"""Probability content of every interval: one standard deviation of a Gaussian."""

Number = Annotated[
    float,
    BeforeValidator(lambda value: float("nan") if value is None else value),
    WithJsonSchema({"type": ["number", "null"]}),
]
"""A float that is null in JSON where it is not defined, and NaN here."""


@dataclass(frozen=True)
class Estimate:
    """A value with its interval."""

    __pydantic_config__ = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    value: Number
    """The estimate; NaN where it is not defined."""
    low: Number
    """Lower end of the 68.27 % interval."""
    high: Number
    """Upper end of the 68.27 % interval."""

    @property
    def is_known(self) -> bool:
        """Whether the value is defined."""
        return bool(np.isfinite(self.value))

    @property
    def has_interval(self) -> bool:
        """Whether there is an interval of some width."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high) and self.low != self.high)

    @property
    def error(self) -> float:
        """Half the interval's width."""
        return 0.5 * (self.high - self.low)


def estimate(
    value: float, draws: Floats, lower: float = -np.inf, upper: float = np.inf
) -> Estimate:
    """Give an estimate the interval that its bootstrap draws tell.

    A distance between samples grows when events are drawn twice, so the draws lie above the
    estimate. What they tell is the spread: their quantiles are taken about their own mean and put
    about the estimate. The interval is for the estimator's expectation at these numbers of events,
    which is why the reference stands beside every distance.

    Parameters
    ----------
    draws : float64 array, shape (B,)
        The same from resampled events; NaN draws are left out.
    lower, upper : float
        What the quantity cannot leave.
    """
    finite = draws[np.isfinite(draws)]
    if not np.isfinite(value) or not len(finite):
        return Estimate(float(value), float("nan"), float("nan"))
    tail = 0.5 * (1.0 - LEVEL)
    low, high = np.quantile(finite, [tail, 1.0 - tail]) - finite.mean() + value
    return Estimate(
        float(value), float(np.clip(low, lower, value)), float(np.clip(high, value, upper))
    )


def resample(n: int, n_draws: int, rng: np.random.Generator) -> Floats:
    """How often each event is drawn with replacement.

    Returns
    -------
    float64 array, shape (n, n_draws)
        Each column sums to n.
    """
    counts = rng.multinomial(n, np.full(n, 1.0 / n), size=n_draws)
    return np.ascontiguousarray(counts.T, dtype=np.float64)


def effective_size(weight: Floats) -> float:
    """Effective number of events (Σw)² / Σw².

    >>> effective_size(np.array([1.0, 1.0, 0.0]))
    2.0
    """
    return float(weight.sum() ** 2 / np.square(weight).sum())


UNKNOWN = Estimate(float("nan"), float("nan"), float("nan"))


def require_weights(weight: Floats, where: str) -> None:
    """Refuse weights that no distance is defined for.

    Raises
    ------
    InputError
        If a weight is negative, not finite or so large that its square is, or if all are zero;
        says how many.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        n_bad = int(np.sum(~np.isfinite(np.square(weight))))
    n_negative = int(np.sum(weight < 0))
    if n_bad or n_negative:
        raise InputError(
            f"{where}: of {len(weight)} event weights {n_bad} are not finite or too large "
            f"and {n_negative} are negative.",
            "Distances and effective sizes need weights ≥ 0: correct them, or translate again.",
        )
    if not np.any(weight > 0):
        raise InputError(f"{where}: all {len(weight)} event weights are zero.", "Translate again.")


def event_counts(n: int, n_draws: int, rng: np.random.Generator) -> Floats:
    """How often each event counts: as it is, then resampled, (n, 1 + n_draws)."""
    return np.concatenate([np.ones((n, 1)), resample(n, n_draws, rng)], axis=1)
