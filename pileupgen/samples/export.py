"""Image stores as files for other people's software: Delphes-like ROOT, NumPy, Parquet."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Ints
from pileupgen.calo.imaging import images_to_towers
from pileupgen.calo.towers import Towers
from pileupgen.errors import import_extra
from pileupgen.files import written_whole
from pileupgen.progress import Advance, silent
from pileupgen.samples.delphes_file import EDGES, Column, Container, create_delphes_file
from pileupgen.samples.store import COLUMNS, Images, ImageStore

BATCH_EVENTS = 256
_LEAVES = {"em": "Eem", "had": "Ehad"}
_PLACES = ("tower_eta", "tower_phi", "tower_eta_width", "tower_phi_width")
_PROVENANCE = {
    "source_event": "SourceEvent",
    "seed": "Seed",
    "draw": "Draw",
    "member": "Member",
    "t_release": "TRelease",
    "signal_event": "SignalEvent",
    "signal_seed": "SignalSeed",
    "copy": "Copy",
    "pileup_event": "PileupEvent",
    "pileup_source": "PileupSource",
    "pileup_seed": "PileupSeed",
    "pileup_draw": "PileupDraw",
    "pileup_member": "PileupMember",
    "pileup_use": "PileupUse",
}
"""Branches of what a translated or overlaid event was made from, by the store's column."""
_RELEASE_WEIGHT = "release_weight"


def leaf_of(layer: str) -> str:
    """Leaf with a layer's energy: Delphes' own name where it has one."""
    return _LEAVES.get(layer, f"E_{layer}")


def export_root(
    store: ImageStore,
    rows: Ints,
    path: Path,
    advance: Advance = silent,
    container: Container = "ttree",
) -> None:
    """Write events under Delphes' names: tree or RNTuple ``Delphes``, towers with ``Edges``.

    What can read it is told in :mod:`pileupgen.samples.delphes_file`.
    Every cell with energy is a tower. ``Vertex_size`` is μ + 1, as Delphes has it, where μ is known
    for all events and whole. Further columns have one number an event: ``Mu``, ``Weight``,
    ``SourceEvent``, ``Seed``, ``Draw``, ``Member``, ``TRelease``. ``Weight`` is what a validation
    takes by default; ``ReleaseWeight`` of translated events what it takes with ``--weighted``.

    Parameters
    ----------
    rows : int64 array, shape (n,)
        Which of them.
    path : Path
        The file to write; takes its name when it is whole.
    container : str
        ``ttree``, or ``rntuple``, in which ``Tower.Eta`` is called ``Tower_Eta``.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    mu = store.columns["mu"][rows]
    has_vertices = bool(len(mu)) and bool(np.all(np.isfinite(mu) & (mu == np.round(mu))))
    layers = store.grid.layers
    names = ["ET", "Eta", "Phi", "E", *(leaf_of(layer) for layer in layers)]
    branches = {
        "Event.Number": "var * int64",
        **{f"Tower.{name}": "var * float32" for name in names},
        EDGES: "var * 4 * float32",
        "Mu": "float32",
        "Weight": "float64",
        **({"ReleaseWeight": "float64"} if _RELEASE_WEIGHT in store.columns else {}),
        **({"Vertex_size": "int32"} if has_vertices else {}),
        **{name: "int64" for column, name in _PROVENANCE.items() if column in store.columns},
    }
    record = {"geometry": store.grid.to_dict(), "provenance": store.provenance}
    with create_delphes_file(path, branches, record, container=container) as file:
        for images in store.batches(rows, BATCH_EVENTS):
            columns = _tower_columns(_towers(images))
            columns |= {"Mu": images.mu, "Weight": images.columns["weight"]}
            if _RELEASE_WEIGHT in images.columns:
                columns["ReleaseWeight"] = images.columns[_RELEASE_WEIGHT]
            n = len(images)
            columns["Event.Number"] = (np.arange(n + 1), images.event_id)
            if has_vertices:
                columns["Vertex_size"] = images.mu + 1
            columns |= {
                name: images.columns[column]
                for column, name in _PROVENANCE.items()
                if column in images.columns
            }
            file.append(n, {name: columns[name] for name in branches})
            advance(n)


def _towers(images: Images) -> Towers:
    return images_to_towers(images.energy, images.grid, images.mu, images.event_id)


def _tower_columns(towers: Towers) -> dict[str, Column]:
    """Leaves of the towers, by branch."""
    eta, phi = towers.edges[:, :2].mean(axis=1), towers.edges[:, 2:].mean(axis=1)
    energy = towers.energy.sum(axis=1, dtype=np.float64)
    leaves = {"ET": energy / np.cosh(eta), "Eta": eta, "Phi": phi, "E": energy}
    leaves |= {leaf_of(layer): towers.energy[:, index] for index, layer in enumerate(towers.layers)}
    columns: dict[str, Column] = {
        f"Tower.{name}": (towers.offsets, values) for name, values in leaves.items()
    }
    columns[EDGES] = (towers.offsets, towers.edges)
    return columns


def export_npz(store: ImageStore, rows: Ints, path: Path, advance: Advance = silent) -> None:
    """Write events as one NumPy archive: images, a column for each number an event, the grid.

    Memory does not grow with the number of events.

    Parameters
    ----------
    store, rows, path, advance
        As for :func:`export_root`.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    whole: dict[str, NDArray[Any]] = {
        name: values[rows].astype(COLUMNS[name][0]) for name, values in store.columns.items()
    }
    whole["eta_edges"] = np.asarray(store.grid.eta_edges, dtype=np.float64)
    whole["phi_edges"] = store.grid.phi_edges
    whole["layers"] = np.array(store.grid.layers)
    whole["provenance"] = np.array(json.dumps(store.provenance, sort_keys=True))
    with (
        written_whole(path) as aside,
        zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        with archive.open(_member("images"), "w", force_zip64=True) as file:
            shape = (len(rows), *store.grid.shape)
            np.lib.format.write_array_header_1_0(
                file, {"descr": "<f4", "fortran_order": False, "shape": shape}
            )
            for images in store.batches(rows, BATCH_EVENTS):
                file.write(np.ascontiguousarray(images.energy, dtype="<f4").tobytes())
                advance(len(images))
        for name, values in whole.items():
            with archive.open(_member(name), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(values), allow_pickle=False)


def _member(name: str) -> zipfile.ZipInfo:
    """An entry of an archive, with a fixed date: the same events give the same bytes."""
    info = zipfile.ZipInfo(f"{name}.npy")
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def export_parquet(store: ImageStore, rows: Ints, path: Path, advance: Advance = silent) -> None:
    """Write events as a Parquet table: one row an event, its towers as lists.

    Columns ``tower_eta``, ``tower_phi``, ``tower_eta_width``, ``tower_phi_width`` and
    ``tower_<layer>`` in GeV, and the store's numbers an event.
    Grid and provenance are in the schema's metadata under ``pileupgen``.

    Parameters
    ----------
    store, rows, path, advance
        As for :func:`export_root`.

    Raises
    ------
    DependencyError
        If pyarrow is not installed.
    OutputError
        If the file cannot be written.
    """
    pa, _ = import_pyarrow()
    lists = [*_PLACES, *(f"tower_{layer}" for layer in store.grid.layers)]
    fields = [pa.field(name, _list_type(), nullable=False) for name in lists]
    fields += [
        pa.field(name, pa.from_numpy_dtype(np.dtype(COLUMNS[name][0])), nullable=False)
        for name in store.columns
    ]
    write_parquet(store, rows, path, fields, _rows, advance)


def write_parquet(
    store: ImageStore,
    rows: Ints,
    path: Path,
    fields: list[Any],
    columns_of: Callable[[Images], dict[str, Any]],
    advance: Advance,
) -> None:
    """Write events as a Parquet table, grid and provenance in its schema's metadata.

    Parameters
    ----------
    fields : list of pyarrow.Field
        Columns of the table.
    columns_of : callable
        Gives these columns of some events.
    """
    pa, pq = import_pyarrow()
    record = {"geometry": store.grid.to_dict(), "provenance": store.provenance}
    schema = pa.schema(fields, metadata={"pileupgen": json.dumps(record, sort_keys=True)})
    with written_whole(path) as aside, pq.ParquetWriter(aside, schema, compression="zstd") as file:
        for images in store.batches(rows, BATCH_EVENTS):
            file.write_table(pa.table(columns_of(images), schema=schema))
            advance(len(images))


def import_pyarrow() -> tuple[Any, Any]:
    """Import pyarrow and its Parquet part; see :func:`~pileupgen.errors.import_extra`."""
    modules = ("pyarrow", "pyarrow.parquet")
    pa, pq = (import_extra(module, "parquet", "A Parquet file") for module in modules)
    return pa, pq


def _list_type() -> Any:
    """Lists of numbers without nulls."""
    import pyarrow as pa

    return pa.list_(pa.field("element", pa.float32(), nullable=False))


def _rows(images: Images) -> dict[str, Any]:
    import pyarrow as pa

    towers = _towers(images)
    offsets = pa.array(towers.offsets.astype(np.int32))
    eta, phi = towers.edges[:, :2], towers.edges[:, 2:]
    places = (eta.mean(axis=1), phi.mean(axis=1), np.diff(eta)[:, 0], np.diff(phi)[:, 0])
    values = {
        **dict(zip(_PLACES, places, strict=True)),
        **{f"tower_{layer}": towers.energy[:, i] for i, layer in enumerate(towers.layers)},
    }
    columns: dict[str, Any] = {
        name: pa.ListArray.from_arrays(
            offsets, pa.array(np.asarray(numbers, dtype=np.float32)), type=_list_type()
        )
        for name, numbers in values.items()
    }
    for name, numbers in images.columns.items():
        columns[name] = pa.array(numbers.astype(COLUMNS[name][0]))
    return columns
