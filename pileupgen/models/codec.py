"""Energies to latents and back: calibration and autoencoder as one.

Two autoencoders share one interface, :class:`LatentModel`: the learned
:class:`~pileupgen.models.networks.autoencoder.Autoencoder` and the lossless
:class:`~pileupgen.models.networks.cell_patches.CellPatches`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pileupgen.arrays import Ints
from pileupgen.models.calibration.space import CellSpace


class LatentModel(Protocol):
    """Scores to latents and back."""

    latent_shape: tuple[int, int, int]
    """(C, H, W) of the latents."""
    patch: tuple[int, int]
    field_patch: tuple[int, int]
    """Cells in η and φ per latent position, and per position of the Gaussian field of the closed
    form: (1, 1) where channels no longer are cells."""

    def encode(self, scores: Tensor, domain: Tensor, mu: Tensor) -> Tensor:
        """Scores (N, L, n_eta, n_phi), domain (N,) and μ (N,) to latents (N, C, H, W)."""

    def decode(self, latents: Tensor, domain: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (N, C, H, W) to mean and ln variance of each score, (N, L, n_eta, n_phi)."""


class EventNoise:
    """Random numbers that depend on (seed, event) alone, not on batch, order or device.

    Each event owns a Philox generator (Salmon et al., SC'11) keyed by seed and event number.

    Parameters
    ----------
    event_id : int array, shape (N,)
    stream : int
        Streams of one event are independent of each other.
    """

    def __init__(self, seed: int, event_id: Ints, stream: int = 0) -> None:
        self._generators = [
            np.random.Generator(
                np.random.Philox(key=[seed, int(event) & (2**64 - 1)], counter=[0, 0, 0, stream])
            )
            for event in event_id
        ]

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """The next standard normal numbers, one array of the shape per event."""
        draws = [
            generator.standard_normal(shape, dtype=np.float32) for generator in self._generators
        ]
        return torch.from_numpy(np.stack(draws))

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        """The next uniform numbers in [0, 1), one array of the shape per event."""
        draws = [generator.random(shape, dtype=np.float32) for generator in self._generators]
        return torch.from_numpy(np.stack(draws))


@dataclass(frozen=True)
class Codec:
    """Energies (GeV) to latents and back, for either domain.

    Encoding as mc and decoding as data applies the classical calibration on the way.
    """

    calibration: CellSpace
    autoencoder: LatentModel

    @torch.no_grad()
    def encode(self, energy: Tensor, domain: int, mu: Tensor, uniform: Tensor) -> Tensor:
        """Energies (N, L, n_eta, n_phi) to latents (N, C, H, W); see CellCalibration.encode."""
        scores = self.calibration.encode(energy, domain, mu, uniform)
        return self.encode_scores(scores, domain, mu)

    @torch.no_grad()
    def encode_scores(self, scores: Tensor, domain: int, mu: Tensor) -> Tensor:
        """Scores (N, L, n_eta, n_phi) to latents (N, C, H, W)."""
        labels = torch.full((len(scores),), domain, device=scores.device)
        return self.autoencoder.encode(scores, labels, mu.to(scores)).float()

    @torch.no_grad()
    def decode_scores(
        self, latents: Tensor, domain: int, mu: Tensor, normal: Tensor | None = None
    ) -> Tensor:
        """Latents (N, C, H, W) to scores; ``normal`` (N, L, n_eta, n_phi) samples them."""
        labels = torch.full((len(latents),), domain, device=latents.device)
        mean, log_variance = self.autoencoder.decode(latents, labels, mu.to(latents))
        if normal is not None:
            mean = mean + torch.exp(0.5 * log_variance) * normal.to(mean)
        return mean.float()

    @torch.no_grad()
    def decode(
        self, latents: Tensor, domain: int, mu: Tensor, normal: Tensor | None = None
    ) -> Tensor:
        """Latents (N, C, H, W) to energies (N, L, n_eta, n_phi) in GeV."""
        return self.calibration.decode(self.decode_scores(latents, domain, mu, normal), domain, mu)
