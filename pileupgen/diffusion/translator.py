"""From images to translated scores, a few events at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from diffusers import DDPMScheduler
from numpy.typing import NDArray
from torch import Tensor

from pileupgen.diffusion.direction import Direction
from pileupgen.diffusion.events import EventKeys, Part, Trace, micro_batches
from pileupgen.diffusion.guidance import (
    FieldContrast,
    Guide,
    LabelContrast,
    Predictor,
    RatioGradient,
    Strength,
)
from pileupgen.diffusion.sampling import CLEAN, Record, solve
from pileupgen.diffusion.schedule import alpha_sigma
from pileupgen.diffusion.settings import Settings
from pileupgen.models.codec import Codec, EventNoise, LatentModel
from pileupgen.models.denoiser import DATA, NULL, FieldDenoiser
from pileupgen.models.ratio import RatioClassifier
from pileupgen.models.scaling import CellSpace


@dataclass(frozen=True)
class Translator:
    """The networks of a pipeline at work.

    Attributes
    ----------
    calibration, autoencoder, denoiser, ratio : models
    scheduler : DDPMScheduler
    calibrate_before : bool
        Whether mc events are encoded with their own quantiles or with those of data.
    bf16 : bool
        Whether the denoiser's residual runs in bfloat16.
    direction : Direction
    """

    calibration: CellSpace
    autoencoder: LatentModel
    denoiser: FieldDenoiser
    ratio: RatioClassifier
    scheduler: DDPMScheduler
    calibrate_before: bool = True
    bf16: bool = True
    direction: Direction = field(default_factory=Direction)

    @property
    def codec(self) -> Codec:
        """Energies to latents and back."""
        return Codec(self.calibration, self.autoencoder)

    def tables(self, label: int, settings: Settings) -> int:
        """The domain whose quantiles hold for events of a class."""
        return label if self.calibrate_before or settings.mode == "calibrate" else DATA

    def parts(
        self,
        energy: NDArray[np.float32],
        mu: NDArray[np.float32],
        keys: EventKeys,
        settings: Settings,
    ) -> Iterator[Part]:
        """Translated scores of some events after others, in any order."""
        rows = np.arange(len(energy))
        if settings.release == "common":
            yield from self._at_once(rows, energy, mu, keys, settings)
            return
        t_release = self._own_releases(energy, mu, keys, settings)
        for t in np.unique(t_release).tolist():
            chosen = rows[t_release == t]
            yield from self._at_once(chosen, energy, mu, keys, settings.at(t))

    def trace(
        self,
        energy: NDArray[np.float32],
        mu: NDArray[np.float32],
        keys: EventKeys,
        settings: Settings,
    ) -> Trace:
        """Follow a few events, all released at ``settings.t_release``, through their translation.

        Parameters
        ----------
        energy : float32 array, shape (N, L, n_eta, n_phi)
        mu : float array, shape (N,)
        keys : EventKeys
        settings : Settings

        Returns
        -------
        Trace
            Both ways at all timesteps of the solver, clean ends and the release included.
        """
        found = Trace()
        mus = torch.from_numpy(np.asarray(mu, dtype=np.float32))
        rows = np.arange(len(energy))
        self._translate(torch.from_numpy(energy), mus, keys.noise(rows), settings, found)
        return found

    def _at_once(
        self,
        rows: NDArray[np.int64],
        energy: NDArray[np.float32],
        mu: NDArray[np.float32],
        keys: EventKeys,
        settings: Settings,
    ) -> Iterator[Part]:
        for chosen, filled in micro_batches(rows):
            mus = torch.from_numpy(np.asarray(mu[filled], dtype=np.float32))
            images = torch.from_numpy(energy[filled])
            scores, logs = self._translate(images, mus, keys.noise(filled), settings)
            n = len(chosen)
            released = settings.mode not in ("calibrate", "generate")
            t = settings.t_release if released else -1
            tables = self.tables(self.direction.target_label, settings)
            yield Part(chosen, scores[:n], mus[:n], self.direction.sign * logs[:n], t, tables)

    def _own_releases(
        self,
        energy: NDArray[np.float32],
        mu: NDArray[np.float32],
        keys: EventKeys,
        settings: Settings,
    ) -> NDArray[np.int64]:
        """Each event's first time where its |ln r| is within tolerance, else the latest, (N,)."""
        times = settings.release_times()
        found = np.full(len(energy), times[-1])
        for chosen, filled in micro_batches(np.arange(len(energy))):
            mus = torch.from_numpy(np.asarray(mu[filled], dtype=np.float32))
            noise = keys.noise(filled)
            images = torch.from_numpy(energy[filled])
            latents, mus = self._encode(images, mus, noise, settings)
            eps = noise.normal(tuple(latents.shape[1:])).to(latents)
            open_ = np.ones(len(filled), dtype=bool)
            for t in times:
                logs = self.log_ratio(self._noised(latents, eps, t), t, mus).abs().cpu().numpy()
                let_go = open_ & (logs <= settings.release_tolerance)
                found[chosen[let_go[: len(chosen)]]] = t
                open_ &= ~let_go
                if not open_[: len(chosen)].any():
                    break
        return found

    def _encode(
        self, energy: Tensor, mu: Tensor, noise: EventNoise, settings: Settings
    ) -> tuple[Tensor, Tensor]:
        """Latents and μ on the device."""
        scores = self._scores(energy, mu, noise, settings)
        device, label = self.denoiser.device, self.direction.source_label
        mu = mu.to(device)
        return self.codec.encode_scores(scores.to(device), label, mu), mu

    def _scores(self, energy: Tensor, mu: Tensor, noise: EventNoise, settings: Settings) -> Tensor:
        uniform = noise.uniform(tuple(energy.shape[1:]))
        tables = self.tables(self.direction.source_label, settings)
        return self.calibration.encode(energy, tables, mu, uniform)

    @torch.no_grad()
    def _translate(
        self,
        energy: Tensor,
        mu: Tensor,
        noise: EventNoise,
        settings: Settings,
        trace: Trace | None = None,
    ) -> tuple[Tensor, Tensor]:
        no_ratio = torch.zeros(len(energy), dtype=torch.float64)
        if settings.mode == "calibrate":
            return self._scores(energy, mu, noise, settings), no_ratio
        shape = self.autoencoder.latent_shape
        target = self.direction.target_label
        latents, mu = self._encode(energy, mu, noise, settings)
        if settings.mode == "generate":
            t = int(self.scheduler.config.num_train_timesteps) - 1
            x_t, log_ratio = noise.normal(shape).to(latents), no_ratio
        else:
            t = settings.t_release
            x_t = self._release(latents, mu, noise, settings, trace)
            log_ratio = self.log_ratio(x_t, t, mu).double().cpu()
        if settings.mode == "generate" or t > 0:
            guides = self._guides(settings, t)
            source = None if settings.mode == "generate" else self._source(latents)
            predict = Predictor(
                self.denoiser, self.scheduler, target, mu, guides, self.bf16, source
            )
            x_t = solve(
                x_t,
                settings.way_down(t),
                predict,
                self.scheduler,
                settings.decoding_sampler,
                lambda: noise.normal(shape).to(latents),
                settings.eta,
                record=None if trace is None else _keep(trace.down),
            )
        cells = (self.calibration.n_channels, *energy.shape[2:])
        normal = noise.normal(cells) if settings.decode == "sample" else None
        return self.codec.decode_scores(x_t, target, mu, normal).cpu(), log_ratio

    def _source(self, latents: Tensor) -> Tensor | None:
        """What a denoiser that is conditioned on the source event is given."""
        return latents if self.denoiser.has_coarse else None

    def _guides(self, settings: Settings, t_start: int) -> tuple[Guide, ...]:
        if settings.w == 0:
            return ()
        strength = Strength(
            settings.w, settings.guidance_schedule, t_start, settings.guidance_interval
        )
        other = self.direction.other_label
        if settings.guidance == "classifier":
            return (RatioGradient(strength, self.ratio, self.direction.target_label - other),)
        if settings.guidance == "closed-form":
            label = self.direction.target_label
            return (FieldContrast(strength, self.denoiser, label, NULL),)
        return (LabelContrast(strength, other if settings.guidance == "ratio" else NULL),)

    def _release(
        self,
        latents: Tensor,
        mu: Tensor,
        noise: EventNoise,
        settings: Settings,
        trace: Trace | None = None,
    ) -> Tensor:
        """Latents at the release time: noised forward, or inverted as the source."""
        t = settings.t_release
        if t == 0:
            return latents
        if settings.inverts:
            source = self._source(latents)
            label = self.direction.source_label
            predict = Predictor(
                self.denoiser, self.scheduler, label, mu, bf16=self.bf16, source=source
            )
            return solve(
                latents,
                settings.way_down(t)[::-1],
                predict,
                self.scheduler,
                settings.inversion_sampler,
                record=None if trace is None else _keep(trace.up),
            )
        eps = noise.normal(tuple(latents.shape[1:])).to(latents)
        if trace is not None:
            times = settings.way_down(t)[-2::-1]
            trace.up = [(CLEAN, latents), *((t, self._noised(latents, eps, t)) for t in times)]
        return self._noised(latents, eps, t)

    def _noised(self, latents: Tensor, eps: Tensor, t: int) -> Tensor:
        times = torch.full((len(latents),), t, device=latents.device)
        return self.scheduler.add_noise(latents, eps, times)

    @torch.no_grad()
    def log_ratio(self, x_t: Tensor, t: int, mu: Tensor) -> Tensor:
        """Ln p_data(x_t) / p_mc(x_t) at one timestep, shape (N,), from latents (N, C, H, W)."""
        times = torch.full((len(x_t),), max(t, CLEAN + 1), device=x_t.device)
        alpha, sigma = alpha_sigma(self.scheduler, times)
        return self.ratio(x_t, times, mu, alpha, sigma)


def _keep(kept: list[tuple[int, Tensor]]) -> Record:
    def record(t: int, x_t: Tensor) -> None:
        kept.append((t, x_t))

    return record
