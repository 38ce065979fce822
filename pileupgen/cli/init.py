"""`pileupgen init`: a config and two data cards to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pileupgen.cli.ui.console import terminal


def init(
    folder: Annotated[
        Path, typer.Argument(help="Folder to write to; made if it is not there.")
    ] = Path(),
    name: Annotated[
        str, typer.Option("--name", help="Name of the config and of its run directory.")
    ] = "my_run",
    generate: Annotated[
        bool,
        typer.Option(
            "--generate", help="Cards that ask for small samples to be generated, not for files."
        ),
    ] = False,
) -> None:
    """Write a commented config and two data cards to start from.

    The config names every setting with its default and what it is. The cards describe the two
    samples: simulation (mc) and recorded events (data).

    \b
    Examples:
      pileupgen init .
      pileupgen init study --name run_3
      pileupgen init trial --generate
    """
    from pileupgen.workflow.init import write_start

    write_start(folder, name, generate=generate, listener=terminal)
