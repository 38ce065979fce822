"""Values that come again and again: integers, saturated cells."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pileupgen.arrays import Floats

MAX_VALUES = 4096
"""A layer of more distinct values than this counts as continuous."""
_PROBE = 1 << 18
_DISCRETE_SHARE = 0.25
_TIED_SHARE = 2e-3
_MIN_EVENTS = 10
_REACH = 5e-4
"""Reach of a tied value among continuous ones, as a fraction of it."""


def find_ties(values: NDArray[np.float32]) -> Floats:
    """Tied values of a layer, and how far each reaches.

    A layer that has few distinct values for its number of hits is discrete: all of them are tied,
    and reach to the middle between them. In any other layer, values of at least 0.2 % of the hits
    are tied, and reach as far as a table of quantiles cannot tell. One event counts a value once,
    so that a wide cell whose energy is spread over several is no tie.

    Parameters
    ----------
    values : float32 array, shape (N, …)
        One layer's values by event; zeros are no hits.

    Returns
    -------
    float64 array, shape (n_ties, 3)
        Value, lower and upper end of its reach; ascending, without overlap, none across zero.
    """
    stride = max(1, values.size // _PROBE)
    rows = values.reshape(len(values), -1)[::stride].astype(np.float64)
    event, cell = np.nonzero(rows)
    if not len(event):
        return np.empty((0, 3))
    pairs = np.unique(np.stack([rows[event, cell], event]), axis=1)
    found, n_events = np.unique(pairs[0], return_counts=True)
    n_hits = pairs.shape[1]
    if len(found) <= _DISCRETE_SHARE * n_hits and len(found) <= MAX_VALUES:
        every = np.unique(values[values != 0].astype(np.float64)) if stride > 1 else found
        return _discrete(every)
    often = found[n_events >= max(_TIED_SHARE * n_hits, _MIN_EVENTS)]
    return _among_continuous(often)


def _discrete(values: Floats) -> Floats:
    middles = 0.5 * (values[1:] + values[:-1])
    middles[(values[1:] > 0) & (values[:-1] < 0)] = 0.0
    low = np.concatenate([[0.0 if values[0] > 0 else -np.inf], middles])
    high = np.concatenate([middles, [0.0 if values[-1] < 0 else np.inf]])
    return np.stack([values, low, high], axis=1)


def _among_continuous(values: Floats) -> Floats:
    reach = _REACH * np.abs(values)
    apart = np.diff(values) / 2
    below = np.minimum(reach, np.concatenate([[np.inf], apart]))
    above = np.minimum(reach, np.concatenate([apart, [np.inf]]))
    return np.stack([values, values - below, values + above], axis=1)


class Ties:
    """Looks values up among the tied ones.

    Parameters
    ----------
    table : Tensor, shape (n_ties, 3)
        From :func:`find_ties`; rows of NaN are none.
    """

    def __init__(self, table: Tensor) -> None:
        table = table[torch.isfinite(table[:, 0])].double()
        self._value, self._low, self._high = (column.contiguous() for column in table.T)

    def __len__(self) -> int:
        return len(self._value)

    def snap(self, value: Tensor) -> Tensor:
        """Values, those within the reach of a tied one replaced by it."""
        index, is_tied = self._find(value)
        return torch.where(is_tied, self._value[index], value)

    def reach(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """Lower and upper end of what is taken for each value; both itself where it is not tied."""
        index, is_tied = self._find(value)
        low = torch.where(is_tied, self._low[index], value)
        return low, torch.where(is_tied, self._high[index], value)

    def _find(self, value: Tensor) -> tuple[Tensor, Tensor]:
        index = (torch.searchsorted(self._low, value.contiguous(), right=True) - 1).clamp_min(0)
        return index, (value >= self._low[index]) & (value < self._high[index]) & (value != 0)
