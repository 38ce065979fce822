"""`pileupgen export`: image stores, or the translation itself, for other software."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from pileupgen.cli.ui.common import ConfigOption, RunOption, SeedOption
from pileupgen.cli.ui.console import terminal
from pileupgen.errors import ConfigError

Format = Literal["root", "rntuple", "npz", "parquet", "showerdata", "overlay"]


def export(
    config: ConfigOption = None,
    run: RunOption = None,
    seed: SeedOption = None,
    store: Annotated[
        Path | None,
        typer.Option("--store", help="Image store. (default: the run's translated one)"),
    ] = None,
    output_format: Annotated[
        Format, typer.Option("--format", "-f", help="Format to write.")
    ] = "root",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write. (default: beside the store)"),
    ] = None,
    split: Annotated[str, typer.Option("--split", help="train, validation, test, or all.")] = "all",
    max_events: Annotated[
        int | None,
        typer.Option("--max-events", "-n", min=1, help="Largest number of events to write."),
    ] = None,
    onnx: Annotated[
        Path | None,
        typer.Option(
            "--onnx",
            metavar="DIR",
            help="Write the translation that made the store, for ONNX Runtime; no events.",
        ),
    ] = None,
) -> None:
    """Write translated events, or the translation itself, for other software.

    [bold]root[/] is a Delphes-like file (tree Delphes, Tower.* with Edges)
    that uproot, TTreeReader and RDataFrame read, or of a table of features a tree of flat
    branches; [bold]rntuple[/] is the same as an RNTuple, Tower_Eta for
    Tower.Eta; [bold]npz[/] and [bold]parquet[/] are for NumPy
    and pandas; [bold]showerdata[/] has showers as point clouds; [bold]overlay[/] is
    a library of pileup events in a fixed order, with their provenance and a counter of their use.
    Any image store can be exported, before translation or after. [bold]--onnx[/] writes the
    networks that made a translated store as ONNX graphs, with tables, the sampler's steps and a
    reference in NumPy.

    \b
    Examples:
      pileupgen export
      pileupgen export --run runs/mild --format overlay --output pileup.h5
      pileupgen export --store runs/demo/data/mc.h5 --format npz --split test
      pileupgen export --onnx runs/demo/onnx
    """
    from pileupgen.workflow.run import choose_run

    opened = choose_run(config, run, seed, terminal)
    if onnx is not None:
        if output is not None:
            raise ConfigError(
                "--onnx names the folder to write, so that --output cannot be given with it."
            )
        opened.export_onnx(onnx, store=store)
        return
    opened.export(
        output_format,
        store=store,
        output=output,
        split=split,
        max_events=max_events,
    )
