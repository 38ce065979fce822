"""`pileupgen scan`: fidelity and source correlation over settings, and a recommendation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from pileupgen.cli.ui.common import ConfigOption, DeviceOption, RunOption, SeedOption
from pileupgen.cli.ui.console import console, terminal
from pileupgen.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from pileupgen.workflow.scan import Scanned

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
        str, typer.Option("--modes", metavar="MODE,…", help="Modes of translation.")
    ] = "calibrate,transport,partial,invert",
    steps: Annotated[
        str | None,
        typer.Option(
            "--steps",
            metavar="N,N,…",
            help="Numbers of network evaluations. (default: the config's)",
        ),
    ] = None,
    timesteps: Annotated[
        str | None,
        typer.Option(
            "--timesteps",
            metavar="T,T,…",
            help="Timesteps of the network evaluations, in place of --t-release and --steps.",
        ),
    ] = None,
    samplers: Annotated[
        str | None,
        typer.Option(
            "--samplers", metavar="NAME,…", help="Solvers of the diffusion. (default: the config's)"
        ),
    ] = None,
    guidance: Annotated[
        str | None,
        typer.Option("--guidance", metavar="KIND,…", help="Guidances. (default: the config's)"),
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
    """Measure fidelity and source correlation of translations over settings, and recommend one.

    Takes validation events, so that test events stay unseen. Other settings are the config's. A
    measured point is kept: after an interruption, or with more values, only missing points are
    measured.
    Writes scan/pareto_front.csv, figures, and operating_point.json, which translate takes by
    default.

    \b
    Examples:
      pileupgen scan
      pileupgen scan --modes invert --t-release 600,800,995 --w 0 --steps 5,10,20
      pileupgen scan --modes invert --w 0,0.2 --timesteps 995,800,600,450,300,180,90,30
      pileupgen scan --modes partial --t-release 300 --w 0 --steps 4,8,16,32 \\
        --samplers ancestral,ddim,dpmsolver++,sde-dpmsolver++
      pileupgen scan --modes partial --w 2 --guidance closed-form,classifier-free,classifier
    """
    from pileupgen.workflow.run import choose_run

    opened = choose_run(config, run, listener=terminal)
    found = opened.scan(
        t_release=_values("--t-release", t_release, int),
        w=_values("--w", w, float),
        modes=_values("--modes", modes, str),
        steps=None if steps is None else _values("--steps", steps, int),
        timesteps=None if timesteps is None else _values("--timesteps", timesteps, int),
        samplers=None if samplers is None else _values("--samplers", samplers, str),
        guidance=None if guidance is None else _values("--guidance", guidance, str),
        n_events=events,
        min_source_correlation=min_source_correlation,
        seed=seed,
        device=device,
    )
    console.print(_table(found))
    terminal.next(f"pileupgen translate{opened.arguments}")


def _values(option: str, text: str, kind: Callable[[str], T]) -> list[T]:
    try:
        found = [kind(part.strip()) for part in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"{option} takes values separated by commas, not '{text}'.", f"Try {option} 1,2."
        ) from None
    return list(dict.fromkeys(found))


def _table(found: Scanned) -> Table:
    from rich.table import Table

    points, references = found.points, found.references
    reference, source = references["reference"], references["source"]
    table = Table(
        title=f"{points[0].n_events:,} validation events; reference W1/σ {reference.value:.3f} ± "
        f"{reference.error:.3f}, of the source {source.value:.3f}",
        caption="± is the 68 % interval's half width; AUC on observables, one seed",
    )
    names = ("setting", "evaluations", "mean W1/σ", "AUC", "source correlation, blocks", "ESS")
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
            style="bold" if point is found.best else None,
        )
    return table
