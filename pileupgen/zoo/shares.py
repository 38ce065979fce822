"""Cells as shares of their layer's energy, and the layers' energies, as scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pileupgen.calo.geometry import Grid
from pileupgen.samples.store import Images
from pileupgen.zoo.contract import ZooSample
from pileupgen.zoo.scores import ScoreSpace


class ShareSpace(ScoreSpace):
    """Scores of cells as shares of their layer's energy, and of the layers' energies.

    Attributes
    ----------
    energies : ScoreSpace
        Of the layers' energies, as one cell each.
    """

    def __init__(self, grid: Grid, *, is_eta_symmetric: bool) -> None:
        super().__init__(grid, is_eta_symmetric=is_eta_symmetric)
        self.energies = ScoreSpace(
            Grid((0.0, 1.0), 1, grid.layers, 0.0, 1.0, name="layers"), is_eta_symmetric=False
        )

    def fit(self, sample: ZooSample) -> None:
        """Take the quantiles of shares and of layers' energies."""
        target = sample.target
        self.energies.fit(ZooSample(layer_energies_of(target, self.energies.grid)))
        super().fit(ZooSample(_shares_of(target), symmetry=sample.symmetry))

    def encode(self, images: Images, mu: NDArray[np.float32], domain: int, seed: int) -> Tensor:
        """Energies of events to scores of their cells' shares."""
        return super().encode(_shares_of(images), mu, domain, seed)

    def save(self, folder: Path) -> None:
        """Write all quantiles into a folder."""
        super().save(folder)
        self.energies.calibration.save_pretrained(folder / "layers")

    def load(self, folder: Path, *, is_logarithmic: bool) -> None:
        """Read what :meth:`save` wrote."""
        super().load(folder, is_logarithmic=is_logarithmic)
        self.energies.is_logarithmic = is_logarithmic
        kind = type(self.energies.calibration)
        self.energies.calibration = kind.from_pretrained(folder / "layers")


def layer_energies_of(images: Images, grid: Grid) -> Images:
    """Layers' energies, |E| summed over cells, as images of one cell a layer.

    Parameters
    ----------
    images : Images
    grid : Grid
        A cell for each of their layers.
    """
    energy = np.abs(images.energy).sum(axis=(2, 3), keepdims=True)
    return Images(energy.astype(np.float32), grid, images.columns)


def _shares_of(images: Images) -> Images:
    """Cells as shares of their layer's |E|; 0 in a layer without energy."""
    total = np.abs(images.energy).sum(axis=(2, 3), keepdims=True)
    shares = images.energy / np.where(total > 0, total, 1.0)
    return Images(shares.astype(np.float32), images.grid, images.columns)
