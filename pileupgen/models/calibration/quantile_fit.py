"""Quantile tables, bins of μ and of the layer before, and dead cells, from training events."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from pileupgen.arrays import Flags, Floats, Ints
from pileupgen.models.calibration.quantiles import S_MAX, extend_tail, extend_to_zero
from pileupgen.samples.dead_cells import count_hits, find_silent

_N_SMALLEST = 30
NO_THRESHOLD = 1e-30
"""What stands for a threshold where hits come close to zero."""


def mu_binning(mus: Sequence[NDArray[np.float32]], n_bins: int) -> tuple[Floats, Floats]:
    """Edges, ``(n_bins + 1,)``, of bins of equal contents in μ, and their means, ``(n_bins,)``."""
    pooled = np.concatenate([np.asarray(mu, dtype=np.float64) for mu in mus])
    pooled = pooled[np.isfinite(pooled)]
    if n_bins > 1 and len(pooled):
        edges = np.quantile(pooled, np.linspace(0, 1, n_bins + 1))
    else:
        edges = np.array([0.0] * n_bins + [1.0])
    edges[0], edges[-1] = -np.inf, np.inf
    centres = np.zeros(n_bins)
    for index in range(n_bins):
        inside = pooled[(pooled >= edges[index]) & (pooled < edges[index + 1])]
        centres[index] = inside.mean() if len(inside) else (centres[index - 1] if index else 0.0)
    return edges, np.maximum.accumulate(centres)


def fit_knots(
    sizes: NDArray[np.float32],
    n_knots: int,
    *,
    lowest: float | None = None,
    tied: Floats | None = None,
) -> Floats:
    """Quantiles of ln E at even knots in score, ``(n_knots,)``, strictly ascending.

    Parameters
    ----------
    sizes : float32 array, shape (n,)
        E > 0, at least one.
    n_knots : int
        K.
    lowest : float, optional
        From :func:`find_threshold`, where hits have both signs and may come close to zero.
    tied : float64 array, optional
        Values that come again and again. If the largest E is among them there is no tail beyond.
    """
    levels = ndtr(np.linspace(-S_MAX, S_MAX, n_knots))
    knots = np.quantile(np.log(sizes.astype(np.float64)), levels)
    if tied is None or not np.any(np.abs(tied) == sizes.max()):
        knots = extend_tail(knots, len(sizes))
    if lowest is not None:
        knots = np.maximum(extend_to_zero(knots, len(sizes)), np.log(lowest))
    return knots + 1e-6 * np.arange(n_knots)


def find_threshold(values: NDArray[np.float32]) -> float:
    """Smallest |E| of the hits if there is a threshold, else a number close to zero.

    Without one the density is finite at zero, and the smallest |E| and the 30th are within a factor
    of 3 by a chance of (2/3)²⁹.
    """
    sizes = np.abs(values[values != 0]).astype(np.float64)
    if len(sizes) < _N_SMALLEST:
        return NO_THRESHOLD
    smallest = np.partition(sizes, _N_SMALLEST - 1)[:_N_SMALLEST]
    has_one = smallest.max() < 3 * smallest.min()
    return float(smallest.min()) if has_one else NO_THRESHOLD


def condition_bins(values: NDArray[np.float32], n_parts: int, *, has_ties: bool) -> Ints:
    """Condition bin of the next layer: 0 for null cells, else by rank among the hits.

    Parameters
    ----------
    values : float32 array
        Values of one layer.
    n_parts : int
        Bins of equal mass for the hits.
    has_ties : bool
        Whether a value's rank is the middle of those of all its equals.
    """
    condition = np.zeros(values.shape, dtype=np.int64)
    hit = values != 0
    if n_parts > 0 and np.any(hit):
        ordered = np.sort(values[hit])
        last = np.searchsorted(ordered, values[hit], side="right")
        first = np.searchsorted(ordered, values[hit], side="left") if has_ties else last - 1
        rank = 0.5 * (first + last) / len(ordered)
        condition[hit] = 1 + np.minimum((rank * n_parts).astype(np.int64), n_parts - 1)
    return condition


def find_alive(energy: NDArray[np.float32]) -> Flags:
    """Cells that ever had energy, or of whose ring too few had any to tell, (L, n_eta, n_phi)."""
    return ~find_silent(count_hits(energy))
