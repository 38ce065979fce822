"""Properties of whole events, measured, and as numbers of mean 0 and variance 1 at any μ."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pileupgen.arrays import Floats

Energies = NDArray[np.float32]


def _sum(energy: Energies) -> Floats:
    return np.asarray(energy.sum(axis=(1, 2, 3), dtype=np.float64))


def _hits(energy: Energies) -> Floats:
    return np.asarray((energy != 0).mean(axis=(1, 2, 3)))


PROPERTIES: dict[str, tuple[str, Callable[[Energies], Floats]]] = {
    "sum": ("ΣE / GeV", _sum),
    "occupancy": ("occupancy", _hits),
}
"""What an event is asked for: a label, and how it is measured of energies (N, L, n_eta, n_phi)."""


class PropertyScale(nn.Module):
    """Properties to numbers y of mean 0 and variance 1, whatever the conditions, and back.

    y = (t(v) − a − b · c) / s, by least squares over the training events; t is the logarithm of a
    property that is positive in all of them, else v itself.

    Parameters
    ----------
    n_conditions : int

    Attributes
    ----------
    low, high : Tensor, shape (k,)
        Range of the properties over the training events.
    """

    def __init__(self, n_conditions: int) -> None:
        super().__init__()
        k = len(PROPERTIES)
        self.slope: Tensor
        self.spread: Tensor
        self.low: Tensor
        self.high: Tensor
        self.is_logarithmic: Tensor
        self.register_buffer("slope", torch.zeros(n_conditions + 1, k, dtype=torch.float64))
        self.register_buffer("spread", torch.ones(k, dtype=torch.float64))
        self.register_buffer("low", torch.zeros(k, dtype=torch.float64))
        self.register_buffer("high", torch.zeros(k, dtype=torch.float64))
        self.register_buffer("is_logarithmic", torch.zeros(k, dtype=torch.bool))

    def fit(self, values: Tensor, conditions: Tensor, weight: Tensor) -> None:
        """Take the properties, float64 (N, k), of training events with conditions (N, c)."""
        self.low.copy_(values.amin(dim=0))
        self.high.copy_(values.amax(dim=0))
        self.is_logarithmic.copy_(self.low > 0)
        shown, found = self._shown(conditions), self._transformed(values)
        root = weight.sqrt()[:, None]
        fit = torch.linalg.lstsq(root * shown, root * found, driver="gelsd").solution
        self.slope.copy_(fit)
        left = (found - shown @ fit).square()
        spread = ((weight[:, None] * left).sum(dim=0) / weight.sum()).sqrt()
        self.spread.copy_(torch.where(spread > 1e-9, spread, 1.0))

    def forward(self, values: Tensor, conditions: Tensor) -> Tensor:
        """Properties, float64 (N, k), to y, float32 (N, k)."""
        found = self._transformed(values) - self._shown(conditions) @ self.slope
        return (found / self.spread).float()

    def _transformed(self, values: Tensor) -> Tensor:
        return torch.where(self.is_logarithmic, values.clamp_min(1e-12).log(), values)

    @staticmethod
    def _shown(conditions: Tensor) -> Tensor:
        return torch.cat([torch.ones(len(conditions), 1), conditions], dim=1).double()


def properties_of(energy: Energies) -> Tensor:
    """All properties of events (N, L, n_eta, n_phi), float64 (N, k)."""
    return torch.from_numpy(np.stack([of(energy) for _, of in PROPERTIES.values()], axis=1))
