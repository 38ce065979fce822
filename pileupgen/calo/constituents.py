"""Jets as tables of their constituents: a feature table with three numbers of each.

The layers are ``etarel_1``, ``phirel_1``, ``ptrel_1``, ``etarel_2``, …: η and φ relative to the jet
axis, and p_T over that of the jet, in order of p_T. What has no p_T is absent, and 0 in all three.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pileupgen.calo.geometry import Grid

COORDINATES = ("etarel", "phirel", "ptrel")


def constituent_names(n: int) -> tuple[str, ...]:
    """Names of the features of n constituents.

    >>> constituent_names(1)
    ('etarel_1', 'phirel_1', 'ptrel_1')
    """
    return tuple(f"{name}_{place}" for place in range(1, n + 1) for name in COORDINATES)


def n_constituents(grid: Grid) -> int:
    """Constituents that a table has room for; 0 for any other grid."""
    n = grid.n_layers // len(COORDINATES)
    is_table = grid.is_feature_table and grid.layers == constituent_names(n)
    return n if is_table else 0


def constituents_of(energy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Constituents in order of p_T, (N, P, 3), of a table, (N, 3 P, 1, 1); absent ones are 0."""
    found = energy.reshape(len(energy), energy.shape[1] // len(COORDINATES), len(COORDINATES))
    found = np.where(found[..., 2:] > 0, found, np.float32(0))
    order = np.argsort(-found[..., 2], axis=1, kind="stable")
    return np.take_along_axis(found, order[..., None], axis=1)


def table_of(place: NDArray[np.float32], pt: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """One jet's row of a table of n constituents, (3 n, 1, 1): the leading ones in order of p_T.

    Parameters
    ----------
    place : float32 array, shape (m, 2)
        η and φ relative to the jet axis.
    pt : float32 array, shape (m,)
        p_T over that of the jet.
    n : int
    """
    found = np.zeros((n, len(COORDINATES)), dtype=np.float32)
    order = np.argsort(-pt, kind="stable")[:n]
    found[: len(order)] = np.concatenate([place[order], pt[order, None]], axis=1)
    return found.reshape(-1, 1, 1)
