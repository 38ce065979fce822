"""What `pileupgen translate` does once its options are read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pileupgen.cli.ui.translation_options import (
    model_identity,
    next_command,
    operating_point,
    run_path,
)

if TYPE_CHECKING:
    from pileupgen.cli.ui.farm_options import Farm
    from pileupgen.cli.ui.session import Session
    from pileupgen.diffusion.direction import Direction
    from pileupgen.diffusion.input_range import RangeSummary
    from pileupgen.diffusion.pipeline import Correction, PileupTranslationPipeline
    from pileupgen.diffusion.production import Member
    from pileupgen.diffusion.release import ReleaseChoice, ReleaseScan
    from pileupgen.diffusion.settings import Settings
    from pileupgen.diffusion.shard import Shard
    from pileupgen.run import RunDirectory
    from pileupgen.samples.store import ImageStore

REAL_PER_CORRECTION_EVENT = 4
"""Real training events read for each translated one: they need no network."""


@dataclass(frozen=True)
class Request:
    """Options of `translate` that are no settings of the config."""

    given: dict[str, Any]
    seed: int
    split: str
    shard: Shard | None
    direction: Direction
    source: Path | None
    output: Path | None
    ensemble: tuple[str, ...]
    device: str | None
    force: bool
    farm: Farm


def run_job(session: Session, request: Request) -> None:
    """Translate, unless the result is there; say what was read, written and what comes next."""
    from pileupgen.cli.ui.console import say_current, say_next, say_read
    from pileupgen.cli.ui.session import open_store
    from pileupgen.run import RunDirectory, fingerprint

    directory = session.run
    directories = [directory, *(RunDirectory(run_path(text)) for text in request.ensemble)]
    models = [model_identity(part) for part in directories]
    session.adopt()
    direction = request.direction
    store = open_store(
        request.source or directory.images(direction.source),
        f"pileupgen preprocess{session.arguments}",
    )
    whole = request.output or directory.translation(direction.name)
    target = whole if request.shard is None else request.shard.path(whole)
    settings = session.config.translate
    point = operating_point(session, request.given)
    if point is not None:
        settings = type(settings).from_dict({**settings.to_dict(), **point})
    made_from = fingerprint(
        [
            settings.provenance(),
            request.seed,
            request.split,
            direction.to_dict(),
            models,
            store.provenance,
            str(target),
        ]
    )
    say_read(f"{store.path}  {len(store)} events")
    for part in directories:
        say_read(part.model)
    _warn_of_other_domain(store, direction)
    plain = target == directory.translated
    record = "translate" if plain else f"translate-{fingerprint(str(target))}"
    after = _next_command(session, request, target, whole)
    if not request.force and directory.is_current(record, made_from, [target]):
        say_current("translate", target)
        say_next(after)
        return
    details = _translate(request, directories, models, store, settings, target, made_from)
    directory.finish(record, made_from, {"output": str(target), **details})
    say_next(after)


def _next_command(session: Session, request: Request, target: Path, whole: Path) -> str:
    is_default = whole == session.run.translated
    if request.shard is not None:
        shards = "" if is_default else f" {whole.with_suffix('')}.shard-* -o {whole}"
        return f"pileupgen merge{session.arguments}{shards}, once all {request.shard.of} are there"
    return next_command(session, request.direction.name, target)


def _translate(
    request: Request,
    directories: list[RunDirectory],
    models: list[str],
    store: ImageStore,
    settings: Settings,
    target: Path,
    made_from: str,
) -> dict[str, Any]:
    from pileupgen.calo.geometry import require_same_grid
    from pileupgen.cli.ui.console import console, progress, say_wrote
    from pileupgen.cli.ui.session import choose_device
    from pileupgen.diffusion.production import Blocks, Production, produce
    from pileupgen.diffusion.settings import UNRELEASED
    from pileupgen.run import versions

    device = choose_device(request.device)
    pipelines = [load_pipeline(directory, device) for directory in directories]
    for directory, pipeline in zip(directories, pipelines, strict=True):
        require_same_grid(
            store.grid, pipeline.geometry, str(store.path), f"the model {directory.model}"
        )
    settings = with_release(settings, directories[0], target, models[0], pipelines[0], request.seed)
    pipelines[0].check(settings)
    _warn_of_other_splits(directories)
    members = [
        ready_member(directory, model, pipeline, settings, request.seed, request.direction)
        for directory, model, pipeline in zip(directories, models, pipelines, strict=True)
    ]
    rows = store.indices(request.split)
    if request.shard is not None:
        rows = request.shard.rows(rows)
    production = Production(store, rows, members, request.seed, request.direction)
    provenance = {
        "source": store.provenance,
        "direction": request.direction.to_dict(),
        "model": models[0],
        **settings.provenance(),
        "calibrate_before": bool(pipelines[0].config.calibrate_before),
        "seed": request.seed,
        "split": request.split,
        "ensemble": models,
        "versions": versions("torch", "diffusers", "numpy"),
    }
    if request.shard is not None:
        provenance["shard"] = {"index": request.shard.index, "of": request.shard.of}
    blocks = Blocks(target, made_from, rows, production.n_copies)
    n_left = len(rows) - blocks.n_finished
    if n_left < len(rows):
        console.print(f"[bold]resume[/] {blocks.n_finished:,} of {len(rows):,} events are there")
    executor = request.farm.executor
    with progress("translate   ", n_left * production.n_copies) as advance:
        summary = produce(production, blocks, target, provenance, advance, executor)
    copies = "" if production.n_copies == 1 else f" × {production.n_copies}"
    say_wrote(target, f"{len(rows):,} events{copies}")
    weighs = settings.mode not in UNRELEASED and not request.direction.is_control
    if weighs:
        console.print(
            f"[bold]weights[/] ESS {summary.ess:.3f} of the events, {100 * summary.clipped:.2g} % "
            f"clipped at e^∓{summary.limit:g}"
        )
    found = _say_range(target, production.n_copies)
    return {
        "n_events": len(rows) * production.n_copies,
        "weights": summary.to_dict(),
        "range": found.to_dict(),
    }


def _say_range(target: Path, n_copies: int) -> RangeSummary:
    """Say how many source events lie outside the training's range, or are unlike its events."""
    from pileupgen.cli.ui.console import console, warn
    from pileupgen.diffusion.input_range import RangeSummary
    from pileupgen.samples.store import ImageStore

    columns = ImageStore(target).columns
    found = RangeSummary.of({name: values[::n_copies] for name, values in columns.items()})
    for line in found.lines():
        console.print(f"[bold]range[/]  {line}", soft_wrap=True)
    console.print(f"[bold]unlike[/] {found.unlike} of the training's", soft_wrap=True)
    if found.is_unlike:
        warn(
            f"{found.unlike}: the sample is unlike the training's, and what is made of it has "
            "not been tested. Compare thresholds, calibration and selection; the column 'unlike' "
            "tells the events."
        )
    return found


def load_pipeline(directory: RunDirectory, device: str) -> PileupTranslationPipeline:
    """A run's pipeline, its networks on a device."""
    from pileupgen.diffusion.pipeline import PileupTranslationPipeline

    pipeline: PileupTranslationPipeline = PileupTranslationPipeline.from_pretrained(directory.model)
    for network in (pipeline.autoencoder, pipeline.denoiser, pipeline.ratio):
        network.to(device)
    return pipeline


def with_release(
    settings: Settings,
    directory: RunDirectory,
    target: Path,
    model: str,
    pipeline: PileupTranslationPipeline,
    seed: int,
) -> Settings:
    """Settings whose release is a timestep; an automatic one is chosen and explained."""
    from pileupgen.cli.measured_release import measured_release
    from pileupgen.cli.ui.console import console, say_wrote

    if settings.t_release != "auto":
        return settings
    if settings.release_by == "fidelity":
        return measured_release(directory, model, pipeline, settings, seed)
    scan = read_release_scan(directory)
    choice = scan.choose(settings.tolerance, settings.release_by)
    console.print(f"[bold]release[/] {choice.reason}", soft_wrap=True)
    for path in _draw_choice(scan, choice, target):
        say_wrote(path)
    return settings.released_at(choice.t)


def read_release_scan(directory: RunDirectory) -> ReleaseScan:
    """The release scan of a trained run.

    Raises
    ------
    RunError
        If there is none, or it is damaged.
    """
    from pileupgen.diffusion.release import ReleaseScan
    from pileupgen.errors import RunError

    try:
        return ReleaseScan.from_dict(json.loads((directory.model / "release.json").read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"No release scan in {directory.model}: {error}.", "Train anew.") from error


def _draw_choice(scan: ReleaseScan, choice: ReleaseChoice, target: Path) -> list[Path]:
    from pileupgen.report.figures import write_figure
    from pileupgen.report.figures.release import choice_figure

    return write_figure(choice_figure(scan, choice), target.parent, f"{target.stem}_release")


def ready_member(
    directory: RunDirectory,
    model: str,
    pipeline: PileupTranslationPipeline,
    settings: Settings,
    seed: int,
    direction: Direction | None = None,
    *,
    quiet: bool = False,
) -> Member:
    """A pipeline with its calibration after the decode, fitted once and kept with the run.

    Parameters
    ----------
    directory : RunDirectory
        Of the pipeline; its training events fit the calibration.
    model : str
        Identity of the model.
    pipeline : PileupTranslationPipeline
    settings : Settings
    seed : int
    direction : Direction, optional
        mc to data, if not given.
    quiet : bool
        Without a progress bar of its own.
    """
    from pileupgen.diffusion.direction import Direction
    from pileupgen.diffusion.production import Member

    if not settings.corrects:
        return Member(pipeline, settings)
    way = direction or Direction()
    correction = _correction(directory, model, pipeline, settings, seed, way, quiet)
    return Member(pipeline, settings, correction)


def _correction(
    directory: RunDirectory,
    model: str,
    pipeline: PileupTranslationPipeline,
    settings: Settings,
    seed: int,
    direction: Direction,
    quiet: bool,
) -> Correction:
    from contextlib import nullcontext

    import numpy as np

    from pileupgen.cli.ui.console import progress
    from pileupgen.files import folder_written_whole
    from pileupgen.models.correction.correlations import FieldCorrection
    from pileupgen.models.correction.marginals import MarginalCorrection
    from pileupgen.progress import silent
    from pileupgen.run import fingerprint
    from pileupgen.samples.store import ImageStore

    # Neither weights nor further draws enter the scores that the correction is fitted on.
    others = ("log_weight_limit", "n_draws")
    relevant = {key: v for key, v in settings.provenance().items() if key not in others}
    n_events = settings.n_correction_events
    made_from = [relevant, seed, model, direction.to_dict()]
    folder = directory.path / "correction" / fingerprint(made_from)
    is_field = settings.corrects_correlations
    kind = FieldCorrection if is_field else MarginalCorrection
    if (folder / "config.json").is_file():
        return kind.from_pretrained(folder)
    own = ImageStore(directory.images(direction.source))
    images = own.read(own.indices_by_weight("train", n_events))
    real = None
    if is_field:
        target = ImageStore(directory.images(direction.target))
        real = target.read(target.indices_by_weight("train", REAL_PER_CORRECTION_EVENT * n_events))
    bar = nullcontext(silent) if quiet else progress("correction     ", len(images))
    with bar as advance:
        correction = pipeline.fit_correction(
            images.energy,
            images.mu,
            np.asarray(images.event_id),
            seed,
            settings,
            advance,
            **direction.to_dict(),
            real=real,
        )
    with folder_written_whole(folder) as aside:
        correction.save_pretrained(aside)
    return correction


def _warn_of_other_domain(store: ImageStore, direction: Direction) -> None:
    from pileupgen.cli.ui.console import warn
    from pileupgen.diffusion.direction import DOMAINS

    if store.domain in DOMAINS and store.domain != direction.source:
        warn(f"{store.path} holds {store.domain}; it is taken for {direction.source} (--source)")


def _warn_of_other_splits(directories: list[RunDirectory]) -> None:
    from pileupgen.cli.ui.console import warn
    from pileupgen.samples.store import ImageStore

    first = ImageStore(directories[0].images("mc")).provenance
    for directory in directories[1:]:
        if ImageStore(directory.images("mc")).provenance != first:
            warn(
                f"{directory.path} was preprocessed otherwise than {directories[0].path}: what is "
                "held out here may have trained it."
            )
