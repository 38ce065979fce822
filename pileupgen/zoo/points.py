"""Images as sets of hits, and sets as images again.

A cell above the threshold becomes a point: a place in units of cells, spread evenly within its
cell, and the cell's energy. On the way back a point belongs to the cell that it lies in, and
energies of points in one cell are summed. So hits of an image come back to the byte. What is lost:

- cells at or below the threshold (``Points.below``, GeV), negative ones included;
- where in its cell a point lay, which is no more than a random number here;
- which points shared a cell (``Gathered.n_merged``);
- points outside the grid or in dead cells (``Gathered.n_outside``, ``Gathered.outside``).

``kept + outside`` are the points' energies, and ``below`` with them the image's. :func:`apart`
gives each point a cell of its own beforehand, as hits of an image have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Flags, Floats, Ints
from pileupgen.calo.geometry import Grid
from pileupgen.models.codec import EventNoise
from pileupgen.samples.store import Images

_STREAM = 31
_PARTS = 4096
"""Places within a cell; exact in single precision up to 2,048 cells."""


@dataclass(frozen=True)
class Points:
    """Sets of up to P points of N events, padded at the end."""

    place: NDArray[np.float32]
    """Continuous coordinates: of calorimeters layer, ring and column in units of cells; of other
    sets whatever they have. 0 where padded. Shape (N, P, d)."""
    energy: NDArray[np.float32]
    """GeV; 0 where padded. Shape (N, P)."""
    mask: Flags
    """Which points there are. Shape (N, P)."""
    below: Floats
    """GeV of an event that no point has. Shape (N,)."""

    def __len__(self) -> int:
        return len(self.mask)

    @property
    def count(self) -> Ints:
        """Points of each event, shape (N,)."""
        return np.asarray(self.mask.sum(axis=1), dtype=np.int64)


@dataclass(frozen=True)
class Gathered:
    """Images of sets, and what did not come along."""

    energy: NDArray[np.float32]
    """GeV. Shape (N, L, n_eta, n_phi)."""
    n_merged: Ints
    """Points added to a cell that had one already. Shape (N,)."""
    n_outside: Ints
    """Points outside the grid or in dead cells. Shape (N,)."""
    outside: Floats
    """Their energy, GeV. Shape (N,)."""


def hits_of(images: Images, seed: int, threshold: float = 0.0) -> Points:
    """Take the hits of images.

    Parameters
    ----------
    images : Images
    seed : int
        Of the places within cells, with the events' numbers.
    threshold : float
        GeV; hits have more.
    """
    is_hit = images.energy > threshold
    count = is_hit.reshape(len(images), -1).sum(axis=1)
    most = int(count.max(initial=0))
    mask = np.arange(most) < count[:, None]
    event, *cells = np.nonzero(is_hit)
    place = np.zeros((len(images), most, 3), dtype=np.float32)
    energy = np.zeros((len(images), most), dtype=np.float32)
    uniform = EventNoise(seed, images.event_id, _STREAM).uniform((most, 3)).numpy()
    # Whole parts, so that no sum is rounded up into the next cell.
    within = (np.floor(uniform * _PARTS) + 0.5) / _PARTS
    place[mask] = np.stack(cells, axis=1) + within[mask]
    energy[mask] = images.energy[event, *cells]
    low = np.where(is_hit, 0.0, images.energy.astype(np.float64)).sum(axis=(1, 2, 3))
    return Points(place, energy, mask, low)


def cells_of(points: Points, grid: Grid) -> Gathered:
    """Sum the energies of points cell by cell; a place beyond a full turn in φ is turned back.

    Parameters
    ----------
    points : Points
        With three coordinates: layer, ring, column.
    grid : Grid
    """
    cell, is_inside = cells_at(points.place, grid)
    is_inside &= points.mask
    energy = np.where(points.mask, points.energy, 0.0).astype(np.float64)
    event = np.broadcast_to(np.arange(len(points))[:, None], is_inside.shape)
    index = (event[is_inside], *np.moveaxis(cell[is_inside], -1, 0))
    shape = (len(points), *grid.shape)
    total, occupied = np.zeros(shape), np.zeros(shape, dtype=bool)
    np.add.at(total, index, energy[is_inside])
    occupied[index] = True
    is_outside = points.mask & ~is_inside
    return Gathered(
        total.astype(np.float32),
        is_inside.sum(axis=1) - occupied.reshape(len(points), -1).sum(axis=1),
        is_outside.sum(axis=1),
        np.where(is_outside, energy, 0.0).sum(axis=1),
    )


def cells_at(place: NDArray[np.float32], grid: Grid) -> tuple[Ints, Flags]:
    """Cells that places lie in, (…, 3), and whether the grid has them alive, (…)."""
    cell = np.floor(place).astype(np.int64)
    if grid.is_periodic:
        cell[..., 2] %= grid.n_phi
    is_inside: Flags = np.asarray(((cell >= 0) & (cell < grid.shape)).all(axis=-1))
    cell = np.where(is_inside[..., None], cell, 0)
    return cell, is_inside & ~grid.is_dead[tuple(np.moveaxis(cell, -1, 0))]


def apart(place: NDArray[np.float32], energy: NDArray[np.float32], grid: Grid) -> Ints:
    """Give the points of an event cells of their own, near to where they lie.

    Of points in one cell that with most energy stays; the others, in the order of their energies,
    go to the free cell of their layer whose centre is nearest to them, distances in rings and
    columns, or for a shower in rings and arcs. So the number of points in a region stays what it
    is, to within the few cells that they move, which is not so where energies are summed. In a
    layer that is full the rest stay, and are summed.

    Parameters
    ----------
    place : float32 array, shape (n, 3)
        Within the grid.
    energy : float32 array, shape (n,)
    grid : Grid

    Returns
    -------
    int array, shape (n, 3)
    """
    cell, is_alive = cells_at(place, grid)
    taken = grid.is_dead.copy()
    order = np.argsort(-energy, kind="stable")
    flat = np.ravel_multi_index(tuple(cell[order].T), grid.shape)
    _, first = np.unique(flat, return_index=True)
    stays = np.zeros(len(order), dtype=bool)
    stays[first] = True
    stays &= is_alive[order]
    taken[tuple(cell[order[stays]].T)] = True
    columns = np.arange(grid.n_phi) + 0.5
    for point in order[~stays]:
        layer, ring = cell[point, 0], cell[point, 1]
        if taken[layer].all():
            continue
        in_ring = place[point, 1] - np.arange(grid.n_eta) - 0.5
        around = np.abs(place[point, 2] - columns)
        if grid.is_periodic:
            around = np.minimum(around % grid.n_phi, grid.n_phi - around % grid.n_phi)
        if grid.is_shower:
            around = around * (2 * np.pi * (ring + 0.5) / grid.n_phi)
        distance = in_ring[:, None] ** 2 + around**2
        distance[taken[layer]] = np.inf
        cell[point, 1:] = np.unravel_index(int(distance.argmin()), distance.shape)
        taken[tuple(cell[point])] = True
    return cell


def scaled_to(
    image: NDArray[np.float32], sums: Floats, lowest: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Scale what cells have above their layer's smallest hit, so that layers have given sums.

    Where no hit is above the smallest, all get alike. A layer whose sum is below that of as many
    smallest hits has smallest hits.

    Parameters
    ----------
    image : float32 array, shape (L, n_eta, n_phi)
    sums : float64 array, shape (L,)
        GeV.
    lowest : float32 array, shape (L,)
        GeV.
    """
    found = image.astype(np.float64)
    for layer, total in enumerate(sums):
        is_hit = found[layer] > 0
        floor = float(lowest[layer])
        above = np.where(is_hit, np.maximum(found[layer] - floor, 0.0), 0.0)
        if not above.any():
            above = is_hit.astype(np.float64)
        left = total - floor * is_hit.sum()
        scale = max(left, 0.0) / max(float(above.sum()), 1e-30)
        found[layer] = np.where(is_hit, floor + scale * above, 0.0)
    return found.astype(np.float32)
