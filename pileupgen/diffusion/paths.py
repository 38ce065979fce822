"""The way of latents from noise to clean, kept for looking at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pileupgen.arrays import Ints
from pileupgen.diffusion.guidance import Predictor
from pileupgen.diffusion.schedule import noised
from pileupgen.diffusion.settings import CLEAN
from pileupgen.diffusion.solvers import solve
from pileupgen.errors import ConfigError
from pileupgen.models.codec import EventNoise
from pileupgen.progress import Advance, silent

if TYPE_CHECKING:
    from pileupgen.diffusion.pipeline import TranslationPipeline

PATH_STREAM = 5
"""Stream of an event's random numbers that paths take."""


@dataclass(frozen=True)
class DenoisingPath:
    """Latents of N events at K timesteps of the ancestral sampler."""

    t: Ints
    """Descending; the last is −1, the clean end. Shape (K,)."""
    x_t: NDArray[np.float32]
    """Latents. Shape (K, N, C, H, W)."""

    @property
    def clean(self) -> Tensor:
        """Latents at the end, (N, C, H, W)."""
        return torch.from_numpy(self.x_t[-1])


class PathFinder:
    """Follows events through a trained pipeline's diffusion by the ancestral sampler.

    Parameters
    ----------
    stride : int
        Timesteps between one x_t and the next.
    """

    def __init__(self, pipeline: TranslationPipeline, stride: int = 10) -> None:
        if stride < 1:
            raise ConfigError(f"stride is {stride}, must be at least 1.")
        self._pipeline = pipeline
        self._stride = stride

    def timesteps(self, t: int) -> list[int]:
        """Timesteps from t to the clean end, −1."""
        return [*range(t, CLEAN, -self._stride), CLEAN]

    def encode(
        self,
        energy: NDArray[np.float32],
        mu: NDArray[np.float32],
        domain: int,
        event_id: Ints,
        seed: int,
    ) -> Tensor:
        """Clean latents (N, C, H, W) of events of a domain, 0 mc or 1 data."""
        uniform = EventNoise(seed, event_id, PATH_STREAM + 1).uniform(energy.shape[1:])
        mus = torch.from_numpy(np.asarray(mu, dtype=np.float32))
        device = self._pipeline.denoiser.device
        scores = self._pipeline.calibration.encode(torch.from_numpy(energy), domain, mus, uniform)
        return self._pipeline.codec.encode_scores(scores.to(device), domain, mus.to(device))

    def noised(self, latents: Tensor, t: int, event_id: Ints, seed: int) -> Tensor:
        """x_t of clean latents, (N, C, H, W), with noise of each event's own."""
        noise = EventNoise(seed, event_id, PATH_STREAM + 2).normal(tuple(latents.shape[1:]))
        return noised(self._pipeline.scheduler, latents, noise.to(latents), t)

    def denoise(
        self,
        x_t: Tensor,
        t: int,
        label: int,
        mu: NDArray[np.float32],
        event_id: Ints,
        seed: int,
        advance: Advance = silent,
    ) -> DenoisingPath:
        """Follow latents from t to the clean end as one class.

        Parameters
        ----------
        x_t : Tensor, shape (N, C, H, W)
            Where to begin.
        t : int
            Its timestep, 0 … T − 1.
        label : int
            Class y: 0 mc, 1 data.
        mu : float array, shape (N,)
            Number of pileup interactions; NaN where it is not known.
        event_id : int array, shape (N,)
            With the seed fixes all random numbers of an event.

        Raises
        ------
        ConfigError
            If t lies outside 0 … T − 1.
        """
        if not 0 <= t < self._pipeline.num_train_timesteps:
            raise ConfigError(f"t {t} is outside 0 … {self._pipeline.num_train_timesteps - 1}.")
        times: list[int] = []
        kept: list[NDArray[np.float32]] = []

        def record(now: int, x: Tensor) -> None:
            times.append(now)
            kept.append(x.float().cpu().numpy())
            advance(1)

        noise = EventNoise(seed, event_id, PATH_STREAM)
        scheduler = self._pipeline.scheduler
        mus = torch.from_numpy(np.asarray(mu, dtype=np.float32)).to(x_t.device)
        predict = Predictor(self._pipeline.denoiser, scheduler, label, mus, bf16=False)
        solve(
            x_t,
            self.timesteps(t),
            predict,
            scheduler,
            "ancestral",
            lambda: noise.normal(tuple(x_t.shape[1:])).to(x_t),
            record=record,
        )
        return DenoisingPath(np.array(times), np.stack(kept))

    def generate(
        self,
        label: int,
        mu: NDArray[np.float32],
        event_id: Ints,
        seed: int,
        advance: Advance = silent,
    ) -> DenoisingPath:
        """Follow pure noise from T − 1 to the clean end as one class; see :meth:`denoise`."""
        shape = self._pipeline.autoencoder.latent_shape
        start = EventNoise(seed, event_id, PATH_STREAM + 3).normal(shape)
        t = self._pipeline.num_train_timesteps - 1
        return self.denoise(
            start.to(self._pipeline.denoiser.device), t, label, mu, event_id, seed, advance
        )

    def decode(self, latents: Tensor, domain: int, mu: NDArray[np.float32]) -> NDArray[np.float32]:
        """Energies or features (N, L, n_eta, n_phi) of latents (N, C, H, W)."""
        mus = torch.from_numpy(np.asarray(mu, dtype=np.float32))
        device = self._pipeline.denoiser.device
        scores = self._pipeline.codec.decode_scores(latents.to(device), domain, mus.to(device))
        energy: NDArray[np.float32] = self._pipeline.calibration.decode(
            scores.cpu(), domain, mus
        ).numpy()
        return energy
