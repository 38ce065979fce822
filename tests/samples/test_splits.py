from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pileupgen.samples.splits import assign_splits

FRACTIONS = (0.6, 0.15, 0.25)


@given(st.integers(0, 500), st.integers(0, 300), st.integers(0, 100), st.integers(0, 2**31))
def test_a_split_does_not_depend_on_how_the_stream_is_cut(
    first: int, n: int, cut: int, seed: int
) -> None:
    cut = min(cut, n)
    whole = assign_splits(first, n, FRACTIONS, seed)
    parts = [
        assign_splits(first, cut, FRACTIONS, seed),
        assign_splits(first + cut, n - cut, FRACTIONS, seed),
    ]
    assert whole.shape == (n,)
    assert np.array_equal(whole, np.concatenate(parts))


@given(st.integers(0, 20), st.integers(0, 2**31))
def test_fractions_are_exact_in_each_block_of_a_hundred(block: int, seed: int) -> None:
    labels = assign_splits(100 * block, 100, FRACTIONS, seed)
    assert list(np.bincount(labels, minlength=3)) == [60, 15, 25]


def test_seeds_and_blocks_differ() -> None:
    labels = assign_splits(0, 200, FRACTIONS, 1)
    assert not np.array_equal(labels[:100], labels[100:])
    assert not np.array_equal(labels, assign_splits(0, 200, FRACTIONS, 2))
