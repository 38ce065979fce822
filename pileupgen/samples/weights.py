"""Event weights where they must not be negative, and samples that follow weights by repetition."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Floats, Ints
from pileupgen.errors import ImplausibleInputError

_FIRST_NEIGHBOURS = 8


def share_out_negative(weight: Floats, features: Floats, group: NDArray[np.integer]) -> Floats:
    """Make weights non-negative by sharing each negative one with the events most like it.

    Cell resampling (Andersen & Maier, 2109.07851, eqs. 1 and 2): around each event of negative
    weight, the most negative first, a cell grows by the nearest events until its weights add up to
    zero or more; then w_i becomes |w_i| Σw / Σ|w| over the cell. The sum over the cell stays.

    Parameters
    ----------
    weight : float64 array, shape (N,)
        Weights of either sign.
    features : float64 array, shape (N, F)
        What events are alike in; each is divided by its standard deviation.
    group : integer array, shape (N,)
        Cells stay within a group, such as a split.

    Returns
    -------
    float64 array, shape (N,)
        Weights ≥ 0 with the same sum in each group.

    Raises
    ------
    ImplausibleInputError
        If the weights of a group with negative ones do not add up to more than zero.
    """
    shared = weight.astype(np.float64)
    spread = features.std(axis=0)
    scaled = features / np.where(spread > 0, spread, 1.0)
    for number in np.unique(group[weight < 0]):
        rows = np.flatnonzero(group == number)
        total = float(weight[rows].sum())
        if total <= 0:
            raise ImplausibleInputError(
                f"The event weights of split {number} add up to {total:g}, not more than 0.",
                "Take more events, or set weight: none in the card.",
            )
        shared[rows] = _shared_out(shared[rows], scaled[rows])
    return shared


def _shared_out(weight: Floats, features: Floats) -> Floats:
    from scipy.spatial import cKDTree

    tree = cKDTree(features)
    negative = np.flatnonzero(weight < 0)
    for seed in negative[np.argsort(weight[negative], kind="stable")]:
        n_near = _FIRST_NEIGHBOURS
        # An earlier cell may have held this one.
        while weight[seed] < 0:
            n_near = min(2 * n_near, len(weight))
            found = tree.query(features[seed], k=n_near)
            distance, near = np.atleast_1d(found[0]), np.atleast_1d(found[1])
            # Of events at the same distance the first in the file.
            near = near[np.lexsort((near, distance))]
            sums = np.cumsum(weight[near])
            inside = np.flatnonzero((sums >= 0) & (np.arange(n_near) >= np.argmax(near == seed)))
            if not len(inside) and n_near < len(weight):
                continue
            cell = near[: inside[0] + 1] if len(inside) else near
            sizes = np.abs(weight[cell])
            weight[cell] = sizes * max(float(weight[cell].sum()), 0.0) / sizes.sum()
    return weight


def rows_by_weight(weight: Floats, n: int | None = None, start: float = 0.5) -> Ints:
    """Choose rows in proportion to weights, as evenly as whole numbers allow.

    Systematic resampling: row i comes ⌊N w_i / Σw⌋ or one more times. Rows of equal weights come
    once each, in order.

    Parameters
    ----------
    weight : float64 array, shape (N,)
        Weights ≥ 0.
    n : int, optional
        Largest number of rows to keep: an even choice among all if weights differ, else the first.
    start : float
        In [0, 1): where the comb of even steps begins.

    Returns
    -------
    int64 array, shape (min(n, N),)
        Ascending.
    """
    total = len(weight)
    n_wanted = total if n is None else min(n, total)
    if total == 0 or np.ptp(weight) == 0:
        return np.arange(n_wanted, dtype=np.int64)
    edges = np.cumsum(weight)
    comb = (np.arange(n_wanted) + start) / n_wanted * edges[-1]
    return np.minimum(np.searchsorted(edges, comb, side="right"), total - 1).astype(np.int64)
