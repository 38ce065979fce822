"""`pileupgen distill`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pileupgen.cli.ui.common import (
    ConfigOption,
    DeviceOption,
    ForceOption,
    RunOption,
    SeedOption,
)
from pileupgen.cli.ui.console import console, terminal
from pileupgen.cli.ui.settings import with_settings

if TYPE_CHECKING:
    from rich.table import Table

    from pileupgen.workflow.agreement import Agreement


@with_settings
def distill(
    config: ConfigOption = None,
    run: RunOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    given: Any = None,
    pairs: Annotated[
        int | None,
        typer.Option(
            "--pairs",
            min=100,
            help="Translated training events to learn from. (default: the config's)",
            show_default=False,
        ),
    ] = None,
    training_steps: Annotated[
        int | None,
        typer.Option(
            "--training-steps",
            min=0,
            help="Steps of the student's training. (default: the config's)",
            show_default=False,
        ),
    ] = None,
    events: Annotated[
        int,
        typer.Option(
            "--events", min=40, help="Validation events that student and teacher are compared on."
        ),
    ] = 300,
    force: ForceOption = False,
) -> None:
    """Train a student network that translates in one evaluation instead of many.

    The student is made for one setting of the translation, with mode invert, or mode partial
    without a stochastic sampler. 'pileupgen translate' uses it for the same setting, unless --exact
    is given. An interrupted command continues when it is given again. The distance of the student
    from its teacher, the solver, is measured and written beside it, to <run>/students.

    \b
    Examples:
      pileupgen distill --t-release 300 --w 2.0
      pileupgen distill --mode invert --w 0 --timesteps 995,800,600,450,300,180,90,30
      pileupgen distill --config delphes_nonlocal --pairs 6000 --training-steps 6000
    """
    from pileupgen.cli.ui.library_log import warnings_on_console
    from pileupgen.workflow.run import choose_run

    opened = choose_run(config, run, listener=terminal)
    with warnings_on_console():
        done = opened.distill(
            pairs=pairs,
            training_steps=training_steps,
            n_events=events,
            seed=seed,
            device=device,
            force=force,
            **given,
        )
    console.print(_table(done.agreement))
    terminal.next(f"pileupgen translate{opened.arguments}, with the same options")


def _table(found: Agreement) -> Table:
    from rich.table import Table

    rises = found.rises()
    table = Table(
        title=f"{found.student.n_events:,} validation events; normal scores are moved by "
        f"{found.move:.3f}, the student is {found.distance:.4f} off, the closed form "
        f"{found.closed_form:.4f}; ln r is {found.log_ratio_distance:.3f} off, its spread is "
        f"{found.log_ratio_spread:.2f} (all root mean squares)",
        caption="± is the 68 % interval's half width; that of a rise is paired",
    )
    for number, name in enumerate(("", "evaluations", "mean W1/σ", "AUC", "source correlation")):
        table.add_column(name, justify="right" if number else "left")
    for name, point in (("teacher", found.teacher), ("student", found.student)):
        table.add_row(
            name,
            str(point.n_evaluations),
            f"{point.w1.value:.3f} ± {point.w1.error:.3f}",
            f"{point.auc:.3f} ± {point.auc_error:.3f}",
            f"{point.block.value:.4f} ± {point.block.error:.4f}",
        )
    table.add_row("rise", "", *(f"{one.value:+.3f} ± {one.error:.3f}" for one in rises.values()))
    return table
