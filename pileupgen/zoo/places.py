"""Scores of cells whose distribution depends on their place, not on their ring alone.

A particle that hits a plane of squares lights those near its place, so that squares of one row are
not alike. Those of a block of up to 2 × 2 are taken to be, and share their quantiles.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pileupgen.calo.geometry import Grid
from pileupgen.models.calibration.calibration import CellCalibration
from pileupgen.zoo.scores import ScoreSpace

_BLOCK = 2


class PlaceSpace(ScoreSpace):
    """Scores given block, layer and the first condition, in place of ring, layer and μ."""

    is_by_place = True

    def __init__(self, grid: Grid) -> None:
        self._block = tuple(_BLOCK if n % _BLOCK == 0 else 1 for n in grid.shape[1:])
        self._blocks = grid.n_eta // self._block[0], grid.n_phi // self._block[1]
        super().__init__(grid, is_eta_symmetric=False)

    def alike(self, x: Tensor) -> Tensor:
        """(N, L, n_eta, n_phi) to (N, L, blocks, cells of a block)."""
        rows, columns = self._blocks
        split = x.reshape(*x.shape[:2], rows, self._block[0], columns, self._block[1])
        return split.swapaxes(3, 4).reshape(*x.shape[:2], rows * columns, -1)

    def apart(self, x: Tensor) -> Tensor:
        """Inverse of :meth:`alike`."""
        split = x.reshape(*x.shape[:2], *self._blocks, *self._block)
        return split.swapaxes(3, 4).reshape(*x.shape[:2], *self.grid.shape[1:])

    def _new_calibration(self, n_bins: int) -> CellCalibration:
        dead = self.alike(torch.from_numpy(self.grid.is_dead)[None])[0]
        n_layers, n_blocks, n_cells = dead.shape
        calibration = CellCalibration(
            n_layers, n_blocks, n_cells, n_mu_bins=n_bins, n_layer_bins=1, is_eta_symmetric=False
        )
        calibration.exclude(dead.numpy())
        return calibration
