"""Cells of the detector that are dead: as the geometry says, or because they never have energy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Flags, Ints
from pileupgen.calo.geometry import Grid

MIN_EXPECTED_HITS = 20
"""A cell without hits where its ring has this many on average is dead: e⁻²⁰ by chance."""
_N_NAMED = 3
_AT_ONCE = 255


def count_hits(images: NDArray[np.float32]) -> Ints:
    """Events in which each cell has energy, shape (L, n_eta, n_phi).

    Parameters
    ----------
    images : float32 array, shape (N, L, n_eta, n_phi)
        GeV.
    """
    hits = np.zeros(images.shape[1:], dtype=np.int64)
    is_hit = (images != 0).view(np.uint8)
    for begin in range(0, len(images), _AT_ONCE):
        # Bytes add up many times faster than wider integers, and 255 fit into one.
        hits += np.add.reduce(is_hit[begin : begin + _AT_ONCE], axis=0, dtype=np.uint8)
    return hits


def find_silent(hits: NDArray[np.integer[Any]]) -> Flags:
    """Cells that never had energy although their ring had enough to tell.

    Parameters
    ----------
    hits : integer array, shape (L, n_eta, n_phi)
        From :func:`count_hits`.
    """
    expected = hits.mean(axis=2, keepdims=True)
    return np.asarray((hits == 0) & (expected >= MIN_EXPECTED_HITS))


def count_dead(grid: Grid) -> tuple[int, ...]:
    """Cells of the detector that the geometry calls dead, per layer."""
    is_there = (grid.layer_rings >= 0)[:, :, None]
    return _n_cells(grid.is_dead & is_there, grid)


def count_silent(grid: Grid, hits: Ints) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Cells of the detector that never fire though the geometry does not call them dead.

    Parameters
    ----------
    hits : int64 array, shape (L, n_eta, n_phi)
        From :func:`count_hits`.

    Returns
    -------
    counts : tuple of int
        Per layer.
    places : tuple of str
        The first of each layer.
    """
    silent = find_silent(hits) & ~grid.is_dead
    counts = _n_cells(silent, grid)
    places = []
    for layer in np.flatnonzero(counts)[:_N_NAMED]:
        ring, cell = np.argwhere(silent[layer])[0]
        eta, phi = grid.eta_centres[ring], grid.phi_centres[cell]
        places.append(f"{grid.layers[layer]} at η = {eta:.2f}, φ = {phi:.2f}")
    return counts, tuple(places)


def _n_cells(chosen: Flags, grid: Grid) -> tuple[int, ...]:
    """Count cells of the detector, which may be wider than the image's."""
    counts = []
    for of_layer, rings, widths in zip(chosen, grid.layer_rings, grid.layer_widths, strict=True):
        n_rings = np.bincount(rings[rings >= 0], minlength=1)[np.maximum(rings, 0)]
        counts.append(round(float(np.sum(of_layer / (n_rings * widths)[:, None]))))
    return tuple(counts)
