from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pileupgen.calo import rowtable
from pileupgen.calo.rowtable import RowMemo, RowTable


@settings(deadline=None)
@given(
    st.sampled_from([2, 4]).flatmap(
        lambda k: st.lists(st.tuples(*[st.integers(-3, 3)] * k), min_size=1, max_size=60)
    ),
    st.sampled_from([np.float32, np.float64]),
)
def test_equal_rows_have_equal_numbers_and_unequal_rows_do_not(
    rows: list[tuple[int, ...]], dtype: type
) -> None:
    values = np.array(rows, dtype=dtype)
    table = RowTable()
    assert np.all(table.find(values) == -1)
    kept = table.add(values)
    numbers = table.find(values)
    assert len(table) == len(kept) == len(set(rows))
    assert np.array_equal(numbers[kept], np.arange(len(kept)))
    assert np.all((numbers[:, None] == numbers) == (values[:, None] == values).all(axis=2))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_large_detector_is_kept_whole(dtype: type) -> None:
    eta, phi = np.meshgrid(np.linspace(-6, 6, 480), np.linspace(-np.pi, np.pi, 256))
    rows = np.stack([eta.ravel(), eta.ravel() + 0.025, phi.ravel(), phi.ravel() + 0.0245], axis=1)
    rows = rows.astype(dtype)
    table = RowTable()
    kept = table.add(rows[:1000])
    table.add(rows[1000:])
    assert len(kept) == 1000
    assert np.count_nonzero(table.find(rows) < 0) <= 10
    assert np.array_equal(table.find(rows[:1000])[kept], np.arange(1000))


def test_no_more_than_max_rows_are_kept() -> None:
    rows = np.random.default_rng(1).random((500, 4))
    table = RowTable(max_rows=100)
    table.add(rows)
    assert len(table) == 100
    assert table.is_full
    assert np.count_nonzero(table.find(rows) >= 0) == 100
    assert len(table.add(rows[400:])) == 0


@pytest.mark.parametrize("n_columns", [2, 4])
def test_rows_that_meet_in_small_tables_are_not_taken_for_each_other(
    monkeypatch: pytest.MonkeyPatch, n_columns: int
) -> None:
    monkeypatch.setattr(rowtable, "_TABLE_BITS", 4)
    rng = np.random.default_rng(5)
    rows = rng.random((200, n_columns)).astype(np.float32)
    table = RowTable()
    assert np.array_equal(table.places(rows)[1], np.arange(200))
    kept = table.add(rows[:40])
    assert 16 < len(kept) <= 40
    places, left = table.places(rows)
    expected = np.zeros(200, dtype=np.int64)
    expected[kept] = 1 + np.arange(len(kept))
    assert np.array_equal(places, expected)
    assert np.array_equal(left, np.flatnonzero(expected == 0))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_signs_do_not_cancel(dtype: type) -> None:
    rows = np.array(
        [(a, b, c, d) for a in (1, -1) for b in (2, -2) for c in (3, -3) for d in (4, -4)]
    )
    assert len(RowTable().add(rows.astype(dtype))) == 16


@pytest.mark.parametrize("max_rows", [1 << 18, 40])
@pytest.mark.parametrize("n_distinct", [30, 5000])
def test_a_memo_gives_what_is_computed_of_every_row(max_rows: int, n_distinct: int) -> None:
    rng = np.random.default_rng(4)
    distinct = rng.random((n_distinct, 2)).astype(np.float32)
    memo, computed = RowMemo(), []
    memo.table.max_rows = max_rows

    def compute(rows: NDArray[np.float32]) -> NDArray[np.float64]:
        computed.append(len(rows))
        return np.stack([rows.sum(axis=1), rows[:, 0]], axis=1).astype(np.float64)

    for n in (200, 0, 700, 300):
        rows = distinct[rng.integers(n_distinct, size=n)]
        found = memo.of(rows, lambda index, rows=rows: compute(rows[index]))
        np.testing.assert_array_equal(found, compute(rows))
        computed.pop()
    if n_distinct < max_rows:
        # Each place once, and the first rows before it is known which of them are alike.
        assert sum(computed) <= 200 + n_distinct or n_distinct > 1000
    assert len(memo.table) <= max_rows
