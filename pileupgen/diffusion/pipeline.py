"""The trained models at work: a translation pipeline that needs no diffusers."""

from __future__ import annotations

import json
from copy import copy
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from pileupgen.arrays import Ints
from pileupgen.calo.geometry import Grid
from pileupgen.diffusion.direction import Direction, Domain
from pileupgen.diffusion.events import EventKeys, Events, MicroBatch, TranslatedPart, Translation
from pileupgen.diffusion.schedule import Schedule, read_schedule
from pileupgen.diffusion.settings import MICRO_BATCH, Settings
from pileupgen.diffusion.translate import Inversions, Translator
from pileupgen.errors import ConfigError, RunError, first_line
from pileupgen.models.calibration.calibration import CellCalibration
from pileupgen.models.calibration.limits import kept_beyond
from pileupgen.models.calibration.space import CellSpace
from pileupgen.models.codec import Codec, EventNoise
from pileupgen.models.correction.correlations import FieldCorrection
from pileupgen.models.correction.marginals import MarginalCorrection
from pileupgen.models.event_check import EventCheck
from pileupgen.models.networks.autoencoder import Autoencoder
from pileupgen.models.networks.cell_patches import CellPatches
from pileupgen.models.networks.denoiser import FieldDenoiser
from pileupgen.models.networks.ratio import RatioClassifier
from pileupgen.models.networks.student import Student
from pileupgen.models.saved import MissingTensorsError, ModelMixin
from pileupgen.parallel.threads import Map, torch_threads
from pileupgen.progress import Advance, silent
from pileupgen.samples.store import Images

Correction = FieldCorrection | MarginalCorrection
"""Calibrations after the decode."""
INDEX = "model_index.json"
_MODELS = "pileupgen.models."
LOADING_ERRORS = (
    OSError,
    ValueError,
    RuntimeError,
    AttributeError,
    LookupError,
    TypeError,
    ImportError,
    SafetensorError,
)
"""What a missing, incomplete or damaged model folder is noticed by."""


def last_marginals(correction: Correction) -> MarginalCorrection:
    """The correction of marginals that comes last, which knows the hits of the result."""
    return correction.marginals[-1] if isinstance(correction, FieldCorrection) else correction


class TranslationPipeline:
    """MC events to data-like events, and, as a control, either domain to either.

    :class:`~pileupgen.diffusion.for_diffusers.PileupTranslationPipeline` is the same for diffusers,
    which takes longer to import than all else that a translation begins with.

    Parameters
    ----------
    calibration, autoencoder, denoiser, ratio : models
        Trained networks; the autoencoder is a learned one or the lossless ``CellPatches``.
    scheduler : Schedule
        The noise schedule.
    grid : Grid
        Of the images that the networks know.
    calibrate_before : bool
        Whether mc events are encoded with their own quantiles, which calibrates them, or with those
        of data, which leaves the whole shift to the networks.
    event_check : EventCheck or None
        Tells events that are unlike those of training.
    """

    student: Student | None = None
    """Distilled from the networks, in whose place it translates where the settings are its own."""
    inversions: Inversions | None = None
    """What :meth:`remembering` remembers."""
    calibration: CellSpace
    autoencoder: Autoencoder | CellPatches
    denoiser: FieldDenoiser
    ratio: RatioClassifier
    scheduler: Schedule
    event_check: EventCheck | None

    def __init__(
        self,
        calibration: CellSpace,
        autoencoder: Autoencoder | CellPatches,
        denoiser: FieldDenoiser,
        ratio: RatioClassifier,
        scheduler: Schedule,
        grid: Grid,
        calibrate_before: bool = True,
        event_check: EventCheck | None = None,
    ) -> None:
        self.calibration, self.autoencoder = calibration, autoencoder
        self.denoiser, self.ratio, self.scheduler = denoiser, ratio, scheduler
        self.event_check = event_check
        self._grid, self._calibrates_before = grid, calibrate_before
        for module in (calibration, autoencoder, denoiser, ratio, event_check):
            if module is not None:
                module.eval().requires_grad_(False)

    @classmethod
    def load(cls, path: Path) -> TranslationPipeline:
        """Load a trained run's ``model`` folder.

        Raises
        ------
        RunError
            If the folder is missing, incomplete, damaged or of another version.
        """
        if not (path / INDEX).is_file():
            raise RunError(f"No trained model at {path}.", "Run 'pileupgen train' first.")
        try:
            index = json.loads((path / INDEX).read_text(encoding="utf-8"))
            models = {
                name: _load_model(path / name, *index[name])
                for name in ("calibration", "autoencoder", "denoiser", "ratio")
            }
            check = index.get("event_check", [None, None])
            return TranslationPipeline(
                **models,
                scheduler=read_schedule(path / "scheduler"),
                grid=Grid.from_dict(index["grid"]),
                calibrate_before=bool(index.get("calibrate_before", True)),
                event_check=None if check[0] is None else _load_model(path / "event_check", *check),
            )
        except LOADING_ERRORS as error:
            raise unloadable(path, error) from error

    @property
    def geometry(self) -> Grid:
        """Grid of the images that the networks know."""
        return self._grid

    @property
    def calibrates_before(self) -> bool:
        """Whether mc events are encoded with their own quantiles, or with those of data."""
        return self._calibrates_before

    @property
    def codec(self) -> Codec:
        """Energies to latents and back."""
        return Codec(self.calibration, self.autoencoder)

    @property
    def num_train_timesteps(self) -> int:
        """T."""
        return len(self.scheduler.alphas_cumprod)

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
            elif isinstance(correction, MarginalCorrection):
                correction.fit(scores)
            self._fit_hits(correction, scores, torch.from_numpy(mu), label, over)
        return correction

    def _fit_hits(
        self, correction: Correction, scores: Tensor, mu: Tensor, label: int, over: Map
    ) -> None:
        """Correct the spectrum of hits too, where they alone have ranks that mean something."""
        calibration = self._calibration_of_hits
        if calibration is None:
            return

        def ranks(begin: int) -> Tensor:
            rows = slice(begin, begin + MICRO_BATCH)
            return calibration.hit_ranks(correction(scores[rows]), label, mu[rows])

        found = list(over(ranks, range(0, len(scores), MICRO_BATCH)))
        last_marginals(correction).fit_hits(torch.cat(found))

    @property
    def _calibration_of_hits(self) -> CellCalibration | None:
        """The calibration, where ranks say what hits are, not values that come again; else None."""
        own = self.calibration
        return own if isinstance(own, CellCalibration) and not own.n_ties else None

    def decoder(self, correction: Correction | None, domain: int) -> CellSpace:
        """Calibration that decodes translated scores to energies of a domain."""
        calibration = self._calibration_of_hits
        if correction is None or calibration is None:
            return self.calibration
        return last_marginals(correction).decoder(calibration, domain)

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
        decoder = self.decoder(correction, part.tables)
        decoded = decoder.decode(kept, part.tables, part.mu).numpy()
        decoded = self._calibrated_beyond(part, decoded)
        return np.where(self.geometry.is_dead, np.float32(0.0), decoded)

    def _calibrated_beyond(
        self, part: TranslatedPart, energy: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Energies (n, L, n_eta, n_phi), cells that came from above the limit only calibrated.

        Given the layer before as the networks left it, or the corrected spectrum of hits, such a
        cell would change by their doing.
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
            self.calibrates_before,
            direction=direction,
            student=self.student,
            inversions=self.inversions,
        )

    def taught(self, student: Student | None) -> Self:
        """The same pipeline with a student, which it shares its models with; None takes it away."""
        clone = copy(self)
        clone.student = student
        return clone

    def remembering(self) -> Self:
        """The same pipeline, which inverts an event once for settings that differ afterwards.

        It keeps the inverted latents in memory, as large as the images of the events. What it
        translates does not change.
        """
        clone = copy(self)
        clone.inversions = Inversions()
        return clone

    def _require_fitting(self, energy: NDArray[np.float32], settings: Settings) -> None:
        """Refuse settings and images that do not fit the model."""
        self.check(settings)
        if energy.shape[1:] != self.geometry.shape:
            raise ConfigError(
                f"Images of shape {energy.shape[1:]}, the model knows {self.geometry.shape}."
            )


def _load_model(folder: Path, module: str, name: str) -> Any:
    """Load one of our own models, of a class that the folder's index names."""
    kind = getattr(import_module(module), name) if module.startswith(_MODELS) else None
    if not (isinstance(kind, type) and issubclass(kind, ModelMixin)):
        raise ValueError(f"{module}.{name} is no model of pileupgen")
    return kind.from_pretrained(folder)


def unloadable(path: Path, error: Exception) -> RunError:
    """Say why a trained run's ``model`` folder cannot be loaded."""
    if isinstance(error, MissingTensorsError):
        return RunError(
            f"The model at {path} was written by another version: its {error}.",
            "Train it again, or use the version that its README.md names.",
        )
    return RunError(
        f"The model at {path} cannot be loaded: {first_line(error)}",
        "Train it again, or restore the folder.",
    )
