"""Symmetries of the detector that the training may use."""

from __future__ import annotations

import math

import numpy as np

from pileupgen.calo.geometry import Grid
from pileupgen.config import Config
from pileupgen.samples.provenance import has_symmetry
from pileupgen.samples.store import ImageStore
from pileupgen.training.data import Augmentation


def is_mirror(stores: tuple[ImageStore, ImageStore], grid: Grid) -> bool:
    """Whether η and −η are alike, as the grid has it and both samples' cards say."""
    return grid.is_eta_symmetric and all(
        has_symmetry(store.provenance, "eta_symmetric") for store in stores
    )


def augmentation_of(
    config: Config, stores: tuple[ImageStore, ImageStore], grid: Grid
) -> Augmentation:
    """Rolls in φ by whole patches and mirrors in η, where config, grid and cards allow them."""
    is_ring = (
        grid.is_periodic
        and grid.is_phi_uniform
        and all(has_symmetry(store.provenance, "phi_symmetric") for store in stores)
    )
    step = _phi_step(config.autoencoder.patch[1], grid)
    return Augmentation(
        phi_step=step if config.training.phi_roll and is_ring else 0,
        eta_mirror=is_mirror(stores, grid) and config.training.eta_mirror,
    )


def _phi_step(patch: int, grid: Grid) -> int:
    """Smallest roll in φ, in image cells, that keeps patches and the detector's cells whole."""
    step = math.lcm(patch, *np.unique(grid.layer_widths).tolist())
    return step if grid.n_phi % step == 0 else 0
