"""Towers to images and back.

A tower that is a cell of the grid goes there whole. Any other shares its energy among the cells
it overlaps, in proportion to the overlapping area in η × φ, so that the energy inside the
acceptance is conserved. A tower without area (a centre, a zero-width edge) goes whole to the cell
that holds its centre.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Floats, Ints
from pileupgen.calo.geometry import Grid
from pileupgen.calo.overlap import overlaps
from pileupgen.calo.rowtable import RowMemo
from pileupgen.calo.towers import Towers, four_edges
from pileupgen.errors import GeometryError

_SHARED = -1
_TOWERS_AT_ONCE = 1 << 17


def towers_to_images(towers: Towers, grid: Grid) -> tuple[NDArray[np.float32], Floats]:
    """Draw towers on a grid.

    Parameters
    ----------
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
        If a layer of the grid is not among the towers' layers, or an edge is not finite.
    """
    return Imager(grid).draw(towers)


class Imager:
    """Draws towers on a grid, and remembers where each tower of the detector lies.

    Attributes
    ----------
    n_towers, n_shared : int
        Towers drawn so far, and how many of them shared their energy among cells.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.n_towers = 0
        self.n_shared = 0
        self._n_cells = grid.n_eta * grid.n_phi
        self._dead = [np.flatnonzero(dead) for dead in grid.is_dead]
        self._kind: tuple[np.dtype[Any], int] = (np.dtype(np.float32), 4)
        self._memo = RowMemo()

    def draw(self, towers: Towers) -> tuple[NDArray[np.float32], Floats]:
        """Draw towers; the same as :func:`towers_to_images`, faster from the second call on."""
        columns = self._columns(towers.layers)
        images = np.empty((towers.n_events, *self.grid.shape), dtype=np.float32)
        outside = np.empty((towers.n_events, len(columns)))
        for begin, end in _blocks(towers.offsets):
            self._draw_block(
                towers.events(begin, end), columns, images[begin:end], outside[begin:end]
            )
        return images, outside

    def _draw_block(
        self,
        towers: Towers,
        columns: list[int],
        images: NDArray[np.float32],
        outside: Floats,
    ) -> None:
        place = self._places(towers)
        self.n_towers += towers.n_towers
        if not self._assign(towers, place, columns, images, outside):
            self._add_up(towers, place, columns, images, outside)

    def _assign(
        self,
        towers: Towers,
        place: NDArray[np.int64],
        columns: list[int],
        images: NDArray[np.float32],
        outside: Floats,
    ) -> bool:
        """Draw towers that fill different cells in the cells' order, and say whether they do.

        Detectors mostly write them so; it takes half of the time of sums.
        """
        n_cells = self._n_cells
        # The first event mostly tells that they do not.
        first_event = place[: towers.offsets[1]]
        if np.any(first_event[1:] <= first_event[:-1]):
            return False
        if len(place) and (place.min() < 0 or place.max() >= n_cells):
            return False
        start = np.arange(towers.n_events, dtype=np.int64) * (len(columns) * n_cells)
        bins = np.repeat(start, np.diff(towers.offsets))
        bins += place
        if not np.all(bins[1:] > bins[:-1]):
            return False
        images.fill(0.0)
        flat = images.reshape(-1)
        cells = images.reshape(towers.n_events, len(columns), n_cells)
        for layer, column in enumerate(columns):
            # −0.0 becomes 0, as in a sum.
            flat[layer * n_cells :][bins] = towers.energy[:, column] + np.float32(0.0)
            dead = self._dead[layer]
            outside[:, layer] = cells[:, layer, dead].sum(axis=1, dtype=np.float64)
            cells[:, layer, dead] = 0.0
        return True

    def _add_up(
        self,
        towers: Towers,
        place: NDArray[np.int64],
        columns: list[int],
        images: NDArray[np.float32],
        outside: Floats,
    ) -> None:
        """Draw towers of any kind, and count those that are shared."""
        # One bin more than cells: what lies outside.
        n_bins = self._n_cells + 1
        flat = images.reshape(towers.n_events, len(columns), self._n_cells)
        bins = np.repeat(
            np.arange(towers.n_events, dtype=np.int64) * n_bins, np.diff(towers.offsets)
        )
        shared = np.flatnonzero(place == _SHARED)
        self.n_shared += len(shared)
        owner = bins[:0]
        if len(shared):
            tower, cell, share = self._shares(towers.edges[shared])
            owner = shared[tower]
            place[shared] = self._n_cells
            bins = np.concatenate([bins + place, bins[owner] + cell])
        else:
            bins += place
        for layer, column in enumerate(columns):
            energy: NDArray[Any] = towers.energy[:, column]
            if len(owner):
                energy = energy.astype(np.float64)
                pieces = energy[owner] * share
                energy[shared] = 0.0
                energy = np.concatenate([energy, pieces])
            drawn = np.bincount(bins, weights=energy, minlength=towers.n_events * n_bins)
            drawn = drawn.reshape(towers.n_events, n_bins)
            outside[:, layer] = drawn[:, -1]
            if len(self._dead[layer]):
                outside[:, layer] += drawn[:, self._dead[layer]].sum(axis=1)
                drawn[:, self._dead[layer]] = 0.0
            flat[:, layer] = drawn[:, :-1]

    def _columns(self, layers: tuple[str, ...]) -> list[int]:
        missing = [layer for layer in self.grid.layers if layer not in layers]
        if missing:
            raise GeometryError(
                f"The grid has layers {missing}, the towers only {list(layers)}.",
                "Name the layers alike in the card and in the geometry.",
            )
        return [layers.index(layer) for layer in self.grid.layers]

    def _places(self, towers: Towers) -> NDArray[np.int64]:
        """Flat cell of each tower; ``n_cells``: outside, ``_SHARED``: in several cells."""
        edges = towers.edges
        kind = (edges.dtype, edges.shape[1])
        if kind != self._kind:
            self._kind, self._memo = kind, RowMemo()
        return self._memo.of(edges, lambda rows: self._locate(towers, rows))

    def _locate(self, towers: Towers, rows: NDArray[np.int64] | slice) -> NDArray[np.int64]:
        edges = towers.edges[rows]
        if not np.all(np.isfinite(edges)):
            bad = int(np.flatnonzero(~np.isfinite(edges).all(axis=1))[0])
            row = bad if isinstance(rows, slice) else int(rows[bad])
            event = int(np.searchsorted(towers.offsets, row, side="right")) - 1
            raise GeometryError(
                f"Event {int(towers.event_id[event])} has a tower with edges {edges[bad].tolist()}."
            )
        cell, tower, share = overlaps(four_edges(edges), self.grid)
        place = np.full(len(edges), self._n_cells, dtype=np.int64)
        place[tower] = _SHARED
        whole = np.abs(share - 1.0) < 1e-9
        place[tower[whole]] = cell[whole]
        return place

    def _shares(self, edges: NDArray[Any]) -> tuple[Ints, Ints, Floats]:
        """Pairs ``(tower, cell, share)``; what lies outside is a cell of its own."""
        cell, tower, share = overlaps(four_edges(edges), self.grid)
        rest = 1.0 - np.bincount(tower, weights=share, minlength=len(edges))
        leaks = np.flatnonzero(rest > 1e-9)
        return (
            np.concatenate([tower, leaks]),
            np.concatenate([cell, np.full(len(leaks), self._n_cells, dtype=np.int64)]),
            np.concatenate([share, rest[leaks]]),
        )


def _blocks(offsets: Ints) -> Iterator[tuple[int, int]]:
    """Yield runs of events whose towers fit into a processor's cache together."""
    begin, n_events = 0, len(offsets) - 1
    while begin < n_events:
        limit = offsets[begin] + _TOWERS_AT_ONCE
        end = max(int(np.searchsorted(offsets, limit, side="right")) - 1, begin + 1)
        yield begin, min(end, n_events)
        begin = end


def images_to_towers(
    images: NDArray[np.float32],
    grid: Grid,
    mu: NDArray[np.float32] | None = None,
    event_id: Ints | None = None,
) -> Towers:
    """Every cell with energy in any layer as one tower; the inverse of :func:`towers_to_images`.

    Cells that are wider than the image's are one tower each; layers that differ in granularity have
    towers of their own.

    Parameters
    ----------
    images : float32 array, shape (N, L, n_eta, n_phi)
        Energy in GeV.
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
    parts = [_towers_of(images, grid, layers) for layers in _alike(grid)]
    event, edges, energy = (
        column[0] if len(column) == 1 else np.concatenate(column)
        for column in zip(*parts, strict=True)
    )
    if len(parts) > 1:
        order = np.argsort(event, kind="stable")
        event, edges, energy = event[order], edges[order], energy[order]
    offsets = np.zeros(n_events + 1, dtype=np.int64)
    np.cumsum(np.bincount(event, minlength=n_events), out=offsets[1:])
    return Towers(
        offsets=offsets,
        edges=edges,
        energy=energy,
        layers=grid.layers,
        mu=np.full(n_events, np.nan, dtype=np.float32) if mu is None else mu,
        event_id=np.arange(n_events, dtype=np.int64) if event_id is None else event_id,
    )


def _alike(grid: Grid) -> list[list[int]]:
    """Layers grouped by granularity."""
    groups: dict[bytes, list[int]] = {}
    for layer, (ring, width) in enumerate(zip(grid.layer_rings, grid.layer_widths, strict=True)):
        groups.setdefault(ring.tobytes() + width.tobytes(), []).append(layer)
    return list(groups.values())


def _towers_of(
    images: NDArray[np.float32], grid: Grid, layers: list[int]
) -> tuple[Ints, Floats, NDArray[np.float32]]:
    """Event, edges and energies of the towers of layers that are alike."""
    ring, width = grid.layer_rings[layers[0]], grid.layer_widths[layers[0]]
    has = np.flatnonzero(ring >= 0)
    first = has[np.flatnonzero(np.diff(ring[has], prepend=-1))]
    last = np.append(first[1:], has[-1] + 1)
    cells = images if len(layers) == grid.n_layers else images[:, layers]
    if len(first) < grid.n_eta:
        inside = cells[:, :, : has[-1] + 1].astype(np.float64)
        cells = np.add.reduceat(inside, first, axis=2).astype(np.float32)
    cells = _gather(cells, width[first])
    shape = (len(cells), len(layers), len(first) * grid.n_phi)
    cells = cells.reshape(shape)
    has_energy = cells[:, 0] != 0
    for layer in range(1, len(layers)):
        has_energy |= cells[:, layer] != 0
    event, cell = np.divmod(np.flatnonzero(has_energy), shape[2])
    i_ring, i_phi = np.divmod(np.arange(shape[2]), grid.n_phi)
    eta_edges, phi_edges = np.asarray(grid.eta_edges, dtype=np.float64), grid.phi_edges
    beyond = np.minimum(i_phi + width[first[i_ring]], grid.n_phi)
    edges = np.stack(
        [
            eta_edges[first[i_ring]],
            eta_edges[last[i_ring]],
            phi_edges[i_phi],
            phi_edges[beyond],
        ],
        axis=1,
    )
    energy = np.zeros((grid.n_layers, len(event)), dtype=np.float32).T
    place = event * (shape[1] * shape[2]) + cell
    for position, layer in enumerate(layers):
        energy[:, layer] = cells.reshape(-1).take(place + position * shape[2])
    return event, edges.take(cell, axis=0), energy


def _gather(images: NDArray[np.float32], width: Ints) -> NDArray[np.float32]:
    """Bring the energy of cells that are wider than the image's to the first cell of each."""
    if np.all(width == 1):
        return images
    gathered = images.copy()
    for ring in np.flatnonzero(width > 1):
        cells = images[:, :, ring]
        wide = cells.reshape(*cells.shape[:2], -1, width[ring]).sum(axis=-1, dtype=np.float64)
        gathered[:, :, ring] = 0.0
        gathered[:, :, ring, :: width[ring]] = wide
    return gathered
