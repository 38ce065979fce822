"""`pileupgen preprocess`: data cards to image stores."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from pileupgen.cli.ui.common import (
    AllowOption,
    ConfigOption,
    DeviceOption,
    DryRunOption,
    ForceOption,
    RunOption,
    SeedOption,
    show_plan,
)
from pileupgen.cli.ui.console import terminal
from pileupgen.cli.ui.farm import with_farm
from pileupgen.cli.ui.library_log import warnings_on_console
from pileupgen.cli.ui.sample_table import show_comparison


@with_farm
def preprocess(
    config: ConfigOption = None,
    run: RunOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,  # noqa: ARG001 - every command takes it; towers need none
    max_events: Annotated[
        int | None,
        typer.Option(
            "--max-events", "-n", min=1, help="Events per domain. (default: the config's)"
        ),
    ] = None,
    force: ForceOption = False,
    farm: Any = None,
    skip_bad: Annotated[
        bool,
        typer.Option(
            "--skip-bad", help="Skip the parts of files that cannot be read, and report them."
        ),
    ] = False,
    match_mu: Annotated[
        Literal["reweight", "resample"] | None,
        typer.Option(
            "--match-mu",
            help="Give mc the μ profile of data: by event weights, or by dropping events (which "
            "the training sees too).",
        ),
    ] = None,
    allow: AllowOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Turn the towers of two samples into images.

    Reads the data cards that the config names under [bold]samples[/]: one for
    the source domain (mc), one for the target (data). A card names files, or
    asks for a sample to be generated, which is then made and cached beside
    the run directories. Writes [bold]data/mc.h5[/] and [bold]data/data.h5[/]
    in the run directory, and compares the two.

    \b
    Examples:
      pileupgen preprocess
      pileupgen preprocess --config delphes_hard
      PILEUPGEN_DATA=~/data pileupgen preprocess --config delphes_mild --run runs/mild
      pileupgen preprocess --config my.yaml --max-events 500 --run runs/quick
      pileupgen preprocess --config my.yaml --workers 8 --skip-bad --match-mu resample
      pileupgen preprocess --config my.yaml --cluster slurm --workers 50 --job queue=short
    """
    from pileupgen.workflow.run import choose_run
    from pileupgen.workflow.tasks import PILEUP, task_of

    changes = {"max_events": max_events, "allow": allow or None}
    opened = choose_run(config, run, seed, terminal, preprocess=changes)
    if dry_run:
        show_plan(opened.plan_preprocess())
        return
    with warnings_on_console():
        opened.preprocess(
            match_mu=match_mu, skip_bad=skip_bad, force=force, farm=farm, show=show_comparison
        )
    # The run keeps what was changed on the command line; a config named again would undo it.
    is_changed = seed is not None or max_events is not None
    arguments = f" --run {opened.directory.path}" if is_changed else opened.arguments
    task = task_of(opened.store("data").grid)
    command = "train" if task == PILEUP else f"benchmark --task {task}"
    terminal.next(f"pileupgen {command}{arguments}")
