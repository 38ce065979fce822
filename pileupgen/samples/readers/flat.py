"""Columns of a file: read from the first event to the last, each block unpacked once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Ints
from pileupgen.errors import UnreadableInputError
from pileupgen.samples.readers.remote import InputFile

_READ_BYTES = 1 << 20
"""Bytes that are unpacked together, where the blocks of a file are smaller."""


@dataclass(frozen=True)
class Flat:
    """Entries of a column without nesting."""

    values: NDArray[Any]
    """Numbers of all entries, one after another. Shape (n,) or (n, k, …)."""
    counts: Ints | None
    """Numbers per entry, of nested lists the outer lists' items; None where each entry is one.
    Shape (n_entries,)."""
    inner: Ints | None = None
    """Numbers per item of the outer lists; None where lists are not nested."""

    def __len__(self) -> int:
        return len(self.values) if self.counts is None else len(self.counts)

    def entries(self, begin: int, end: int) -> Flat:
        """Entries ``begin … end − 1``; their numbers are views, not copies."""
        if self.counts is None:
            return Flat(self.values[begin:end], None)
        first, counts = int(self.counts[:begin].sum()), self.counts[begin:end]
        last = first + int(counts.sum())
        if self.inner is None:
            return Flat(self.values[first:last], counts)
        inner = self.inner[first:last]
        skipped = int(self.inner[:first].sum())
        return Flat(self.values[skipped : skipped + int(inner.sum())], counts, inner)

    @classmethod
    def join(cls, parts: Sequence[Flat]) -> Flat:
        """One after the other."""
        if len(parts) == 1:
            return parts[0]
        counts = [part.counts for part in parts if part.counts is not None]
        inner = [part.inner for part in parts if part.inner is not None]
        return cls(
            np.concatenate([part.values for part in parts]),
            np.concatenate(counts) if counts else None,
            np.concatenate(inner) if inner else None,
        )


class Column(ABC):
    """A column, read from its first entry to its last in steps.

    Parameters
    ----------
    name : str
        What messages call it.
    word : str
        What such a thing is called in this format: ``branch``, ``field``, ``dataset``, ``column``.
    n_bytes : int
        Size of all its numbers, uncompressed.
    """

    def __init__(self, path: InputFile, name: str, word: str, n_entries: int, n_bytes: int) -> None:
        self.path = path
        self.name = name
        self.word = word
        self.n_entries = n_entries
        self.uncompressed_bytes = n_bytes
        self._begin = self._end = 0
        self._held: list[Flat] = []

    @property
    def event_bytes(self) -> float:
        """Size of one entry, uncompressed."""
        return self.uncompressed_bytes / max(self.n_entries, 1)

    @abstractmethod
    def read_at(self, begin: int, end: int) -> Flat:
        """Entries ``begin … end − 1``, whatever was read before.

        Raises
        ------
        UnreadableInputError
            If they cannot be unpacked, or are not numbers.
        """

    @abstractmethod
    def _block(self, entry: int) -> tuple[int, int]:
        """Entries that are best unpacked together with an entry; the first is at most this one."""

    def read(self, begin: int, end: int) -> Flat:
        """Entries ``begin … end − 1``; quickest where successive calls go forward.

        Raises
        ------
        UnreadableInputError
            If they cannot be unpacked, are not numbers, or the column ends before them.
        """
        if not self._begin <= begin <= self._end:
            self._begin = self._end = self._block(begin)[0]
            self._held = []
        while self._end < end or not self._held:
            first, last = self._block(self._end)
            if last <= self._end:
                if self._end < end:
                    raise self.ends_early(self._end)
                last = first
            self._held.append(self.read_at(first, last))
            self._end = last
        wanted, rest, at = [], [], self._begin
        for flat in self._held:
            low, high = max(begin - at, 0), min(end - at, len(flat))
            if low < high:
                wanted.append(flat.entries(low, high))
            if high < len(flat):
                rest.append(flat.entries(max(high, 0), len(flat)))
            at += len(flat)
        # An empty part still has the type of the others.
        empty = self._held[-1].entries(0, 0)
        self._held, self._begin = rest or [empty], end
        return Flat.join(wanted or [empty])

    def ends_early(self, entry: int) -> UnreadableInputError:
        """The column has fewer entries than its file."""
        return UnreadableInputError(
            f"{self.path}: {self.word} '{self.name}' ends at entry {entry}.",
            "The file was not closed properly; make it again.",
        )

    def not_numbers(self, kind: str) -> UnreadableInputError:
        """The column holds something else than numbers, or lists nested too deeply."""
        return UnreadableInputError(
            f"{self.path}: {self.word} '{self.name}' holds {kind}, which is neither one number nor "
            "a list of numbers an event.",
            f"Name {'an' if self.word == 'array' else 'a'} {self.word} with plain numbers, or "
            "lists of them, nested at most twice.",
        )


class BlockColumn(Column):
    """A column that its file keeps in blocks: baskets of a tree, clusters of an RNTuple.

    Parameters
    ----------
    path, name, word, n_bytes
        As for :class:`Column`.
    ends : sequence of int
        First entry of each block, and the end of the last.
    """

    def __init__(
        self, path: InputFile, name: str, word: str, ends: Sequence[int], n_bytes: int
    ) -> None:
        super().__init__(path, name, word, ends[-1] if ends else 0, n_bytes)
        self._ends = np.asarray(ends if len(ends) else [0], dtype=np.int64)

    def _block(self, entry: int) -> tuple[int, int]:
        first = max(int(np.searchsorted(self._ends, entry, side="right")) - 1, 0)
        begin = int(self._ends[first])
        enough = begin + _READ_BYTES / max(self.event_bytes, 1e-9)
        last = int(np.searchsorted(self._ends, enough, side="left"))
        last = min(max(last, first + 1), len(self._ends) - 1)
        return begin, int(self._ends[last])


def flat_of(array: Any, column: Column) -> Flat:
    """Take an awkward array of entries apart.

    Raises
    ------
    UnreadableInputError
        If it holds anything but numbers, or lists of them nested at most twice.
    """
    import awkward as ak

    listed = _lists_of_numbers(array.layout)
    if listed is not None:
        return listed
    kind, counts, inner = str(array.type.content), None, None
    try:
        if array.ndim > 1:
            counts = _lengths(array)
            array = ak.flatten(array, axis=1)
        if array.ndim > 1 and not _is_regular(array):
            inner = _lengths(array)
            array = ak.flatten(array, axis=1)
        values = ak.to_numpy(array, allow_missing=False)
    except (ValueError, TypeError) as error:
        raise column.not_numbers(kind) from error
    if values.dtype.kind not in "fiub":
        raise column.not_numbers(kind)
    return Flat(values, counts, inner)


def _lists_of_numbers(layout: Any) -> Flat | None:
    """Take plain lists of plain numbers apart, without a search for what else it might be."""
    import awkward as ak

    if not isinstance(layout, ak.contents.ListOffsetArray) or layout.parameters:
        return None
    content = layout.content
    if not isinstance(content, ak.contents.NumpyArray) or content.parameters:
        return None
    offsets, values = np.asarray(layout.offsets.data), np.asarray(content.data)
    if values.ndim != 1 or values.dtype.kind not in "fiub":
        return None
    counts = np.diff(offsets).astype(np.int64, copy=False)
    return Flat(values[int(offsets[0]) : int(offsets[-1])], counts)


def _lengths(array: Any) -> NDArray[np.int64]:
    import awkward as ak

    lengths: Ints = ak.to_numpy(ak.num(array), allow_missing=False).astype(np.int64, copy=False)
    return lengths


def _is_regular(array: Any) -> bool:
    """Whether all lists have the same length by their type."""
    return "var *" not in str(array.type)
