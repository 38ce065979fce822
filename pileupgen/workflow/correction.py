"""The calibration after the decode, fitted once for a model and settings and kept with the run."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from pileupgen.diffusion.direction import Direction
from pileupgen.diffusion.pipeline import LOADING_ERRORS
from pileupgen.diffusion.production import Member
from pileupgen.files import folder_written_whole
from pileupgen.models.correction.correlations import FieldCorrection
from pileupgen.models.correction.marginals import MarginalCorrection
from pileupgen.progress import SILENT, Listener
from pileupgen.run import RunDirectory, fingerprint
from pileupgen.samples.store import Images, ImageStore

if TYPE_CHECKING:
    from pileupgen.diffusion.pipeline import Correction, TranslationPipeline
    from pileupgen.diffusion.settings import Settings
    from pileupgen.workflow.student import KnownStudent

_WHAT = "marginals by scores and hits"
"""What a correction is made of: those of other versions are fitted anew."""
REAL_PER_CORRECTION_EVENT = 4
"""Real training events read for each translated one: they need no network."""


def ready_member(
    directory: RunDirectory,
    model: str,
    pipeline: TranslationPipeline,
    settings: Settings,
    seed: int,
    direction: Direction | None = None,
    listener: Listener = SILENT,
    student: KnownStudent | None = None,
) -> Member:
    """Give a pipeline its calibration after the decode, fitted once and kept with the run.

    Parameters
    ----------
    directory : RunDirectory
        Run of the pipeline; its training events fit the calibration.
    direction : Direction, optional
        mc to data, if not given.
    """
    if student is not None:
        pipeline = pipeline.taught(student.load(str(pipeline.denoiser.device)))
        model = fingerprint([model, student.identity])
    if not settings.corrects:
        return Member(pipeline, settings)
    direction = direction or Direction()
    # Neither weights nor further draws enter the scores that the correction is fitted on.
    others = ("log_weight_limit", "n_draws")
    relevant = {key: v for key, v in settings.provenance().items() if key not in others}
    identity = fingerprint([relevant, seed, model, direction.to_dict(), _WHAT])
    folder = directory.path / "correction" / identity
    kind = FieldCorrection if settings.corrects_correlations else MarginalCorrection
    # One that is not there or damaged is fitted anew.
    with suppress(*LOADING_ERRORS):
        return Member(pipeline, settings, kind.from_pretrained(folder))
    correction = _fit(directory, pipeline, settings, seed, direction, listener)
    with folder_written_whole(folder) as aside:
        correction.save_pretrained(aside)
    return Member(pipeline, settings, correction)


def correction_events(source: ImageStore, settings: Settings) -> Images:
    """Training events that the correction is fitted on, in proportion to their weights."""
    return source.read(source.indices_by_weight("train", settings.n_correction_events))


def _fit(
    directory: RunDirectory,
    pipeline: TranslationPipeline,
    settings: Settings,
    seed: int,
    direction: Direction,
    listener: Listener,
) -> Correction:
    n_events = settings.n_correction_events
    images = correction_events(ImageStore(directory.images(direction.source)), settings)
    real = None
    if settings.corrects_correlations:
        target = ImageStore(directory.images(direction.target))
        real = target.read(target.indices_by_weight("train", REAL_PER_CORRECTION_EVENT * n_events))
    with listener.progress("correction     ", len(images)) as advance:
        return pipeline.fit_correction(
            images.energy,
            images.mu,
            np.asarray(images.event_id),
            seed,
            settings,
            advance,
            **direction.to_dict(),
            real=real,
        )
