"""What a generated sample is worth: how many real events have errors as small (2008.06545).

A distribution is cut into n bins of equal probability p = 1/n. In a sample of N real events the
part x_j in a bin has the variance p (1 − p) / N, so that a sample whose mean squared error over the
bins is δ² tells as much of the distribution as p (1 − p) / δ² real events do. A generated sample
has as many events as one likes; what is left of its error is what the generator has learned
wrongly. If it is worth more events than the training had, the generator has amplified them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pileupgen.arrays import Floats
from pileupgen.errors import ConfigError
from pileupgen.fields import PlainRecord
from pileupgen.measure.bootstrap import Estimate, estimate, resample

N_DRAWS = 400


@dataclass(frozen=True)
class Worth(PlainRecord):
    """What samples of one kind are worth, from several of them."""

    n_bins: int
    error: Estimate
    """Mean squared error δ² of the parts in the bins."""
    events: Estimate
    """Real events that have the same error; infinite where it cannot be told from 0."""


def quantile_edges(truth: Floats, n_bins: int) -> Floats:
    """Inner edges of bins of equal probability, shape ``(n_bins − 1,)``.

    Parameters
    ----------
    truth : float64 array, shape (M,)
        Real events apart from all others, or quantiles of a known distribution.

    Raises
    ------
    ConfigError
        If there are fewer than two bins, or so many that two edges coincide.
    """
    if n_bins < 2:
        raise ConfigError(f"{n_bins} bins of equal probability tell nothing.", "Ask for 2 or more.")
    edges = np.quantile(truth, np.arange(1, n_bins) / n_bins)
    if np.any(np.diff(edges) <= 0):
        raise ConfigError(
            f"{n_bins} bins of equal probability have edges that coincide.",
            "Ask for fewer, or take an observable with fewer ties.",
        )
    return edges


def quantile_error(sample: Floats, edges: Floats) -> float:
    """Mean over bins of the squared difference between the part of a sample and 1 / n."""
    n_bins = len(edges) + 1
    parts = np.bincount(np.searchsorted(edges, sample), minlength=n_bins) / len(sample)
    return float(np.mean(np.square(parts - 1 / n_bins)))


def worth_of(errors: Floats, n_bins: int, n_truth: float = np.inf, seed: int = 0) -> Worth:
    """Give the mean error of several samples and the events that it is worth, with intervals.

    Parameters
    ----------
    errors : float64 array, shape (R,)
        What :func:`quantile_error` gave, of R samples from R trainings on events of their own.
    n_truth : float
        Events that the edges were found from, whose own error is taken off; infinite of a known
        distribution.
    """
    variance = (1 / n_bins) * (1 - 1 / n_bins)
    counts = resample(len(errors), N_DRAWS, np.random.default_rng([seed, 23]))
    drawn = errors @ counts / len(errors)
    mean = float(errors.mean())
    # 1 / N is nearly normal where N is not; the ends of its interval are those of N.
    inverse = estimate(mean / variance - 1 / n_truth, drawn / variance - 1 / n_truth)
    value, few, many = (
        1 / x if x > 0 else np.inf for x in (inverse.value, inverse.high, inverse.low)
    )
    return Worth(n_bins, estimate(mean, drawn, lower=0.0), Estimate(value, few, many))
