"""Collections of cells in lists, or as many in every event, become parts of towers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.errors import UnreadableInputError
from pileupgen.samples.readers.collection import Collection, Positions
from pileupgen.samples.readers.files import (
    EntryPlace,
    require_finite_places,
    require_sane_energies,
)
from pileupgen.samples.readers.flat import Column, Flat
from pileupgen.samples.readers.layer_numbers import INNER, LayerNumbers
from pileupgen.samples.readers.part import Part, factor_of, scale_of
from pileupgen.samples.readers.places import Places, place_columns, read_once
from pileupgen.samples.readers.source import Source, whole_column


class CellLists:
    """A collection of a file: lists of cells, or as many cells in every event.

    Parameters
    ----------
    source : Source
        The file.
    collection : Collection
        What the card says of it.
    gev : float
        What one unit of the card's energies is in GeV.
    open_positions : callable
        Opens what holds positions once.
    """

    def __init__(
        self,
        source: Source,
        collection: Collection,
        gev: float,
        open_positions: Callable[[Any, Positions], Source],
    ) -> None:
        self._source, self._collection, self._gev = source, collection, gev
        self._scale = scale_of(collection, gev)
        self._columns: dict[str, Column] = {}
        self._once: dict[str, NDArray[Any]] | None = None
        self._places = Places(collection)
        self._layers = None if collection.layer_values is None else LayerNumbers(source, collection)
        places, wanted = place_columns(collection), list(collection.energies)
        of_layer = [] if self._layers is None else self._layers.columns()
        of_layer = [name for name in of_layer if name not in places]
        if collection.positions is None:
            wanted = [*places, *wanted, *of_layer]
        else:
            positions = open_positions(source, collection.positions)
            try:
                kept = [*places, *(name for name in of_layer if positions.has(name))]
                self._once = read_once(positions, kept, collection.corners or ())
            finally:
                if positions is not source:
                    positions.close()
            self._kept_places = self._places.edges(self._once)
            wanted += [name for name in of_layer if name not in self._once]
            if collection.positions.index is not None:
                wanted.append(collection.positions.index)
        for name in dict.fromkeys(wanted):
            self._columns[name] = whole_column(source, name)

    @property
    def event_bytes(self) -> float:
        """Size of one event, uncompressed."""
        return sum(column.event_bytes for column in self._columns.values())

    def read(self, begin: int, end: int, where: EntryPlace) -> Part:
        """Read the cells of events ``begin … end − 1``.

        Raises
        ------
        UnreadableInputError
            If columns are not one number a cell, or hold what no calorimeter has.
        """
        flats = {name: column.read(begin, end) for name, column in self._columns.items()}
        counts, columns = self._aligned(flats, where)
        if self._once is not None:
            counts, columns, cell = self._placed(counts, columns, where)
            edges, eta = (values.take(cell, axis=0) for values in self._kept_places)
            if self._layers is not None:
                for name in self._once.keys() & self._layers.columns():
                    columns[name] = self._once[name].take(cell)
        else:
            edges, eta = self._places.edges(columns)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        require_finite_places(edges, offsets, where)
        factor = factor_of(self._collection, self._scale, eta)
        energy = self._energy(columns, factor)
        for layer, name in enumerate(self._collection.energies):
            require_sane_energies(energy[:, layer], name, offsets, where)
        part = Part(offsets, edges, energy, factor)
        return part if self._layers is None else self._layers.sort(part, columns)

    def _aligned(
        self, flats: Mapping[str, Flat], where: EntryPlace
    ) -> tuple[NDArray[np.int64], dict[str, NDArray[Any]]]:
        """Cells per event, and numbers per cell by column.

        Where some lists are nested, numbers of the others belong to all cells of an inner list, and
        a column ``INNER`` has the cells' positions in theirs.
        """
        corners = self._collection.corners or ()
        points: dict[str, tuple[int, ...]] = dict.fromkeys(corners, (3,))
        lists = {name: _list_levels(flat, points.get(name, ())) for name, flat in flats.items()}
        outer: NDArray[np.int64] | None = None
        inner: NDArray[np.int64] | None = None
        for name, flat in lists.items():
            point = points.get(name, ())
            if flat.counts is None or flat.values.shape[1:] != point:
                what = "three numbers a corner" if point else "one number a tower"
                raise UnreadableInputError(
                    f"{where.path}: {self._source.word} '{name}' is not {what}.",
                    "Name the branch with the towers' energies in the card's options.",
                )
            outer = flat.counts if outer is None else outer
            inner = flat.inner if inner is None else inner
            is_alike = np.array_equal(flat.counts, outer)
            if flat.inner is not None and inner is not None:
                is_alike &= np.array_equal(flat.inner, inner)
            if not is_alike:
                raise UnreadableInputError(
                    f"{where.path}: {self._source.word} '{name}' has another number of towers than "
                    "its siblings.",
                    "The card mixes columns of two collections: list each under collections.",
                )
        counts = np.empty(0, dtype=np.int64) if outer is None else outer
        if inner is None:
            return counts, {name: flat.values for name, flat in lists.items()}
        outer_only = [name for name in self._collection.energies if lists[name].inner is None]
        if outer_only:
            raise UnreadableInputError(
                f"{where.path}: {self._source.word} '{outer_only[0]}' has one energy for a whole "
                "inner list of its siblings, which would count again in each of its cells.",
                "Name columns of one depth: the energies of the cells, or the places of the outer "
                "lists.",
            )
        ends = np.concatenate([[0], np.cumsum(inner)]).astype(np.int64)
        columns = {
            name: np.repeat(flat.values, inner, axis=0) if flat.inner is None else flat.values
            for name, flat in lists.items()
        }
        columns[INNER] = np.arange(ends[-1]) - np.repeat(ends[:-1], inner)
        events = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return np.diff(ends[events]), columns

    def _placed(
        self, counts: NDArray[np.int64], columns: dict[str, NDArray[Any]], where: EntryPlace
    ) -> tuple[NDArray[np.int64], dict[str, NDArray[Any]], NDArray[np.int64]]:
        """Cells with energy, and the row of each in the positions that are kept once."""
        n_rows = len(next(iter((self._once or {}).values())))
        index = None if self._collection.positions is None else self._collection.positions.index
        if index is not None:
            rows = columns[index]
            if rows.dtype.kind not in "iu" or (
                len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < n_rows
            ):
                raise UnreadableInputError(
                    f"{where.path}: {self._source.word} '{index}' is not the row of a cell among "
                    f"the {n_rows} positions.",
                    "Correct positions.index in the card.",
                )
            return counts, columns, rows.astype(np.int64)
        if np.any(counts != n_rows):
            found = int(counts[counts != n_rows][0])
            raise UnreadableInputError(
                f"{where.path}: an event has {found} cells, the positions {n_rows}.",
                "Positions that are kept once fit arrays with all cells; name positions.index if "
                "each cell says its row.",
            )
        energies = [columns[name] for name in dict.fromkeys(self._collection.energies)]
        keep = np.flatnonzero(np.any([values != 0 for values in energies], axis=0))
        n_kept = np.bincount(keep // n_rows, minlength=len(counts)).astype(np.int64)
        return n_kept, {name: values[keep] for name, values in columns.items()}, keep % n_rows

    def _energy(
        self, columns: Mapping[str, NDArray[Any]], factor: NDArray[np.float64] | None
    ) -> NDArray[np.float32]:
        """Energies in GeV, shape (n, columns with energy)."""
        read = [columns[name] for name in self._collection.energies]
        energy = np.empty((len(read), len(read[0])), dtype=np.float32).T
        gev = np.float64(self._gev) if factor is None else self._gev * factor
        for layer, values in enumerate(read):
            with np.errstate(over="ignore", invalid="ignore"):
                # A product with 1 costs as much as any other.
                energy[:, layer] = values if factor is None and gev == 1.0 else values * gev
        return energy


def _list_levels(flat: Flat, point: tuple[int, ...]) -> Flat:
    """Lists of numbers, or lists of lists: axes of fixed length become lists.

    ``point`` is the shape of what belongs to one cell: none for a number, (3,) for a corner.
    """
    values, counts, inner = flat.values, flat.counts, flat.inner
    if counts is None and values.ndim > 1 + len(point):
        counts = np.full(len(values), values.shape[1], dtype=np.int64)
        values = values.reshape(-1, *values.shape[2:])
    if values.ndim > 1 + len(point) and inner is None and counts is not None:
        axes = values.shape[1 : values.ndim - len(point)]
        inner = np.full(len(values), int(np.prod(axes)), dtype=np.int64)
        values = values.reshape(-1, *values.shape[values.ndim - len(point) :])
    return Flat(values, counts, inner)
