"""Distances between one-dimensional samples."""

from __future__ import annotations

import numpy as np

from pileupgen.arrays import Floats

N_BINS = 20
"""Bins of the separation power between the outer quantiles, besides under- and overflow."""
OUTER = 0.005
"""Quantile of the target that the first bin begins at; the last ends at its mirror."""


def wasserstein(x: Floats, y: Floats, wx: Floats | None = None, wy: Floats | None = None) -> Floats:
    """1D Wasserstein distance W1 = ∫ |F_x − F_y|, for many sets of weights at once.

    With one set it equals ``scipy.stats.wasserstein_distance``. Sorting is done once for all sets.

    Parameters
    ----------
    x, y : float64 arrays, shape (n,) and (m,)
        The samples.
    wx, wy : float64 arrays, shape (n, B) and (m, B), optional
        Weights ≥ 0; each column is scaled to sum 1. All events count alike where not given.

    Returns
    -------
    float64 array, shape (B,)
        In the samples' unit. B is 1 where no weights are given.

    Examples
    --------
    >>> wasserstein(np.array([0.0, 1.0]), np.array([2.0, 3.0]))
    array([2.])
    """
    columns = next((w.shape[1] for w in (wx, wy) if w is not None), 1)
    wx = np.ones((len(x), columns)) if wx is None else wx
    wy = np.ones((len(y), columns)) if wy is None else wy
    pooled = np.concatenate([x, y])
    order = np.argsort(pooled, kind="stable")
    signed = np.concatenate([wx / wx.sum(axis=0), -wy / wy.sum(axis=0)])[order]
    difference = np.cumsum(signed, axis=0)[:-1]
    np.abs(difference, out=difference)
    return np.diff(pooled[order]) @ difference


def weighted_std(x: Floats, weights: Floats) -> Floats:
    """Compute a sample's standard deviation under each column of weights.

    Parameters
    ----------
    x : float64 array, shape (n,)
        The sample.
    weights : float64 array, shape (n, B)
        Weights ≥ 0.

    Returns
    -------
    float64 array, shape (B,)
    """
    total = weights.sum(axis=0)
    centred = x - x.mean()
    first = centred @ weights / total
    second = np.square(centred) @ weights / total
    return np.sqrt(np.maximum(second - np.square(first), 0.0))


def is_constant(x: Floats) -> bool:
    """Whether a sample varies by no more than rounding."""
    return bool(np.ptp(x) <= 1e-9 * np.max(np.abs(x), initial=0.0))


def separation_edges(target: Floats) -> Floats:
    """Inner bin edges for :func:`separation_power`, shape ``(N_BINS + 1,)``.

    Even between the target's 0.5 % and 99.5 % quantiles; a constant gets a bin around it.
    """
    low, high = np.quantile(target, [OUTER, 1.0 - OUTER])
    if is_constant(target) or high <= low:
        half = 1e-6 * max(abs(low), abs(high), 1e-6)
        low, high = low - half, high + half
    return np.linspace(low, high, N_BINS + 1)


def unit_histogram(x: Floats, edges: Floats, weights: Floats | None = None) -> Floats:
    """Histogram that sums to 1, with an underflow bin before and an overflow bin behind.

    Parameters
    ----------
    x : float64 array, shape (n,)
        The sample; nothing is dropped.
    edges : float64 array, shape (k + 1,)
        Inner edges, ascending.
    weights : float64 array, shape (n,), optional
        Weights ≥ 0.

    Returns
    -------
    float64 array, shape (k + 2,)
    """
    bins = np.searchsorted(edges, x, side="right")
    counts = np.bincount(bins, weights=weights, minlength=len(edges) + 1).astype(np.float64)
    return counts / counts.sum()


def separation_power(h1: Floats, h2: Floats) -> float:
    """½ Σ (h₁ − h₂)² / (h₁ + h₂) of unit-sum histograms (2009.03796, 2410.21611).

    0 for equal histograms, 1 for disjoint ones.

    >>> separation_power(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    1.0
    """
    total = h1 + h2
    filled = total > 0
    return float(0.5 * np.sum(np.square(h1 - h2)[filled] / total[filled]))
