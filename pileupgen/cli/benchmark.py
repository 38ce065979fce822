"""`pileupgen benchmark`: generators and translators of the field on one run's events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pileupgen.cli.ui.common import ConfigOption, RunOption, SeedOption
from pileupgen.cli.ui.console import console, terminal

if TYPE_CHECKING:
    from rich.table import Table

    from pileupgen.compare.systems import SystemTable


def benchmark(
    config: ConfigOption = None,
    run: RunOption = None,
    seed: SeedOption = None,
    task: Annotated[
        str, typer.Option("--task", help="What is made: pileup, showers, zdc, jets.")
    ] = "pileup",
    methods: Annotated[
        str, typer.Option("--methods", metavar="NAME,…", help="Systems, or all.")
    ] = "all",
    minutes: Annotated[
        float, typer.Option("--minutes", help="CPU time that each system may train.")
    ] = 2.0,
    events: Annotated[
        int, typer.Option("--events", min=40, help="Held-out events of each domain at most.")
    ] = 500,
    cells: Annotated[
        bool, typer.Option("--cells/--no-cells", help="Make the two-sample test on cells, too.")
    ] = True,
    pairs: Annotated[
        bool,
        typer.Option(
            "--pairs/--no-pairs",
            help="Events of the same number are the same event: for systems that learn from pairs.",
        ),
    ] = False,
    show: Annotated[
        bool, typer.Option("--list", help="Show the systems that there are, and do nothing.")
    ] = False,
) -> None:
    """Train generators and translators of the field on a run's images, and judge them alike.

    Each system learns from the training events with the same budget; those that translate also do
    that. With --task showers the images are showers on a grid of the CaloChallenge, conditioned on
    their incident energies; with --task zdc light in the fibres of a zero-degree calorimeter,
    conditioned on nine numbers of the particle; with --task jets the constituents of jets,
    conditioned on the jet's p_T, for the systems of points. Numbers are of test events. What was
    trained or judged before is kept, and an interrupted training goes on. Writes
    systems/systems.html, .json, .csv and a figure in the run directory.

    \b
    Examples:
      pileupgen benchmark --list
      pileupgen benchmark --methods marginals,autoregressive,flow --minutes 1
      pileupgen benchmark --run runs/delphes_nonlocal
      pileupgen benchmark --task showers --config showers
      pileupgen benchmark --task zdc --config zdc --methods marginals,gan,sdi-gan,cvae,ddim
      pileupgen benchmark --task jets --config jets --methods point-marginals,epic-gan,epic-fm
    """
    from pileupgen.zoo.registry import SYSTEMS, chosen_systems

    if show:
        for entry in SYSTEMS.values():
            terminal.tell(entry.name, f"{entry.family}: {entry.what}")
        return
    from pileupgen.workflow.benchmark import BenchmarkPlan, benchmark_systems
    from pileupgen.workflow.run import choose_run

    chosen = chosen_systems(methods)
    opened = choose_run(config, run, seed, terminal)
    plan = BenchmarkPlan(
        task=task,
        minutes=minutes,
        n_events=events,
        on_cells=cells,
        is_paired=pairs,
        seed=opened.config.seed,
    )
    table, written = benchmark_systems(opened, chosen, plan)
    console.print(_table(table))
    for path in written:
        terminal.wrote(path)


def _table(found: SystemTable) -> Table:
    from rich.table import Table

    from pileupgen.report.systems import notes_of, quality_columns, quality_lines

    costs = {
        row.label: (f"{row.training_seconds:.0f}", f"{row.event_ms:.3g}") for row in found.rows
    }
    table = Table(
        title=f"{found.task}: {found.reference.n_events:,} held-out events",
        caption=" ".join(notes_of(found)[-1:]),
    )
    columns = quality_columns(found)
    # A terminal is no page: no physics distances, and of those of showers the first two. The time
    # of the training has a column of its own.
    shown = [i for i, name in enumerate(columns) if not name.startswith(("FPD", "KPD", "training"))]
    shown = shown if len(shown) < 8 else [*shown[:4], *shown[-2:]]
    for number, name in enumerate(
        (*(columns[i] for i in shown), "training, CPU s", "an event, ms")
    ):
        table.add_column(name, justify="right" if number else "left")
    for line in quality_lines(found):
        table.add_row(*(line[i] for i in shown), *costs.get(line[0], ("–", "–")))
    return table
