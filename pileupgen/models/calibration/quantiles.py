"""Quantile functions at even knots in Gaussian score."""

from __future__ import annotations

from copy import copy

import numpy as np
import torch
from scipy.special import log_ndtr, ndtri
from torch import Tensor

from pileupgen.arrays import Floats

S_MAX = 4.0
"""Quantile knots lie evenly in Gaussian score between ∓ this."""


def upper_fractions(n: Floats | int) -> tuple[Floats, ...]:
    """Fractions of n hits above the two ends of the part of a spectrum that sets a slope.

    The upper twentieth but the last three hits, so that one hard jet does not set it.
    """
    count = np.maximum(np.asarray(n, dtype=np.float64), 1)
    return np.maximum(0.05, np.minimum(0.3, 60 / count)), np.minimum(0.1, 3 / count)


def extend_tail(knots: Floats, n: int) -> Floats:
    """Replace the knots, shape (K,), above the last few of n events by a line."""
    s = np.linspace(-S_MAX, S_MAX, len(knots))
    upper = np.array(upper_fractions(n))
    begin, end = np.clip(np.searchsorted(s, -ndtri(upper)), 0, len(s) - 2)
    begin = min(begin, end - 1)
    slope = max((knots[end] - knots[begin]) / (s[end] - s[begin]), 1e-3)
    return np.where(s > s[end], knots[end] + slope * (s - s[end]), knots)


def extend_to_zero(knots: Floats, n: int) -> Floats:
    """Replace the knots, shape (K,), below the first few of n events by a power law of the rank.

    Its power is that of the lowest twentieth: 1 where the density at zero is finite, as electronic
    noise has it, and 0 at a threshold.
    """
    s = np.linspace(-S_MAX, S_MAX, len(knots))
    lower = np.array([min(0.1, 3 / n), max(0.05, min(0.3, 60 / n))])
    begin, end = np.clip(np.searchsorted(s, ndtri(lower)), 1, len(s) - 1)
    end = max(end, begin + 1) if begin < len(s) - 1 else end
    log_rank = log_ndtr(s)
    rise = log_rank[end] - log_rank[begin]
    power = np.clip((knots[end] - knots[begin]) / max(rise, 1e-9), 0.0, 1.0)
    return np.where(s < s[begin], knots[begin] + power * (log_rank - log_rank[begin]), knots)


class QuantileTables:
    """Quantile function of every cell: ln E at even knots in score s, mixed from its corners.

    Parameters
    ----------
    knots : Tensor, shape (n_tables · K,)
        ln(E / GeV) at the knots of all tables, one after another.
    null_mass : Tensor, shape (n_tables,)
        Probability of a null cell in each table.
    corners : list of (int64 Tensor, Tensor)
        Table of each cell and its share, for each of the tables that a cell mixes.
    n_knots : int
        K.
    """

    def __init__(
        self, knots: Tensor, null_mass: Tensor, corners: list[tuple[Tensor, Tensor]], n_knots: int
    ) -> None:
        self._knots, self._n_knots = knots, n_knots
        self._begins = [(index * n_knots, share) for index, share in corners]
        self._step = 2 * S_MAX / (n_knots - 1)
        self._corners = corners
        self.null_mass = self.mixed(null_mass)

    def of(self, chosen: Tensor) -> QuantileTables:
        """Tables of some cells, chosen by a mask, in a row; all that costs time is per cell."""
        part = copy(self)
        rows = chosen.flatten().nonzero()[:, 0]
        part._begins, part._corners = (
            [(_rows(index, rows), _rows(share, rows)) for index, share in corners]
            for corners in (self._begins, self._corners)
        )
        part.null_mass = _rows(self.null_mass, rows)
        return part

    def with_null_mass(self, null_mass: Tensor) -> QuantileTables:
        """The same tables with another probability of a null cell in each cell."""
        changed = copy(self)
        changed.null_mass = null_mass
        return changed

    def mixed(self, values: Tensor) -> Tensor:
        """Numbers of the tables, (n_tables,), mixed for every cell."""
        parts = (share * _taken(values, index) for index, share in self._corners)
        return sum(parts, torch.tensor(0.0))

    def _at(self, knot: Tensor) -> Tensor:
        values = [share * _taken(self._knots, begin + knot) for begin, share in self._begins]
        return sum(values[1:], values[0])

    def log_energy_of(self, s: Tensor) -> Tensor:
        """Linear between knots, and beyond them with the outermost slope."""
        position = (s + S_MAX) / self._step
        low = position.floor().long().clamp(0, self._n_knots - 2)
        left = self._at(low)
        return left + (position - low) * (self._at(low + 1) - left)

    def score_of(self, log_energy: Tensor) -> Tensor:
        """Inverse of :meth:`log_energy_of`, by bisection over the knots."""
        low = torch.zeros_like(log_energy, dtype=torch.int64)
        high = torch.full_like(low, self._n_knots - 1)
        for _ in range((self._n_knots - 1).bit_length()):
            middle = (low + high) // 2
            above = self._at(middle) <= log_energy
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        low = low.clamp(0, self._n_knots - 2)
        left = self._at(low)
        slope = (self._at(low + 1) - left).clamp_min(1e-9)
        return (low + (log_energy - left) / slope) * self._step - S_MAX


def _taken(values: Tensor, index: Tensor) -> Tensor:
    """``values[index]`` of a vector, in double precision; many times faster on a CPU."""
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return values.double()[index]  # one operation of a graph in the place of five
    return values.index_select(0, index.flatten()).double().view(index.shape)


def _rows(values: Tensor, rows: Tensor) -> Tensor:
    return values.flatten().index_select(0, rows)
