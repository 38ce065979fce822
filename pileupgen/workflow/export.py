"""Image stores for other software."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from pileupgen.errors import StoreError
from pileupgen.files import require_no_folder, require_not_read
from pileupgen.workflow.run import Run, open_store

Format = Literal["root", "rntuple", "npz", "parquet", "showerdata", "overlay"]
_Write = Callable[..., None]
_SUFFIX: dict[Format, str] = {
    "root": ".root",
    "rntuple": ".rntuple.root",
    "npz": ".npz",
    "parquet": ".parquet",
    "showerdata": ".showers.h5",
    "overlay": ".overlay.h5",
}
_NEXT: dict[Format, str] = {
    "root": "pileupgen cards check CARD, with format: delphes and this file; uproot; TTreeReader",
    "rntuple": "pileupgen cards check CARD, with format: delphes and this file, or RDataFrame",
    "npz": "numpy.load",
    "parquet": "pyarrow.parquet.read_table or awkward.from_parquet",
    "showerdata": "showerdata.load, or a card with format: showerdata",
    "overlay": "pileupgen.samples.overlay_library.OverlayLibrary",
}
_NEXT_OF_TABLE: dict[Format, str] = {
    **_NEXT,
    "root": "uproot.open(…)['features'], or a card with format: features and tree: features",
    "rntuple": "uproot.open(…)['features'], or a card with format: features and tree: features",
    "parquet": "pyarrow.parquet.read_table, or a card with format: features",
}


@dataclass(frozen=True)
class Exported:
    """A file for other software."""

    path: Path
    n_events: int


def export(
    run: Run,
    kind: Format = "root",
    *,
    store: Path | None = None,
    output: Path | None = None,
    split: str = "all",
    max_events: int | None = None,
) -> Exported:
    """Write events of a store for other software.

    Parameters
    ----------
    run : Run
    kind : str
        ``root``: a Delphes-like file, or of a table of features a tree of flat branches;
        ``rntuple``: the same in an RNTuple; ``npz``; ``parquet``; ``showerdata``: point clouds
        of showers; ``overlay``: a library of pileup events in a fixed order.
    store : Path, optional
        The run's translated store if not given.
    output : Path, optional
        File to write; beside the store if not given.
    split : str
        ``train``, ``validation``, ``test``, or ``all``.
    max_events : int, optional

    Raises
    ------
    MissingInputError
        If there is no such store.
    StoreError
        If it has no events in the split, or nothing that the format holds.
    OutputError
        If the file cannot be written.
    """
    from pileupgen.samples import export as library
    from pileupgen.samples import export_features as features
    from pileupgen.samples.export_showers import export_showerdata
    from pileupgen.samples.overlay_library import export_overlay

    path = store or run.directory.translated
    source = open_store(path, f"pileupgen translate{run.arguments}")
    rows = source.indices(split, max_events)
    target = output or path.with_name(path.stem + _SUFFIX[kind])
    is_table = source.grid.is_feature_table
    if is_table and kind == "overlay":
        raise StoreError(
            f"{path} is a table of features: it has no towers for --format {kind}.",
            "Choose --format root, rntuple, npz or parquet.",
        )
    if kind == "showerdata" and not source.grid.is_shower:
        raise StoreError(
            f"{path} holds no showers around an axis: its geometry is '{source.grid.name}'.",
            "Choose --format root, rntuple, npz or parquet.",
        )
    if not len(rows):
        raise StoreError(f"{path} has no events in split '{split}'.", "Choose another --split.")
    require_no_folder(target)
    own = [run.directory.images("mc"), run.directory.images("data"), run.directory.translated]
    require_not_read(target, [path, *own])
    run.listener.read(f"{path}, {len(rows):,} of {len(source):,} events")
    with run.listener.progress(f"export to {kind}", len(rows)) as advance:
        if kind == "overlay":
            export_overlay(source, rows, target, run.config.seed, advance)
        else:
            as_root: _Write = features.export_root_features if is_table else library.export_root
            as_parquet = features.export_parquet_features if is_table else library.export_parquet
            writers: dict[Format, _Write] = {
                "root": as_root,
                "rntuple": partial(as_root, container="rntuple"),
                "npz": library.export_npz,
                "parquet": as_parquet,
                "showerdata": export_showerdata,
            }
            writers[kind](source, rows, target, advance)
    size = target.stat().st_size / 1e6
    run.listener.wrote(target, f"{len(rows):,} events, {size:.1f} MB")
    run.listener.next((_NEXT_OF_TABLE if is_table else _NEXT)[kind])
    return Exported(target, len(rows))
