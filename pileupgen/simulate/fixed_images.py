"""Images of single interactions, each at one vertex, that are turned by whole towers.

Out-of-time pileup needs many times the interactions of an event, of which only sums with small
weights are seen. Their paths are followed once for the whole pool, not once for each use.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Floats, Ints
from pileupgen.simulate.calorimeter import TowerGrid


class FixedImages:
    """Cells that the particles of each interaction hit.

    Parameters
    ----------
    grid : TowerGrid
        Rings of towers.
    cells : int32 array, shape (n_particles,)
        Cell of each particle from its interaction's vertex; ``n_cells`` outside the acceptance.
    offsets : int64 array, shape (n_interactions + 1,)
        Interaction i owns particles ``offsets[i]:offsets[i + 1]``.
    energies : sequence of float32 arrays, shape (n_particles,)
        Energy that a particle leaves in each layer, GeV.

    Attributes
    ----------
    n_turns : int
        Turns in φ that there are, all equally far apart: towers of the ring that has most. A ring
        of fewer is turned by the nearest whole number of its own.
    """

    def __init__(
        self,
        grid: TowerGrid,
        cells: NDArray[np.int32],
        offsets: Ints,
        energies: tuple[NDArray[np.float32], ...],
    ) -> None:
        self._cells, self._offsets, self._energies = cells, offsets, energies
        self._n = grid.n_cells
        self.n_turns = int(grid.n_phi.max())
        self._turned = _turned(grid, self.n_turns)

    def sum(
        self,
        interaction: Ints,
        turn: Ints,
        mirror: NDArray[np.floating[Any]],
        weights: tuple[Floats, ...],
    ) -> Floats:
        """Weighted sum of interactions.

        Parameters
        ----------
        interaction : int64 array, shape (n,)
            Rows of the pool.
        turn : int64 array, shape (n,)
            Their turns in φ, 0 … n_turns − 1.
        mirror : float array, shape (n,)
            −1 where the interaction is mirrored in η, else 1.
        weights : tuple of float64 arrays, shape (n,)
            Weights of the interactions in each layer.

        Returns
        -------
        float64 array, shape (n_layers, n_cells)
            GeV.
        """
        begin = self._offsets[interaction]
        counts = self._offsets[interaction + 1] - begin
        before = np.cumsum(counts) - counts
        rows = np.arange(counts.sum()) + np.repeat(begin - before, counts)
        table = np.where(mirror < 0, turn + self.n_turns, turn) * (self._n + 1)
        cells = self._turned[np.repeat(table, counts) + self._cells[rows]]
        sums = [
            np.bincount(cells, energy[rows] * np.repeat(weight, counts), self._n + 1)[:-1]
            for energy, weight in zip(self._energies, weights, strict=True)
        ]
        return np.stack(sums)


def _turned(grid: TowerGrid, n_turns: int) -> NDArray[np.int32]:
    """Cell that each cell becomes by each turn, those of mirrored images after the others, flat."""
    n_rings = len(grid.n_phi)
    column = np.arange(grid.n_cells) - grid.first[grid.ring]
    tables = []
    for ring in (grid.ring, n_rings - 1 - grid.ring):
        n_phi = grid.n_phi[ring]
        for turn in range(n_turns):
            steps = (2 * turn * n_phi + n_turns) // (2 * n_turns)
            tables.append(np.append(grid.first[ring] + (column + steps) % n_phi, grid.n_cells))
    return np.concatenate(tables).astype(np.int32)
