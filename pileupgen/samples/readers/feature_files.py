"""Files that hold feature tables: columns of numbers, one an event."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Floats
from pileupgen.errors import (
    CardError,
    MissingFieldError,
    UnreadableInputError,
    did_you_mean,
)
from pileupgen.samples.readers.file_kind import reading
from pileupgen.samples.readers.flat import Column
from pileupgen.samples.readers.parquet import ParquetFile
from pileupgen.samples.readers.remote import BLOCKS, InputFile, for_library, missing_file
from pileupgen.samples.readers.root import RootTree
from pileupgen.samples.readers.source import Source

_PLACE = re.compile(r"(?P<name>[^\[\]]+?)\s*(?:\[(?P<index>[^\[\]]+)\])?\s*")
_KINDS = {
    ".h5": "HDF5",
    ".hdf5": "HDF5",
    ".hdf": "HDF5",
    ".parquet": "Parquet",
    ".pq": "Parquet",
    ".root": "ROOT",
}


@dataclass(frozen=True)
class ColumnPlace:
    """Place of a number of each event: a column, and which of its numbers if it has several."""

    name: str
    """Dataset, column or branch."""
    index: tuple[int | str, ...] = ()
    """Along the axes after the event's; a name stands for the number of the column so called."""

    @classmethod
    def parse(cls, text: str) -> ColumnPlace:
        """Read a card's column.

        Raises
        ------
        ValueError
            If it is none.

        Examples
        --------
        >>> ColumnPlace.parse("jets/features[2]")
        ColumnPlace(name='jets/features', index=(2,))
        >>> ColumnPlace.parse("table[mass]")
        ColumnPlace(name='table', index=('mass',))
        """
        match = _PLACE.fullmatch(text)
        if match is None:
            raise ValueError(f"'{text}' must be a column, or column[index]")
        parts = [part.strip() for part in (match["index"] or "").split(",")]
        index = tuple(int(part) if part.isdigit() else part for part in parts if part)
        return cls(match["name"].strip(), index)

    def __str__(self) -> str:
        index = ", ".join(map(str, self.index))
        return f"{self.name}[{index}]" if index else self.name

    def pick(self, values: NDArray[Any], path: InputFile) -> Floats:
        """Take the place's number of each event out of an array, its first axis the event."""
        if values.dtype.kind not in "fiub":
            raise UnreadableInputError(
                f"{path}: '{self.name}' holds {values.dtype}, not numbers.",
                "Name another column in the card's options.features.",
            )
        if any(isinstance(part, str) for part in self.index):
            raise MissingFieldError(
                f"{path}: '{self.name}' does not name its columns, so {self} cannot be found.",
                "Give its number: [0] is the first.",
            )
        if values.ndim - 1 != len(self.index) or any(
            int(part) >= size for part, size in zip(self.index, values.shape[1:], strict=True)
        ):
            raise MissingFieldError(
                f"{path}: '{self.name}' has shape {('N', *values.shape[1:])}; {self} is not one "
                "number an event.",
                "Correct the card: [i] picks of an array's axes after the first.",
            )
        index: tuple[Any, ...] = (slice(None), *self.index)
        return np.asarray(values[index], dtype=np.float64)


class FeatureFile(ABC):
    """A file with some of its columns opened."""

    def __init__(self, path: InputFile, places: Sequence[ColumnPlace]) -> None:
        self.path = path
        self.places = tuple(places)

    @property
    def n_columns(self) -> int:
        """Number of columns."""
        return len(self.places)

    @property
    @abstractmethod
    def n_entries(self) -> int:
        """Number of events."""

    @abstractmethod
    def names(self) -> list[str]:
        """Names of all columns of the file."""

    @abstractmethod
    def read(self, begin: int, end: int) -> list[Floats]:
        """Columns of events ``begin … end − 1``, each shape (end − begin,)."""

    @abstractmethod
    def close(self) -> None:
        """Close the file."""


def open_feature_file(
    path: InputFile, places: Sequence[ColumnPlace], tree: str | None
) -> FeatureFile:
    """Open a file by the end of its name.

    Raises
    ------
    InputError
        If it cannot be used: missing, damaged, without a column.
    CardError
        If its name does not tell what it is, or it is ROOT and the card names no tree.
    DependencyError
        If it is Parquet and pyarrow is not installed.
    """
    ends = path.name.lower().rpartition(".")
    kind = _KINDS.get(f".{ends[2]}")
    if kind == "HDF5":
        return _Hdf5Features(path, places)
    if kind == "Parquet":
        return _ColumnFeatures(ParquetFile(path), places)
    if kind == "ROOT" and tree is not None:
        return _ColumnFeatures(RootTree(path, tree), places)
    if kind == "ROOT":
        raise CardError(f"{path} is ROOT, and the card names no tree.", "Give options.tree.")
    raise CardError(
        f"{path}: a table of features is HDF5, Parquet or ROOT, and this name does not say which.",
        f"Let it end in one of {', '.join(_KINDS)}.",
    )


class _Hdf5Features(FeatureFile):
    """Datasets; fields of compound datasets as ``dataset/field``."""

    def __init__(self, path: InputFile, places: Sequence[ColumnPlace]) -> None:
        import h5py

        super().__init__(path, places)
        if not path.exists():
            raise missing_file(path)
        with reading(path, wanted="HDF5"):
            self._file = h5py.File(for_library(path, BLOCKS), "r")
        try:
            with reading(path, wanted="HDF5"):
                self._datasets = [self._find(place) for place in places]
                lengths = {int(dataset.shape[0]) for dataset, _, _ in self._datasets}
            if len(lengths) != 1:
                raise UnreadableInputError(
                    f"{path}: the card's columns have {' and '.join(map(str, sorted(lengths)))} "
                    "events.",
                    "Name columns of one table in the card.",
                )
            self._n_entries = lengths.pop()
        except BaseException:
            self.close()
            raise

    @property
    def n_entries(self) -> int:
        return self._n_entries

    def close(self) -> None:
        self._file.close()

    def read(self, begin: int, end: int) -> list[Floats]:
        columns, held = [], dict[str, NDArray[Any]]()
        for dataset, field, place in self._datasets:
            with reading(self.path, f"'{place.name}' from event {begin}", "HDF5"):
                if dataset.name not in held:
                    held[dataset.name] = np.asarray(dataset[begin:end])
            rows = held[dataset.name]
            columns.append(place.pick(rows[field] if field else rows, self.path))
        return columns

    def _find(self, place: ColumnPlace) -> tuple[Any, str, ColumnPlace]:
        """Dataset, its field if it is compound, and the place with names made numbers."""
        import h5py

        with reading(self.path, f"'{place.name}'", "HDF5"):
            found, field = self._file.get(place.name), ""
            if found is None and "/" in place.name:
                group, name = place.name.rsplit("/", 1)
                owner = self._file.get(group)
                if isinstance(owner, h5py.Dataset) and name in (owner.dtype.names or ()):
                    found, field = owner, name
        if not isinstance(found, h5py.Dataset) or not found.shape:
            raise MissingFieldError(
                f"{self.path} has no dataset '{place.name}'.",
                did_you_mean(place.name, self.names()),
            )
        return found, field, _numbered(place, found, self.path)

    def names(self) -> list[str]:
        import h5py

        known: list[str] = []

        def note(name: str, found: Any) -> None:
            if isinstance(found, h5py.Dataset):
                known.extend(f"{name}/{field}" for field in found.dtype.names or ())
                known.append(name)

        self._file.visititems(note)
        return known


def _numbered(place: ColumnPlace, dataset: Any, path: InputFile) -> ColumnPlace:
    """Replace a column's name by its number, from an attribute that lists the columns."""
    if len(place.index) != 1 or not isinstance(place.index[0], str):
        return place
    lists = []
    for value in dataset.attrs.values():
        words = np.asarray(value).ravel()
        if dataset.ndim == 2 and len(words) == dataset.shape[1] and words.dtype.kind in "OSU":
            lists.append([w.decode() if isinstance(w, bytes) else str(w) for w in words])
    for names in lists:
        if place.index[0] in names:
            return ColumnPlace(place.name, (names.index(place.index[0]),))
    if lists:
        raise MissingFieldError(
            f"{path}: '{place.name}' has no column '{place.index[0]}'.",
            did_you_mean(place.index[0], lists[0]),
        )
    return place


class _ColumnFeatures(FeatureFile):
    """Columns with one number an event, or as many in every event, of a tree or of Parquet."""

    def __init__(self, source: Source, places: Sequence[ColumnPlace]) -> None:
        super().__init__(source.path, places)
        self._source = source
        try:
            self._columns = {place.name: source.column(place.name) for place in places}
        except BaseException:
            self.close()
            raise

    @property
    def n_entries(self) -> int:
        return self._source.n_entries

    def close(self) -> None:
        self._source.close()

    def names(self) -> list[str]:
        return self._source.event_columns()

    def read(self, begin: int, end: int) -> list[Floats]:
        held = {name: self._of(column, begin, end) for name, column in self._columns.items()}
        return [place.pick(held[place.name], self.path) for place in self.places]

    def _of(self, column: Column, begin: int, end: int) -> NDArray[Any]:
        flat = column.read(begin, end)
        if flat.inner is not None:
            raise column.not_numbers("lists of lists")
        if flat.counts is None:
            return flat.values
        if len(flat.counts) and np.any(flat.counts != flat.counts[0]):
            raise UnreadableInputError(
                f"{self.path}: {column.word} '{column.name}' has lists of {flat.counts.min()} to "
                f"{flat.counts.max()} numbers.",
                f"A feature is one number an event: name such a {column.word}, or fill the lists "
                "up to equal length.",
            )
        return flat.values.reshape(end - begin, -1, *flat.values.shape[1:])
