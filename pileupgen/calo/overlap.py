"""Which cells of a grid a tower covers, and with what share of its area."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Floats, Ints
from pileupgen.calo.geometry import TWO_PI, Grid

EDGE_TOLERANCE = 1e-3
"""Edges nearer than this fraction of a cell are the same edge (Delphes stores float32)."""


def overlaps(edges: NDArray[np.floating[Any]], grid: Grid) -> tuple[Ints, Ints, Floats]:
    """Which cells a tower covers, and with what share of its area.

    Parameters
    ----------
    edges : float array, shape (n, 4)
        ``eta_min, eta_max, phi_min, phi_max`` per tower, finite. η edges out of order are put in
        order. Of φ edges out of order the narrower reading is taken: swapped, or a tower that
        spans the seam of the φ convention. Any φ convention will do.

    Returns
    -------
    cell, tower : int64 arrays, shape (m,)
        Flat cell index ``i_eta * n_phi + i_phi`` and tower index of every overlapping pair,
        ordered by tower.
    share : float64 array, shape (m,)
        Fraction of the tower's energy that the cell receives. Sums to 1 over a tower that lies
        inside the acceptance.
    """
    eta_low, eta_high, phi_low, phi_high = ordered_edges(edges)
    eta_tower, i_eta, share_eta = _overlaps_1d(eta_low, eta_high, np.asarray(grid.eta_edges))
    phi_tower, i_phi, share_phi = _overlaps_phi(phi_low, phi_high, grid)
    tower, first, second = _join(eta_tower, phi_tower, len(edges))
    cell = i_eta[first] * grid.n_phi + i_phi[second]
    return cell, tower, share_eta[first] * share_phi[second]


def ordered_edges(
    edges: NDArray[np.floating[Any]],
) -> tuple[Floats, Floats, Floats, Floats]:
    """``eta_low, eta_high, phi_low, phi_high`` of towers whose edges may be out of order.

    Parameters
    ----------
    edges : float array, shape (n, 4)
        ``eta_min, eta_max, phi_min, phi_max`` per tower.

    Returns
    -------
    four float64 arrays, shape (n,)
        φ may pass the upper end of its convention where a tower spans the seam.
    """
    values = np.asarray(edges, dtype=np.float64)
    phi_low, phi_high = values[:, 2].copy(), values[:, 3].copy()
    reversed_ = phi_low > phi_high
    spans_seam = reversed_ & (phi_low - phi_high > np.pi)
    phi_high[spans_seam] += TWO_PI
    swap = reversed_ & ~spans_seam
    phi_low[swap], phi_high[swap] = phi_high[swap], phi_low[swap]
    return (
        np.minimum(values[:, 0], values[:, 1]),
        np.maximum(values[:, 0], values[:, 1]),
        phi_low,
        phi_high,
    )


def _overlaps_phi(low: Floats, high: Floats, grid: Grid) -> tuple[Ints, Ints, Floats]:
    """Overlaps in φ: as :func:`_overlaps_1d`, after whole turns have been taken off."""
    turns = np.floor((low - grid.phi_min) / TWO_PI + 1e-9) * TWO_PI
    low, high = low - turns, high - turns
    high = np.minimum(high, low + TWO_PI)
    edges = grid.phi_edges
    if grid.is_periodic:
        twice = np.concatenate([edges, edges[1:] + TWO_PI])
        tower, i_phi, share = _overlaps_1d(low, high, twice)
        return tower, i_phi % grid.n_phi, share
    # A window: what begins below it has been taken to its upper side, so look one turn below too.
    here, below = _overlaps_1d(low, high, edges), _overlaps_1d(low - TWO_PI, high - TWO_PI, edges)
    both = [np.concatenate(pair) for pair in zip(here, below, strict=True)]
    order = np.argsort(both[0], kind="stable")
    return both[0][order], both[1][order], both[2][order]


def _overlaps_1d(low: Floats, high: Floats, edges: Floats) -> tuple[Ints, Ints, Floats]:
    """Interval by bin, ordered by interval: ``(interval, bin, share)``.

    An end within the tolerance of a bin edge is moved onto it, so that nothing is lost in a
    sliver. An interval narrower than the tolerance is a point and goes whole to one bin; the
    upper edge of the last bin belongs to it.
    """
    n_bins = len(edges) - 1
    tolerance = EDGE_TOLERANCE * float(np.min(np.diff(edges)))
    middle = 0.5 * (low + high)
    low, high = _snap(low, edges, tolerance), _snap(high, edges, tolerance)
    is_point = high - low <= tolerance
    first = np.searchsorted(edges, np.where(is_point, middle, low), side="right") - 1
    first[is_point & (middle == edges[-1])] = n_bins - 1
    last = np.where(is_point, first, np.searchsorted(edges, high, side="left") - 1)
    first_in, last_in = np.maximum(first, 0), np.minimum(last, n_bins - 1)
    count = np.maximum(last_in - first_in + 1, 0)
    count[is_point & ((first < 0) | (first >= n_bins))] = 0
    interval = np.repeat(np.arange(len(low), dtype=np.int64), count)
    start = np.repeat(np.cumsum(count) - count, count)
    bins = first_in[interval] + (np.arange(len(interval)) - start)
    part = np.minimum(high[interval], edges[bins + 1]) - np.maximum(low[interval], edges[bins])
    whole = (first == last)[interval]
    width = np.where(is_point, 1.0, high - low)[interval]
    share = np.where(whole, 1.0, part / width)
    return interval, bins.astype(np.int64), share


def _snap(values: Floats, edges: Floats, tolerance: float) -> Floats:
    """Values, those within the tolerance of an edge moved onto it."""
    right = np.clip(np.searchsorted(edges, values), 1, len(edges) - 1)
    below, above = edges[right - 1], edges[right]
    nearest = np.where(values - below < above - values, below, above)
    return np.where(np.abs(values - nearest) <= tolerance, nearest, values)


def _join(left: Ints, right: Ints, n: int) -> tuple[Ints, Ints, Ints]:
    """All pairs of rows of two sorted key columns that agree: ``(key, left_row, right_row)``."""
    n_right = np.bincount(right, minlength=n)
    begin_right = np.cumsum(n_right) - n_right
    repeats = n_right[left]
    first = np.repeat(np.arange(len(left)), repeats)
    key = left[first]
    within = np.arange(len(first)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    return key, first.astype(np.int64), (begin_right[key] + within).astype(np.int64)
