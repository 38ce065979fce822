"""Tables of features as files for other people's software: flat ROOT trees, Parquet columns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Ints
from pileupgen.progress import Advance, silent
from pileupgen.samples.delphes_file import Container, create_delphes_file
from pileupgen.samples.export import import_pyarrow, write_parquet
from pileupgen.samples.store import COLUMNS, Images, ImageStore

TREE = "features"
BATCH_EVENTS = 1 << 14


def column_names(store: ImageStore) -> dict[str, str]:
    """What the store's numbers an event are called beside its features.

    Returns
    -------
    dict
        By the store's name: the same, or ``event_<name>`` where a feature has that name.
    """
    taken = set(store.grid.layers)
    return {name: f"event_{name}" if name in taken else name for name in store.columns}


def export_root_features(
    store: ImageStore,
    rows: Ints,
    path: Path,
    advance: Advance = silent,
    container: Container = "ttree",
) -> None:
    """Write a table of features as a tree of flat branches, one number an event each.

    Tree ``features``: a float32 branch for every feature, by its name, and the store's numbers an
    event. Grid, units and provenance are in the text ``pileupgen`` beside it.

    Parameters
    ----------
    store : ImageStore
        The events, of a feature table.
    rows : int64 array, shape (n,)
        Which of them.
    path : Path
        The file to write; takes its name when it is whole.
    container : str
        ``ttree`` or ``rntuple``.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    branches = {name: str(dtype) for name, dtype in _dtypes(store).items()}
    record = {"geometry": store.grid.to_dict(), "provenance": store.provenance}
    with create_delphes_file(path, branches, record, tree=TREE, container=container) as file:
        for images in store.batches(rows, BATCH_EVENTS):
            file.append(len(images), _columns(images, column_names(store)))
            advance(len(images))


def export_parquet_features(
    store: ImageStore, rows: Ints, path: Path, advance: Advance = silent
) -> None:
    """Write a table of features as Parquet: a column for every feature and number an event.

    Parameters
    ----------
    store, rows, path, advance
        As for :func:`export_root_features`.

    Raises
    ------
    DependencyError
        If pyarrow is not installed.
    OutputError
        If the file cannot be written.
    """
    pa, _ = import_pyarrow()
    fields = [
        pa.field(name, pa.from_numpy_dtype(kind), nullable=False)
        for name, kind in _dtypes(store).items()
    ]
    names = column_names(store)
    write_parquet(store, rows, path, fields, lambda images: _columns(images, names), advance)


def _dtypes(store: ImageStore) -> dict[str, np.dtype[Any]]:
    features = {name: np.dtype("f4") for name in store.grid.layers}
    return features | {new: np.dtype(COLUMNS[old][0]) for old, new in column_names(store).items()}


def _columns(images: Images, names: Mapping[str, str]) -> dict[str, NDArray[Any]]:
    features = {
        name: np.ascontiguousarray(images.energy[:, place, 0, 0])
        for place, name in enumerate(images.grid.layers)
    }
    return features | {
        new: images.columns[old].astype(COLUMNS[old][0]) for old, new in names.items()
    }
