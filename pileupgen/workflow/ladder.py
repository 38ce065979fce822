"""The variants of a translation with one part left out each, made and measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from pileupgen.arrays import Floats
from pileupgen.compare.ladder import AS_ASKED, Variant, compare_variants
from pileupgen.compare.records import Ladder
from pileupgen.compare.resampling import Samples
from pileupgen.compare.selection import rows_of_events
from pileupgen.compare.settings import ComparisonSettings
from pileupgen.diffusion.direction import Direction
from pileupgen.diffusion.events import EventKeys, Events
from pileupgen.diffusion.pipeline import TranslationPipeline
from pileupgen.diffusion.settings import WITHOUT_NETWORK, Settings
from pileupgen.diffusion.weights import clipped_weights
from pileupgen.errors import PileupgenError
from pileupgen.measure.sample import Sample, measure_sample
from pileupgen.parallel.threads import torch_threads
from pileupgen.progress import SILENT, Advance, Listener, silent
from pileupgen.run import RunDirectory
from pileupgen.samples.store import Images, ImageStore
from pileupgen.workflow.correction import correction_events
from pileupgen.workflow.model import load_pipeline, model_identity
from pileupgen.workflow.student import student_of_store

MAX_EVENTS = 2000
"""Source events that a ladder takes at most."""


@dataclass(frozen=True)
class PlannedVariant:
    """How a variant is translated: its key, what tables call it, and its settings."""

    name: str
    label: str
    settings: Settings


def planned_variants(
    settings: Settings, is_self_conditioned: bool = True, has_student: bool = False
) -> tuple[PlannedVariant, ...]:
    """The variants of a translation, each with a part left out, as asked last.

    A part that the translation does not have, guidance where w is 0 or self-conditioning of a
    network that was not trained with it, is not left out. A translation
    without diffusion has no variants but calibration and the linear map. One by a student has a
    variant by the solver whose place it takes; with a part left out the solver translates.
    """
    alike = replace(Settings("calibrate"), calibrate_after=settings.calibrate_after)
    first = (
        PlannedVariant("calibrate", "calibration", alike),
        PlannedVariant("transport", "linear map, no diffusion", replace(alike, mode="transport")),
    )
    if settings.mode in WITHOUT_NETWORK:
        return (
            *(one for one in first if one.name != settings.mode),
            PlannedVariant(AS_ASKED, "as asked", settings),
        )
    alone = replace(settings, self_conditioning=False)
    return (
        *first,
        PlannedVariant("network_off", "network off", replace(settings, network=False)),
        PlannedVariant("class_kept", "class not switched", replace(settings, switch_class=False)),
        *([PlannedVariant("unguided", "w = 0", replace(settings, w=0.0))] if settings.w else []),
        *(
            [PlannedVariant("scale_kept", "scale not mapped", replace(settings, map_scale=False))]
            * settings.map_scale
        ),
        *(
            [PlannedVariant("not_self_conditioned", "self-conditioning off", alone)]
            * is_self_conditioned
        ),
        *([PlannedVariant("solver", "by the solver", replace(settings, exact=True))] * has_student),
        PlannedVariant(AS_ASKED, "as asked", settings),
    )


def climb(
    pipeline: TranslationPipeline,
    source: Images,
    training: Images,
    samples: Samples,
    settings: Settings,
    *,
    seed: int,
    n_bootstrap: int = 100,
    n_seeds: int = 1,
    advance: Advance = silent,
) -> Ladder:
    """Translate the source events by every variant, measure and compare.

    Parameters
    ----------
    source : Images
        Held-out events of mc, those of ``samples.source`` in the same order.
    training : Images
        Training events of mc, on which each variant's correction of marginals is fitted.
    seed : int
        Seed of the events' random numbers and of the comparison.
    n_bootstrap, n_seeds : int
        As :func:`compare_variants` takes them.
    """
    variants = [Variant("source", "source", samples.source)]
    weight = samples.source.weight
    # Several variants differ only after the inversion, which takes half of a translation's time.
    pipeline = pipeline.remembering()
    for planned in _planned(pipeline, settings):
        made = _translated(pipeline, source, training, planned.settings, seed, advance)
        corrected, plain = (
            None if images is None else replace(_measured(images, planned.label), weight=weight)
            for images in (made.corrected, made.plain)
        )
        if corrected is None:
            continue
        variants.append(Variant(planned.name, planned.label, corrected, plain))
        if planned.name == AS_ASKED and made.log_ratio.any():
            release = weight * clipped_weights(made.log_ratio, settings.log_weight_limit)
            variants.append(
                Variant("weighted", "with release weights", replace(corrected, weight=release))
            )
    with torch_threads(torch.get_num_threads()) as over:
        return compare_variants(
            samples,
            variants,
            settings=settings.to_dict(),
            n_bootstrap=n_bootstrap,
            n_seeds=n_seeds,
            seed=seed,
            over=over,
        )


def _planned(pipeline: TranslationPipeline, settings: Settings) -> tuple[PlannedVariant, ...]:
    is_self_conditioned = pipeline.denoiser.is_self_conditioned
    return planned_variants(settings, is_self_conditioned, pipeline.student is not None)


def n_translated(
    pipeline: TranslationPipeline, settings: Settings, n_source: int, n_training: int
) -> int:
    """Events that :func:`climb` translates."""
    variants = _planned(pipeline, settings)
    n_corrected = sum(one.settings.corrects for one in variants)
    return len(variants) * n_source + n_corrected * n_training


@dataclass(frozen=True)
class _Made:
    corrected: Images
    plain: Images | None
    log_ratio: Floats


def _translated(
    pipeline: TranslationPipeline,
    source: Images,
    training: Images,
    settings: Settings,
    seed: int,
    advance: Advance,
) -> _Made:
    """Translated events with and without the correction, from one pass of the network."""
    event_id = np.asarray(source.event_id)
    correction = None
    if settings.corrects:
        plainly = replace(settings, correction="marginals")
        correction = pipeline.fit_correction(
            training.energy,
            training.mu,
            np.asarray(training.event_id),
            seed,
            plainly,
            advance,
        )
    translator = pipeline.translator(Direction())
    energies = [np.empty_like(source.energy, dtype=np.float32) for _ in range(2)]
    log_ratio = np.zeros(len(source))
    events = Events(source.energy, source.mu, EventKeys(event_id, seed))
    with torch_threads(torch.get_num_threads()) as over:
        for part in translator.parts(events, settings, over):
            for energy, chosen in zip(energies, (correction, None), strict=True):
                energy[part.rows] = pipeline.decoded(part, chosen)
            log_ratio[part.rows] = part.log_ratio.numpy()
            advance(len(part.rows))
    corrected, plain = (Images(energy, source.grid, source.columns) for energy in energies)
    return _Made(corrected, None if correction is None else plain, log_ratio)


def _measured(images: Images, label: str) -> Sample:
    return measure_sample("translated", label, _batches(images), images.grid)


def _batches(images: Images) -> Iterator[Images]:
    yield images


def is_ours(directory: RunDirectory, translated: ImageStore) -> bool:
    """Whether a store was translated from mc to data by the run's model, and by it alone."""
    provenance = translated.provenance
    try:
        identity = model_identity(directory)
    except PileupgenError:
        return False
    is_usual = provenance.get("direction") == {"source": "mc", "target": "data"}
    return is_usual and provenance.get("ensemble") == [identity]


def ladder_of(
    directory: RunDirectory,
    source: ImageStore,
    translated: ImageStore,
    samples: Samples,
    settings: ComparisonSettings,
    device: str = "cpu",
    listener: Listener = SILENT,
) -> Ladder:
    """Make and compare the variants of a translation; its settings are those of the store.

    Parameters
    ----------
    source, translated : ImageStore
        The latter passes :func:`is_ours`.
    """
    provenance = translated.provenance
    asked = Settings.from_dict(provenance)
    kept = np.arange(min(len(samples.source), MAX_EVENTS))
    first = samples.source.take(kept)
    rows = rows_of_events(source, first.event_id)
    training = correction_events(source, asked)
    pipeline = load_pipeline(directory, device)
    student = student_of_store(directory, provenance, listener)
    if student is not None:
        pipeline = pipeline.taught(student.load(device))
    total = n_translated(pipeline, asked, len(rows), len(training))
    with listener.progress("ladder      ", total) as advance:
        return climb(
            pipeline,
            source.read(rows),
            training,
            replace(samples, source=first, translated=first),
            asked,
            seed=int(provenance["seed"]),
            n_bootstrap=settings.n_bootstrap,
            n_seeds=settings.n_seeds,
            advance=advance,
        )
