from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pileupgen.errors import InputError
from pileupgen.samples.splits import assign_group_splits, assign_splits

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


def test_fractions_whose_sums_are_not_exact_in_binary_are_met_too() -> None:
    labels = assign_splits(0, 100, (0.57, 0.2, 0.23), 1)
    assert np.bincount(labels).tolist() == [57, 20, 23]


def test_seeds_and_blocks_differ() -> None:
    labels = assign_splits(0, 200, FRACTIONS, 1)
    assert not np.array_equal(labels[:100], labels[100:])
    assert not np.array_equal(labels, assign_splits(0, 200, FRACTIONS, 2))


@given(st.lists(st.integers(1, 30), min_size=3, max_size=60), st.integers(0, 2**31))
def test_events_of_one_group_lie_in_one_split(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    group = rng.permutation(np.repeat(rng.permutation(1000)[: len(sizes)], sizes))
    split = assign_group_splits(group, FRACTIONS, seed)
    assert set(split) == {0, 1, 2}
    assert all(len(np.unique(split[group == number])) == 1 for number in np.unique(group))
    counts = np.bincount(split, minlength=3)
    assert np.all(np.abs(counts - np.array(FRACTIONS) * len(group)) <= max(sizes))


def test_groups_of_the_fractions_sizes_are_met_exactly() -> None:
    group = np.repeat([9, 4, 6], [150, 600, 250])
    assert assign_group_splits(group, FRACTIONS, 5).tolist() == [1] * 150 + [0] * 600 + [2] * 250


def test_the_seed_chooses_among_groups_of_one_size() -> None:
    group = np.repeat(np.arange(40), 5)
    first, second = (assign_group_splits(group, FRACTIONS, seed) for seed in (1, 2))
    assert np.bincount(first).tolist() == np.bincount(second).tolist() == [120, 30, 50]
    assert not np.array_equal(first, second)


def test_too_few_groups_are_refused() -> None:
    with pytest.raises(InputError, match="2 groups of events of 5 at most leave no event for test"):
        assign_group_splits(np.repeat([0, 1], 5), FRACTIONS, 0)
