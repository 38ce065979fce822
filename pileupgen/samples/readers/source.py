"""Sources of columns: what a file of any format offers to whoever makes cells of it."""

from __future__ import annotations

import re
from typing import Protocol

from pileupgen.errors import UnreadableInputError
from pileupgen.samples.readers.flat import Column, Flat
from pileupgen.samples.readers.remote import InputFile

_COUNT = re.compile(r"n\(\s*(?P<name>.+?)\s*\)")


class Source(Protocol):
    """A file, or a part of it such as a tree, opened for reading.

    Its text is what messages call it.
    """

    path: InputFile
    """The file."""
    word: str
    """What columns are called in this format: ``branch``, ``field``, ``dataset``, ``column``."""

    @property
    def n_entries(self) -> int:
        """Number of events."""

    def has(self, name: str) -> bool:
        """Whether there is a column of this name."""

    def column(self, name: str) -> Column:
        """Open a column.

        Raises
        ------
        MissingFieldError
            If there is none; names the near ones.
        """

    def event_columns(self) -> list[str]:
        """Names of what holds one number an event."""

    def list_columns(self) -> list[str]:
        """Names of what holds several numbers an event."""

    def cell_encoding(self, name: str) -> str | None:
        """What a column of cell identifiers is made up of, where the file says it."""

    def close(self) -> None:
        """Close the file."""


class Counted(Column):
    """Length of each event's list in another column."""

    def __init__(self, column: Column) -> None:
        super().__init__(
            column.path, f"n({column.name})", column.word, column.n_entries, 8 * column.n_entries
        )
        self._column = column

    def read_at(self, begin: int, end: int) -> Flat:
        """Entries ``begin … end − 1``, whatever was read before."""
        counts = self._column.read_at(begin, end).counts
        if counts is None:
            raise self.not_numbers("one number an event, not lists to be counted")
        return Flat(counts, None)

    def _block(self, entry: int) -> tuple[int, int]:
        return self._column._block(entry)


def has_events(source: Source, name: str) -> bool:
    """Whether a source has a column, or the lists that ``n(name)`` counts."""
    match = _COUNT.fullmatch(name)
    return source.has(match["name"] if match else name)


def open_events(source: Source, name: str) -> Column:
    """Open a column with one number an event; ``n(name)`` counts the lists of another.

    Raises
    ------
    MissingFieldError
        If there is none; names the near ones.
    UnreadableInputError
        If it has another number of events than the file.
    """
    match = _COUNT.fullmatch(name)
    return Counted(whole_column(source, match["name"])) if match else whole_column(source, name)


def whole_column(source: Source, name: str) -> Column:
    """Open a column that has as many entries as its file has events.

    Raises
    ------
    MissingFieldError
        If there is none; names the near ones.
    UnreadableInputError
        If it has another number of entries, so that they would be those of other events.
    """
    column = source.column(name)
    if column.n_entries != source.n_entries:
        raise UnreadableInputError(
            f"{source}: {source.word} '{name}' has {column.n_entries} events, its siblings "
            f"{source.n_entries}.",
            "Name columns of the same events; what is kept once for all of them goes under "
            "positions.",
        )
    return column
