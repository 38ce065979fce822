"""Translating a store: shards, ensembles, an automatic release, and what is current already."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pileupgen.diffusion.settings import UNRELEASED, Settings
from pileupgen.errors import ConfigError, RunError
from pileupgen.files import require_no_folder, require_not_read
from pileupgen.progress import SILENT, Listener
from pileupgen.run import RunDirectory, fingerprint, versions
from pileupgen.workflow.model import (
    choose_device,
    load_pipeline,
    model_identity,
    read_release_scan,
)
from pileupgen.workflow.operating_point import read_operating_point
from pileupgen.workflow.precision import tell_precision
from pileupgen.workflow.run import Run, open_store
from pileupgen.workflow.student import student_for, students_of

if TYPE_CHECKING:
    from pileupgen.diffusion.direction import Direction, Domain
    from pileupgen.diffusion.pipeline import TranslationPipeline
    from pileupgen.diffusion.shard import Shard
    from pileupgen.diffusion.source_summary import RangeSummary
    from pileupgen.diffusion.weights import WeightSummary
    from pileupgen.parallel.farm import Farm
    from pileupgen.samples.store import ImageStore

Split = Literal["test", "validation", "train", "all"]
PRELOAD = ("pileupgen.diffusion.production",)
"""Modules that worker processes of a translation load once."""


@dataclass(frozen=True)
class Request:
    """What is to be translated; how is told by the settings."""

    split: str
    """Which events."""
    shard: Shard | None
    """A part of them."""
    direction: Direction
    """Domains before and after."""
    source: Path
    """Image store of the events."""
    whole: Path
    """Store to write, of all shards."""
    ensemble: tuple[RunDirectory, ...]
    """Further members."""
    seed: int
    device: str | None
    force: bool
    """Whether to do it even where the store is current."""

    @classmethod
    def of(
        cls,
        run: Run,
        split: Split = "test",
        shard: str | None = None,
        source: Domain = "mc",
        target: Domain = "data",
        events: Path | str | None = None,
        output: Path | str | None = None,
        ensemble: Sequence[Path | str] = (),
        seed: int | None = None,
        device: str | None = None,
        force: bool = False,
    ) -> Request:
        """Fill in what is not given; see :meth:`pileupgen.workflow.run.Run.translate`."""
        from pileupgen.diffusion.direction import Direction
        from pileupgen.diffusion.shard import Shard

        direction = Direction(source, target)
        direction.check()
        whole = run.directory.translation(direction.name) if output is None else Path(output)
        own = [run.directory.images(domain) for domain in ("mc", "data")]
        request = cls(
            split,
            None if shard is None else Shard.parse(shard),
            direction,
            run.directory.images(source) if events is None else Path(events),
            whole,
            tuple(_trained(Path(path)) for path in ensemble),
            run.config.seed if seed is None else seed,
            device,
            force,
        )
        require_no_folder(request.target)
        require_not_read(request.target, [request.source, *own])
        return request

    @property
    def target(self) -> Path:
        """The store to write."""
        return self.whole if self.shard is None else self.shard.path(self.whole)


@dataclass(frozen=True)
class Translated:
    """A translated store."""

    path: Path
    settings: Settings
    """How it was translated, the release chosen."""
    n_events: int
    """Translated events, copies included."""
    weights: WeightSummary
    """What the release weights are worth."""
    is_new: bool
    """Whether it was made by this call."""

    @property
    def store(self) -> ImageStore:
        """The store, to read events from."""
        from pileupgen.samples.store import ImageStore

        return ImageStore(self.path)

    @classmethod
    def read(cls, path: Path, *, is_new: bool) -> Translated:
        """Read what a translated store says of itself."""
        from pileupgen.diffusion.weights import WeightSummary
        from pileupgen.samples.store import ImageStore

        store = ImageStore(path)
        made_by = store.provenance
        weights = WeightSummary(**made_by["weights"])
        return cls(path, Settings.from_dict(made_by), len(store), weights, is_new)


def translate(
    run: Run, request: Request, given: Mapping[str, Any], farm: Farm | None = None
) -> Translated:
    """Translate, unless the result is there.

    Parameters
    ----------
    given : mapping
        Settings in place of the config's; None values are not given.
    farm : Farm, optional
        Where blocks are translated; the store does not depend on it.

    Raises
    ------
    ConfigError
        If a setting does not fit.
    RunError
        If there is no trained model.
    """
    run = configured(run, given)
    directories = [run.directory, *request.ensemble]
    models = [model_identity(directory) for directory in directories]
    run.adopt()
    store = open_store(request.source, f"pileupgen preprocess{run.arguments}")
    settings = chosen_settings(run, given)
    target = request.target
    made_from = fingerprint(
        [
            settings.provenance(),
            request.seed,
            request.split,
            request.direction.to_dict(),
            models,
            [students_of(directory, settings, request.direction) for directory in directories],
            store.provenance,
            str(target),
        ]
    )
    run.listener.read(store.path, f"{len(store)} events")
    for directory in directories:
        run.listener.read(directory.model)
    _warn_of_other_domain(run, store, request.direction)
    is_default = target == run.directory.translated
    record = "translate" if is_default else f"translate-{fingerprint(str(target))}"
    after = _next_command(run, request)
    if not request.force and run.directory.is_current(record, made_from, [target]):
        run.listener.current("translate", target)
        run.listener.next(after)
        return Translated.read(target, is_new=False)
    details = _translate(run, request, settings, models, store, made_from, farm)
    run.directory.finish(record, made_from, {"output": str(target), **details})
    run.listener.next(after)
    return Translated.read(target, is_new=True)


def configured(run: Run, given: Mapping[str, Any]) -> Run:
    """Put settings that are given in place of the config's, also of timesteps that contradict them.

    Raises
    ------
    ConfigError
        If they do not fit, or contradict each other.
    """
    changes = {key: value for key, value in given.items() if value is not None}
    timesteps = changes.get("timesteps")
    if timesteps is not None and "num_inference_steps" in changes:
        raise ConfigError("--steps and --timesteps exclude each other.", "Leave out one of them.")
    own = run.config.translate.timesteps
    if timesteps is None and own is not None:
        elsewhere = changes.get("t_release", own[0]) != own[0] or changes.get("mode") == "generate"
        if elsewhere or "num_inference_steps" in changes:
            even = replace(run.config.translate, timesteps=None)
            run = replace(run, config=run.config.model_copy(update={"translate": even}))
    if timesteps and "t_release" not in changes and changes.get("mode") != "generate":
        # The first of explicit timesteps is the release.
        changes["t_release"] = timesteps[0]
    return run.with_changes(translate=changes)


def chosen_settings(run: Run, given: Mapping[str, Any]) -> Settings:
    """Take the config's settings with what a scan recommends in their place.

    Raises
    ------
    RunError
        If the recommendation is damaged.
    """
    present = {key for key, value in given.items() if value is not None}
    point = read_operating_point(run, present)
    return Settings.from_dict({**run.config.translate.to_dict(), **point})


def next_command(run: Run, direction: str, path: Path) -> str:
    """Give what to run once a store is translated; ``direction`` is ``<source>_to_<target>``."""
    if direction in ("data_to_data", "mc_to_mc"):
        return f"pileupgen validate{run.arguments} --control {path}"
    if direction == "data_to_mc":
        return f"pileupgen export{run.arguments} --store {path}"
    extra = "" if path == run.directory.translated else f" --input {path}"
    return f"pileupgen validate{run.arguments}{extra}"


def _next_command(run: Run, request: Request) -> str:
    if request.shard is None:
        return next_command(run, request.direction.name, request.target)
    whole = request.whole
    is_default = whole == run.directory.translated
    shards = "" if is_default else f" {whole.with_suffix('')}.shard-* -o {whole}"
    return f"pileupgen merge{run.arguments}{shards}, once all {request.shard.of} are there"


def _translate(
    run: Run,
    request: Request,
    settings: Settings,
    models: list[str],
    store: ImageStore,
    made_from: str,
    farm: Farm | None,
) -> dict[str, Any]:
    from pileupgen.calo.geometry import require_same_grid
    from pileupgen.diffusion.production import Blocks, Production, produce
    from pileupgen.workflow.correction import ready_member

    tell, target = run.listener, request.target
    directories = [run.directory, *request.ensemble]
    # Load the models and refuse what does not fit before anything is computed.
    device = choose_device(request.device)
    pipelines = [load_pipeline(directory, device) for directory in directories]
    for directory, pipeline in zip(directories, pipelines, strict=True):
        require_same_grid(
            store.grid, pipeline.geometry, str(store.path), f"the model {directory.model}"
        )
    settings = with_release(
        settings, directories[0], target, models[0], pipelines[0], request.seed, tell
    )
    pipelines[0].check(settings)
    _warn_of_other_splits(run, directories)
    # Fit the calibration after the decode, or take the one that is kept.
    students = [
        student_for(directory, model, settings, request.direction, tell)
        for directory, model in zip(directories, models, strict=True)
    ]
    members = [
        ready_member(
            directory, model, pipeline, settings, request.seed, request.direction, tell, student
        )
        for directory, model, pipeline, student in zip(
            directories, models, pipelines, students, strict=True
        )
    ]
    n_evaluations = settings.n_evaluations
    if students[0] is not None:
        tell.read(students[0].folder, f"1 evaluation for {n_evaluations}; --exact takes them all")
        n_evaluations = 1
    rows = store.indices(request.split)
    if request.shard is not None:
        rows = request.shard.rows(rows)
    production = Production(store, rows, members, request.seed, request.direction)
    sample = _compare_sample(store, request, pipelines[0], tell)
    provenance = {
        "source": store.provenance,
        "direction": request.direction.to_dict(),
        "period": _target_period(directories[0], request.direction),
        "model": models[0],
        **settings.provenance(),
        "calibrate_before": pipelines[0].calibrates_before,
        "seed": request.seed,
        "split": request.split,
        "ensemble": models,
        "sample_check": sample,
        "students": [None if one is None else one.identity for one in students],
        "versions": versions("torch", "diffusers", "numpy"),
    }
    if request.shard is not None:
        provenance["shard"] = {"index": request.shard.index, "of": request.shard.of}
    # Translate the blocks that an interrupted call left undone, and join all.
    blocks = Blocks(target, made_from, rows, production.n_copies)
    n_left = len(rows) - blocks.n_finished
    if n_left < len(rows):
        tell.tell("resume", f"{blocks.n_finished:,} of {len(rows):,} events are there")
    executor = None if farm is None else farm.open(*PRELOAD, logs=run.directory.logs)
    begun = time.perf_counter()
    with tell.progress("translate   ", n_left * production.n_copies) as advance:
        summary = produce(production, blocks, target, provenance, advance, executor)
    seconds = time.perf_counter() - begun
    copies = "" if production.n_copies == 1 else f" × {production.n_copies}"
    tell.wrote(target, f"{len(rows):,} events{copies}")
    precision = tell_precision(target, tell)
    if settings.mode not in UNRELEASED and not request.direction.is_control:
        tell.tell(
            "weights",
            f"ESS {summary.ess:.3f} of the events, {100 * summary.clipped:.2g} % clipped at "
            f"e^∓{summary.limit:g}",
        )
    return {
        "n_events": len(rows) * production.n_copies,
        "weights": summary.to_dict(),
        "precision": precision,
        "range": _tell_range(target, production.n_copies, tell).to_dict(),
        "rate": {
            "seconds": seconds,
            "n_events": n_left * production.n_copies,
            "n_evaluations": n_evaluations,
            "device": device,
            "n_workers": 1 if executor is None else executor.n_workers,
        },
    }


def _compare_sample(
    store: ImageStore, request: Request, pipeline: TranslationPipeline, listener: Listener
) -> dict[str, Any] | None:
    """Compare the sample, of a shard the whole of it, with the training's, and tell the result."""
    from pileupgen.diffusion.input_range import compare_sample

    rows, label = store.indices(request.split), request.direction.source_label
    found = compare_sample(store, rows, pipeline.event_check, label)
    if found is None:
        return None
    listener.tell("sample", str(found))
    if found.is_unlike:
        listener.warn(
            f"the sample is not like the training's: {found}. What is made of it has not been "
            "tested: compare thresholds, calibration and selection."
        )
    return found.to_dict()


def _tell_range(target: Path, n_copies: int, listener: Listener) -> RangeSummary:
    """Say how many source events lie outside the training's range, or are unlike its events."""
    from pileupgen.diffusion.source_summary import RangeSummary
    from pileupgen.samples.store import ImageStore

    columns = ImageStore(target).columns
    found = RangeSummary.of({name: values[::n_copies] for name, values in columns.items()})
    for line in found.lines():
        listener.tell("range", line)
    listener.tell("unlike", f"{found.unlike} of the training's")
    if found.is_unlike:
        listener.warn(
            f"{found.unlike}: the sample is unlike the training's, and what is made of it has "
            "not been tested. Compare thresholds, calibration and selection; the column 'unlike' "
            "tells the events."
        )
    return found


def with_release(
    settings: Settings,
    directory: RunDirectory,
    target: Path,
    model: str,
    pipeline: TranslationPipeline,
    seed: int,
    listener: Listener = SILENT,
) -> Settings:
    """Choose a release that is automatic, and explain the choice.

    Parameters
    ----------
    target : Path
        Store to be written; a figure of the choice is drawn beside it.

    Returns
    -------
    Settings
        The same where the release is a timestep already.
    """
    if settings.t_release != "auto":
        return settings
    if settings.release_by == "fidelity":
        from pileupgen.workflow.measured_release import measured_release

        return measured_release(directory, model, pipeline, settings, seed, listener)
    from pileupgen.report.figures import write_figure
    from pileupgen.report.figures.release import choice_figure

    scan = read_release_scan(directory)
    choice = scan.choose(settings.tolerance, settings.release_by)
    listener.tell("release", choice.reason)
    figure = choice_figure(scan, choice)
    for path in write_figure(figure, target.parent, f"{target.stem}_release"):
        listener.wrote(path)
    return settings.released_at(choice.t)


def _trained(path: Path) -> RunDirectory:
    if not path.is_dir():
        raise RunError(f"No run directory at {path}.", "Give the path of a trained run.")
    return RunDirectory(path)


def _warn_of_other_domain(run: Run, store: ImageStore, direction: Direction) -> None:
    from pileupgen.diffusion.direction import DOMAINS

    if store.domain in DOMAINS and store.domain != direction.source:
        run.listener.warn(
            f"{store.path} holds {store.domain}; it is taken for {direction.source} (--source)"
        )


def _target_period(directory: RunDirectory, direction: Direction) -> str | None:
    """Period of the events that the model learned to make, as far as the run still has them."""
    from pileupgen.samples.provenance import period_of
    from pileupgen.samples.store import ImageStore

    path = directory.images(direction.target)
    return period_of(ImageStore(path).provenance) if path.is_file() else None


def _warn_of_other_splits(run: Run, directories: list[RunDirectory]) -> None:
    from pileupgen.samples.store import ImageStore

    first = ImageStore(directories[0].images("mc")).provenance
    for directory in directories[1:]:
        if ImageStore(directory.images("mc")).provenance != first:
            run.listener.warn(
                f"{directory.path} was preprocessed differently from {directories[0].path}: "
                "events held out here may have trained it."
            )
