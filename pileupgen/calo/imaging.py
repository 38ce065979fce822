"""Towers to images and back.

A tower that is a cell of the grid goes there whole. Any other shares its energy among the cells
it overlaps, in proportion to the overlapping area in η × φ, so that the energy inside the
acceptance is conserved. A tower without area (a centre, a zero-width edge) goes whole to the cell
that holds its centre.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pileupgen.calo.geometry import TWO_PI, Grid
from pileupgen.calo.towers import Towers
from pileupgen.errors import GeometryError

EDGE_TOLERANCE = 1e-3
"""Edges nearer than this fraction of a cell are the same edge (Delphes stores float32)."""


def towers_to_images(towers: Towers, grid: Grid) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Draw towers on a grid.

    Parameters
    ----------
    towers : Towers
        N events.
    grid : Grid
        Must have the towers' layers, in any order.

    Returns
    -------
    images : float32 array, shape (N, L, n_eta, n_phi)
        Energy in GeV.
    outside : float64 array, shape (N, L)
        Energy in GeV that lies outside the grid's acceptance.

    Raises
    ------
    GeometryError
        If a layer of the grid is not among the towers' layers.
    """
    missing = [layer for layer in grid.layers if layer not in towers.layers]
    if missing:
        raise GeometryError(
            f"The grid has layers {missing}, the towers only {list(towers.layers)}.",
            "Name the layers alike in the card and in the geometry.",
        )
    columns = [towers.layers.index(layer) for layer in grid.layers]
    cell, tower, share = overlaps(towers.edges, grid)
    event = towers.event_index()
    images = np.empty((towers.n_events, *grid.shape), dtype=np.float32)
    outside = towers.event_sums()[:, columns]
    n_cells = grid.n_eta * grid.n_phi
    flat = event[tower] * n_cells + cell
    for layer, column in enumerate(columns):
        weights = towers.energy[tower, column] * share
        drawn = np.bincount(flat, weights=weights, minlength=towers.n_events * n_cells)
        drawn = drawn.reshape(towers.n_events, grid.n_eta, grid.n_phi)
        images[:, layer] = drawn
        outside[:, layer] -= drawn.sum(axis=(1, 2))
    outside[np.abs(outside) < 1e-9 * (1.0 + np.abs(towers.event_sums()[:, columns]))] = 0.0
    return images, outside


def overlaps(
    edges: NDArray[np.float64], grid: Grid
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Which cells a tower covers, and with what share of its area.

    Parameters
    ----------
    edges : float64 array, shape (n, 4)
        ``eta_min, eta_max, phi_min, phi_max`` per tower; edges out of order are put in order.
    grid : Grid
        The cells.

    Returns
    -------
    cell, tower : int64 arrays, shape (m,)
        Flat cell index ``i_eta * n_phi + i_phi`` and tower index of every overlapping pair.
    share : float64 array, shape (m,)
        Fraction of the tower's energy that the cell receives. Sums to 1 over a tower that lies
        inside the acceptance.
    """
    eta_low, eta_high = np.minimum(edges[:, 0], edges[:, 1]), np.maximum(edges[:, 0], edges[:, 1])
    phi_low, phi_high = np.minimum(edges[:, 2], edges[:, 3]), np.maximum(edges[:, 2], edges[:, 3])
    eta_pairs = _overlaps_1d(eta_low, eta_high, np.asarray(grid.eta_edges, dtype=np.float64))
    phi_edges = grid.phi_edges
    if grid.is_periodic:
        turns = np.floor((phi_low - grid.phi_min) / TWO_PI + 1e-9) * TWO_PI
        phi_low, phi_high = phi_low - turns, phi_high - turns
        phi_high = np.minimum(phi_high, phi_low + TWO_PI)
        phi_edges = np.concatenate([phi_edges, phi_edges[1:] + TWO_PI])
    phi_pairs = _overlaps_1d(phi_low, phi_high, phi_edges)
    tower, first, second = _join(eta_pairs[0], phi_pairs[0], len(edges))
    i_eta, share_eta = eta_pairs[1][first], eta_pairs[2][first]
    i_phi, share_phi = phi_pairs[1][second] % grid.n_phi, phi_pairs[2][second]
    return i_eta * grid.n_phi + i_phi, tower, share_eta * share_phi


def _overlaps_1d(
    low: NDArray[np.float64], high: NDArray[np.float64], edges: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Interval by bin, sorted by interval: ``(interval, bin, share)``."""
    n_bins = len(edges) - 1
    tolerance = EDGE_TOLERANCE * float(np.min(np.diff(edges)))
    middle = 0.5 * (low + high)
    width = high - low
    is_point = width <= tolerance
    begin = np.where(is_point, middle, low + tolerance)
    end = np.where(is_point, middle, high - tolerance)
    first = np.searchsorted(edges, begin, side="right") - 1
    last = np.searchsorted(edges, end, side="left") - 1
    # The upper edge of the acceptance belongs to its last bin.
    on_top = is_point & (middle == edges[-1])
    first = np.where(on_top, n_bins - 1, first)
    last = np.where(is_point, first, np.maximum(last, first))
    first_in, last_in = np.clip(first, 0, n_bins), np.clip(last, -1, n_bins - 1)
    count = np.maximum(last_in - first_in + 1, 0)
    interval = np.repeat(np.arange(len(low), dtype=np.int64), count)
    start = np.repeat(np.cumsum(count) - count, count)
    bins = first_in[interval] + (np.arange(len(interval)) - start)
    whole = (first == last)[interval]
    part = np.minimum(high[interval], edges[bins + 1]) - np.maximum(low[interval], edges[bins])
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(whole, 1.0, part / width[interval])
    return interval, bins.astype(np.int64), share


def _join(
    left: NDArray[np.int64], right: NDArray[np.int64], n: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """All pairs of rows of two sorted key columns that agree: ``(key, left_row, right_row)``."""
    n_left, n_right = np.bincount(left, minlength=n), np.bincount(right, minlength=n)
    begin_right = np.cumsum(n_right) - n_right
    repeats = n_right[left]
    first = np.repeat(np.arange(len(left)), repeats)
    key = left[first]
    within = np.arange(len(first)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    return key, first.astype(np.int64), (begin_right[key] + within).astype(np.int64)


def images_to_towers(
    images: NDArray[np.float32],
    grid: Grid,
    mu: NDArray[np.float32] | None = None,
    event_id: NDArray[np.int64] | None = None,
) -> Towers:
    """Every cell with energy in any layer as one tower; the inverse of :func:`towers_to_images`.

    Parameters
    ----------
    images : float32 array, shape (N, L, n_eta, n_phi)
        Energy in GeV.
    grid : Grid
        The images' grid.
    mu, event_id : arrays, shape (N,), optional
        Carried along; NaN and 0 … N−1 where not given.

    Raises
    ------
    GeometryError
        If the images do not have the grid's shape.
    """
    if images.shape[1:] != grid.shape:
        raise GeometryError(f"Images of shape {images.shape[1:]} on a grid of {grid.shape}.")
    n_events = len(images)
    event, i_eta, i_phi = np.nonzero(np.any(images != 0, axis=1))
    offsets = np.zeros(n_events + 1, dtype=np.int64)
    np.cumsum(np.bincount(event, minlength=n_events), out=offsets[1:])
    eta_edges, phi_edges = np.asarray(grid.eta_edges, dtype=np.float64), grid.phi_edges
    edges = np.stack(
        [eta_edges[i_eta], eta_edges[i_eta + 1], phi_edges[i_phi], phi_edges[i_phi + 1]], axis=1
    )
    return Towers(
        offsets=offsets,
        edges=edges,
        energy=np.ascontiguousarray(images[event, :, i_eta, i_phi], dtype=np.float32),
        layers=grid.layers,
        mu=np.full(n_events, np.nan, dtype=np.float32) if mu is None else mu,
        event_id=np.arange(n_events, dtype=np.int64) if event_id is None else event_id,
    )
