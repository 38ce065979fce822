"""Parquet files with cells: lists of numbers an event, images, fields of structs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import model_validator

from pileupgen.arrays import Ints
from pileupgen.errors import (
    MissingFieldError,
    UnreadableInputError,
    did_you_mean,
    import_extra,
)
from pileupgen.samples.readers.base import Format
from pileupgen.samples.readers.cells import CellsReader
from pileupgen.samples.readers.collection import CollectionOptions, Positions, has_places
from pileupgen.samples.readers.file_kind import reading
from pileupgen.samples.readers.flat import Column, Flat
from pileupgen.samples.readers.remote import InputFile, for_library, missing_file

_BATCH_BYTES = 1 << 20
_RELEASE_BYTES = 1 << 26
"""Bytes after which pyarrow gives memory back that it does not use, which takes milliseconds."""
_WIDTHS = {"INT32": 4, "INT64": 8, "FLOAT": 4, "DOUBLE": 8}
"""Bytes of a number in memory, of the kinds that are read."""
_OF_LISTS = re.compile(r"\.(list|bag)\.(element|item|array_element|array)(?=\.|$)")
"""Levels that Parquet has in the paths of lists, and nobody in names."""
_OWN_WIDTHS = {"eta_width": "tower_eta_width", "phi_width": "tower_phi_width"}
_OWN = {
    "eta": "tower_eta",
    "phi": "tower_phi",
    **_OWN_WIDTHS,
    "layers": {"em": "tower_em", "had": "tower_had"},
}
"""Columns of pileupgen's own exports."""


class ParquetOptions(CollectionOptions):
    """Options of a card for Parquet; the defaults are those of pileupgen's own exports."""

    @model_validator(mode="before")
    @classmethod
    def _own_columns(cls, values: Any) -> Any:
        return values if has_places(values) else {**_OWN, **values}


class ParquetFile:
    """A Parquet file opened for reading.

    Raises
    ------
    DependencyError
        If pyarrow is not installed.
    MissingInputError
        If there is no such file.
    UnreadableInputError
        If it is not Parquet, or is truncated.
    """

    word = "column"

    def __init__(self, path: InputFile) -> None:
        parquet = import_extra("pyarrow.parquet", "parquet", f"{path}, a Parquet file,")
        if not path.exists():
            raise missing_file(path)
        self.path = path
        import pyarrow as pa

        self._pool, self._given = pa.default_memory_pool(), 0
        with reading(path, wanted="Parquet"):
            self._file = parquet.ParquetFile(for_library(path))
            metadata, schema = self._file.metadata, self._file.schema
            self._leaves = {
                _OF_LISTS.sub("", leaf.path): place
                for place, leaf in enumerate(schema.column(i) for i in range(len(schema)))
            }
            groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
            self.starts = np.cumsum([0, *(int(group.num_rows) for group in groups)])
            # Not what the file says of the size: a dictionary makes that many times smaller.
            self._bytes = [
                _WIDTHS.get(schema.column(place).physical_type, 1)
                * sum(int(group.column(place).num_values) for group in groups)
                for place in range(len(schema))
            ]

    def __str__(self) -> str:
        return str(self.path)

    @property
    def n_entries(self) -> int:
        """Number of events."""
        return int(self.starts[-1])

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def has(self, name: str) -> bool:
        """Whether there is a column ``name``, or a field ``struct/field``."""
        return name.replace("/", ".") in self._leaves

    def column(self, name: str) -> ParquetColumn:
        """Open a column, or a field of structs.

        Raises
        ------
        MissingFieldError
            If there is none; names the near ones.
        """
        if not self.has(name):
            raise MissingFieldError(
                f"{self.path} has no column '{name}'.", did_you_mean(name, self._leaves)
            )
        return ParquetColumn(self, name, self._bytes[self._leaves[name.replace("/", ".")]])

    def event_columns(self) -> list[str]:
        """Names of what holds one number an event."""
        return [name for name, is_list in self._kinds() if not is_list]

    def list_columns(self) -> list[str]:
        """Names of what holds several numbers an event."""
        return [name for name, is_list in self._kinds() if is_list]

    def cell_encoding(self, name: str) -> str | None:  # noqa: ARG002 - as other sources have it
        """Nothing: Parquet has no place for it."""
        return None

    def _kinds(self) -> Iterator[tuple[str, bool]]:
        schema = self._file.schema
        for name, place in self._leaves.items():
            if schema.column(place).physical_type in _WIDTHS:
                yield name, schema.column(place).max_repetition_level > 0

    def batches(self, name: str, entry: int, n_rows: int) -> Iterator[Any]:
        """Yield arrays of a column, from the row group on that holds an entry."""
        group = int(np.searchsorted(self.starts, entry, side="right")) - 1
        raw = self._file.schema.column(self._leaves[name.replace("/", ".")]).path
        # One by one: asked for together, pyarrow keeps the groups that it has gone through.
        for number in range(max(group, 0), len(self.starts) - 1):
            # One column has no work for threads, and each of them keeps memory of its own.
            for batch in self._file.iter_batches(
                n_rows, row_groups=[number], columns=[raw], use_threads=False
            ):
                self._given += int(batch.nbytes)
                yield batch.column(0)
            if self._given > _RELEASE_BYTES:
                self._given = 0
                self._pool.release_unused()


class ParquetColumn(Column):
    """A column of a Parquet file, decoded from its first row to its last."""

    def __init__(self, file: ParquetFile, name: str, n_bytes: int) -> None:
        super().__init__(file.path, name, file.word, file.n_entries, n_bytes)
        self._file = file
        self._rows = int(np.clip(_BATCH_BYTES / max(self.event_bytes, 1e-9), 1, 1 << 16))
        self._batches: Iterator[Any] = iter(())
        self._at = -1
        self._rest: list[Any] = []

    def _block(self, entry: int) -> tuple[int, int]:
        return entry, min(entry + self._rows, self.n_entries)

    def read_at(self, begin: int, end: int) -> Flat:
        """Entries ``begin … end − 1``; quickest where they follow what was read before."""
        import pyarrow as pa

        with reading(self.path, f"column '{self.name}', from event {begin}", "Parquet"):
            if begin != self._at:
                self._seek(begin)
            held, n = self._rest, sum(len(array) for array in self._rest)
            while n < end - begin or not held:
                array = next(self._batches, None)
                if array is None:
                    break
                held.append(array)
                n += len(array)
            if not held:
                return Flat(np.empty(0), None)
            whole = held[0] if len(held) == 1 else pa.concat_arrays(held)
            self._rest, self._at = [whole[end - begin :]], end
            return self._flat(whole[: end - begin])

    def _seek(self, begin: int) -> None:
        """Go on to a row, from its row group on if that was not begun yet."""
        group = int(np.searchsorted(self._file.starts, begin, side="right")) - 1
        first = int(self._file.starts[max(group, 0)])
        if not first <= self._at < begin:
            self._batches, self._rest = self._file.batches(self.name, begin, self._rows), []
            self._at = first
        while self._at < begin:
            array = self._rest.pop(0) if self._rest else next(self._batches)
            n = min(len(array), begin - self._at)
            self._rest.insert(0, array[n:])
            self._at += n
            if n == len(array):
                self._rest.pop(0)

    def _flat(self, array: Any) -> Flat:
        """Take lists and structs apart."""
        import pyarrow.types as kinds

        said, levels = str(array.type), list[Ints]()
        fields, shape = self.name.replace("/", ".").split(".")[1:], list[int]()
        while True:
            if array.null_count:
                raise UnreadableInputError(
                    f"{self.path}: column '{self.name}' has {array.null_count} nulls.",
                    "Fill or remove them.",
                )
            if kinds.is_struct(array.type) and fields:
                array = array.field(fields.pop(0))
            elif kinds.is_list(array.type) or kinds.is_large_list(array.type):
                if shape:
                    raise self.not_numbers(said)
                levels.append(array.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64))
                array = array.flatten()
            elif kinds.is_fixed_size_list(array.type):
                shape.append(int(array.type.list_size))
                array = array.flatten()
            else:
                break
        values = np.asarray(array.to_numpy(zero_copy_only=False))
        if len(levels) > 2 or values.dtype.kind not in "fiub":
            raise self.not_numbers(said)
        return (
            Flat(values.reshape(-1, *shape), *levels)
            if levels
            else Flat(values.reshape(-1, *shape), None)
        )


class ParquetReader(CellsReader[ParquetFile]):
    """Cells of Parquet files: lists of numbers, one row an event."""

    def _open(self, path: InputFile) -> ParquetFile:
        file = ParquetFile(path)
        self._parts = self._options.parts()
        for name, part in self._parts.items():
            # Exports of earlier versions have no widths.
            absent = {
                width: None
                for width, column in _OWN_WIDTHS.items()
                if getattr(part, width) == column and not file.has(column)
            }
            self._parts[name] = part.model_copy(update=absent)
        return file

    def _open_positions(self, file: ParquetFile, positions: Positions) -> ParquetFile:
        return file if positions.file is None else ParquetFile(Path(positions.file))


FORMAT = Format(
    ParquetOptions,
    "unknown",
    ParquetReader,
    weights=("weight",),
    ids=("event_id",),
)
