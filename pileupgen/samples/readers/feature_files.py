"""Files that hold feature tables: columns of numbers, one an event."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.errors import (
    CardError,
    MissingFieldError,
    MissingInputError,
    UnreadableInputError,
    did_you_mean,
    import_extra,
)
from pileupgen.samples.readers.file_kind import reading
from pileupgen.samples.readers.flat import Column
from pileupgen.samples.readers.remote import InputFile, for_library
from pileupgen.samples.readers.root import RootTree

Numbers = NDArray[np.float64]

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

    def pick(self, values: NDArray[Any], path: InputFile) -> Numbers:
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
    """A file with some of its columns opened.

    Parameters
    ----------
    path : Path
        The file.
    places : sequence of ColumnPlace
        The columns.
    """

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
    def read(self, begin: int, end: int) -> list[Numbers]:
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
        return _ParquetFeatures(path, places)
    if kind == "ROOT" and tree is not None:
        return _RootFeatures(path, places, tree)
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
            raise MissingInputError(f"No input file {path}.", "Check the card's files.")
        with reading(path, wanted="HDF5"):
            self._file = h5py.File(for_library(path), "r")
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

    def read(self, begin: int, end: int) -> list[Numbers]:
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


class _ParquetFeatures(FeatureFile):
    """Columns of a Parquet file; lists of equal length are arrays."""

    def __init__(self, path: InputFile, places: Sequence[ColumnPlace]) -> None:
        parquet = import_extra("pyarrow.parquet", "parquet", f"{path}, a Parquet file,")
        super().__init__(path, places)
        if not path.exists():
            raise MissingInputError(f"No input file {path}.", "Check the card's files.")
        with reading(path, wanted="Parquet"):
            self._file = parquet.ParquetFile(for_library(path))
        for place in places:
            if place.name not in self.names():
                self.close()
                raise MissingFieldError(
                    f"{path} has no column '{place.name}'.", did_you_mean(place.name, self.names())
                )
        metadata = self._file.metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._batches: Iterator[Any] = iter(())
        self._begin = self._end = -1
        self._held: list[Any] = []

    @property
    def n_entries(self) -> int:
        return int(self._starts[-1])

    def close(self) -> None:
        self._file.close()

    def names(self) -> list[str]:
        return [str(name) for name in self._file.schema_arrow.names]

    def read(self, begin: int, end: int) -> list[Numbers]:
        import pyarrow as pa

        with reading(self.path, f"from event {begin}", "Parquet"):
            if begin < self._begin or begin > self._end or self._end < 0:
                self._seek(begin)
            while self._end < end:
                batch = next(self._batches)
                self._held.append(batch)
                self._end += batch.num_rows
            whole = pa.Table.from_batches(self._held)
            rows = whole.slice(begin - self._begin, end - begin)
            rest = whole.slice(end - self._begin)
            self._begin, self._held = end, rest.to_batches()
        return [
            place.pick(_array(rows[place.name], place, self.path), self.path)
            for place in self.places
        ]

    def _seek(self, begin: int) -> None:
        """Begin with the row group that holds an event."""
        group = int(np.searchsorted(self._starts, begin, side="right")) - 1
        names = sorted({place.name for place in self.places})
        groups = list(range(group, len(self._starts) - 1))
        self._batches = self._file.iter_batches(4096, row_groups=groups, columns=names)
        self._begin = self._end = int(self._starts[group])
        self._held = []


def _array(column: Any, place: ColumnPlace, path: InputFile) -> NDArray[Any]:
    """A column as an array; lists of equal length give its second axis."""
    import pyarrow as pa

    merged = column.combine_chunks()
    if merged.null_count:
        raise UnreadableInputError(
            f"{path}: column '{place.name}' has {merged.null_count} nulls.",
            "Fill or remove them.",
        )
    kind = merged.type
    if not (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    ):
        return np.asarray(merged.to_numpy(zero_copy_only=False))
    counts = merged.value_lengths().to_numpy(zero_copy_only=False)
    if len(counts) and np.any(counts != counts[0]):
        raise UnreadableInputError(
            f"{path}: column '{place.name}' has lists of {counts.min()} to {counts.max()} numbers.",
            "A feature is one number an event: fill the lists up to equal length.",
        )
    flat = np.asarray(merged.flatten().to_numpy(zero_copy_only=False))
    return flat.reshape(len(counts), -1)


class _RootFeatures(FeatureFile):
    """Branches of a ROOT tree with one number an event, or arrays of them."""

    def __init__(self, path: InputFile, places: Sequence[ColumnPlace], tree: str) -> None:
        super().__init__(path, places)
        self._tree = RootTree(path, tree)
        try:
            self._branches = self._opened()
        except BaseException:
            self.close()
            raise
        self._end = 0

    def _opened(self) -> dict[str, Column]:
        return {place.name: self._tree.column(place.name) for place in self.places}

    @property
    def n_entries(self) -> int:
        return self._tree.n_entries

    def close(self) -> None:
        self._tree.close()

    def names(self) -> list[str]:
        return self._tree.event_columns()

    def read(self, begin: int, end: int) -> list[Numbers]:
        if begin < self._end:
            # Branches only go forward.
            self._branches = self._opened()
        self._end = end
        held = {name: self._of(branch, begin, end) for name, branch in self._branches.items()}
        return [place.pick(held[place.name], self.path) for place in self.places]

    def _of(self, branch: Column, begin: int, end: int) -> NDArray[Any]:
        flat = branch.read(begin, end)
        if flat.counts is None:
            return flat.values
        if len(flat.counts) and np.any(flat.counts != flat.counts[0]):
            raise UnreadableInputError(
                f"{self.path}: {branch.word} '{branch.name}' has {flat.counts.min()} to "
                f"{flat.counts.max()} numbers an event.",
                "A feature is one number an event: write such a branch.",
            )
        return flat.values.reshape(end - begin, -1, *flat.values.shape[1:])
