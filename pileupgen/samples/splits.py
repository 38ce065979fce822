"""Assignment of events to training, validation and test."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pileupgen.errors import InputError

SPLITS = ("train", "validation", "test")
"""Names of the values 0, 1, 2 of a store's ``split`` column."""


def assign_splits(
    first: int, n: int, fractions: tuple[float, float, float], seed: int
) -> NDArray[np.uint8]:
    """Assign splits to events ``first … first + n − 1``, by (event, seed) alone.

    Within each block of 100 consecutive events the fractions are exact to 1 event, so a stream
    can be split without knowing its length.

    Parameters
    ----------
    first, n : int
        Position of the first event in its sample and number of events.
    fractions : three floats
        Train, validation and test fractions; they sum to 1.

    Returns
    -------
    uint8 array, shape (n,)
    """
    block = 100
    bounds = np.round(np.cumsum(fractions)[:2] * block).astype(int)
    ordered = np.searchsorted(bounds, np.arange(block), side="right").astype(np.uint8)
    labels = [
        np.random.default_rng([seed, index]).permutation(ordered)
        for index in range(first // block, (first + n - 1) // block + 1)
    ]
    joined = np.concatenate(labels) if labels else np.empty(0, dtype=np.uint8)
    return joined[first % block : first % block + n] if n else joined[:0]


def assign_group_splits(
    group: NDArray[np.int64], fractions: tuple[float, float, float], seed: int
) -> NDArray[np.uint8]:
    """Assign splits so that events of one group lie in one split.

    From the largest group to the smallest each goes where most events are missing; the last ones
    go to splits that have none yet.

    Parameters
    ----------
    group : int64 array, shape (n,)
        Number of each event's group.
    fractions : three floats
        Train, validation and test fractions of the events; they sum to 1.

    Returns
    -------
    uint8 array, shape (n,)

    Raises
    ------
    InputError
        If there are fewer groups than splits.

    >>> assign_group_splits(np.array([7, 7, 7, 5, 8, 8]), (0.5, 0.2, 0.3), 0).tolist()
    [0, 0, 0, 1, 2, 2]
    """
    numbers, of, sizes = np.unique(group, return_inverse=True, return_counts=True)
    n_left = len(numbers)
    if n_left < len(SPLITS):
        raise InputError(
            f"{n_left} group{'s' * (n_left > 1)} of events of {sizes.max()} at most leave no event "
            f"for {' and '.join(SPLITS[n_left:])}.",
            "Events of one group lie in one split: read more events, or name a branch with more "
            "groups under group in the card, or 'none'.",
        )
    missing = np.array(fractions) * len(group)
    has_none = np.ones(len(SPLITS), dtype=bool)
    split = np.zeros(len(numbers), dtype=np.uint8)
    shuffled = np.random.default_rng(seed).permutation(len(numbers))
    for place in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        is_closed = ~has_none & (n_left == has_none.sum())
        split[place] = np.argmax(np.where(is_closed, -np.inf, missing))
        missing[split[place]] -= sizes[place]
        has_none[split[place]] = False
        n_left -= 1
    return split[of]
