"""The translation as a diffusers pipeline."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers import DDPMScheduler, DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from numpy.typing import NDArray
from torch import Tensor

from pileupgen.calo.geometry import Grid
from pileupgen.diffusion.guidance import Predictor
from pileupgen.diffusion.sampling import CLEAN, Sampler, solve, timesteps_between
from pileupgen.diffusion.schedule import alpha_sigma
from pileupgen.errors import ConfigError, RunError
from pileupgen.models.autoencoder import Autoencoder
from pileupgen.models.calibration import CellCalibration
from pileupgen.models.codec import Codec, EventNoise
from pileupgen.models.denoiser import DATA, MC, Denoiser
from pileupgen.models.ratio import RatioClassifier
from pileupgen.models.renewal import MarginalRenewal

MICRO_BATCH = 50
"""Events per network call, always: shorter batches are filled up, so that the kernels chosen, and
with them the last bits of an event, do not depend on how many events share its batch."""

Mode = Literal["partial", "invert", "generate", "calibrate"]
MODES: tuple[Mode, ...] = ("partial", "invert", "generate", "calibrate")
LOG_WEIGHT_LIMIT = 5.0


@dataclass(frozen=True)
class Settings:
    """How to translate.

    Attributes
    ----------
    mode : str
        ``partial``: noise to t_release, switch the class, denoise. ``invert``: deterministic
        inversion to t_release as mc, then decoding as data (DDIB, Su et al. 2203.08382).
        ``generate``: from pure noise. ``calibrate``: no diffusion, quantile morphing alone.
    t_release : int
        Timestep of the release, 0 … T − 1; 0 leaves the latents as they are.
    w : float
        Guidance of the decoding.
    num_inference_steps : int
        Network evaluations from the release to the clean end (guidance doubles them, inversion
        adds as many).
    sampler : str
        See :func:`pileupgen.diffusion.sampling.solve`; inversion is always deterministic.
    """

    mode: Mode = "partial"
    t_release: int = 300
    w: float = 2.0
    num_inference_steps: int = 15
    sampler: Sampler = "sde-dpmsolver++"


@dataclass(frozen=True)
class Translation:
    """Translated events.

    Attributes
    ----------
    energy : float32 array, shape (N, L, n_eta, n_phi)
        GeV.
    log_ratio : float64 array, shape (N,)
        ln r(x_t, t_release) of each event; its exponential is the weight that removes what
        divergence is left at the release. 0 where there is none (calibrate, generate).
    """

    energy: NDArray[np.float32]
    log_ratio: NDArray[np.float64]

    @property
    def weight(self) -> NDArray[np.float64]:
        """exp(log_ratio), clipped to e^∓5."""
        return np.exp(np.clip(self.log_ratio, -LOG_WEIGHT_LIMIT, LOG_WEIGHT_LIMIT))


class PileupTranslationPipeline(DiffusionPipeline):
    """MC events to data-like events.

    >>> pipeline = PileupTranslationPipeline.from_pretrained("runs/demo/model")  # doctest: +SKIP
    >>> translation = pipeline(energy, mu, event_id, seed=1)  # doctest: +SKIP

    Parameters
    ----------
    calibration, autoencoder, denoiser, ratio : models
        Trained networks.
    scheduler : DDPMScheduler
        The noise schedule.
    grid : dict
        :meth:`Grid.to_dict` of the images that the networks know.
    """

    def __init__(
        self,
        calibration: CellCalibration,
        autoencoder: Autoencoder,
        denoiser: Denoiser,
        ratio: RatioClassifier,
        scheduler: DDPMScheduler,
        grid: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            calibration=calibration,
            autoencoder=autoencoder,
            denoiser=denoiser,
            ratio=ratio,
            scheduler=scheduler,
        )
        self.register_to_config(grid=grid)
        for module in (calibration, autoencoder, denoiser, ratio):
            module.eval().requires_grad_(False)

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str], **kwargs: Any) -> Any:
        """Load a trained run's ``model`` folder.

        Raises
        ------
        RunError
            If the folder is missing, incomplete or damaged.
        """
        if not (Path(path) / "model_index.json").is_file():
            raise RunError(f"No trained model at {path}.", "Run 'pileupgen train' first.")
        diffusers_logging.disable_progress_bar()
        try:
            return super().from_pretrained(str(path), local_files_only=True, **kwargs)
        except (OSError, ValueError, RuntimeError, AttributeError, KeyError, TypeError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise RunError(
                f"The model at {path} cannot be loaded: {first}",
                "Train it anew, or restore the folder.",
            ) from error
        except Exception as error:
            if type(error).__name__ != "SafetensorError":
                raise
            raise RunError(
                f"The model at {path} is damaged: {error}.", "Train it anew, or restore the folder."
            ) from error

    @property
    def geometry(self) -> Grid:
        """Grid of the images that the networks know."""
        return Grid.from_dict(dict(self.config.grid))

    @property
    def codec(self) -> Codec:
        """Energies to latents and back."""
        return Codec(self.calibration, self.autoencoder)

    @property
    def num_train_timesteps(self) -> int:
        """T."""
        return int(self.scheduler.config.num_train_timesteps)

    def check(self, settings: Settings) -> None:
        """Refuse settings that this model cannot follow.

        Raises
        ------
        ConfigError
            If the release lies outside 0 … T − 1, or mode or counts make no sense.
        """
        if settings.mode not in MODES:
            raise ConfigError(f"No mode '{settings.mode}'.", f"Known: {', '.join(MODES)}.")
        if not 0 <= settings.t_release < self.num_train_timesteps:
            raise ConfigError(
                f"t_release {settings.t_release} is outside 0 … {self.num_train_timesteps - 1}.",
                "Small values keep the event, large ones remove more of the difference.",
            )
        if settings.num_inference_steps < 1 or settings.w < 0:
            raise ConfigError("steps must be at least 1 and w not negative.")

    def fit_renewal(
        self,
        energy: NDArray[np.float32],
        mu: NDArray[np.float32],
        event_id: NDArray[np.int64],
        seed: int,
        settings: Settings,
        advance: Callable[[int], None] = lambda n: None,
    ) -> MarginalRenewal:
        """Fit the renewal of the marginals on training events of the source; see __call__."""
        parts = []
        for scores, _, _ in self._micro_batches(energy, mu, event_id, seed, settings):
            parts.append(scores)
            advance(len(scores))
        grid = self.geometry
        renewal = MarginalRenewal(grid.n_layers, grid.n_eta, grid.is_eta_symmetric)
        renewal.fit(torch.cat(parts))
        return renewal

    @torch.no_grad()
    def __call__(
        self,
        energy: NDArray[np.float32],
        mu: NDArray[np.float32],
        event_id: NDArray[np.int64],
        seed: int = 1,
        settings: Settings | None = None,
        renewal: MarginalRenewal | None = None,
    ) -> Translation:
        """Translate MC events.

        Parameters
        ----------
        energy : float32 array, shape (N, L, n_eta, n_phi)
            GeV, on the model's grid.
        mu : float array, shape (N,)
            Number of pileup interactions; NaN where it is not known.
        event_id : int array, shape (N,)
            With the seed fixes all random numbers of an event.
        seed : int
        settings : Settings
        renewal : MarginalRenewal
            Fitted for these settings; None leaves the marginals as the denoiser made them.

        Raises
        ------
        ConfigError
            If the settings or the images' shape do not fit the model.
        """
        out = np.empty_like(energy, dtype=np.float32)
        log_ratio = np.zeros(len(energy))
        begin = 0
        for scores, mus, logs in self._micro_batches(
            energy, mu, event_id, seed, settings or Settings()
        ):
            renewed = scores if renewal is None else renewal(scores)
            end = begin + len(scores)
            out[begin:end] = self.calibration.decode(renewed, DATA, mus).numpy()
            log_ratio[begin:end] = logs.numpy()
            begin = end
        return Translation(out, log_ratio)

    def _micro_batches(
        self,
        energy: NDArray[np.float32],
        mu: NDArray[np.float32],
        event_id: NDArray[np.int64],
        seed: int,
        settings: Settings,
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Translated scores, μ and ln r, at most ``MICRO_BATCH`` events at a time."""
        self.check(settings)
        if energy.shape[1:] != self.geometry.shape:
            raise ConfigError(
                f"Images of shape {energy.shape[1:]}, the model knows {self.geometry.shape}."
            )
        for begin in range(0, len(energy), MICRO_BATCH):
            rows = np.arange(begin, min(begin + MICRO_BATCH, len(energy)))
            filled = np.resize(rows, MICRO_BATCH)
            mus = torch.from_numpy(np.asarray(mu[filled], dtype=np.float32))
            noise = EventNoise(seed, event_id[filled])
            scores, logs = self._translate(torch.from_numpy(energy[filled]), mus, noise, settings)
            yield scores[: len(rows)], mus[: len(rows)], logs[: len(rows)]

    @torch.no_grad()
    def _translate(
        self, energy: Tensor, mu: Tensor, noise: EventNoise, settings: Settings
    ) -> tuple[Tensor, Tensor]:
        device = self.denoiser.device
        shape = self.autoencoder.latent_shape
        no_ratio = torch.zeros(len(energy), dtype=torch.float64)
        uniform = noise.uniform(tuple(energy.shape[1:]))
        scores = self.calibration.encode(energy, MC, mu, uniform)
        if settings.mode == "calibrate":
            return scores, no_ratio
        mu = mu.to(device)
        latents = self.codec.encode_scores(scores.to(device), MC, mu)
        if settings.mode == "generate":
            t = self.num_train_timesteps - 1
            x_t, log_ratio = noise.normal(shape).to(device), no_ratio
        else:
            t = settings.t_release
            x_t = self._release(latents, mu, noise, settings)
            log_ratio = self.log_ratio(x_t, t, mu).double().cpu()
        if settings.mode == "generate" or t > 0:
            predict = Predictor(self.denoiser, self.scheduler, DATA, mu, settings.w)
            steps = timesteps_between(t, settings.num_inference_steps)
            sampler: Sampler = "dpmsolver++" if settings.mode == "invert" else settings.sampler
            x_t = solve(
                x_t, steps, predict, self.scheduler, sampler, lambda: noise.normal(shape).to(device)
            )
        return self.codec.decode_scores(x_t, DATA, mu).cpu(), log_ratio

    def _release(
        self, latents: Tensor, mu: Tensor, noise: EventNoise, settings: Settings
    ) -> Tensor:
        """Latents at the release time: noised forward, or inverted as mc."""
        t = settings.t_release
        if t == 0:
            return latents
        if settings.mode == "invert":
            predict = Predictor(self.denoiser, self.scheduler, MC, mu)
            steps = timesteps_between(t, settings.num_inference_steps)[::-1]
            return solve(latents, steps, predict, self.scheduler, "dpmsolver++")
        eps = noise.normal(tuple(latents.shape[1:])).to(latents)
        times = torch.full((len(latents),), t, device=latents.device)
        return self.scheduler.add_noise(latents, eps, times)

    @torch.no_grad()
    def log_ratio(self, x_t: Tensor, t: int, mu: Tensor) -> Tensor:
        """Ln p_data(x_t) / p_mc(x_t) at one timestep, shape (N,), from latents (N, C, H, W)."""
        times = torch.full((len(x_t),), max(t, CLEAN + 1), device=x_t.device)
        alpha, sigma = alpha_sigma(self.scheduler, times)
        return self.ratio(x_t, times, mu, alpha, sigma)
