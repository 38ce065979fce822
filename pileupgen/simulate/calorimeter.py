"""Towers, and their measured energies: leakage, resolution, noise, zero suppression."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pileupgen.arrays import Flags, Floats, Ints
from pileupgen.simulate.response import LAYERS, Period, Region, ResponseCard

TWO_PI = 2 * np.pi


class TowerGrid:
    """Cells in rings, each ring with its own number of cells in φ.

    Parameters
    ----------
    ring_edges : float64 array, shape (n_rings + 1,)
        Ascending.
    n_phi : int64 array, shape (n_rings,)
        Cells per ring; the first begins at φ = −π.

    Attributes
    ----------
    edges : float64 array, shape (n_cells, 4)
        ``eta_min, eta_max, phi_min, phi_max``, ordered by η, then φ.
    eta, phi : float64 arrays, shape (n_cells,)
        Centres.
    ring : int64 array, shape (n_cells,)
        Ring of each cell.
    """

    def __init__(self, ring_edges: Floats, n_phi: Ints) -> None:
        self.ring_edges = ring_edges
        self.n_phi = n_phi
        self.first = np.concatenate([[0], np.cumsum(n_phi)])
        self.n_cells = int(self.first[-1])
        self.ring = np.repeat(np.arange(len(n_phi)), n_phi)
        column = np.arange(self.n_cells) - self.first[self.ring]
        width = TWO_PI / n_phi[self.ring]
        low = -np.pi + column * width
        self.edges = np.stack(
            [ring_edges[self.ring], ring_edges[self.ring + 1], low, low + width], axis=1
        )
        self.eta = 0.5 * (self.edges[:, 0] + self.edges[:, 1])
        self.phi = 0.5 * (self.edges[:, 2] + self.edges[:, 3])
        self._cot_edges = np.sinh(ring_edges).astype(np.float32)
        self._first = np.append(self.first[:-1], self.n_cells).astype(np.int32)
        self._n_phi = np.append(n_phi, 1).astype(np.int32)

    def locate(self, cot_theta: NDArray[np.float32], phi: NDArray[np.float32]) -> NDArray[np.int32]:
        """Cell of each direction; ``n_cells`` outside the acceptance.

        Parameters
        ----------
        cot_theta : float32 array, shape (n,)
            sinh η.
        phi : float32 array, shape (n,)
            Any number of turns.
        """
        ring = np.searchsorted(self._cot_edges, cot_theta, side="right") - 1
        # Below the first edge is −1, above the last n_rings: both mean the last entry, outside.
        n_phi = self._n_phi[ring]
        turn = phi * np.float32(1 / TWO_PI) + np.float32(0.5)
        turn -= np.floor(turn)
        column = np.minimum((turn * n_phi).astype(np.int32), n_phi - 1)
        return self._first[ring] + column

    def in_region(self, region: Region) -> Flags:
        """Cells whose centre lies in a window, shape ``(n_cells,)``."""
        low, high = np.deg2rad(region.phi_degrees)
        width = high - low
        from_low = np.mod(self.phi - low, TWO_PI)
        in_phi = from_low <= (width if 0 <= width < TWO_PI else np.mod(width, TWO_PI))
        if width >= TWO_PI - 1e-9:
            in_phi[:] = True
        return np.asarray((region.eta[0] <= self.eta) & (self.eta <= region.eta[1]) & in_phi)

    def neighbours(self) -> Any:
        """Shares of the energy leaking out of a cell among its neighbours.

        Returns
        -------
        scipy.sparse.csr_array, shape (n_cells, n_cells)
            Column j sums to 1: an equal part for each side of cell j that has a neighbour, shared
            by overlap where the neighbouring ring is cut differently in φ.
        """
        to, source, part = [], [], []
        for cell in range(self.n_cells):
            ring, n_phi = self.ring[cell], self.n_phi[self.ring[cell]]
            column = cell - self.first[ring]
            sides = []
            if n_phi > 1:
                sides += [[(self.first[ring] + (column + step) % n_phi, 1.0)] for step in (-1, 1)]
            sides += [
                self._facing(column, n_phi, other)
                for other in (ring - 1, ring + 1)
                if 0 <= other < len(self.n_phi)
            ]
            for side in sides:
                for neighbour, share in side:
                    to.append(neighbour)
                    source.append(cell)
                    part.append(share / len(sides))
        shape = (self.n_cells, self.n_cells)
        return sparse.csr_array(sparse.coo_array((part, (to, source)), shape=shape))

    def _facing(self, column: int, n_phi: int, other: int) -> list[tuple[int, float]]:
        n_other = int(self.n_phi[other])
        low, high = column / n_phi * n_other, (column + 1) / n_phi * n_other
        found = []
        for facing in range(int(np.floor(low + 1e-9)), int(np.ceil(high - 1e-9))):
            share = (min(high, facing + 1) - max(low, facing)) / (high - low)
            found.append((int(self.first[other]) + facing, share))
        return found


class Calorimeter:
    """Converts deposited into measured energies."""

    def __init__(self, card: ResponseCard) -> None:
        self.card = card
        self.grid = TowerGrid(card.ring_edges(), card.ring_n_phi())
        n_cells = self.grid.n_cells
        shape = (len(LAYERS), n_cells)
        self._c2, self._s2, self._n2 = np.zeros((3, *shape))
        for layer, response in enumerate(card.layers):
            for term in reversed(response.resolution):
                inside = np.abs(self.grid.eta) <= term.abs_eta_max
                self._c2[layer, inside] = term.c**2
                self._s2[layer, inside] = term.s**2
                self._n2[layer, inside] = term.n**2
        self._energy_min = np.array([[layer.energy_min] for layer in card.layers])
        self._significance_min = np.array([[layer.significance_min] for layer in card.layers])
        always = self._union(card.dead)
        self._alive = [~(always | self._union(period.dead)) for period in card.periods] or [~always]
        self._gain = [self._gain_of(period) for period in card.periods] or [None]
        leaks = any(layer.leakage.fraction > 0 for layer in card.layers)
        self._neighbours = self.grid.neighbours() if leaks else None

    def _union(self, regions: tuple[Region, ...]) -> Flags:
        covered = np.zeros((len(LAYERS), self.grid.n_cells), dtype=bool)
        for region in regions:
            for layer in region.layers:
                covered[LAYERS.index(layer)] |= self.grid.in_region(region)
        return covered

    def _gain_of(self, period: Period) -> Floats | None:
        """Factors of a period, shape ``(2, n_cells)``; None where all are 1."""
        if not period.gains:
            return None
        factor = np.ones((len(LAYERS), self.grid.n_cells))
        for gain in period.gains:
            factor[self._union((gain,))] *= gain.factor
        return factor

    def sigma(self, energy: Floats) -> Floats:
        """σ(E) in GeV, shape ``(2, n_cells)`` like ``energy``."""
        return np.sqrt(self._c2 * energy * energy + self._s2 * energy + self._n2)

    def measure(
        self,
        deposited: Floats,
        rng: np.random.Generator,
        out_of_time: Floats | None = None,
        period: int = 0,
    ) -> Floats:
        """One event's measured energies.

        Parameters
        ----------
        deposited : float64 array, shape (2, n_cells)
            ``em`` and ``had`` energy in GeV.
        rng : numpy.random.Generator
            The event's own.
        out_of_time : float64 array, shape (2, n_cells), optional
            What other crossings add, of either sign; neither smeared nor leaking, for resolution
            and leakage of so small a part would not be seen.
        period : int
            Place of the event's period among the card's, if it has any.

        Returns
        -------
        float64 array, shape (2, n_cells)
            GeV; zero below the zero suppression and in dead cells. Energies below 0 are kept
            where the card says so; thresholds are then on both sides.
        """
        energy = self._leak(deposited, rng)
        energy = self._smear(energy, rng)
        if out_of_time is not None:
            energy += out_of_time
        gain = self._gain[period]
        if gain is not None:
            energy *= gain
        self._add_hot(energy, rng)
        self._add_electronic_noise(energy, rng)
        size = np.abs(energy) if self.card.signed else energy
        kept = size > 0
        kept &= size >= self._energy_min
        kept &= size >= self._significance_min * self.sigma(np.maximum(energy, 0))
        return np.where(kept & self._alive[period], energy, 0.0)

    def _leak(self, energy: Floats, rng: np.random.Generator) -> Floats:
        if self._neighbours is None:
            return energy
        stays = np.empty_like(energy)
        for layer, response in enumerate(self.card.layers):
            fraction, spread = response.leakage.fraction, response.leakage.spread
            b = np.sqrt(np.log1p(spread * spread))
            part = fraction * np.exp(b * rng.standard_normal(self.grid.n_cells) - 0.5 * b * b)
            stays[layer] = 1 - np.minimum(part, 1.0)
        leaves = energy * (1 - stays)
        return energy * stays + (self._neighbours @ leaves.T).T

    def _smear(self, energy: Floats, rng: np.random.Generator) -> Floats:
        """Log-normal of mean E and standard deviation σ(E), as Delphes has it."""
        normal = rng.standard_normal(energy.shape, dtype=np.float32)
        hit = energy > 0
        true = energy[hit]
        variance = self._c2[hit] + (self._s2[hit] + self._n2[hit] / true) / true
        b2 = np.log1p(variance.astype(np.float32))
        smeared = np.zeros_like(energy)
        smeared[hit] = true * np.exp(np.sqrt(b2) * normal[hit] - 0.5 * b2)
        return smeared

    def _add_hot(self, energy: Floats, rng: np.random.Generator) -> None:
        for region in self.card.hot:
            cells = self._union((region,))
            fires = rng.random(energy.shape) < region.probability
            extra = rng.exponential(region.energy, size=energy.shape)
            energy += np.where(cells & fires, extra, 0.0)

    def _add_electronic_noise(self, energy: Floats, rng: np.random.Generator) -> None:
        for layer, response in enumerate(self.card.layers):
            noise = response.electronic_noise
            if noise.sigma > 0:
                energy[layer] += noise.sigma * rng.standard_normal(self.grid.n_cells)
            if noise.common_sigma > 0:
                sector = ((self.grid.phi + np.pi) / TWO_PI * noise.n_sectors).astype(int)
                common = noise.common_sigma * rng.standard_normal(noise.n_sectors)
                energy[layer] += common[np.minimum(sector, noise.n_sectors - 1)]
