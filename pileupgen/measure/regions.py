"""Parts of a grid on which observables are computed: groups of rings, patches, random cones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Floats, Ints
from pileupgen.calo.geometry import TWO_PI, Grid

CONE_RADIUS = 0.4
"""Radius of the random cone in η-φ."""
PATCH_SIZE = 0.5
"""Wanted side of the patches ρ is the median of, in η and in rad."""
N_RING_GROUPS = 3
"""Groups of rings that each layer's ΣE_T is given in."""
BLOCK_ETA, BLOCK_PHI = 0.5, float(np.pi / 3)
"""Wanted sides of the blocks that source correlation is judged by, in η and in rad."""
LOWER_SIGMA = 15.865
"""Percentile one standard deviation below the median of a Gaussian."""


def ring_groups(grid: Grid) -> list[tuple[float, float, Ints]]:
    """Low edge, high edge and rings of up to three groups; none where there is but one ring."""
    edges = np.asarray(grid.eta_edges, dtype=np.float64)
    if grid.is_eta_symmetric:
        low = np.where(edges[:-1] * edges[1:] < 0, 0.0, np.minimum(abs(edges[:-1]), abs(edges[1:])))
        high = np.maximum(np.abs(edges[:-1]), np.abs(edges[1:]))
    else:
        low, high = edges[:-1], edges[1:]
    distance = np.round(0.5 * (low + high), 6)
    values = np.unique(distance)
    if len(values) < 2:
        return []
    groups = []
    for part in np.array_split(values, min(N_RING_GROUPS, len(values))):
        rings = np.flatnonzero((distance >= part[0]) & (distance <= part[-1])).astype(np.int64)
        groups.append((float(low[rings].min()), float(high[rings].max()), rings))
    return groups


class Patches:
    """Non-overlapping patches of about 0.5 × 0.5, equally many cells of φ in each if possible."""

    def __init__(self, grid: Grid) -> None:
        self._first_ring = _first_of_blocks(np.asarray(grid.eta_edges), PATCH_SIZE)
        width = (grid.phi_max - grid.phi_min) / grid.n_phi
        wanted = grid.n_phi * width / PATCH_SIZE
        divisors = [n for n in range(1, grid.n_phi + 1) if grid.n_phi % n == 0]
        n_blocks = min(divisors, key=lambda n: abs(np.log(n / wanted)))
        self._first_cell = np.arange(n_blocks) * (grid.n_phi // n_blocks)
        height = np.add.reduceat(np.diff(grid.eta_edges), self._first_ring)
        self._area = np.repeat(height * width * (grid.n_phi // n_blocks), n_blocks)

    def density(self, tower_et: Floats) -> tuple[Floats, Floats]:
        """Median density ρ and its fluctuation σ, each ``(N,)``."""
        sums = np.add.reduceat(
            np.add.reduceat(tower_et, self._first_ring, axis=1), self._first_cell, axis=2
        )
        densities = sums.reshape(len(tower_et), -1) / self._area
        low, rho = np.percentile(densities, [LOWER_SIGMA, 50.0], axis=1)
        return rho, (rho - low) * np.sqrt(self._area.mean())


def _first_of_blocks(edges: Floats, size: float) -> Ints:
    """First ring of each block about ``size`` wide."""
    n_blocks = max(1, round(float(edges[-1] - edges[0]) / size))
    centres = 0.5 * (edges[1:] + edges[:-1])
    block = np.floor((centres - edges[0]) / (edges[-1] - edges[0]) * n_blocks).astype(np.int64)
    return np.flatnonzero(np.diff(block, prepend=-1)).astype(np.int64)


class Cones:
    """One cone per event, its axis a hash of the event's number."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        diagonal = np.hypot(np.diff(grid.eta_edges).max(), np.diff(grid.phi_edges).max())
        self.radius = float(max(CONE_RADIUS, 0.51 * diagonal))

    def axes(self, event_id: Ints) -> tuple[Floats, Floats]:
        """η and φ of the axes, each ``(N,)``; the cone lies inside the acceptance if it fits."""
        grid = self._grid
        eta = _inside(grid.eta_edges[0], grid.eta_edges[-1], self.radius, uniform(event_id, 0))
        margin = 0.0 if grid.is_periodic else self.radius
        return eta, _inside(grid.phi_min, grid.phi_max, margin, uniform(event_id, 1))

    def sums(self, tower_et: Floats, event_id: Ints) -> Floats:
        """E_T of the cells whose centre lies in the cone, ``(N,)``."""
        grid = self._grid
        eta, phi = self.axes(event_id)
        d_phi = np.abs(grid.phi_centres - phi[:, None])
        if grid.is_periodic:
            d_phi = np.minimum(d_phi, TWO_PI - d_phi)
        d_eta = grid.eta_centres - eta[:, None]
        inside = d_eta[:, :, None] ** 2 + d_phi[:, None, :] ** 2 < self.radius**2
        return np.asarray(np.einsum("nij,nij->n", tower_et, inside.astype(np.float64)))


def _inside(low: float, high: float, margin: float, fraction: Floats) -> Floats:
    margin = min(margin, 0.5 * (high - low))
    return low + margin + (high - low - 2 * margin) * fraction


def uniform(event_id: Ints, stream: int) -> Floats:
    """Numbers in [0, 1) that depend on the event and the stream alone.

    Two rounds of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014), of the event and of the stream.
    """
    state = _split_mix(np.asarray(event_id, dtype=np.int64).astype(np.uint64))
    state = _split_mix(state ^ np.uint64(stream))
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _split_mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        state = state + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))


def blocks_of(energy: NDArray[np.float32], grid: Grid) -> NDArray[np.float32]:
    """Energy of blocks of cells, layers summed.

    A block is about 0.5 wide in η and 60° in φ: 5 × 6 cells on the ATLAS grid.

    Parameters
    ----------
    energy : float32 array, shape (N, L, n_eta, n_phi)
        GeV.

    Returns
    -------
    float32 array, shape (N, n_blocks)
        GeV; of a feature table, which has no place for blocks, the features.
    """
    if grid.is_feature_table:
        return energy[:, :, 0, 0]
    towers = energy.sum(axis=1, dtype=np.float64)
    rings = np.add.reduceat(towers, _first_of_blocks(np.asarray(grid.eta_edges), BLOCK_ETA), axis=1)
    blocks = np.add.reduceat(rings, _first_of_blocks(grid.phi_edges, BLOCK_PHI), axis=2)
    return blocks.reshape(len(energy), -1).astype(np.float32)


def block_edges(grid: Grid) -> tuple[Floats, Floats]:
    """Edges in η and in φ (rad) of the blocks of :func:`blocks_of`, which run over φ first."""
    eta, phi = np.asarray(grid.eta_edges), grid.phi_edges
    rings, cells = _first_of_blocks(eta, BLOCK_ETA), _first_of_blocks(phi, BLOCK_PHI)
    return np.append(eta[rings], eta[-1]), np.append(phi[cells], phi[-1])
