"""`pileupgen merge`: the shards of a translation made one store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pileupgen.cli.ui.common import ConfigOption, RunOption
from pileupgen.cli.ui.console import terminal


def merge(
    shards: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[SHARD]…",
            help="Stores written by 'translate --shard'. (default: those of the run)",
        ),
    ] = None,
    config: ConfigOption = None,
    run: RunOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Store to write. (default: <run>/translated/mc_to_data.h5)"
        ),
    ] = None,
) -> None:
    """Join the shards of one translation into the bytes that one process would have written.

    Shards may be given in any order. Missing shards, duplicates and shards of other
    translations are errors that name them.

    \b
    Examples:
      pileupgen merge
      pileupgen merge --run runs/atlas
      pileupgen merge out.shard-1-of-2.h5 out.shard-2-of-2.h5 -o out.h5
    """
    from pileupgen.workflow.run import choose_run

    choose_run(config, run, listener=terminal).merge(shards, output)
