"""Layers of cells by a card's rule: a column, a part of an identifier, a depth, a list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.errors import CardError
from pileupgen.samples.readers.collection import DEPTHS, Collection, LayerRule, find_bits
from pileupgen.samples.readers.part import Part
from pileupgen.samples.readers.source import Source

INNER = ""
"""Column with the positions of cells in inner lists; no file has a column without a name."""

Columns = Mapping[str, NDArray[Any]]


class LayerNumbers:
    """Finds the layer of each cell of a collection whose layers are lists of numbers.

    Parameters
    ----------
    source : Source
        The file.
    collection : Collection
        What the card says of it.

    Raises
    ------
    CardError
        If identifiers do not have the part that the card names.
    """

    def __init__(self, source: Source, collection: Collection) -> None:
        self._source, self._collection = source, collection
        rule = collection.layer_index
        self._bits = None if rule is None or rule.field is None else self._find_bits(rule)

    def columns(self) -> list[str]:
        """Names of the columns that the rule takes; depths take those with the places."""
        rule = self._collection.layer_index
        if rule is None:
            return []
        if rule.bins_of in DEPTHS:
            return [str(getattr(self._collection, axis)) for axis in "xyz"]
        return [_layer_column(rule)]

    def sort(self, part: Part, columns: Columns) -> Part:
        """Move the one energy of each cell to its layer; cells of no layer are left out."""
        return self._by_layer(part, self._numbers(columns))

    def _numbers(self, columns: Columns) -> NDArray[Any]:
        """Number of each cell's layer by the card's rule; −1 outside the bins of a depth."""
        rule = self._collection.layer_index
        if rule is None:
            if INNER not in columns:
                raise CardError(
                    f"{self._source.path}: inner lists are to be layers, and no column has lists "
                    "of lists.",
                    "Name a column with nested lists, or leave inner out of the card.",
                )
            return columns[INNER]
        if rule.column is not None:
            return self._whole(columns[rule.column], rule.column)
        if self._bits is not None:
            column = _layer_column(rule)
            return _bits_of(self._identifiers(columns[column], column), *self._bits)
        depth = self._depth(str(rule.bins_of), columns)
        edges = np.asarray(rule.edges)
        number = np.searchsorted(edges, depth, side="right") - 1
        return np.where(number == len(edges) - 1, -1, number)

    def _whole(self, numbers: NDArray[Any], column: str) -> NDArray[Any]:
        if numbers.dtype.kind == "f":
            odd = np.flatnonzero(numbers != np.round(numbers))
            if len(odd):
                raise CardError(
                    f"{self._source}: {self._source.word} '{column}' is the layer by the card, and "
                    f"holds {numbers[odd[0]]:g}, which is no whole number.",
                    "Name the column with the layers' numbers in layer_index; depths become "
                    "layers by {bins_of: …, edges: […]}.",
                )
        return numbers

    def _identifiers(self, numbers: NDArray[Any], column: str) -> NDArray[Any]:
        if numbers.dtype.kind not in "iu":
            raise CardError(
                f"{self._source}: {self._source.word} '{column}' has the cells' identifiers by the "
                f"card, and holds {numbers.dtype}, which has no room for their 64 bits.",
                "Name the column with whole numbers under layer_index.cell_id, or write the file "
                "again with identifiers as integers.",
            )
        return numbers

    def _depth(self, name: str, columns: Columns) -> NDArray[Any]:
        if name not in DEPTHS:
            return columns[name]
        at = [columns[str(getattr(self._collection, axis))].astype(np.float64) for axis in "xyz"]
        radius = np.hypot(at[0], at[1])
        return {"radius": radius, "abs_z": np.abs(at[2]), "distance": np.hypot(radius, at[2])}[name]

    def _find_bits(self, rule: LayerRule) -> tuple[int, int, bool]:
        column = _layer_column(rule)
        encoding = rule.encoding or self._source.cell_encoding(column)
        if encoding is None:
            raise CardError(
                f"{self._source}: the file does not say what '{column}' is made up of.",
                "Give layer_index.encoding, such as 'system:5,side:-2,layer:8'; the detector's "
                "compact description has it as the read-out's id.",
            )
        try:
            return find_bits(encoding, str(rule.field))
        except ValueError as error:
            raise CardError(f"{self._source}: {error}", "Correct layer_index.field.") from error

    def _by_layer(self, part: Part, numbers: NDArray[Any]) -> Part:
        """Move the one energy of each cell to its layer; cells of no layer are left out."""
        layer_of = np.full(len(numbers), -1, dtype=np.int64)
        for position, values in enumerate(self._collection.layer_values or ()):
            layer_of[np.isin(numbers, np.asarray(values))] = position
        kept = layer_of >= 0
        others, place = np.unique(numbers[~kept], return_inverse=True)
        size = np.abs(part.energy[~kept, 0], dtype=np.float64)
        sums = np.bincount(place, weights=size, minlength=len(others))
        what = self._collection.layer_index or "inner"
        # All digits: numbers that are named alike would be one.
        left_out = {
            f"{what} {value:.17g}" if isinstance(value, float) else f"{what} {value}": total
            for value, total in zip(others.tolist(), sums.tolist(), strict=True)
        }
        one = part.energy[kept, 0]
        energy = np.zeros((len(one), len(self._collection.layer_names)), dtype=np.float32)
        energy[np.arange(len(one)), layer_of[kept]] = one
        offsets = np.concatenate([[0], np.cumsum(kept)])[part.offsets].astype(np.int64)
        factor = None if part.factor is None else part.factor[kept]
        return Part(offsets, part.edges[kept], energy, factor, left_out)


def _layer_column(rule: LayerRule) -> str:
    return str(rule.column or rule.bins_of or rule.cell_id or "cellID")


def _bits_of(
    identifiers: NDArray[Any], offset: int, width: int, is_signed: bool
) -> NDArray[np.int64]:
    """A part of 64-bit identifiers."""
    raw = identifiers.astype(np.uint64) >> np.uint64(offset)
    value = (raw & np.uint64((1 << width) - 1)).astype(np.int64)
    if is_signed:
        value -= (value >> (width - 1)) << width
    return value
