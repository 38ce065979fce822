"""A fast dictionary from rows of numbers to consecutive integers, and to what is made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Ints

_TABLE_BITS = 20
_LEARN_AT_ONCE = 1 << 14
_MULTIPLIERS = np.random.default_rng(2311).integers(0, 2**63, (3, 4), dtype=np.uint64) * 2 + 1


class RowTable:
    """Numbers rows in the order in which they are first seen.

    A detector has a few thousand to a few hundred thousand distinct towers, which come again in
    every event, so that the cells of a tower are looked up once. Rows are compared bit by bit.
    Tables are addressed directly by a hash; rows that meet in one table go to the next, and the
    few that find no place in any are not kept.

    Parameters
    ----------
    max_rows : int
        Rows beyond this number are not kept, so that random rows do not fill the memory.
    """

    def __init__(self, max_rows: int = 1 << 18) -> None:
        self.max_rows = max_rows
        self._n = 0
        # Words of row n at n + 1, and at 0 those of row 0, with which free places are compared.
        self._known: list[NDArray[np.uint64]] = []
        # Row number + 1; 0 is free.
        self._tables = [np.zeros(1 << _TABLE_BITS, dtype=np.int32) for _ in _MULTIPLIERS]

    def __len__(self) -> int:
        return self._n

    @property
    def is_full(self) -> bool:
        """Whether no more rows are kept."""
        return self._n >= self.max_rows

    def find(self, rows: NDArray[np.floating[Any]]) -> Ints:
        """Numbers of rows, −1 for those not kept.

        Parameters
        ----------
        rows : float32 or float64 array, shape (n, 4) or (n, 2)
            The same dtype and the same number of columns in every call.

        Returns
        -------
        int64 array, shape (n,)
        """
        return self.places(rows)[0] - 1

    def places(self, rows: NDArray[np.floating[Any]]) -> tuple[Ints, Ints]:
        """Numbers of rows plus one, and the positions of rows that are not kept, which have 0.

        Parameters
        ----------
        rows : float32 or float64 array, shape (n, 4) or (n, 2)
            As for :meth:`find`.

        Returns
        -------
        places : int64 array, shape (n,)
        left : int64 array, shape (m,)
            Ascending.
        """
        words = _words(rows)
        if not self._n:
            return np.zeros(len(words), dtype=np.int64), np.arange(len(words))
        found, left = self._find_in(0, words)
        for level in range(1, len(self._tables)):
            if not len(left):
                break
            found[left], still = self._find_in(level, words[left])
            left = left[still]
        found[left] = 0
        return found, left

    def add(self, rows: NDArray[np.floating[Any]]) -> Ints:
        """Keep rows, none of which is kept yet.

        Parameters
        ----------
        rows : float32 or float64 array, shape (n, 4) or (n, 2)
            May hold a row more than once.

        Returns
        -------
        int64 array, shape (m,)
            Positions in ``rows`` of the m rows kept. They are numbered in this order, from the
            table's length before.
        """
        words = _words(rows)
        _, distinct = np.unique(_hash(words, 0), return_index=True)
        distinct = np.sort(distinct)[: self.max_rows - self._n]
        kept: list[Ints] = []
        for level, table in enumerate(self._tables):
            address = _address(words[distinct], level)
            _, one_each = np.unique(address, return_index=True)
            placed = one_each[table[address[one_each]] == 0]
            table[address[placed]] = self._n + 1 + np.arange(len(placed), dtype=np.int32)
            self._n += len(placed)
            kept.append(distinct[placed])
            distinct = np.delete(distinct, placed)
        positions = np.concatenate(kept)
        if len(positions):
            known = self._known or [word[:1] for word in words[positions].T]
            new = words[positions].T
            self._known = [np.concatenate(pair) for pair in zip(known, new, strict=True)]
        return positions

    def _find_in(self, level: int, words: NDArray[np.uint64]) -> tuple[Ints, Ints]:
        """What a table has at the rows' addresses, and the positions where that is another row."""
        found = self._tables[level].take(_address(words, level)).astype(np.int64)
        # A free place is compared with row 0. That is in the first table, at its own address, so
        # that a row equal to it meets no free place.
        parts = [known.take(found) == words[:, i] for i, known in enumerate(self._known)]
        same = parts[0] if len(parts) == 1 else np.logical_and.reduce(parts)
        return found, np.flatnonzero(~same)


class RowMemo:
    """Numbers that are computed once for each distinct row, as long as rows come again."""

    def __init__(self) -> None:
        self.table = RowTable()
        # Numbers of row n at n + 1; what is at 0 is nobody's.
        self._values: NDArray[Any] | None = None
        self._is_useful = True

    def of(
        self,
        rows: NDArray[np.floating[Any]],
        compute: Callable[[NDArray[np.int64] | slice], NDArray[Any]],
    ) -> NDArray[Any]:
        """Give each row its numbers.

        Parameters
        ----------
        rows : float32 or float64 array, shape (n, k)
            As for :meth:`RowTable.find`.
        compute : callable
            Computes the numbers of rows by their positions; always the same of equal rows.

        Returns
        -------
        array, shape (n, …)
            What ``compute`` would give for all rows.
        """
        if not self._is_useful or not len(rows):
            return compute(slice(None))
        place, unknown = self.table.places(rows)
        while len(unknown) and not self.table.is_full:
            head = unknown[:_LEARN_AT_ONCE]
            values = compute(head)
            kept = self.table.add(rows[head])
            if not len(kept):
                break
            known = values[:1] if self._values is None else self._values
            self._values = np.concatenate([known, values[kept]])
            place[unknown], left = self.table.places(rows[unknown])
            unknown = unknown[left]
        if self._values is None:
            return compute(slice(None))
        found = self._values.take(place, axis=0)
        if len(unknown):
            found[unknown] = compute(unknown)
            # Rows that never come again (smeared centres) are not worth looking up.
            self._is_useful = not (self.table.is_full and 2 * len(unknown) > len(rows))
        return found


def _words(rows: NDArray[np.floating[Any]]) -> NDArray[np.uint64]:
    return np.ascontiguousarray(rows).view(np.uint64)


def _hash(words: NDArray[np.uint64], level: int) -> NDArray[np.uint64]:
    n_words = words.shape[1]
    if n_words == 1:
        return words[:, 0] * _MULTIPLIERS[level, 0]
    mixed = np.zeros(0, dtype=np.uint64)
    for column in range(n_words):
        word = words[:, column]
        if n_words > 2 or column == 0:
            # Round doubles have bits in their upper half only; a product passes bits upwards only,
            # so that the top bits of two words (two signs) would cancel. 29: no sign meets a sign.
            product = word >> np.uint64(29)
            product ^= word
            product *= _MULTIPLIERS[level, column]
        else:
            product = word * _MULTIPLIERS[level, column]
        mixed = np.add(mixed, product, out=product) if column else product
    return mixed


def _address(words: NDArray[np.uint64], level: int) -> Ints:
    # The upper bits of a product depend on all bits of its factors.
    mixed = _hash(words, level)
    mixed >>= np.uint64(64 - _TABLE_BITS)
    return mixed.view(np.int64)
