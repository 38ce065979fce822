"""Overlay libraries: pileup events to be mixed into hard scatters, each with its record of use.

The tree is documented in ``data_cards/FORMAT.md``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Ints
from pileupgen.calo.geometry import Grid
from pileupgen.errors import MissingInputError, OutputError, StoreError, UnreadableInputError
from pileupgen.progress import Advance, silent
from pileupgen.samples.export import BATCH_EVENTS
from pileupgen.samples.steadyfile import create_hdf5
from pileupgen.samples.store import Images, ImageStore

SCHEMA = "pileupgen-overlay"
SCHEMA_VERSION = 1
_CHUNK = 1 << 14

COLUMNS: dict[str, tuple[str, str]] = {
    # name: (dtype, meaning)
    "mu": ("f4", "number of pileup interactions; NaN where unknown"),
    "weight": ("f8", "event weight"),
    "event_id": ("i8", "position of the event in its sample"),
    "source_event": ("i8", "event_id of the event it was translated from; -1 for none"),
    "seed": ("i8", "seed that, with source_event, fixes the event's noise; -1 for none"),
    "t_release": ("f8", "timestep of the release; NaN for none"),
    "draw": ("i4", "which translation of the source event, from 0; -1 for none"),
    "member": ("i4", "which model of an ensemble translated it, from 0; -1 for none"),
    "release_weight": ("f8", "weight by the event's release; only where events were translated"),
}


def export_overlay(
    store: ImageStore,
    rows: Ints,
    path: Path,
    seed: int = 0,
    advance: Advance = silent,
) -> None:
    """Write events as an overlay library.

    Parameters
    ----------
    rows : int64 array, shape (n,)
        Which of them.
    path : Path
        The library to write; takes its name when it is whole, its counters at zero.

    Raises
    ------
    StoreError
        If there are no events.
    OutputError
        If the file cannot be written.
    """
    n = len(rows)
    if n == 0:
        raise StoreError(f"{store.path} has no events to export.", "Choose another --split.")
    with create_hdf5(path) as (file, _):
        file.attrs["schema"], file.attrs["schema_version"] = SCHEMA, SCHEMA_VERSION
        file.attrs["domain"], file.attrs["order_seed"] = store.domain, seed
        for group, record in (
            ("geometry", store.grid.to_dict()),
            ("provenance", store.provenance),
        ):
            file.create_group(group).attrs["json"] = json.dumps(record, sort_keys=True)
        columns = _columns(store, rows)
        order = _deal_order(source_numbers(columns), np.random.default_rng([seed, n]))
        file.create_dataset("order", data=order.astype("i8"))
        events = file.create_group("events")
        for name, values in columns.items():
            dtype, meaning = COLUMNS[name]
            events.create_dataset(name, data=values.astype(dtype)).attrs["meaning"] = meaning
        events.create_dataset("n_used", data=np.zeros(n, dtype="u8"))
        events.create_dataset("offsets", data=_write_cells(file, store, rows, advance))


def _columns(store: ImageStore, rows: Ints) -> dict[str, NDArray[Any]]:
    none = np.full(len(rows), -1, dtype=np.int64)
    known = {name: values[rows] for name, values in store.columns.items()}
    release = known.get("t_release")
    weighted = {name: known[name] for name in ("release_weight",) if name in known}
    return {
        **weighted,
        "mu": known["mu"],
        "weight": known["weight"],
        "event_id": known["event_id"],
        "source_event": known.get("source_event", none),
        "seed": known.get("seed", none),
        "t_release": np.full(len(rows), np.nan)
        if release is None
        else np.where(release < 0, np.nan, release),
        "draw": known.get("draw", none),
        "member": known.get("member", none),
    }


def source_numbers(columns: Mapping[str, NDArray[Any]]) -> Ints:
    """Number of the event that each row is of: its source, or itself; shape (n,), from 0."""
    own = columns["event_id"]
    if "source_event" in columns:
        own = np.where(columns["source_event"] >= 0, columns["source_event"], own)
    _, source = np.unique(own, return_inverse=True)
    return np.asarray(source, dtype=np.int64)


def _deal_order(source: Ints, rng: np.random.Generator) -> Ints:
    """Rows in an order that has every source event once before any comes again."""
    order = rng.permutation(len(source))
    by_source = np.argsort(source[order], kind="stable")
    sizes = np.bincount(source)
    rank = np.empty(len(source), dtype=np.int64)
    rank[by_source] = np.arange(len(source)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.asarray(order[np.argsort(rank, kind="stable")], dtype=np.int64)


def _write_cells(file: h5py.File, store: ImageStore, rows: Ints, advance: Advance) -> Ints:
    """Write the cells with energy; the events' offsets among them."""
    n_layers, width = store.grid.n_layers, store.grid.n_eta * store.grid.n_phi
    cells = file.create_group("cells")
    options: dict[str, Any] = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
    index = cells.create_dataset("index", (0,), "i4", maxshape=(None,), chunks=(_CHUNK,), **options)
    energy = cells.create_dataset(
        "energy",
        (0, n_layers),
        "f4",
        maxshape=(None, n_layers),
        chunks=(_CHUNK, n_layers),
        **options,
    )
    energy.attrs["unit"] = "GeV"
    counts = [np.zeros(1, dtype=np.int64)]
    for images in store.batches(rows, BATCH_EVENTS):
        flat = images.energy.reshape(len(images), n_layers, width)
        event, cell = np.nonzero(np.any(flat != 0, axis=1))
        begin = len(index)
        index.resize(begin + len(cell), axis=0)
        energy.resize(begin + len(cell), axis=0)
        index[begin:] = cell
        energy[begin:] = flat[event, :, cell]
        counts.append(np.bincount(event, minlength=len(images)))
        advance(len(images))
    return np.cumsum(np.concatenate(counts)).astype(np.int64)


class OverlayLibrary:
    """An overlay library, opened for dealing events.

    Parameters
    ----------
    path : Path
        An HDF5 file written by :func:`export_overlay`.

    Raises
    ------
    MissingInputError
        If there is no such file.
    UnreadableInputError
        If it is not HDF5 or is truncated.
    StoreError
        If it is HDF5 of another schema or schema version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise MissingInputError(
                f"No overlay library at {path}.", "Make one with 'pileupgen export'."
            )
        try:
            with h5py.File(path, "r") as file:
                schema, version = file.attrs.get("schema"), file.attrs.get("schema_version")
                if (schema, version) != (SCHEMA, SCHEMA_VERSION):
                    raise StoreError(
                        f"{path} is no overlay library of version {SCHEMA_VERSION} "
                        f"(schema {schema!r}, version {version}).",
                        "Make it again with 'pileupgen export --format overlay'.",
                    )
                self.domain = str(file.attrs["domain"])
                self.grid = Grid.from_dict(json.loads(file["geometry"].attrs["json"]))
                self.provenance: dict[str, Any] = json.loads(file["provenance"].attrs["json"])
                self.order: Ints = file["order"][:]
                self._offsets: Ints = file["events"]["offsets"][:]
                self.columns: Mapping[str, NDArray[Any]] = {
                    name: file["events"][name][:]
                    for name in COLUMNS
                    if name in file["events"] or name != "release_weight"
                }
                n_cells = len(file["cells"]["index"])
                self.source = source_numbers(self.columns)
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            raise UnreadableInputError(
                f"{path} cannot be read as an overlay library: {error}.",
                "It may be truncated; delete it and make it again.",
            ) from error

        if self._offsets[-1] != n_cells or len(self._offsets) != len(self.order) + 1:
            raise StoreError(
                f"{path}: its index does not fit its cells; they were changed after it was made.",
                "Make the library anew with 'pileupgen export --format overlay'.",
            )

    def __len__(self) -> int:
        return len(self.order)

    @property
    def n_used(self) -> Ints:
        """How often each event was dealt, in any translation, shape (N,); as the file has it now.

        Rows that are translations of one source event share their count: a hard scatter that meets
        another draw of an event meets the same interactions again.
        """
        with h5py.File(self.path, "r") as file:
            return np.asarray(file["events"]["n_used"][:], dtype=np.int64)

    def rows(self, first: int, n: int) -> Ints:
        """Rows of the events dealt ``first``, ``first + 1``, … in the library's fixed order.

        Each event comes once before any comes again. A job that takes numbers of its own takes
        events of its own, whatever other jobs do.

        Raises
        ------
        StoreError
            If a number is negative.
        """
        if first < 0 or n < 0:
            raise StoreError(f"Events are dealt by numbers from 0, not {first} and {n} of them.")
        return np.asarray(self.order[np.arange(first, first + n) % len(self)], dtype=np.int64)

    def read(self, rows: Ints) -> Images:
        """Images of the given rows, in their order; does not count as use."""
        energy = np.zeros((len(rows), self.grid.n_layers, self.grid.n_eta * self.grid.n_phi), "f4")
        try:
            with h5py.File(self.path, "r") as file:
                index, cells = file["cells"]["index"], file["cells"]["energy"]
                # Ascending, so that neighbours find their chunk unpacked.
                for place in np.argsort(rows, kind="stable"):
                    begin, end = self._offsets[rows[place] : rows[place] + 2].tolist()
                    energy[place][:, index[begin:end]] = cells[begin:end].T
        except (OSError, IndexError) as error:
            raise UnreadableInputError(
                f"{self.path} holds a damaged chunk: {error}.", "Delete it and make it again."
            ) from error
        columns = {name: values[rows] for name, values in self.columns.items()}
        return Images(energy.reshape(len(rows), *self.grid.shape), self.grid, columns)

    def deal(self, first: int, n: int) -> Images:
        """Images of the events dealt ``first``, ``first + 1``, …, and count their use.

        Raises
        ------
        OutputError
            If the counters cannot be written, or another process is writing them.
        """
        rows = self.rows(first, n)
        images = self.read(rows)
        per_source = np.bincount(self.source[rows], minlength=int(self.source.max()) + 1)
        times = per_source[self.source].astype(np.uint64)
        try:
            with h5py.File(self.path, "r+") as file:
                n_used = file["events"]["n_used"]
                n_used[:] = n_used[:] + times
        except OSError as error:
            raise OutputError(
                f"The counters of {self.path} cannot be written: {error}.",
                "Another process may be writing them; try again, or read() without counting.",
            ) from error
        return images
