"""`pileupgen validate`: how near translated events come to real ones."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pileupgen.cli.ui.farm_options import (
    ClusterOption,
    ExecutorOption,
    Farm,
    JobOption,
    SchedulerOption,
    WorkersOption,
)
from pileupgen.cli.ui.session import (
    ConfigOption,
    DeviceOption,
    RunOption,
    SeedOption,
    Session,
    choose_device,
    open_session,
)

if TYPE_CHECKING:
    from pileupgen.compare.conditions import Condition
    from pileupgen.compare.results import Comparison
    from pileupgen.compare.validation import ComparisonSettings, Validation
    from pileupgen.diffusion.event_path import EventPath
    from pileupgen.report.release_curve import ReleaseCurve
    from pileupgen.samples.store import ImageStore

_PRELOAD = ("pileupgen.compare.validation", "sklearn.ensemble")
"""Modules that processes which measure and compare load once for all."""
_CONTROL = "control"
"""Role of controls' stores, before their number."""
EXIT_CONDITION = 10
"""Exit code when a --fail-if condition holds."""


def validate(
    config: ConfigOption = None,
    run: RunOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    translated: Annotated[
        Path | None,
        typer.Option(
            "--input",
            "-i",
            help="Translated store (default: the run's translated/mc_to_data.h5).",
            show_default=False,
        ),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            help="Store of the same interactions in the data's detector, event by event with the "
            "mc store: a truth to judge by.",
            show_default=False,
        ),
    ] = None,
    control: Annotated[
        list[Path] | None,
        typer.Option(
            "--control",
            metavar="FILE",
            help="Store translated from data to data, or from mc to mc; may be repeated.",
            show_default=False,
        ),
    ] = None,
    weighted: Annotated[
        bool | None,
        typer.Option(
            "--weighted/--unweighted",
            help="Use the translated events' weights (default: the config's).",
            show_default=False,
        ),
    ] = None,
    cells: Annotated[
        bool | None,
        typer.Option(
            "--cells/--no-cells",
            help="Two-sample test on cells with a network, minutes (default: the config's).",
            show_default=False,
        ),
    ] = None,
    jets: Annotated[
        bool | None,
        typer.Option(
            "--jets/--no-jets",
            help="Pileup jets with fastjet (default: the config's).",
            show_default=False,
        ),
    ] = None,
    ladder: Annotated[
        bool | None,
        typer.Option(
            "--ladder/--no-ladder",
            help="Compare with the translation without network, class switch, guidance …, on the "
            "same events (default: the config's).",
            show_default=False,
        ),
    ] = None,
    workers: WorkersOption = 1,
    executor: ExecutorOption = None,
    scheduler: SchedulerOption = None,
    cluster: ClusterOption = None,
    job: JobOption = None,
    quick: Annotated[bool, typer.Option("--quick", help="No two-sample tests.")] = False,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-if",
            metavar="CONDITION",
            help=f"End with exit code {EXIT_CONDITION} if it holds; may be repeated.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Compare translated events with real ones, beside the reference and the source.

    Reads the run's data, mc and translated stores. Compares events that no stage was trained on.
    Reference is real against other real events, source is simulation as it is. A control is
    translated within one domain: it should be as the reference (data) or the source (mc), and what
    it keeps of each event is the ceiling for this release. Writes validation/report.html, one page
    with verdict, tables and figures; metrics.json; figures.

    \b
    Examples:
      pileupgen validate
      pileupgen validate --run runs/atlas --weighted --cells
      pileupgen validate --input runs/demo/translated/late.h5
      pileupgen validate --control runs/demo/translated/data_to_data.h5
      pileupgen validate --ladder
      pileupgen validate --workers 4
      pileupgen validate --scheduler tcp://node1:8786
      pileupgen validate --fail-if 'auc_features > 0.6' --fail-if 'shift_removed < 0.5'
    """
    from pileupgen.compare.conditions import Condition

    conditions = [Condition.parse(text) for text in fail_if or []]
    session = open_session(
        config,
        run,
        validate={"weighted": weighted, "cells": cells, "jets": jets, "ladder": ladder},
    )
    path = translated or session.run.translated
    argument = "" if run is None else f" --run {run}"
    stores = _open_stores(session, path, argument, truth, control or [])
    session.adopt()
    with Farm(executor, scheduler, cluster, workers, job, _PRELOAD, session.run.logs) as farm:
        comparison = _current_or_new(session, stores, seed, device, quick, farm)
    _summarise(comparison, conditions)


def _open_stores(
    session: Session, path: Path, argument: str, truth: Path | None, controls: list[Path]
) -> dict[str, ImageStore]:
    from pileupgen.cli.ui.console import say_read
    from pileupgen.errors import MissingInputError
    from pileupgen.samples.store import ImageStore

    run = session.run
    needed = [
        ("target", run.images("data"), "preprocess"),
        ("source", run.images("mc"), "preprocess"),
        ("translated", path, "translate"),
    ]
    stores = {}
    for role, place, command in needed:
        if not place.is_file():
            raise MissingInputError(
                f"No image store at {place}.", f"Run 'pileupgen {command}{argument}' first."
            )
        stores[role] = ImageStore(place)
    if truth is not None:
        stores["truth"] = ImageStore(truth)
    for number, place in enumerate(controls, 1):
        stores[f"{_CONTROL} {number}"] = ImageStore(place)
    for role, store in stores.items():
        say_read(f"{store.path}  [dim]{role}, {len(store):,} events[/]")
    return stores


def _current_or_new(
    session: Session,
    stores: dict[str, ImageStore],
    seed: int | None,
    device: str | None,
    quick: bool,
    farm: Farm,
) -> Comparison:
    """Give the result of an unchanged earlier run, or of a new comparison."""
    from pileupgen.cli.ladder import is_ours
    from pileupgen.cli.ui.console import say_current, warn
    from pileupgen.compare.validation import ComparisonSettings
    from pileupgen.errors import InputError
    from pileupgen.report.metrics_file import read_metrics
    from pileupgen.run import fingerprint, hash_file

    run, chosen = session.run, session.config.validate_
    is_default = stores["translated"].path == run.translated
    name = stores["translated"].path.stem
    folder = run.validation if is_default else run.validation / name
    stage = "validate" if is_default else f"validate-{name}"
    settings = ComparisonSettings(
        n_bootstrap=chosen.n_bootstrap,
        n_seeds=0 if quick else chosen.n_seeds,
        n_mu_bins=chosen.n_mu_bins,
        cells=chosen.cells and not quick,
        jets=chosen.jets,
        weighted=chosen.weighted,
        seed=session.config.seed if seed is None else seed,
        device=choose_device(device) if device or (chosen.cells and not quick) else "cpu",
    )
    has_ladder = chosen.ladder and not quick
    if has_ladder and not is_ours(run, stores):
        has_ladder = False
        warn("no ladder: the store was not translated by this run's model from mc to data")
    hashes = {role: hash_file(store.path) for role, store in stores.items()}
    release = run.model / "release.json"
    made_from = fingerprint(
        {
            "inputs": hashes,
            "settings": vars(settings),
            "ladder": has_ladder,
            "release": hash_file(release) if release.is_file() else None,
            "schema": _schema(),
        }
    )
    path = folder / "metrics.json"
    if run.is_current(stage, made_from, [path, folder / "figures"]):
        with suppress(InputError):
            comparison = read_metrics(path)
            if all((folder / name).is_file() for name in comparison.figures):
                _report(comparison, folder, anew=False)
                say_current(stage, path)
                return comparison
    comparison = _compare(session, stores, settings, hashes, folder, farm, has_ladder)
    run.finish(stage, made_from, {"inputs": hashes, "outputs": [str(path)]})
    return comparison


def _schema() -> list[object]:
    from pileupgen import __version__
    from pileupgen.compare.results import SCHEMA_VERSION

    return [__version__, SCHEMA_VERSION]


def _compare(
    session: Session,
    stores: dict[str, ImageStore],
    settings: ComparisonSettings,
    hashes: dict[str, str],
    folder: Path,
    farm: Farm,
    has_ladder: bool,
) -> Comparison:
    from pileupgen.cli.event_strip import event_path
    from pileupgen.cli.ladder import ladder_of
    from pileupgen.cli.ui.console import progress, say_wrote
    from pileupgen.compare.results import InputFile
    from pileupgen.compare.validation import validate_stores
    from pileupgen.files import write_whole
    from pileupgen.report.release_curve import read_release_curve
    from pileupgen.run import versions

    executor = farm.executor
    executor.require_visible([store.path.absolute() for store in stores.values()])
    curve = read_release_curve(session.run.model / "release.json")
    validation = validate_stores(
        stores["target"],
        stores["source"],
        stores["translated"],
        settings,
        truth=stores.get("truth"),
        controls=[store for role, store in stores.items() if role.startswith(_CONTROL)],
        progress=progress,
        executor=executor,
    )
    executor.release()
    provenance = stores["translated"].provenance
    translation = {
        key: provenance[key]
        for key in ("t_release", "w", "mode", "num_inference_steps")
        if key in provenance
    }
    ladder = ladder_of(session, stores, validation.samples, settings) if has_ladder else None
    path = event_path(session.run, stores["source"], stores["translated"], validation.display)
    t_release = translation.get("t_release")
    figures = _draw(validation, curve, t_release, path, folder)
    comparison = validation.comparison.model_copy(
        update={
            "inputs": {
                role: InputFile(path=str(store.path), sha256=hashes[role], n_events=len(store))
                for role, store in stores.items()
            },
            "translation": translation,
            "ladder": ladder,
            "versions": versions("numpy", "scipy", "scikit-learn"),
            "figures": tuple(str(path.relative_to(folder)) for path in figures),
        }
    )
    place = folder / "metrics.json"
    write_whole(place, comparison.to_json())
    say_wrote(place)
    say_wrote(folder / "figures", f"{len(figures) // 2} figures, PNG and PDF")
    _report(comparison, folder, anew=True)
    return comparison


def _report(comparison: Comparison, folder: Path, *, anew: bool) -> None:
    """Write the page, unless it is there and nothing is new."""
    from pileupgen.cli.ui.console import say_wrote
    from pileupgen.report.page import NAME, write_report

    if anew or not (folder / NAME).is_file():
        say_wrote(write_report(comparison, folder), "open it in a browser")


def _draw(
    validation: Validation,
    curve: ReleaseCurve | None,
    t_release: object,
    path: EventPath | None,
    folder: Path,
) -> list[Path]:
    from pileupgen.cli.ui.console import progress
    from pileupgen.report.figures import validation_figures, write_figure

    marked = t_release if isinstance(t_release, int) else None
    drawings = list(validation_figures(validation, curve, marked, path))
    paths = []
    with progress("draw", len(drawings), "figures") as advance:
        for name, draw in drawings:
            paths += write_figure(draw(), folder / "figures", name)
            advance(1, name)
    return paths


def _summarise(comparison: Comparison, conditions: list[Condition]) -> None:
    from pileupgen.cli.ui.comparison_table import (
        comparison_table,
        findings,
        ladder_table,
        pileup_table,
    )
    from pileupgen.cli.ui.console import console, error_console, say_next, warn
    from pileupgen.report.ladder import sentences

    headline = comparison.headline
    console.print(comparison_table(comparison))
    if comparison.pileup:
        console.print(pileup_table(comparison))
    if comparison.ladder is not None:
        console.print(ladder_table(comparison))
        for text in sentences(comparison):
            console.print(f"[bold]ladder[/] {text}", soft_wrap=True)
    for text in findings(comparison):
        console.print(text, soft_wrap=True)
    for note in comparison.notes:
        warn(note)
    failed = [condition for condition in conditions if condition.holds(headline)]
    for condition in failed:
        value = headline[condition.name]
        error_console.print(f"[bold red]failed[/] {condition}: it is {value:.4g}")
    if failed:
        raise typer.Exit(EXIT_CONDITION)
    closed = headline.get("shift_removed")
    if closed is not None and closed < 0.5:
        say_next("pileupgen translate --t-release auto, then pileupgen validate")
    elif comparison.kind != "features" and "auc_cells" not in headline:
        say_next("pileupgen validate --cells, for the test on cells; and look at the report")
    else:
        say_next("look at the report; pileupgen compare RUN… puts runs side by side")
