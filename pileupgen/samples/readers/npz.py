"""NumPy archives with images or cells, read row by row out of the zip."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import IO, Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from pileupgen.errors import (
    MissingFieldError,
    did_you_mean,
)
from pileupgen.samples.readers.base import Format
from pileupgen.samples.readers.cells import CellsReader
from pileupgen.samples.readers.collection import CollectionOptions, Positions, has_places
from pileupgen.samples.readers.file_kind import reading, unreadable
from pileupgen.samples.readers.flat import Column, Flat
from pileupgen.samples.readers.places import place_columns
from pileupgen.samples.readers.remote import InputFile, for_library, missing_file

_READ_BYTES = 1 << 20
_OWN = {
    "energy": "images",
    "channels": "first",
    "eta_edges": "eta_edges",
    "phi_edges": "phi_edges",
    "layers": ["em", "had"],
}
"""Arrays of pileupgen's own exports."""


class NpzOptions(CollectionOptions):
    """Options of a card for NumPy archives; the defaults are those of pileupgen's own exports."""

    @model_validator(mode="before")
    @classmethod
    def _own_arrays(cls, values: Any) -> Any:
        return values if has_places(values) else {**_OWN, **values}


class NpzFile:
    """A NumPy archive opened for reading.

    Parameters
    ----------
    events : str
        Array whose first axis tells the number of events.

    Raises
    ------
    MissingInputError
        If there is no such file.
    UnreadableInputError
        If it is no zip or is truncated.
    MissingFieldError
        If it has no such array; names the near ones.
    """

    word = "array"

    def __init__(self, path: InputFile, events: str) -> None:
        if not path.exists():
            raise missing_file(path)
        self.path = path
        self._members = WeakSet[IO[bytes]]()
        try:
            self._zip = zipfile.ZipFile(for_library(path))
        except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
            raise unreadable(path, "a zip", str(error), "as a NumPy archive") from error
        self._names = [
            name.removesuffix(".npy") for name in self._zip.namelist() if name.endswith(".npy")
        ]
        try:
            self._n_entries = self.column(events).n_entries
        except BaseException:
            self.close()
            raise

    def __str__(self) -> str:
        return str(self.path)

    @property
    def n_entries(self) -> int:
        """Number of events."""
        return self._n_entries

    def close(self) -> None:
        """Close the file, and arrays that are half read, which would keep it open."""
        for member in list(self._members):
            member.close()
        self._zip.close()

    def has(self, name: str) -> bool:
        """Whether there is an array of this name."""
        return name in self._names

    def column(self, name: str) -> NpzColumn:
        """Open an array, its first axis the event.

        Raises
        ------
        MissingFieldError
            If there is none; names the near ones.
        UnreadableInputError
            If it does not hold numbers.
        """
        if not self.has(name):
            raise MissingFieldError(
                f"{self.path} has no array '{name}'.", did_you_mean(name, self._names)
            )
        return NpzColumn(self, name)

    def member(self, name: str) -> IO[bytes]:
        """Open an array's bytes."""
        member = self._zip.open(f"{name}.npy")
        self._members.add(member)
        return member

    def header(self, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
        """Shape of an array, whether it is in Fortran's order, and its type.

        Raises
        ------
        UnreadableInputError
            If the zip is damaged there, or it is no array.
        """
        with reading(self.path, f"array '{name}'", "a zip"), self.member(name) as member:
            return _header(member)

    def event_columns(self) -> list[str]:
        """Names of what holds one number an event."""
        return [name for name, shape in self._shapes() if shape == (self.n_entries,)]

    def list_columns(self) -> list[str]:
        """Names of what holds several numbers an event."""
        return [
            name for name, shape in self._shapes() if len(shape) > 1 and shape[0] == self.n_entries
        ]

    def cell_encoding(self, name: str) -> str | None:  # noqa: ARG002 - as other sources have it
        """Nothing: archives have no place for it."""
        return None

    def _shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        found = []
        for name in self._names:
            shape, _, dtype = self.header(name)
            if dtype.kind in "fiub":
                found.append((name, shape))
        return found


class NpzColumn(Column):
    """An array of an archive, unpacked from its first row to its last."""

    def __init__(self, file: NpzFile, name: str) -> None:
        shape, self._is_fortran, self._dtype = file.header(name)
        self._shape, self._file = shape, file
        n = shape[0] if shape else 0
        self._row_bytes = self._dtype.itemsize * int(np.prod(shape[1:]))
        super().__init__(file.path, name, file.word, n, self._row_bytes * n)
        if self._dtype.kind not in "fiub" or not shape:
            raise self.not_numbers(f"{self._dtype} of shape {shape}")
        self._member: IO[bytes] | None = None
        self._at = 0

    def _block(self, entry: int) -> tuple[int, int]:
        if self._is_fortran:
            return 0, self.n_entries
        rows = max(int(_READ_BYTES / max(self._row_bytes, 1)), 1)
        return entry, min(entry + rows, self.n_entries)

    def read_at(self, begin: int, end: int) -> Flat:
        """Entries ``begin … end − 1``; quickest where they follow what was read before."""
        try:
            if self._is_fortran:
                with self._file.member(self.name) as member:
                    whole: NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
                return Flat(whole[begin:end], None)
            if self._member is None or self._at > begin:
                self._member = self._file.member(self.name)
                _header(self._member)
                self._at = 0
            self._skip(begin)
            size = (end - begin) * self._row_bytes
            content = self._member.read(size)
        except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise unreadable(
                self.path, "a zip", str(error), f"array '{self.name}', from event {begin}"
            ) from error
        if len(content) < size:
            raise self.ends_early(begin + len(content) // max(self._row_bytes, 1))
        self._at = end
        rows = np.frombuffer(content, dtype=self._dtype).reshape(end - begin, *self._shape[1:])
        return Flat(rows.astype(self._dtype.newbyteorder("="), copy=False), None)

    def _skip(self, entry: int) -> None:
        left = (entry - self._at) * self._row_bytes
        while left > 0 and self._member is not None:
            content = self._member.read(min(left, _READ_BYTES))
            if not content:
                raise self.ends_early(self._at)
            left -= len(content)


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type of an array, from the beginning of its bytes."""
    version = np.lib.format.read_magic(member)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    return read(member)


class NpzReader(CellsReader[NpzFile]):
    """Images or cells of NumPy archives."""

    def _open(self, path: InputFile) -> NpzFile:
        return NpzFile(path, next(iter(self._parts.values())).energies[0])

    def _open_positions(self, file: NpzFile, positions: Positions) -> NpzFile:
        if positions.file is None:
            return file
        collection = next(part for part in self._parts.values() if part.positions == positions)
        return NpzFile(Path(positions.file), place_columns(collection)[0])


FORMAT = Format(NpzOptions, "unknown", NpzReader, weights=("weight",), ids=("event_id",))
