"""`pileupgen export`: image stores for other people's software."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pileupgen.cli.ui.console import progress, say_next, say_read, say_wrote
from pileupgen.cli.ui.session import ConfigOption, RunOption, SeedOption, open_session, open_store


class ExportFormat(StrEnum):
    """What to write."""

    root = "root"
    npz = "npz"
    parquet = "parquet"
    overlay = "overlay"


_SUFFIX = {"root": ".root", "npz": ".npz", "parquet": ".parquet", "overlay": ".overlay.h5"}
_NEXT = {
    "root": "pileupgen cards check CARD, with format: delphes and this file, or any Delphes reader",
    "npz": "numpy.load",
    "parquet": "pyarrow.parquet.read_table or awkward.from_parquet",
    "overlay": "pileupgen.samples.overlay_library.OverlayLibrary",
}
_NEXT_OF_TABLE = {
    **_NEXT,
    "root": "uproot.open(…)['features'], or a card with format: features and tree: features",
    "parquet": "pyarrow.parquet.read_table, or a card with format: features",
}


def export(
    config: ConfigOption = None,
    run: RunOption = None,
    seed: SeedOption = None,
    store: Annotated[
        Path | None,
        typer.Option(
            "--store", help="Image store. (default: the run's translated one)", show_default=False
        ),
    ] = None,
    output_format: Annotated[
        ExportFormat, typer.Option("--format", "-f", help="What to write.")
    ] = ExportFormat.root,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="File to write. (default: beside the store)", show_default=False
        ),
    ] = None,
    split: Annotated[str, typer.Option("--split", help="train, validation, test, or all.")] = "all",
    max_events: Annotated[
        int | None, typer.Option("--max-events", "-n", min=1, help="Stop after so many.")
    ] = None,
    onnx: Annotated[
        Path | None,
        typer.Option(
            "--onnx",
            metavar="DIR",
            help="Write the translation that made the store, for ONNX Runtime; no events.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write translated events, or the translation itself, for other software.

    [bold]root[/] is a Delphes-like file (tree Delphes, Tower.* with Edges)
    that Delphes readers take, or of a table of features a tree of flat
    branches; [bold]npz[/] and [bold]parquet[/] are for NumPy
    and pandas; [bold]overlay[/] is a library of pileup events in a fixed
    order, with their provenance and a counter of their use. Any image store
    can be exported, before translation or after. [bold]--onnx[/] writes the networks that made a
    translated store as ONNX graphs, with tables, the sampler's steps and a reference in NumPy.

    \b
    Examples:
      pileupgen export
      pileupgen export --run runs/mild --format overlay --output pileup.h5
      pileupgen export --store runs/demo/data/mc.h5 --format npz --split test
      pileupgen export --onnx runs/demo/onnx
    """
    from rich.markup import escape

    from pileupgen.errors import ConfigError, OutputError, StoreError
    from pileupgen.samples import export as library
    from pileupgen.samples import export_features as features
    from pileupgen.samples.overlay_library import export_overlay

    session = open_session(config, run, seed)
    path = store or session.run.translated
    source = open_store(path, f"pileupgen translate{session.arguments}")
    if onnx is not None:
        from pileupgen.cli.export_onnx import export_onnx

        if output is not None:
            raise ConfigError("--onnx names its folder itself; --output does not go with it.")
        export_onnx(session, source, onnx)
        return
    rows = source.indices(split, max_events)
    kind = output_format.value
    target = output or path.with_name(path.stem + _SUFFIX[kind])
    is_table = source.grid.is_feature_table
    if is_table and kind == "overlay":
        raise StoreError(
            f"{path} is a table of features: it has no towers for --format {kind}.",
            "Choose --format root, npz or parquet.",
        )
    if not len(rows):
        raise StoreError(f"{path} has no events in split '{split}'.", "Choose another --split.")
    if target.resolve() == path.resolve():
        raise OutputError(f"{target} is the store itself.", "Choose another --output.")
    say_read(f"{escape(str(path))}, {len(rows):,} of {len(source):,} events")
    with progress(f"export to {kind}", len(rows)) as advance:
        if kind == "overlay":
            export_overlay(source, rows, target, session.config.seed, advance)
        else:
            write = {
                "root": features.export_root_features if is_table else library.export_root,
                "npz": library.export_npz,
                "parquet": features.export_parquet_features if is_table else library.export_parquet,
            }[kind]
            write(source, rows, target, advance)
    say_wrote(target, f"{len(rows):,} events, {target.stat().st_size / 1e6:.1f} MB")
    say_next((_NEXT_OF_TABLE if is_table else _NEXT)[kind])
