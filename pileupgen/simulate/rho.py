"""The median energy density ρ, as FastJet's grid estimator has it."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from pileupgen.arrays import Floats
from pileupgen.simulate.calorimeter import TWO_PI, TowerGrid

RANGES = ((-5.0, -2.5, 1.0), (-2.5, 2.5, 0.5), (2.5, 5.0, 1.0))
"""η from, η to, wanted side of a patch in η and φ: those of Delphes' ATLAS pileup card."""


class GridMedian:
    """Median over patches of Σ E_T per area (Cacciari et al., 0912.4926).

    Parameters
    ----------
    grid : TowerGrid
        Towers go to the patch that holds their centre.
    """

    def __init__(self, grid: TowerGrid) -> None:
        self._patches = [_patches(grid, *window) for window in RANGES]
        self._per_energy = 1 / np.cosh(grid.eta)

    def density(self, energy: Floats) -> Floats:
        """ρ per η range.

        Parameters
        ----------
        energy : float64 array, shape (n, n_cells)
            Tower energies of n events in GeV.

        Returns
        -------
        float64 array, shape (n, len(RANGES))
            GeV per unit of η × φ.
        """
        et = (energy * self._per_energy).T
        return np.stack([np.median(patches @ et, axis=0) for patches in self._patches], axis=1)


def _patches(grid: TowerGrid, low: float, high: float, side: float) -> Any:
    """Matrix of sums over patches divided by their area, shape ``(n_patches, n_cells)``."""
    n_eta = max(int((high - low) / side + 0.5), 1)
    n_phi = int(TWO_PI / side + 0.5)
    area = (high - low) / n_eta * TWO_PI / n_phi
    i_eta = np.floor((grid.eta - low) / (high - low) * n_eta).astype(int)
    i_phi = np.floor(np.mod(grid.phi, TWO_PI) / TWO_PI * n_phi).astype(int)
    inside = np.flatnonzero((i_eta >= 0) & (i_eta < n_eta))
    patch = i_eta[inside] * n_phi + i_phi[inside]
    values = np.full(len(inside), 1 / area)
    return sparse.csr_array(
        sparse.coo_array((values, (patch, inside)), shape=(n_eta * n_phi, grid.n_cells))
    )
