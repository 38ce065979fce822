"""`pileupgen validate`: how near translated events come to real ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pileupgen.cli.ui.common import ConfigOption, DeviceOption, RunOption, SeedOption
from pileupgen.cli.ui.console import error_console, terminal
from pileupgen.cli.ui.farm import with_farm
from pileupgen.cli.ui.settings import with_comparison

if TYPE_CHECKING:
    from pileupgen.compare.conditions import Condition
    from pileupgen.compare.results import Comparison

EXIT_CONDITION = 10
"""Exit code when a --fail-if condition holds."""


@with_farm
@with_comparison
def validate(
    config: ConfigOption = None,
    run: RunOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    translated: Annotated[
        Path | None,
        typer.Option(
            "--input", "-i", help="Translated store. (default: the run's translated/mc_to_data.h5)"
        ),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            help="Store of the same interactions in the detector of the data, event by event as in "
            "the mc store; the translation is compared with it as well."
        ),
    ] = None,
    control: Annotated[
        list[Path] | None,
        typer.Option(
            "--control",
            metavar="FILE",
            help="Store translated from data to data, or from mc to mc; may be repeated.",
        ),
    ] = None,
    overlay: Annotated[
        str | None,
        typer.Option(
            "--overlay",
            metavar="CARD|STORE",
            help="Hard scatters, which are overlaid with mc, translated and data pileup to compare "
            "jets, E_T^miss and isolation.",
        ),
    ] = None,
    given: Any = None,
    farm: Any = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Skip the two-sample tests and the ladder.")
    ] = False,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-if",
            metavar="CONDITION",
            help=f"End with exit code {EXIT_CONDITION} if the condition holds; may be repeated.",
        ),
    ] = None,
) -> None:
    """Compare translated events with real ones, next to the reference and the source.

    Reads the run's data, mc and translated stores. Compares events that no stage was trained on.
    The reference compares real events with other real events, the source is simulation before
    translation. A control is translated within one domain: its numbers should be those of the
    reference (data) or of the source (mc), and its source correlation is the largest that this
    release allows. Writes validation/report.html, one page with verdict, tables and figures;
    metrics.json; figures.

    \b
    Examples:
      pileupgen validate
      pileupgen validate --run runs/atlas --weighted --cells
      pileupgen validate --input runs/demo/translated/late.h5
      pileupgen validate --control runs/demo/translated/data_to_data.h5
      pileupgen validate --ladder
      pileupgen validate --overlay hard_dijet
      pileupgen validate --workers 4
      pileupgen validate --scheduler tcp://node1:8786
      pileupgen validate --fail-if 'auc_features > 0.6' --fail-if 'shift_removed < 0.5'
    """
    from pileupgen.compare.conditions import Condition
    from pileupgen.workflow.run import choose_run

    conditions = [Condition.parse(text) for text in fail_if or []]
    done = choose_run(config, run, listener=terminal).validate(
        translated=translated,
        truth=truth,
        controls=control or (),
        overlay=overlay,
        quick=quick,
        seed=seed,
        device=device,
        farm=farm,
        **given,
    )
    _summarise(done.comparison, conditions)


def _summarise(comparison: Comparison, conditions: list[Condition]) -> None:
    from pileupgen.cli.ui.comparison_table import next_step, print_comparison

    headline = comparison.headline
    print_comparison(comparison)
    failed = [condition for condition in conditions if condition.holds(headline)]
    for condition in failed:
        value = headline[condition.name]
        error_console.print(f"[bold red]failed[/] {condition}: it is {value:.4g}")
    if failed:
        raise typer.Exit(EXIT_CONDITION)
    terminal.next(next_step(comparison))
