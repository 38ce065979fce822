"""Assignment of events to training, validation and test."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
    seed : int
        Chooses the permutation within each block.

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
