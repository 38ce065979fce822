"""`pileupgen scan`."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable, Iterator
from io import StringIO
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from pileupgen.cli.ui.session import ConfigOption, DeviceOption, RunOption, SeedOption
from pileupgen.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from pileupgen.cli.ui.session import Session
    from pileupgen.compare.pareto import Judge, ScanPoint
    from pileupgen.diffusion.pipeline import PileupTranslationPipeline
    from pileupgen.diffusion.settings import Settings
    from pileupgen.measure.bootstrap import Estimate
    from pileupgen.run import RunDirectory
    from pileupgen.samples.store import Images, ImageStore

T = TypeVar("T")


def scan(
    config: ConfigOption = None,
    run: RunOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    t_release: Annotated[
        str, typer.Option("--t-release", metavar="T,T,…", help="Release times.")
    ] = "150,300,600,995",
    w: Annotated[str, typer.Option("--w", metavar="W,W,…", help="Guidance strengths.")] = "0,2",
    modes: Annotated[
        str, typer.Option("--modes", metavar="MODE,…", help="Ways to translate.")
    ] = "calibrate,transport,partial,invert",
    steps: Annotated[
        str | None,
        typer.Option(
            "--steps", metavar="N,N,…", help="(default: the config's)", show_default=False
        ),
    ] = None,
    samplers: Annotated[
        str | None,
        typer.Option(
            "--samplers", metavar="NAME,…", help="(default: the config's)", show_default=False
        ),
    ] = None,
    events: Annotated[
        int, typer.Option("--events", min=40, help="Validation events of mc and of data at most.")
    ] = 300,
    min_source_correlation: Annotated[
        float,
        typer.Option(
            "--min-source-correlation",
            min=0.0,
            max=1.0,
            help="Block source correlation to recommend at least.",
        ),
    ] = 0.8,
) -> None:
    """Measure fidelity and source correlation over ways to translate, and recommend one.

    Takes validation events, so that test events stay unseen. Other settings are the config's. A
    point once measured is kept: interrupted, or given more values, it goes on.
    Writes scan/front.csv, figures, and operating_point.json, which translate takes by default.

    \b
    Examples:
      pileupgen scan
      pileupgen scan --modes invert --t-release 600,800,995 --w 0 --steps 5,10,20
      pileupgen scan --modes partial --t-release 300 --w 0 --steps 4,8,16,32 \\
        --samplers ancestral,ddim,dpmsolver++,sde-dpmsolver++
    """
    from pileupgen.cli.ui.session import open_session

    session = open_session(config, run)
    translate = session.config.translate
    axes: dict[str, list[Any]] = {
        "mode": _values("--modes", modes, str),
        "t_release": _values("--t-release", t_release, int),
        "w": _values("--w", w, float),
        "num_inference_steps": _values("--steps", steps or str(translate.num_inference_steps), int),
        "sampler": _values("--samplers", samplers or translate.sampler, str),
    }
    ways = list(_ways(session, axes))
    chosen = session.config.seed if seed is None else seed
    _scan(session, ways, chosen, device, events, min_source_correlation)


def _values(option: str, text: str, kind: Callable[[str], T]) -> list[T]:
    try:
        found = [kind(part.strip()) for part in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"{option} takes values with commas between, not '{text}'.", f"Try {option} 1,2."
        ) from None
    return list(dict.fromkeys(found))


def _ways(session: Session, axes: dict[str, list[Any]]) -> Iterator[Settings]:
    """Every combination that differs in something that matters."""
    from pileupgen.diffusion.settings import UNRELEASED, WITHOUT_NETWORK, Settings

    base = {**session.config.translate.to_dict(), "timesteps": None}
    seen = set()
    for values in itertools.product(*axes.values()):
        fields = {**base, **dict(zip(axes, values, strict=True))}
        if fields["mode"] in UNRELEASED:
            fields["t_release"] = 0
        if fields["mode"] in WITHOUT_NETWORK:
            fields |= {"w": 0.0, "num_inference_steps": 1, "sampler": "dpmsolver++"}
        settings = Settings.from_dict(fields)
        if settings.mode == "invert":
            settings = Settings.from_dict({**fields, "sampler": settings.inversion_sampler})
        key = json.dumps(settings.to_dict(), sort_keys=True)
        if key not in seen:
            seen.add(key)
            yield settings


def _scan(
    session: Session,
    ways: list[Settings],
    seed: int,
    device: str | None,
    n_events: int,
    min_source_correlation: float,
) -> None:
    from pileupgen.cli.translation_job import load_pipeline
    from pileupgen.cli.ui.console import console, say_next, say_read, say_wrote
    from pileupgen.cli.ui.session import choose_device, open_store
    from pileupgen.cli.ui.translation_options import OPERATING_POINT, model_identity
    from pileupgen.compare.pareto import recommend
    from pileupgen.files import write_whole
    from pileupgen.report.figures import write_figure
    from pileupgen.report.figures.pareto import cost_figure, pareto_figure

    directory = session.run
    model = model_identity(directory)
    session.adopt()
    first = f"pileupgen preprocess{session.arguments}"
    mc, data = (open_store(directory.images(domain), first) for domain in ("mc", "data"))
    for part in (mc.path, data.path, directory.model):
        say_read(part)
    pipeline = load_pipeline(directory, choose_device(device))
    for settings in ways:
        pipeline.check(settings)
    points, references = measure_ways(
        directory, model, pipeline, ways, n_events, seed, "scan        "
    )
    folder = directory.path / "scan"
    best, rule = recommend(points, min_source_correlation)
    console.print(_table(points, references, best))
    write_whole(folder / "front.csv", _csv(points))
    say_wrote(folder / "front.csv", f"{len(points)} points")
    figures = {"front": pareto_figure(points, references["reference"], best)}
    if len({point.n_evaluations for point in points if point.n_evaluations}) > 1:
        figures["cost"] = cost_figure(points, references["reference"])
    for name, figure in figures.items():
        for written in write_figure(figure, folder, name):
            say_wrote(written)
    record = {"model": model, "settings": best.settings, "rule": rule, "measured": best.to_dict()}
    place = directory.path / OPERATING_POINT
    write_whole(place, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    console.print(f"[bold]point[/]  {best.label}: {rule}", soft_wrap=True)
    say_wrote(place, "translate takes it by default")
    say_next(f"pileupgen translate{session.arguments}")


def measure_ways(
    directory: RunDirectory,
    model: str,
    pipeline: PileupTranslationPipeline,
    ways: list[Settings],
    n_events: int,
    seed: int,
    title: str,
) -> tuple[list[ScanPoint], dict[str, Estimate]]:
    """Translate validation events in some ways and measure them; what is known is kept.

    Parameters
    ----------
    directory : RunDirectory
    model : str
        Identity of the model.
    pipeline : PileupTranslationPipeline
    ways : list of Settings
    n_events : int
        Validation events of mc and of data at most.
    seed : int
    title : str
        Of the progress bar.

    Returns
    -------
    points : list of ScanPoint
        One for each way.
    references : dict of Estimate
        Mean W1/σ of reference and source.
    """
    from pileupgen.cli.ui.console import progress
    from pileupgen.compare.pareto import ScanPoint
    from pileupgen.files import write_whole
    from pileupgen.run import fingerprint
    from pileupgen.samples.store import ImageStore

    mc, data = (ImageStore(directory.images(domain)) for domain in ("mc", "data"))
    rows = mc.indices("validation", n_events)
    judge = _judge(mc, data, n_events, seed)
    common = [model, mc.provenance, data.provenance, n_events, seed]
    points: list[ScanPoint] = []
    with progress(title, len(ways), "points") as advance:
        for settings in ways:
            label = settings.describe()
            name = f"{fingerprint([settings.provenance(), common])}.json"
            path = directory.path / "scan" / "points" / name
            if path.is_file():
                points.append(ScanPoint.from_dict(json.loads(path.read_text(encoding="utf-8"))))
                advance(1, f"{label} (kept)")
                continue
            point = _measure(directory, pipeline, model, settings, mc, rows, judge, seed)
            write_whole(path, json.dumps(point.to_dict(), indent=2, ensure_ascii=False))
            points.append(point)
            advance(1, label)
    return points, judge.references()


def _judge(mc: ImageStore, data: ImageStore, n_events: int, seed: int) -> Judge:
    import numpy as np

    from pileupgen.compare.pareto import Judge

    source = mc.indices("validation", n_events)
    target = data.indices("validation", n_events)
    others = data.indices("train")
    n = min(len(source), len(others))
    reference = np.sort(np.random.default_rng([seed, 5]).permutation(others)[:n])
    return Judge.of(
        data.batches(target), data.batches(reference), mc.batches(source), data.grid, seed
    )


def _measure(
    directory: RunDirectory,
    pipeline: PileupTranslationPipeline,
    model: str,
    settings: Settings,
    mc: ImageStore,
    rows: Any,
    judge: Judge,
    seed: int,
) -> ScanPoint:
    from pileupgen.cli.translation_job import ready_member
    from pileupgen.diffusion.production import Production
    from pileupgen.diffusion.weights import WeightSummary

    member = ready_member(directory, model, pipeline, settings, seed, quiet=True)
    production = Production(mc, rows, [member], seed)
    images, log_ratio = _translated(production, mc, rows)
    ess = WeightSummary.of(log_ratio, settings.log_weight_limit).ess
    values = settings.way()
    return judge.measure([images], values, settings.describe(), settings.n_evaluations, ess)


def _translated(production: Any, mc: ImageStore, rows: Any) -> tuple[Images, Any]:
    """Translated events with the weights of their sources, and ln r."""
    import numpy as np

    from pileupgen.samples.store import Images, usable_weights

    parts = list(production.translate(rows))
    columns = {key: np.concatenate([part[1][key] for part in parts]) for key in parts[0][1]}
    columns["weight"] = usable_weights(mc.columns)[rows]
    energy = np.concatenate([part[0] for part in parts])
    return Images(energy, mc.grid, columns), columns["log_ratio"]


def _table(points: list[ScanPoint], references: dict[str, Any], best: ScanPoint) -> Table:
    from rich.table import Table

    reference, source = references["reference"], references["source"]
    table = Table(
        title=f"{points[0].n_events:,} validation events; reference W1/σ {reference.value:.3f} ± "
        f"{reference.error:.3f}, of the source {source.value:.3f}",
        caption="± is the 68 % interval's half width; AUC on observables, one seed",
    )
    names = ("way", "evaluations", "mean W1/σ", "AUC", "source correlation, blocks", "ESS")
    for number, name in enumerate(names):
        table.add_column(name, justify="right" if number else "left")
    for point in sorted(points, key=lambda point: point.w1.value):
        table.add_row(
            point.label,
            str(point.n_evaluations),
            f"{point.w1.value:.3f} ± {point.w1.error:.3f}",
            f"{point.auc:.3f} ± {point.auc_error:.3f}",
            f"{point.block.value:.3f} ± {point.block.error:.3f}",
            f"{point.ess:.3f}",
            style="bold" if point is best else None,
        )
    return table


def _csv(points: list[ScanPoint]) -> str:
    fields = list(points[0].settings)
    numbers = ("w1", "w1_low", "w1_high", "block", "block_low", "block_high", "auc", "ess")
    lines: list[list[Any]] = [[*fields, "n_evaluations", "n_events", *numbers]]
    for point in points:
        values = [point.settings[field] for field in fields]
        values += [point.n_evaluations, point.n_events]
        values += [point.w1.value, point.w1.low, point.w1.high]
        values += [point.block.value, point.block.low, point.block.high, point.auc, point.ess]
        lines.append([f"{v:.6g}" if isinstance(v, float) else v for v in values])
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()
