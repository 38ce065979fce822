"""A sample of several files, opened one at a time and read in pieces of bounded size."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, NoReturn, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Floats, Ints
from pileupgen.calo.towers import Towers
from pileupgen.errors import InputError, MissingFieldError, UnreadableInputError
from pileupgen.samples.readers.base import (
    CHUNK_BYTES,
    MAX_CHUNK_EVENTS,
    SANE_ENERGY,
    EventColumn,
    MuSource,
)
from pileupgen.samples.readers.remote import InputFile, size_of


class OpenFile(Protocol):
    """One file, opened for reading."""

    @property
    def n_entries(self) -> int:
        """Number of events."""

    def close(self) -> None:
        """Close the file."""


F = TypeVar("F", bound=OpenFile)

LIKE_WEIGHTS = re.compile(r"(?i)weight(?!ed)|wgt")
"""What event weights are called."""

EventNumbers = Callable[[int, int], NDArray[Any]]
"""Reads one number an event of entries ``begin … end − 1``, shape (end − begin,)."""


@dataclass(frozen=True)
class Span:
    """Events ``begin … end − 1`` of one file of a sample."""

    file: int
    """Which of the sample's files."""
    begin: int
    end: int
    """First entry of that file, and one past the last."""
    first_id: int
    """Position in the sample of the file's entry 0."""


class FileReader(ABC, Generic[F]):
    """Base of the readers of all formats, which hold one file open and go through its events.

    Parameters
    ----------
    files : sequence of Path
        Read in this order.
    gev : float
        What one unit of the file's energies is in GeV.
    """

    def __init__(
        self, files: Sequence[InputFile], layers: tuple[str, ...], mu: MuSource, gev: float
    ) -> None:
        self.files = tuple(files)
        self.layers = layers
        self._mu = mu
        self._gev = gev
        self._weight = EventColumn()
        self._group = EventColumn()
        self._ids: tuple[str, ...] = ()
        self._known: tuple[str, ...] = ()
        self._held: tuple[int, F] | None = None

    def weigh_by(self, source: EventColumn) -> None:
        """Read event weights from now on; without this call all events count alike."""
        self._weight = source

    def group_by(self, source: EventColumn) -> None:
        """Read which events belong together from now on."""
        self._group = source

    def number_by(self, names: tuple[str, ...]) -> None:
        """Take ``event_id`` from the first of these columns that a file has, from now on."""
        self._ids = names

    def know(self, names: tuple[str, ...]) -> None:
        """Read these columns, one number an event each, from now on."""
        self._known = names

    @abstractmethod
    def _open(self, path: InputFile) -> F:
        """Open a file, or raise an InputError that names it."""

    @abstractmethod
    def _event_bytes(self, file: F) -> float:
        """Size of one event, uncompressed."""

    @abstractmethod
    def _read(self, file: F, pieces: Sequence[tuple[int, int]], first_id: int) -> Iterator[Towers]:
        """Yield the towers of each piece (begin, end) of a file; pieces follow one another."""

    def _event_numbers(self, file: F, name: str) -> EventNumbers | None:  # noqa: ARG002 - the same call in every format
        """Open a branch with one number an event; None where the file has none of this name."""
        return None

    def _open_weights(self, file: F, path: InputFile) -> EventNumbers | None:
        """Open the first branch of weights that the file has; None where events count alike.

        Raises
        ------
        MissingFieldError
            If the card names one and the file does not have it.
        """
        found = self._first(file, self._weight)
        if found is None and self._weight.is_required:
            self._refuse_without_weights(path)
        return found

    def _open_groups(self, file: F, path: InputFile) -> EventNumbers | None:
        """Open the branch that says which events belong together; None where none is asked for.

        Raises
        ------
        MissingFieldError
            If the card names one and the file does not have it.
        """
        found = self._first(file, self._group)
        if found is None and self._group.is_required:
            raise MissingFieldError(
                f"{path} has no '{self._group.branches[0]}', which by the card tells which events "
                "belong together.",
                "Correct the card's group, or leave it out.",
            )
        return found

    def _open_known(self, file: F, path: InputFile) -> dict[str, EventNumbers]:
        """Open what else is to be read of every event.

        Raises
        ------
        MissingFieldError
            If the file does not have one of them.
        """
        opened = {name: self._event_numbers(file, name) for name in self._known}
        found = {name: numbers for name, numbers in opened.items() if numbers is not None}
        missing = [name for name in self._known if name not in found]
        if missing:
            raise MissingFieldError(
                f"{path} has no '{missing[0]}', a condition of its events by the card.",
                "Correct the card's conditions.",
            )
        return found

    def _first(self, file: F, source: EventColumn) -> EventNumbers | None:
        opened = (self._event_numbers(file, name) for name in source.branches)
        return next((found for found in opened if found is not None), None)

    def _refuse_without_weights(self, path: InputFile) -> NoReturn:
        raise MissingFieldError(
            f"{path} has no '{self._weight.branches[0]}', the event weights by the card.",
            "Correct the card's weight, or set weight: none if all events count alike.",
        )

    def _event_names(self, file: F) -> list[str]:  # noqa: ARG002 - the same call in every format
        """Name what a file has with one number an event, and lists of event weights as ``x[0]``."""
        return []

    def unread_weights(self) -> tuple[str, ...]:
        """Name what the first file has that is called like event weights, varies, and is not read.

        Raises
        ------
        InputError
            If the file cannot be used.
        """
        file = self._file(0)
        if self._open_weights(file, self.files[0]) is not None:
            return ()
        end = min(file.n_entries, MAX_CHUNK_EVENTS)
        found = []
        for name in self._event_names(file):
            read = self._event_numbers(file, name) if LIKE_WEIGHTS.search(name) else None
            if read is not None and len(np.unique(read(0, end))) > 1:
                found.append(name)
        return tuple(found)

    def n_events(self, file: int) -> int:
        """Open a file and count its events.

        Raises
        ------
        InputError
            If the file cannot be used.
        """
        return self._file(file).n_entries

    def step(self, file: int) -> int:
        """Events in a chunk of a file: about ``CHUNK_BYTES``."""
        size = max(self._event_bytes(self._file(file)), 1.0)
        return int(np.clip(CHUNK_BYTES / size, 1, MAX_CHUNK_EVENTS))

    def estimate_events(self) -> int:
        """Estimate the number of events, from the first file that opens and all files' sizes."""
        sizes = [size_of(path) for path in self.files]
        fault: InputError | None = None
        for index, size in enumerate(sizes):
            try:
                return round(self.n_events(index) * sum(sizes) / max(size, 1))
            except InputError as error:
                fault = fault or error
        raise fault or UnreadableInputError("The sample has no files.")

    def read(self, span: Span) -> Iterator[Towers]:
        """Yield the towers of a span, in chunks; a file that is refused is closed.

        Raises
        ------
        InputError
            If the file cannot be used; names the file.
        """
        try:
            yield from self._towers(span)
        except InputError:
            self.close()
            raise

    def _towers(self, span: Span) -> Iterator[Towers]:
        file, step = self._file(span.file), self.step(span.file)
        starts = range(span.begin, span.end, step)
        pieces = [(begin, min(begin + step, span.end)) for begin in starts]
        path = self.files[span.file]
        read_weights = self._open_weights(file, path)
        read_groups = self._open_groups(file, path)
        read_ids = self._first(file, EventColumn(self._ids))
        read_known = self._open_known(file, path)
        for (begin, end), towers in zip(
            pieces, self._read(file, pieces, span.first_id), strict=True
        ):
            if read_weights is not None:
                weight = read_weights(begin, end).astype(np.float64)
                require_finite_weights(weight, path, begin)
                towers = replace(towers, weight=weight)
            if read_groups is not None:
                group = whole_numbers(read_groups(begin, end), path, begin)
                towers = replace(towers, group=group)
            if read_ids is not None:
                towers = replace(towers, event_id=read_ids(begin, end).astype(np.int64))
            if read_known:
                known = {
                    name: read(begin, end).astype(np.float32) for name, read in read_known.items()
                }
                towers = replace(towers, known=known)
            yield towers

    def chunks(self, max_events: int | None = None) -> Iterator[Towers]:
        """Yield towers of consecutive events of all files, in chunks."""
        n_done = 0
        try:
            for index in range(len(self.files)):
                if max_events is not None and n_done >= max_events:
                    return
                n = self.n_events(index)
                n = n if max_events is None else min(n, max_events - n_done)
                yield from self.read(Span(index, 0, n, n_done))
                n_done += n
        finally:
            self.close()

    def close(self) -> None:
        """Close the file that is open."""
        if self._held is not None:
            self._held[1].close()
            self._held = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open file behind: another process opens its own."""
        return {**self.__dict__, "_held": None}

    def _file(self, index: int) -> F:
        if self._held is None or self._held[0] != index:
            self.close()
            self._held = (index, self._open(self.files[index]))
        return self._held[1]


class EntryPlace:
    """Position of a chunk, for messages.

    Parameters
    ----------
    entry : int
        First entry of the chunk.
    first_id : int
        Position in the sample of the file's entry 0.
    """

    def __init__(self, path: InputFile, entry: int, first_id: int) -> None:
        self.path = path
        self._entry = entry
        self._first_id = first_id

    def event(self, tower: int, offsets: Ints) -> str:
        """Name the event that owns a tower of the chunk."""
        entry = self._entry + int(np.searchsorted(offsets, tower, side="right")) - 1
        number = self._first_id + entry
        same = "" if number == entry else f" (event {number} of the sample)"
        return f"{self.path}, event {entry}{same}"


def require_sane_energies(
    energy: NDArray[np.float32], name: str, offsets: Ints, where: EntryPlace
) -> None:
    """Refuse energies that no calorimeter can have.

    Parameters
    ----------
    energy : float32 array, shape (n_towers,)
        GeV.
    offsets : int64 array, shape (n + 1,)
        Event i owns towers ``offsets[i]:offsets[i + 1]``.

    Raises
    ------
    UnreadableInputError
        Naming the first event with an energy that is not finite or beyond ``SANE_ENERGY``.
    """
    if not len(energy):
        return
    low, high = float(energy.min()), float(energy.max())
    if low > -SANE_ENERGY and high < SANE_ENERGY:
        return
    tower = int(np.flatnonzero(~(np.abs(energy) < SANE_ENERGY))[0])
    raise UnreadableInputError(
        f"{where.event(tower, offsets)}: {name} = {energy[tower]:g} GeV.",
        "Remove the event; if all are so, the card's units are wrong.",
    )


def require_finite_places(
    edges: NDArray[np.float32] | Floats,
    offsets: Ints,
    where: EntryPlace,
) -> None:
    """Refuse towers whose place is NaN or infinite.

    Raises
    ------
    UnreadableInputError
        Naming the first such event.
    """
    with np.errstate(all="ignore"):
        is_finite = bool(np.isfinite(edges.sum()))
    if is_finite or np.all(np.isfinite(edges)):
        return
    tower = int(np.flatnonzero(~np.isfinite(edges).all(axis=1))[0])
    raise UnreadableInputError(
        f"{where.event(tower, offsets)}: a tower at η, φ = {edges[tower].tolist()}.",
        "Remove the event, or write the file again.",
    )


def require_finite_weights(weight: Floats, path: InputFile, begin: int) -> None:
    """Refuse event weights that are NaN or infinite.

    Raises
    ------
    UnreadableInputError
        Naming the first such event; ``begin`` is the entry of the first weight.
    """
    bad = np.flatnonzero(~np.isfinite(weight))
    if len(bad):
        raise UnreadableInputError(
            f"{path}, event {begin + int(bad[0])}: its weight is {weight[bad[0]]:g}.",
            "Remove the event, or set weight: none in the card if all events count alike.",
        )


def whole_numbers(group: NDArray[Any], path: InputFile, begin: int) -> NDArray[np.int64]:
    """Numbers of groups of events as integers; ``begin`` is the entry of the first.

    Raises
    ------
    UnreadableInputError
        Naming the first event whose group is no whole number.
    """
    with np.errstate(invalid="ignore"):
        found = group.astype(np.int64)
        bad = np.flatnonzero(found != group)
    if len(bad):
        raise UnreadableInputError(
            f"{path}, event {begin + int(bad[0])}: its group is {group[bad[0]]:g}, no whole "
            "number.",
            "Name a branch such as the run or luminosity block under group in the card.",
        )
    return found
