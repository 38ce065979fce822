"""The five channels of a zero-degree calorimeter whose fibres are read alternately.

As in ALICE's: fibres are a chequerboard; those of one colour go to a photomultiplier that all have
in common, those of the other to that of their quadrant.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Floats, Ints

CHANNELS = {
    "common": "common",
    "quadrant_1": "x < 0, y < 0",
    "quadrant_2": "x < 0, y > 0",
    "quadrant_3": "x > 0, y < 0",
    "quadrant_4": "x > 0, y > 0",
}
"""Channels, in words."""


def channel_of(n_x: int, n_y: int) -> Ints:
    """Number of each fibre's channel, in the order of ``CHANNELS``, (n_x, n_y).

    >>> channel_of(4, 4)
    array([[0, 1, 0, 2],
           [1, 0, 2, 0],
           [0, 3, 0, 4],
           [3, 0, 4, 0]])
    """
    x, y = np.indices((n_x, n_y))
    quadrant = 1 + 2 * (x >= n_x / 2) + (y >= n_y / 2)
    return np.where((x + y) % 2 == 0, 0, quadrant)


def channel_sums(photons: NDArray[np.float32]) -> Floats:
    """Photons of each channel, (N, 5), of images (N, 1, n_x, n_y)."""
    of_fibre = channel_of(*photons.shape[2:])
    is_read = of_fibre.ravel()[:, None] == np.arange(len(CHANNELS))
    return photons.reshape(len(photons), -1).astype(np.float64) @ is_read.astype(np.float64)
