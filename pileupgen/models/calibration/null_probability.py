"""Probability of a null cell where layers are not chained."""

from __future__ import annotations

import torch
from torch import Tensor

from pileupgen.models.calibration.calibration import CellCalibration


@torch.no_grad()
def null_probability(calibration: CellCalibration, domain: int, mu: Tensor) -> Tensor:
    """Probability of a null cell in each layer and ring at the events' μ.

    Parameters
    ----------
    calibration : CellCalibration
        Without a chain of layers: ``n_layer_bins`` is 1.
    domain : int
        0 mc, 1 data.
    mu : Tensor, shape (N,)

    Returns
    -------
    float64 Tensor, shape (N, L, n_eta)

    Raises
    ------
    ValueError
        If the probability depends on the layer before.
    """
    if calibration.n_layer_bins != 1:
        raise ValueError("the layers of this calibration are chained")
    shape = torch.Size((len(mu), len(calibration.ring), 1))
    layers = [
        calibration._ranks(domain, layer, mu, None, shape).tables.null_mass.expand(shape)
        for layer in range(calibration.n_layers)
    ]
    return torch.stack([layer[..., 0] for layer in layers], dim=1)
