"""Cells to network space by one signed logarithm, with hits as bits beside the energies.

An alternative to Gaussianised cells: both domains share one map, so that the networks have the
whole shift to learn, marginals included.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pileupgen.arrays import Floats, Ints
from pileupgen.models.calibration.limits import RAMP, SCORE_LIMIT
from pileupgen.models.calibration.space import CellSpace
from pileupgen.models.saved import (
    ModelMixin,  # noqa: F401 - diffusers looks for it here
    register_to_config,
)
from pileupgen.samples.weights import rows_by_weight


class SignedLogScaling(CellSpace):
    """sign(E) ln(1 + |E| / E_0), standardised, and hit bits as numbers ±1.

    The bits are analog bits (Chen, Zhang & Hinton, 2208.04202, §2): a network treats them as real
    numbers, and their sign is taken on the way back.

    Parameters
    ----------
    has_hit_bits : bool
        Whether a bit a cell tells hits from null cells; :meth:`fit` finds out whether there are
        null cells.

    Attributes
    ----------
    energy_scale : float64 Tensor, shape (L,)
        E_0 in GeV: the median |E| of the hits.
    mean, width : float64 Tensors, shape (L,)
        Mean and width of the logarithm, over hits.
    largest : Tensor, shape (2, L, 1)
        Largest size of a hit of training in GeV, of each domain.
    mu_range : Tensor, shape (2,)
        Smallest and largest μ of training; NaN where none is known.
    extremes : Tensor, shape (L, 2)
        Smallest and largest score of training.
    """

    is_plain = False
    has_normal_scores = False

    @register_to_config
    def __init__(self, n_layers: int, has_hit_bits: bool = True) -> None:
        super().__init__()
        self.n_layers, self.has_hit_bits = n_layers, has_hit_bits
        self.energy_scale: Tensor
        self.mean: Tensor
        self.width: Tensor
        self.register_buffer("energy_scale", torch.ones(n_layers, dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(n_layers, dtype=torch.float64))
        self.register_buffer("width", torch.ones(n_layers, dtype=torch.float64))
        self.extremes: Tensor
        self.largest: Tensor
        self.mu_range: Tensor
        self.register_buffer("largest", torch.zeros(2, n_layers, 1))
        self.register_buffer("mu_range", torch.full((2,), torch.nan))
        self.register_buffer("extremes", torch.tensor([[-SCORE_LIMIT, SCORE_LIMIT]] * n_layers))

    @property
    def n_channels(self) -> int:
        """Numbers a cell position becomes, C."""
        return self.n_layers * (2 if self.has_hit_bits else 1)

    def ring_of(self, n_eta: int) -> Ints:
        """Ring of ``largest`` for each ring of the image, (n_eta,): one for all."""
        return np.zeros(n_eta, dtype=np.int64)

    def lowest_hits(self, domain: int) -> Floats:  # noqa: ARG002 - as CellCalibration's
        """Size below which a cell is taken for null, (L,): none is."""
        return np.zeros(self.n_layers)

    @property
    def score_limits(self) -> Tensor:
        """Lowest and highest score that networks see, (C, 2): a little beyond training's; bits."""
        beyond = torch.tensor([-RAMP, RAMP])
        limits = self.extremes.cpu() + beyond
        bits = (1 + RAMP) * torch.tensor([[-1.0, 1.0]]).repeat(self.n_layers, 1)
        return torch.cat([limits, bits]) if self.has_hit_bits else limits

    def fit(
        self,
        energies: Sequence[NDArray[np.float32]],
        mus: Sequence[NDArray[np.float32]],
        weights: Sequence[Floats] | None = None,
    ) -> None:
        """Take scales from training events of both domains together; see :meth:`CellSpace.fit`.

        Of μ only the range is kept.
        """
        known = [np.asarray(mu)[np.isfinite(mu)] for mu in mus]
        if any(map(len, known)):
            joined = np.concatenate(known)
            self.mu_range.copy_(torch.tensor([joined.min(), joined.max()]))
        for domain, energy in enumerate(energies):
            self.largest[domain, :, 0] = torch.from_numpy(np.abs(energy).max(axis=(0, 2, 3)))
        self.has_hit_bits = any(bool(np.any(energy == 0)) for energy in energies)
        self.register_to_config(has_hit_bits=self.has_hit_bits)
        if weights is not None:
            pairs = zip(energies, weights, strict=True)
            energies = [energy[rows_by_weight(weight)] for energy, weight in pairs]
        for layer in range(self.n_layers):
            hits = np.concatenate([_hits(energy[:, layer]) for energy in energies])
            if not len(hits):
                continue
            self.energy_scale[layer] = scale = float(np.median(np.abs(hits)))
            logs = np.sign(hits) * np.log1p(np.abs(hits) / scale)
            self.mean[layer] = float(logs.mean())
            self.width[layer] = width = max(float(logs.std()), 1e-3)
            ends = [float(end - logs.mean()) / width for end in (logs.min(), logs.max())]
            null = -float(logs.mean()) / width
            self.extremes[layer] = torch.tensor([min(ends[0], null), max(ends[1], null)])

    @torch.no_grad()
    def encode(self, energy: Tensor, domain: int, mu: Tensor, uniform: Tensor) -> Tensor:  # noqa: ARG002 - the same call as CellCalibration's
        """Standardised logarithms of the layers, then their hit bits if there are any.

        A null cell has the logarithm of E = 0. See :meth:`CellSpace.encode`; domain, μ and the
        uniform numbers are not used.
        """
        value = energy.double()
        scale, mean, width = self._constants(value)
        logs = value.sign() * torch.log1p(value.abs() / scale)
        scores = ((logs - mean) / width).float()
        if not self.has_hit_bits:
            return scores
        bits = torch.where(energy != 0, 1.0, -1.0).to(scores)
        return torch.cat([scores, bits], dim=1)

    @torch.no_grad()
    def decode(self, scores: Tensor, domain: int, mu: Tensor) -> Tensor:  # noqa: ARG002 - the same call as CellCalibration's
        """Scores to energies (N, L, n_eta, n_phi) in GeV, the inverse of :meth:`encode`.

        Cells whose bit is not above 0 are null.
        """
        value = scores[:, : self.n_layers].double()
        scale, mean, width = self._constants(value)
        logs = value * width + mean
        energy = (logs.sign() * torch.expm1(logs.abs()) * scale).float()
        if not self.has_hit_bits:
            return energy
        return torch.where(scores[:, self.n_layers :] > 0, energy, 0.0)

    def _constants(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        buffers = (self.energy_scale, self.mean, self.width)
        scale, mean, width = (buffer.to(like.device)[:, None, None] for buffer in buffers)
        return scale, mean, width


def _hits(values: NDArray[np.float32]) -> Floats:
    return values[values != 0].astype(np.float64)
