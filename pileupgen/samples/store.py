"""The HDF5 image store: what `preprocess` and `translate` write and all else reads.

The tree is documented in ``data_cards/FORMAT.md``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Floats, Ints
from pileupgen.calo.geometry import Grid
from pileupgen.errors import MissingInputError, StoreError, UnreadableInputError
from pileupgen.parallel.ahead import Behind
from pileupgen.samples.columns import COLUMNS, usable_weights
from pileupgen.samples.splits import SPLITS, assign_splits
from pileupgen.samples.steadyfile import SteadyFile, create_hdf5
from pileupgen.samples.weights import rows_by_weight

__all__ = [
    "COLUMNS",
    "SCHEMA",
    "SCHEMA_VERSION",
    "SPLITS",
    "ImageStore",
    "Images",
    "StoreWriter",
    "assign_splits",
    "create_store",
    "usable_weights",
]

SCHEMA = "pileupgen-images"
SCHEMA_VERSION = 1
CHUNK_EVENTS = 16
_FLUSH_EVENTS = 256
_COLUMN_EVENTS = 4096
_SPAN_EVENTS = 1024


@dataclass(frozen=True)
class Images:
    """Images of N events with what is known of each."""

    energy: NDArray[np.float32]
    """GeV. Shape (N, L, n_eta, n_phi)."""
    grid: Grid
    """Axes of ``energy``."""
    columns: dict[str, NDArray[Any]]
    """``mu``, ``event_id``, ``weight``, ``split`` and, for translated events, the others of
    ``COLUMNS``. Shape (N,) each."""

    def __len__(self) -> int:
        return len(self.energy)

    @property
    def mu(self) -> NDArray[np.float32]:
        """Number of pileup interactions, shape (N,)."""
        return np.asarray(self.columns["mu"], dtype=np.float32)

    @property
    def weight(self) -> Floats:
        """Event weights, shape (N,): those of the file, made non-negative where some are not."""
        return np.asarray(usable_weights(self.columns), dtype=np.float64)

    def weighted(self, weight: Floats) -> Images:
        """The same events with other weights, shape (N,)."""
        kept = {name: values for name, values in self.columns.items() if name != "weight_positive"}
        return Images(self.energy, self.grid, {**kept, "weight": weight})

    def cycled(self, n: int) -> Images:
        """The first n events, from the first again after the last, numbered from 0."""
        rows = np.resize(np.arange(len(self)), n)
        columns = {name: values[rows] for name, values in self.columns.items()}
        columns["event_id"] = np.arange(n, dtype=np.int64)
        return Images(self.energy[rows], self.grid, columns)

    @property
    def event_id(self) -> Ints:
        """Position in the sample, shape (N,)."""
        return np.asarray(self.columns["event_id"], dtype=np.int64)


class ImageStore:
    """An image store opened for reading.

    Parameters
    ----------
    path : path
        An HDF5 file written by :func:`create_store`.

    Raises
    ------
    MissingInputError
        If there is no such file.
    UnreadableInputError
        If it is not HDF5 or is truncated.
    StoreError
        If it is HDF5 of another schema or schema version.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise MissingInputError(
                f"No image store at {self.path}.", "Run the command that makes it."
            )
        try:
            with h5py.File(self.path, "r") as file:
                schema, version = file.attrs.get("schema"), file.attrs.get("schema_version")
                if schema != SCHEMA:
                    raise StoreError(
                        f"{self.path} is HDF5 but no image store (its schema is {schema!r}).",
                        "Make one with 'pileupgen preprocess'.",
                    )
                if version != SCHEMA_VERSION:
                    raise StoreError(
                        f"{self.path} has schema version {version}.",
                        f"This pileupgen reads {SCHEMA_VERSION}: make it again with 'preprocess'.",
                    )
                self.domain = str(file.attrs["domain"])
                self.grid = Grid.from_dict(json.loads(file["geometry"].attrs["json"]))
                self.provenance: dict[str, Any] = json.loads(file["provenance"].attrs["json"])
                self.n_events = int(file["images"].shape[0])
                self.columns = {
                    name: file["events"][name][:] for name in COLUMNS if name in file["events"]
                }
                whole = file["images"].shape[1:] == self.grid.shape and all(
                    len(column) == self.n_events for column in self.columns.values()
                )
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            raise UnreadableInputError(
                f"{self.path} cannot be read as an image store: {error}.",
                "It may be truncated; delete it and make it again.",
            ) from error
        if not whole:
            raise StoreError(
                f"{self.path}: its images, geometry and columns are of different sizes.",
                "Make it again with 'pileupgen preprocess'.",
            )

    def __len__(self) -> int:
        return self.n_events

    def indices(self, split: str | None = None, max_events: int | None = None) -> Ints:
        """Rows of a split, in file order.

        Raises
        ------
        StoreError
            If the split is unknown.
        """
        rows = np.arange(self.n_events, dtype=np.int64)
        if split is not None and split != "all":
            if split not in SPLITS:
                raise StoreError(f"No split '{split}'.", f"Known: {', '.join((*SPLITS, 'all'))}.")
            rows = rows[self.columns["split"] == SPLITS.index(split)]
        return rows if max_events is None else rows[:max_events]

    def indices_by_weight(self, split: str, max_events: int) -> Ints:
        """Rows of a split in proportion to their weights; the first ones where all are alike."""
        rows = self.indices(split)
        weight = np.asarray(usable_weights(self.columns), dtype=np.float64)[rows]
        return np.asarray(rows[rows_by_weight(weight, max_events)], dtype=np.int64)

    def read(self, rows: Ints | slice | None = None) -> Images:
        """Images of the given rows, in their order, or of all.

        Raises
        ------
        UnreadableInputError
            If a chunk cannot be decompressed.
        """
        index = np.arange(self.n_events) if rows is None else np.arange(self.n_events)[rows]
        energy = np.empty((len(index), *self.grid.shape), dtype=np.float32)
        try:
            with h5py.File(self.path, "r") as file:
                images = file["images"]
                # Whole spans first, rows then: HDF5's own fancy indexing is many times slower.
                order = np.argsort(index, kind="stable")
                ascending = index[order]
                for begin, end in _spans(ascending):
                    low, part = int(ascending[begin]), ascending[begin:end]
                    energy[order[begin:end]] = images[low : int(part[-1]) + 1][part - low]
        except OSError as error:
            raise UnreadableInputError(
                f"{self.path} holds a damaged chunk: {error}.", "Delete it and make it again."
            ) from error
        return Images(
            energy, self.grid, {name: values[index] for name, values in self.columns.items()}
        )

    def batches(self, rows: Ints | None = None, batch_size: int = 512) -> Iterator[Images]:
        """Images of the given rows (ascending), ``batch_size`` at a time."""
        index = np.arange(self.n_events, dtype=np.int64) if rows is None else rows
        for begin in range(0, len(index), batch_size):
            yield self.read(index[begin : begin + batch_size])


def _spans(ascending: Ints) -> Iterator[tuple[int, int]]:
    """Places of rows to read together: spans of limited length without a chunk that none is in."""
    gaps = np.flatnonzero(np.diff(ascending) >= CHUNK_EVENTS) + 1
    for first, last in pairwise([0, *gaps.tolist(), len(ascending)]):
        begin = first
        while begin < last:
            end = int(np.searchsorted(ascending, ascending[begin] + _SPAN_EVENTS))
            yield begin, min(end, last)
            begin = min(end, last)


def _whole_chunks(
    arrays: list[NDArray[np.float32]],
) -> tuple[list[NDArray[np.float32]], NDArray[np.float32]]:
    """Arrays of consecutive events as pieces of whole chunks, and the events that are left over.

    Only the events of a chunk that is in two arrays are copied.
    """
    pieces, rest = [], np.empty(0, dtype=np.float32)
    for array in arrays:
        missing = -len(rest) % CHUNK_EVENTS
        if len(rest):
            rest = np.concatenate([rest, array[:missing]])
            if len(rest) < CHUNK_EVENTS:
                continue
            pieces.append(rest)
        n = len(array) - (len(array) - missing) % CHUNK_EVENTS
        pieces.append(array[missing:n])
        rest = array[n:]
    return pieces, rest


class StoreWriter:
    """Appends images to a store that is being written; made by :func:`create_store`.

    A thread compresses and writes while the caller makes what comes next; HDF5 sees the same calls
    in the same order as without it.
    """

    def __init__(self, file: h5py.File, grid: Grid, sink: SteadyFile) -> None:
        self._behind = Behind()
        self._file = file
        self._sink = sink
        self._grid = grid
        self._buffer: list[NDArray[np.float32]] = []
        self._columns: list[Mapping[str, NDArray[Any]]] = []
        self._buffered = 0
        self._n_columns = 0
        self.n_events = 0

    def append(self, energy: NDArray[np.float32], columns: Mapping[str, NDArray[Any]]) -> None:
        """Add events.

        Parameters
        ----------
        energy : float32 array, shape (n, L, n_eta, n_phi)
            GeV. Not to be changed afterwards: it is written later.
        columns : mapping of arrays, shape (n,)
            Names from ``COLUMNS``; the same names in every call.
        """
        if energy.shape[1:] != self._grid.shape:
            raise StoreError(
                f"Images of shape {energy.shape[1:]} for a store of {self._grid.shape}."
            )
        self.n_events += len(energy)
        self._columns.append(columns)
        self._n_columns += len(energy)
        self._buffer.append(np.asarray(energy, dtype=np.float32))
        self._buffered += len(energy)
        if self._buffered >= _FLUSH_EVENTS:
            self._flush(whole_chunks=True)
        if self._n_columns >= _COLUMN_EVENTS:
            self._flush_columns()

    def append_store(self, other: ImageStore) -> None:
        """Add all events of a store, its compressed chunks as they are.

        All but the last store appended in this way have a multiple of ``CHUNK_EVENTS`` events.

        Raises
        ------
        StoreError
            If the events before it do not end with a chunk, or the store has another shape or
            another compression.
        """
        self._flush(whole_chunks=False)
        self._behind.wait()
        if self.n_events % CHUNK_EVENTS or other.grid.shape != self._grid.shape:
            raise StoreError(f"{other.path} cannot be appended chunk by chunk.")
        images, n = self._file["images"], len(other)
        with h5py.File(other.path, "r") as file:
            if _packing(file["images"]) != _packing(images):
                raise StoreError(
                    f"{other.path} is compressed in another way, by another version.",
                    "Delete it; the command that made it makes it again.",
                )
            images.resize(self.n_events + n, axis=0)
            chunks = file["images"].id
            for begin in range(0, n, CHUNK_EVENTS):
                mask, packed = chunks.read_direct_chunk((begin, 0, 0, 0))
                images.id.write_direct_chunk((self.n_events + begin, 0, 0, 0), packed, mask)
                self._sink.check()
        self._columns.append(other.columns)
        self._n_columns += n
        self.n_events += n
        if self._n_columns >= _COLUMN_EVENTS:
            self._flush_columns()

    def _flush(self, *, whole_chunks: bool) -> None:
        end = self._buffered
        pieces, rest = _whole_chunks(self._buffer)
        if whole_chunks:
            end -= len(rest)
            # A copy: a view would keep all the events that it is a part of.
            self._buffer, self._buffered = [rest.copy()] if len(rest) else [], len(rest)
        else:
            pieces.append(rest)
            self._buffer, self._buffered = [], 0
        self._behind.do(lambda: self._write(pieces, end))

    def _write(self, pieces: list[NDArray[np.float32]], n_events: int) -> None:
        images = self._file["images"]
        begin = images.shape[0]
        images.resize(begin + n_events, axis=0)
        for piece in pieces:
            if len(piece):
                images[begin : begin + len(piece)] = piece
                begin += len(piece)
        self._sink.check()

    def _flush_columns(self) -> None:
        # A few bytes an event: written more often, opening them would cost as much as the images.
        names, parts = self._columns[0] if self._columns else (), self._columns
        values = {name: np.concatenate([part[name] for part in parts]) for name in names}
        self._behind.do(lambda: self._write_columns(values))
        self._columns, self._n_columns = [], 0

    def _write_columns(self, columns: Mapping[str, NDArray[Any]]) -> None:
        events = self._file["events"]
        for name, values in columns.items():
            if name not in events:
                dtype, unit, meaning = COLUMNS[name]
                column = events.create_dataset(
                    name, shape=(0,), maxshape=(None,), dtype=dtype, chunks=(_COLUMN_EVENTS,)
                )
                column.attrs["unit"], column.attrs["meaning"] = unit, meaning
            column = events[name]
            begin = len(column)
            column.resize(begin + len(values), axis=0)
            column[begin:] = values
        self._sink.check()

    def add_column(self, name: str, values: NDArray[Any]) -> None:
        """Add a number of all events together, after the last of them."""
        self._flush_columns()
        self._behind.wait()
        dtype, unit, meaning = COLUMNS[name]
        column = self._file["events"].create_dataset(name, data=values.astype(dtype))
        column.attrs["unit"], column.attrs["meaning"] = unit, meaning
        self._sink.check()

    def replace_provenance(self, provenance: Mapping[str, Any]) -> None:
        """Write another provenance, of what became known while the events were added."""
        self._behind.wait()
        _write_json(self._file["provenance"], provenance)

    def finish(self) -> None:
        """Write what is buffered."""
        self._flush(whole_chunks=False)
        self._flush_columns()
        self._behind.wait()

    def close(self) -> None:
        """Let go of the thread; what is not written by then is not."""
        self._behind.close()


def _packing(images: h5py.Dataset) -> tuple[Any, ...]:
    """How chunks are cut and packed, but for the chunk's size that filters note for themselves."""
    filters = images.id.get_create_plist()
    kinds = [filters.get_filter(number)[0] for number in range(filters.get_nfilters())]
    return images.chunks, images.dtype, *kinds


@contextmanager
def create_store(
    path: str | os.PathLike[str], grid: Grid, domain: str, provenance: Mapping[str, Any]
) -> Iterator[StoreWriter]:
    """Write a store aside and give it its name once it is whole.

    The bytes depend on the arguments and events alone, not on the time or the machine.

    Parameters
    ----------
    path : path
        Final name. A file that is there stays untouched until the new one is whole.
    grid : Grid
        Axes of the images.
    domain : str
        ``"mc"``, ``"data"`` or, after translation, ``"mc_to_data"`` and the like.
    provenance : mapping
        Anything JSON can hold: inputs with hashes, settings, versions.

    Raises
    ------
    OutputError
        If the disk is full or the folder cannot be written.
    """
    with create_hdf5(Path(path)) as (file, sink):
        file.attrs["schema"], file.attrs["schema_version"] = SCHEMA, SCHEMA_VERSION
        file.attrs["domain"] = domain
        _write_json(file.create_group("provenance"), provenance)
        _write_geometry(file.create_group("geometry"), grid)
        file.create_group("events")
        images = file.create_dataset(
            "images",
            shape=(0, *grid.shape),
            maxshape=(None, *grid.shape),
            dtype="f4",
            chunks=(CHUNK_EVENTS, *grid.shape),
            fletcher32=True,
            **hdf5plugin.Bitshuffle(),
        )
        images.attrs["unit"] = "GeV" if grid.units is None else "geometry.units, by layer"
        images.attrs["axes"] = "event, layer, eta, phi"
        with closing(StoreWriter(file, grid, sink)) as writer:
            yield writer
            writer.finish()


def _write_json(group: h5py.Group, values: Mapping[str, Any]) -> None:
    group.attrs["json"] = json.dumps(values, sort_keys=True)


def _write_geometry(group: h5py.Group, grid: Grid) -> None:
    _write_json(group, grid.to_dict())
    for name, edges, unit in (
        ("eta_edges", grid.eta_edges, "1"),
        ("phi_edges", grid.phi_edges, "rad"),
    ):
        group.create_dataset(name, data=np.asarray(edges, dtype="f8")).attrs["unit"] = unit
    group.attrs["layers"] = list(grid.layers)
    if grid.units is not None:
        group.attrs["units"] = list(grid.units)
