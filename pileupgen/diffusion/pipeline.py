"""The translation as a diffusers pipeline."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, DiffusionPipeline
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from diffusers.utils import logging as diffusers_logging
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor, nn

from pileupgen.arrays import Ints
from pileupgen.calo.geometry import Grid
from pileupgen.diffusion.direction import Direction, Domain
from pileupgen.diffusion.events import EventKeys, Events, MicroBatch, TranslatedPart, Translation
from pileupgen.diffusion.settings import MICRO_BATCH, Settings
from pileupgen.diffusion.translate import Translator
from pileupgen.errors import ConfigError, RunError, first_line
from pileupgen.models.calibration.limits import kept_beyond
from pileupgen.models.calibration.scaling import CellSpace
from pileupgen.models.codec import Codec, EventNoise
from pileupgen.models.correction.correlations import FieldCorrection
from pileupgen.models.correction.marginals import MarginalCorrection
from pileupgen.models.event_check import EventCheck
from pileupgen.models.networks.autoencoder import Autoencoder
from pileupgen.models.networks.cell_patches import CellPatches
from pileupgen.models.networks.denoiser import Denoiser, FieldDenoiser
from pileupgen.models.networks.local import LocalDenoiser
from pileupgen.models.networks.ratio import RatioClassifier
from pileupgen.models.networks.student import Student
from pileupgen.models.networks.transformer import TransformerDenoiser
from pileupgen.parallel.threads import Map, torch_threads
from pileupgen.progress import Advance, silent
from pileupgen.samples.store import Images

DENOISERS = (Denoiser, TransformerDenoiser, LocalDenoiser)
"""What a saved pipeline may hold: diffusers loads classes of imported modules only."""

Correction = FieldCorrection | MarginalCorrection
"""Calibrations after the decode."""


class PileupTranslationPipeline(DiffusionPipeline):
    """MC events to data-like events, and, as a control, either domain to either.

    >>> pipeline = PileupTranslationPipeline.from_pretrained("runs/demo/model")  # doctest: +SKIP
    >>> translation = pipeline(energy, mu, event_id, seed=1)  # doctest: +SKIP

    Parameters
    ----------
    calibration, autoencoder, denoiser, ratio : models
        Trained networks; the autoencoder is a learned one or the lossless ``CellPatches``.
    scheduler : DDPMScheduler
        The noise schedule.
    grid : dict
        :meth:`Grid.to_dict` of the images that the networks know.
    calibrate_before : bool
        Whether mc events are encoded with their own quantiles, which calibrates them, or with those
        of data, which leaves the whole shift to the networks.
    event_check : EventCheck or None
        Tells events that are unlike those of training.
    """

    student: Student | None = None
    """Distilled from the networks, in whose place it translates where the settings are its own."""
    _optional_components = ["event_check"]  # noqa: RUF012 - diffusers' own attribute

    def __init__(
        self,
        calibration: CellSpace,
        autoencoder: Autoencoder | CellPatches,
        denoiser: FieldDenoiser,
        ratio: RatioClassifier,
        scheduler: DDPMScheduler,
        grid: dict[str, Any] | None = None,
        calibrate_before: bool = True,
        event_check: EventCheck | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            calibration=calibration,
            autoencoder=autoencoder,
            denoiser=denoiser,
            ratio=ratio,
            scheduler=scheduler,
            event_check=event_check,
        )
        self.register_to_config(grid=grid, calibrate_before=calibrate_before)
        for module in (calibration, autoencoder, denoiser, ratio, event_check):
            if module is not None:
                module.eval().requires_grad_(False)

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str], **kwargs: Any) -> Any:
        """Load a trained run's ``model`` folder.

        Raises
        ------
        RunError
            If the folder is missing, incomplete, damaged or of another version.
        """
        if not (Path(path) / "model_index.json").is_file():
            raise RunError(f"No trained model at {path}.", "Run 'pileupgen train' first.")
        diffusers_logging.disable_progress_bar()
        try:
            # Of tensors that are not there diffusers warns only, and goes on with untrained ones.
            with errors_only():
                pipeline = super().from_pretrained(str(path), local_files_only=True, **kwargs)
            missing = _lacking(pipeline, Path(path))
        except (OSError, ValueError, RuntimeError, AttributeError, KeyError, TypeError) as error:
            raise RunError(
                f"The model at {path} cannot be loaded: {first_line(error)}",
                "Train it again, or restore the folder.",
            ) from error
        except Exception as error:
            if type(error).__name__ != "SafetensorError":
                raise
            raise RunError(
                f"The model at {path} is damaged: {error}.",
                "Train it again, or restore the folder.",
            ) from error
        if missing:
            raise RunError(
                f"The model at {path} was written by another version: {'; '.join(missing)}.",
                "Train it again, or use the version that its README.md names.",
            )
        return pipeline

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
        """Refuse settings that this model cannot follow; see :meth:`Settings.check`."""
        settings.check(self.num_train_timesteps)

    def fit_correction(
        self,
        energy: NDArray[np.float32],
        mu: NDArray[np.float32],
        event_id: Ints,
        seed: int,
        settings: Settings,
        advance: Advance = silent,
        source: Domain = "mc",
        target: Domain = "data",
        real: Images | None = None,
    ) -> Correction:
        """Fit the calibration after the decode on training events of the source; see __call__.

        Scores that are not meant to be normal are left as they are: those of a space that has
        none, and mc's where they are ranks among data.

        Parameters
        ----------
        energy, mu, event_id, seed, settings, source, target
            As :meth:`__call__` takes them.
        advance : callable
            Told how many more events are translated.
        real : Images, optional
            Training events of the target, which corrected correlations need; without them marginals
            alone are corrected.
        """
        grid, n_channels = self.geometry, self.calibration.n_channels
        is_symmetric = grid.is_eta_symmetric
        correction: Correction = MarginalCorrection(n_channels, grid.n_eta, is_symmetric)
        if settings.corrects_correlations and real is not None:
            correction = FieldCorrection(n_channels, grid.n_eta, grid.n_phi, is_symmetric)
        translator = self.translator(Direction(source, target))
        label = translator.direction.target_label
        if not self.calibration.has_normal_scores or translator.tables(label, settings) != label:
            return correction
        scores = torch.empty((len(energy), n_channels, *grid.shape[1:]))
        self._require_fitting(energy, settings)
        events = Events(energy, mu, EventKeys(event_id, seed))
        with torch_threads(torch.get_num_threads()) as over:
            for part in translator.parts(events, settings, over):
                scores[part.rows] = part.scores
                advance(len(part.rows))
            if isinstance(correction, FieldCorrection) and real is not None:
                correction.fit(scores, self.real_scores(real, label, seed, over), over)
        if isinstance(correction, MarginalCorrection):
            correction.fit(scores)
        return correction

    def real_scores(self, images: Images, label: int, seed: int, over: Map = map) -> Tensor:
        """Scores (N, L, n_eta, n_phi) of recorded or simulated events in their own domain."""

        def encoded(begin: int) -> Tensor:
            rows = slice(begin, begin + MICRO_BATCH)
            energy, mu = torch.from_numpy(images.energy[rows]), torch.from_numpy(images.mu[rows])
            uniform = EventNoise(seed, images.event_id[rows]).uniform(tuple(energy.shape[1:]))
            return self.calibration.encode(energy, label, mu, uniform)

        return torch.cat(list(over(encoded, range(0, len(images), MICRO_BATCH))))

    @torch.no_grad()
    def __call__(
        self,
        energy: NDArray[np.float32],
        mu: NDArray[np.float32],
        event_id: Ints,
        seed: int = 1,
        settings: Settings | None = None,
        correction: Correction | None = None,
        draw: int = 0,
        source: Domain = "mc",
        target: Domain = "data",
        advance: Advance = silent,
    ) -> Translation:
        """Translate events of one domain, mc unless said otherwise.

        Parameters
        ----------
        energy : float32 array, shape (N, L, n_eta, n_phi)
            GeV, on the model's grid.
        mu : float array, shape (N,)
            Number of pileup interactions; NaN where it is not known.
        event_id : int array, shape (N,)
            With seed and draw fixes all random numbers of an event.
        seed : int
        settings : Settings
        correction : FieldCorrection or MarginalCorrection
            Fitted for these settings; None leaves the scores as the denoiser made them.
        draw : int
            Draws of one event have random numbers of their own.
        source, target : str
            ``mc`` or ``data``. The events are encoded, and inverted, as the source, and denoised
            and decoded as the target. With both the same it is a control.
        advance : callable
            Told how many more events are translated.

        As many micro-batches are at work side by side as torch has threads; no bit of the result
        depends on their number.

        Raises
        ------
        ConfigError
            If the settings, a domain or the images' shape do not fit the model.
        """
        settings = settings or Settings()
        translator = self.translator(Direction(source, target))
        self._require_fitting(energy, settings)
        events = Events(energy, mu, EventKeys(event_id, seed, draw))

        def translated(batch: MicroBatch) -> tuple[TranslatedPart, NDArray[np.float32]]:
            part = translator.part(events, batch)
            return part, self.decoded(part, correction)

        out = np.empty_like(energy, dtype=np.float32)
        log_ratio = np.zeros(len(energy))
        t_release = np.zeros(len(energy), dtype=np.int64)
        with torch_threads(torch.get_num_threads()) as over:
            batches = translator.micro_batches(events, settings, over)
            for part, decoded in over(translated, batches):
                out[part.rows] = decoded
                log_ratio[part.rows], t_release[part.rows] = part.log_ratio.numpy(), part.t_release
                advance(len(part.rows))
        return Translation(out, log_ratio, t_release, settings.log_weight_limit)

    def decoded(self, part: TranslatedPart, correction: Correction | None) -> NDArray[np.float32]:
        """Energies (n, L, n_eta, n_phi) in GeV of translated scores, corrected if wanted."""
        corrected = part.scores if correction is None else correction(part.scores)
        limits, n_layers = self.calibration.score_limits, self.calibration.n_layers
        kept = kept_beyond(part.source, corrected, limits, n_layers)
        decoded = self.calibration.decode(kept, part.tables, part.mu).numpy()
        decoded = self._calibrated_beyond(part, decoded)
        return np.where(self.geometry.is_dead, np.float32(0.0), decoded)

    def _calibrated_beyond(
        self, part: TranslatedPart, energy: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Energies (n, L, n_eta, n_phi), cells that came from above the limit only calibrated.

        Given the layer before as the networks left it, such a cell would change by their doing.
        """
        if part.source is None:
            return energy
        n_layers = self.calibration.n_layers
        highest = self.calibration.score_limits[:n_layers, 1, None, None]
        above = part.source[:, :n_layers] > highest
        rows = above.flatten(1).any(dim=1)
        if not bool(rows.any()):
            return energy
        own = self.calibration.decode(part.source[rows], part.tables, part.mu[rows])
        out = energy.copy()
        out[rows.numpy()] = np.where(above[rows].numpy(), own.numpy(), energy[rows.numpy()])
        return out

    def log_ratio(self, x_t: Tensor, t: int, mu: Tensor) -> Tensor:
        """Ln p_data(x_t) / p_mc(x_t) at one timestep, shape (N,), from latents (N, C, H, W)."""
        return self.translator(Direction()).log_ratio(x_t, t, mu)

    def translator(self, direction: Direction) -> Translator:
        """The networks at work in a direction.

        Raises
        ------
        ConfigError
            If a domain is unknown.
        """
        direction.check()
        return Translator(
            self.calibration,
            self.autoencoder,
            self.denoiser,
            self.ratio,
            self.scheduler,
            bool(self.config.calibrate_before),
            direction=direction,
            student=self.student,
        )

    def taught(self, student: Student | None) -> PileupTranslationPipeline:
        """The same pipeline with a student, which it shares its models with; None takes it away."""
        clone = copy(self)
        clone.student = student
        return clone

    def _require_fitting(self, energy: NDArray[np.float32], settings: Settings) -> None:
        """Refuse settings and images that do not fit the model."""
        self.check(settings)
        if energy.shape[1:] != self.geometry.shape:
            raise ConfigError(
                f"Images of shape {energy.shape[1:]}, the model knows {self.geometry.shape}."
            )


@contextmanager
def errors_only() -> Iterator[None]:
    """Silence the warnings of diffusers, of tensors that are not there among them."""
    before = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity_error()
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(before)


def _lacking(pipeline: DiffusionPipeline, path: Path) -> list[str]:
    """What the models' files lack, in words; models without a file of their own are left out."""
    models = pipeline.components.items()
    found = [lacking(name, model, path / name) for name, model in models]
    return [words for words in found if words]


def lacking(name: str, model: object, folder: Path) -> str:
    """Tensors of a model that its folder's file lacks, in words; empty where none or no file."""
    file = folder / SAFETENSORS_WEIGHTS_NAME
    if not isinstance(model, nn.Module) or not file.is_file():
        return ""
    with safe_open(file, "pt") as tensors:
        missing = sorted(
            model.state_dict().keys() - set(tensors.keys()) - getattr(model, "may_lack", set())
        )
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    return f"its {name} lacks {', '.join(missing[:3])}{more}" if missing else ""
