"""Translation of images to scores, a few events at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from pileupgen.arrays import Ints
from pileupgen.diffusion.direction import Direction
from pileupgen.diffusion.events import (
    Events,
    MicroBatch,
    Trace,
    TranslatedPart,
    micro_batches,
)
from pileupgen.diffusion.guidance import (
    FieldContrast,
    Guide,
    LabelContrast,
    Predictor,
    RatioGradient,
    Strength,
)
from pileupgen.diffusion.schedule import Schedule, alpha_sigma, forward, inverted_to, noised
from pileupgen.diffusion.settings import CLEAN, UNRELEASED, Settings
from pileupgen.diffusion.solvers import Record, solve
from pileupgen.models.calibration.limits import visible
from pileupgen.models.calibration.space import CellSpace
from pileupgen.models.codec import Codec, EventNoise, LatentModel
from pileupgen.models.common_modes import CommonModes
from pileupgen.models.networks.denoiser import DATA, NULL, FieldDenoiser
from pileupgen.models.networks.precision import autocast
from pileupgen.models.networks.ratio import RatioClassifier
from pileupgen.models.networks.student import Student
from pileupgen.parallel.threads import Map


class Inversions:
    """Inverted latents, kept for translations of the same events that differ only afterwards."""

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def __call__(self, how: str, given: Sequence[Tensor], invert: Callable[[], Tensor]) -> Tensor:
        """Give what ``invert`` made before, or makes now.

        Parameters
        ----------
        how : str
            Tells inversions of the same latents apart.
        given : Tensors
            What is inverted, and under which conditions: clean latents and μ.
        """
        digest = hashlib.blake2b(how.encode())
        for values in given:
            digest.update(values.float().cpu().numpy().tobytes())
        key = digest.hexdigest()
        if key not in self._kept:
            self._kept[key] = invert()
        return self._kept[key]


@dataclass(frozen=True)
class Translator:
    """The networks of a pipeline at work."""

    calibration: CellSpace
    autoencoder: LatentModel
    denoiser: FieldDenoiser
    ratio: RatioClassifier
    scheduler: Schedule
    calibrate_before: bool = True
    """Whether mc events are encoded with their own quantiles or with those of data."""
    bf16: bool = True
    """Whether what the denoiser adds to the closed form, and the autoencoder to its shortcuts, is
    computed in bfloat16, where the device has it."""
    direction: Direction = field(default_factory=Direction)
    student: Student | None = None
    """Takes the place of the solver where it was distilled for the settings."""
    inversions: Inversions | None = None
    """Inversions made before, where events are translated several times."""
    _common: dict[int, CommonModes] = field(default_factory=dict, init=False, repr=False)

    @property
    def codec(self) -> Codec:
        """Energies to latents and back."""
        return Codec(self.calibration, self.autoencoder)

    def tables(self, label: int, settings: Settings) -> int:
        """The domain whose quantiles hold for events of a class."""
        return label if self.calibrate_before or settings.mode == "calibrate" else DATA

    def parts(
        self, events: Events, settings: Settings, over: Map = map
    ) -> Iterator[TranslatedPart]:
        """Translated scores of some events after others, in any order."""
        return over(partial(self.part, events), self.micro_batches(events, settings, over))

    def micro_batches(
        self, events: Events, settings: Settings, over: Map = map
    ) -> Iterator[MicroBatch]:
        """Events that are translated together; with releases of their own, by release time.

        ``over`` maps what is to be computed for that.
        """
        rows = np.arange(len(events.energy))
        if settings.release == "common":
            yield from micro_batches(rows, settings)
            return
        t_release = np.empty(len(rows), dtype=np.int64)
        batches = list(micro_batches(rows, settings))
        for batch, own in zip(
            batches, over(partial(self._own_releases, events), batches), strict=True
        ):
            t_release[batch.rows] = own
        for t in np.unique(t_release).tolist():
            yield from micro_batches(rows[t_release == t], settings.at(t))

    def part(self, events: Events, batch: MicroBatch) -> TranslatedPart:
        """Translated scores of a micro-batch."""
        settings = batch.settings
        scores, logs, source = self._translate(*events.of(batch.filled), settings)
        n = len(batch.rows)
        mu = torch.from_numpy(np.asarray(events.mu[batch.rows], dtype=np.float32))
        released = settings.mode not in UNRELEASED
        t = settings.release_timestep if released else -1
        tables = self.tables(self.direction.target_label, settings)
        logs = self.direction.sign * logs[:n]
        kept = None if source is None else source[:n]
        return TranslatedPart(batch.rows, scores[:n], mu, logs, t, tables, kept)

    def trace(self, events: Events, settings: Settings) -> Trace:
        """Follow a few events, all released at ``settings.t_release``, through their translation.

        Returns
        -------
        Trace
            Both directions at all timesteps of the solver, clean ends and the release included.
        """
        found = Trace()
        self._translate(*events.of(np.arange(len(events.energy))), settings, found)
        return found

    def _own_releases(self, events: Events, batch: MicroBatch) -> Ints:
        """Each event's first time where its |ln r| is within tolerance, else the latest, (n,)."""
        settings = batch.settings
        times = settings.release_times()
        found = np.full(len(batch.filled), times[-1])
        energy, mu, noise = events.of(batch.filled)
        latents, mu = self._encode(self._scores(energy, mu, noise, settings), mu)
        eps = noise.normal(tuple(latents.shape[1:])).to(latents)
        open_ = np.ones(len(found), dtype=bool)
        for t in times:
            logs = self.log_ratio(self._noised(latents, eps, t), t, mu).abs().cpu().numpy()
            let_go = open_ & (logs <= settings.release_tolerance)
            found[let_go] = t
            open_ &= ~let_go
            if not open_.any():
                break
        return found[: len(batch.rows)]

    def _encode(self, scores: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
        """Latents and μ on the device; scores beyond training's are seen at their limit."""
        scores = visible(scores, self.calibration.score_limits)
        device, label = self.denoiser.device, self.direction.source_label
        mu = mu.to(device)
        with self._autocast():
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
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        no_ratio = torch.zeros(len(energy), dtype=torch.float64)
        if settings.mode == "calibrate":
            scores = self._scores(energy, mu, noise, settings)
            return scores, no_ratio, scores
        scores = self._scores(energy, mu, noise, settings)
        latents, mu = self._encode(scores, mu)
        drawn = partial(self._drawn, noise, latents)
        log_ratio = no_ratio
        if settings.mode == "transport":
            end = self._transported(latents)
        elif settings.mode == "generate":
            end = self._denoised(drawn(), None, mu, settings, drawn, trace)
        else:
            student = self._student_of(settings) if trace is None else None
            if student is None:
                x_t, end = self.follow(latents, mu, settings, drawn, trace)
            else:
                eps = drawn() if student.has_noise else None
                with self._autocast():
                    x_t, end = student(latents, mu, eps)
            log_ratio = self.release_ratio(x_t, mu, settings).double().cpu()
        cells = (self.calibration.n_channels, *energy.shape[2:])
        normal = noise.normal(cells) if settings.decode == "sample" else None
        with self._autocast():
            decoded = self.codec.decode_scores(end, self.direction.target_label, mu, normal).cpu()
        return decoded, log_ratio, None if settings.mode == "generate" else scores

    @torch.no_grad()
    def lesson(self, events: Events, batch: MicroBatch) -> Tensor:
        """What a student is to learn from a micro-batch of n events, as the solver has it.

        Returns
        -------
        Tensor, shape (n, 3 C or 4 C, H, W)
            Clean latents of the source, noise at the release where some is drawn, latents at the
            release and at the end, one after another along the channels.
        """
        energy, mu, noise = events.of(batch.filled)
        latents, mu = self._encode(self._scores(energy, mu, noise, batch.settings), mu)
        kept: list[Tensor] = []

        def drawn() -> Tensor:
            kept.append(self._drawn(noise, latents))
            return kept[-1]

        ends = self.follow(latents, mu, batch.settings, drawn)
        return torch.cat([latents, *kept, *ends], dim=1)[: len(batch.rows)].cpu()

    def follow(
        self,
        latents: Tensor,
        mu: Tensor,
        settings: Settings,
        drawn: Callable[[], Tensor],
        trace: Trace | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Latents at the release and at the clean end, by the solver.

        Parameters
        ----------
        latents : Tensor, shape (N, C, H, W)
            Clean ones of source events.
        mu : Tensor, shape (N,)
            Number of pileup interactions; NaN where it is not known.
        drawn : callable
            Gives standard normal noise of the shape of the latents.
        """
        common = self.common_modes(settings)
        if common is not None:
            latents = common.move(latents)
        x_t = self._release(latents, mu, drawn, settings, trace)
        return x_t, self._denoised(x_t, latents, mu, settings, drawn, trace)

    def _denoised(
        self,
        x_t: Tensor,
        source: Tensor | None,
        mu: Tensor,
        settings: Settings,
        drawn: Callable[[], Tensor],
        trace: Trace | None,
    ) -> Tensor:
        """Latents at the clean end, from those at the release or from noise."""
        t = settings.release_timestep
        if source is None:
            t = len(self.scheduler.alphas_cumprod) - 1
        if t == 0:
            return x_t
        direction = self.direction
        label = direction.target_label if settings.switch_class else direction.source_label
        seen = None if source is None else self._source(source)
        return solve(
            x_t,
            settings.decoding_timesteps(t),
            self._predictor(label, mu, settings, self._guides(settings, t), seen),
            self.scheduler,
            settings.decoding_sampler,
            drawn,
            settings.eta,
            record=None if trace is None else _keep(trace.down),
        )

    def _student_of(self, settings: Settings) -> Student | None:
        """The student, if it is one of this direction and these settings."""
        student = self.student
        if student is None or settings.exact or not settings.is_deterministic:
            return None
        fits = self.direction.is_usual and student.solver_settings == settings.solver_settings()
        return student if fits else None

    def _drawn(self, noise: EventNoise, latents: Tensor) -> Tensor:
        return noise.normal(self.autoencoder.latent_shape).to(latents)

    def _predictor(
        self,
        label: int,
        mu: Tensor,
        settings: Settings,
        guides: tuple[Guide, ...] = (),
        source: Tensor | None = None,
    ) -> Predictor:
        return Predictor(
            self.denoiser,
            self.scheduler,
            label,
            mu,
            guides,
            self.bf16,
            source,
            settings,
        )

    def _transported(self, latents: Tensor) -> Tensor:
        """Latents moved from the source's Gaussian field to the target's."""
        labels = self.direction.source_label, self.direction.target_label
        return self.denoiser.field.move(latents, self._maps, *labels)

    @cached_property
    def _maps(self) -> Tensor:
        labels = self.direction.source_label, self.direction.target_label
        return self.denoiser.field.transport(*labels)

    def common_modes(self, settings: Settings) -> CommonModes | None:
        """Modes that are mapped before the release, if any are."""
        t = settings.release_timestep
        if not (settings.map_scale and settings.switch_class) or t == 0:
            return None
        if t not in self._common:
            alpha, sigma = alpha_sigma(self.scheduler, torch.tensor([t]))
            labels = self.direction.source_label, self.direction.target_label
            field = self.denoiser.field
            self._common[t] = CommonModes(field, *labels, float(alpha), float(sigma))
        return self._common[t]

    def release_ratio(self, x_t: Tensor, mu: Tensor, settings: Settings) -> Tensor:
        """Ln p_data / p_mc of latents at the release, less that of modes mapped before, (N,)."""
        found = self.log_ratio(x_t, settings.release_timestep, mu)
        common = self.common_modes(settings)
        return found if common is None else found - self.direction.sign * common.log_ratio(x_t)

    def _autocast(self) -> torch.autocast:
        return autocast(self.denoiser.device, self.bf16)

    def _source(self, latents: Tensor) -> Tensor | None:
        """What a denoiser that is conditioned on the source event is given."""
        return latents if self.denoiser.has_coarse else None

    def _guides(self, settings: Settings, t_start: int) -> tuple[Guide, ...]:
        if settings.w == 0 or not settings.switch_class:
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
        drawn: Callable[[], Tensor],
        settings: Settings,
        trace: Trace | None = None,
    ) -> Tensor:
        """Latents at the release time: noised forward, or inverted as the source."""
        t = settings.release_timestep
        if t == 0:
            return latents
        if settings.inverts:
            return self._inverted(latents, mu, settings, t, trace)
        eps = drawn()
        t_inverted = self.inverted_to(settings)
        if t_inverted > CLEAN:
            latents = self._inverted(latents, mu, settings, t_inverted, trace)
            released = self._noised(latents, eps, t, t_inverted)
            if trace is not None:
                trace.up.append((t, released))
            return released
        if trace is not None:
            times = settings.decoding_timesteps(t)[-2::-1]
            trace.up = [(CLEAN, latents), *((t, self._noised(latents, eps, t)) for t in times)]
        return self._noised(latents, eps, t)

    def inverted_to(self, settings: Settings) -> int:
        """The timestep that a partial release inverts an event to before it is noised; −1 none."""
        return inverted_to(self.scheduler, settings.release_timestep, settings.fresh_noise)

    def _inverted(
        self, latents: Tensor, mu: Tensor, settings: Settings, t: int, trace: Trace | None
    ) -> Tensor:
        """Latents inverted as the source to t, by the decoding's timesteps below it."""
        predict = self._predictor(
            self.direction.source_label, mu, settings, source=self._source(latents)
        )
        down = settings.decoding_timesteps(settings.release_timestep)
        below = [step for step in down[::-1] if step < t]
        invert = partial(
            solve,
            latents,
            [*below, t],
            predict,
            self.scheduler,
            settings.inversion_sampler,
            record=None if trace is None else _keep(trace.up),
        )
        if self.inversions is None or trace is not None:
            return invert()
        # Guidance and the class of the decoding do not enter an inversion.
        alike = replace(settings, w=0.0, switch_class=True).to_dict()
        return self.inversions(f"{self.direction.name} {t} {alike}", (latents, mu), invert)

    def _noised(self, x: Tensor, eps: Tensor, t: int, t_before: int = CLEAN) -> Tensor:
        """Latents noised forward from one timestep, clean if not given, to another."""
        if t_before == CLEAN:
            return noised(self.scheduler, x, eps, t)
        a, s = forward(self.scheduler, t_before, t)
        return a * x + s * eps

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
