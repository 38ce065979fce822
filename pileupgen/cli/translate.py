"""`pileupgen translate`: simulated events to data-like ones, by a trained run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pileupgen.cli.ui.common import (
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
from pileupgen.cli.ui.settings import with_settings

Domain = Literal["mc", "data"]
Split = Literal["test", "validation", "train", "all"]


@with_farm
@with_settings
def translate(
    config: ConfigOption = None,
    run: RunOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    given: Any = None,
    ensemble: Annotated[
        list[str] | None,
        typer.Option(
            "--ensemble",
            metavar="RUN",
            help="Another trained run that joins this one in an ensemble; may be repeated. The "
            "configs should differ in training.seed only, which leaves the splits the same.",
        ),
    ] = None,
    split: Annotated[
        Split, typer.Option("--split", help="Split of the events to translate.")
    ] = "test",
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard",
            metavar="I/N",
            help="Only the I-th of N parts, I from 1; 'pileupgen merge' joins them.",
        ),
    ] = None,
    source: Annotated[
        Domain,
        typer.Option(
            "--source", help="Domain of the events, as which they are encoded and inverted."
        ),
    ] = "mc",
    target: Annotated[
        Domain,
        typer.Option(
            "--target", help="Domain to translate to, as which they are denoised and decoded."
        ),
    ] = "data",
    input_store: Annotated[
        Path | None,
        typer.Option(
            "--input", "-i", help="Image store of events of the source. (default: the run's)"
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Store to write. (default: <run>/translated/<source>_to_<target>.h5)",
        ),
    ] = None,
    farm: Any = None,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Translate MC events into data-like ones: noise to t_release, switch the class, denoise.

    Every event keeps the number of its source event, its weight and its seed; its result depends
    on these and the model alone. An interrupted command continues when it is given again.
    Without options on how to translate, the recommendation of 'pileupgen scan' for the run is
    taken if there is one, else the config.
    With --source and --target both data, or both mc, the translation is a control: nothing should
    change, and 'pileupgen validate --control' measures what does.

    \b
    Examples:
      pileupgen translate --t-release 300 --w 2.0
      pileupgen translate --t-release auto --release-by ess --tolerance 0.9
      pileupgen translate --mode invert --t-release 995 --w 0
      pileupgen translate --timesteps 300,200,100,40,10
      pileupgen translate --mode calibrate -o calibrated.h5
      pileupgen translate --mode transport -o transported.h5
      pileupgen translate --guidance ratio --w 1 --guidance-interval 50,400
      pileupgen translate --split all --shard 3/8
      pileupgen translate --split all --cluster slurm --workers 20 --job queue=short
      pileupgen translate --source data --target data
      pileupgen translate --draws 5 --ensemble runs/demo-b --ensemble runs/demo-c -o spread.h5
    """
    from pileupgen.workflow.run import choose_run

    opened = choose_run(config, run, listener=terminal)
    request: dict[str, Any] = {
        "split": split,
        "shard": shard,
        "source": source,
        "target": target,
        "events": input_store,
        "output": output,
        "ensemble": ensemble or (),
        "seed": seed,
        "device": device,
        "force": force,
    }
    if dry_run:
        show_plan(opened.plan_translate(**request, **given))
        return
    opened.translate(**request, farm=farm, **given)
