"""Values of one layer's cells to Gaussian scores and back, by their ranks.

In ascending order come the negative hits, the mass of null cells (exactly 0), the positive hits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.special import ndtr
from torch import Tensor

from pileupgen.models.calibration.quantiles import QuantileTables
from pileupgen.models.calibration.tails import Tail
from pileupgen.models.calibration.ties import Ties

S_LOWEST = -4.5
"""Lowest score of a hit: far enough from the null cells to stay a hit in single precision."""
S_HIGHEST = 4.5
"""Highest score of a hit among hits where no line says what is beyond: a largest value that comes
again and again, or a table of few hits."""
PROBABILITY_RANGE = _TINY, _ALMOST_ONE = 1e-60, 1 - 1e-12
"""Ranks are kept within."""
_LARGEST_TAIL = float(ndtr(-S_LOWEST))


@dataclass(frozen=True)
class Negatives:
    """Negative hits of one layer."""

    tables: QuantileTables
    """Tables of ln(|E| / GeV)."""
    mass: Tensor
    """Probability of a negative hit in each cell."""


@dataclass(frozen=True)
class CellRanks:
    """Ranks of one layer's cells, given tables for every cell."""

    tables: QuantileTables
    """Tables of ln(E / GeV) of positive hits, with the mass of null cells."""
    is_alive: Tensor
    """A dead cell takes any rank when encoded, and is null when decoded. Shape (n_eta, n_phi)."""
    negatives: Negatives | None
    """Ranks of negative hits; None where no cell is ever negative."""
    ties: Ties
    """A tied value takes any rank within its mass."""
    upper: Tail | None = None
    lower: Tail | None = None
    """What lies above and below the quantiles that are well measured; ``lower`` where there are
    negative hits, or no null cells."""

    def encode(self, value: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Values to scores.

        Parameters
        ----------
        value : float64 Tensor, shape (N, n_eta, n_phi)
            GeV.
        uniform : float64 Tensor, shape (N, n_eta, n_phi)
            In [0, 1]: the place of a null or tied cell within its mass.

        Returns
        -------
        score, condition : float64 Tensors, shape (N, n_eta, n_phi)
            The condition is the rank among hits, that of a tied value the middle of its mass; −1
            for null cells.
        """
        hit = value > 0
        null = self.tables.null_mass
        tail = self._tail(value, 1 - uniform)
        mass = torch.where(self.is_alive, null, 1.0)
        if self.negatives is None:
            upper = torch.where(hit, (1 - null) * tail, 1 - mass * uniform)
            score = -torch.special.ndtri(upper.clamp(_TINY, _ALMOST_ONE))
            score, tail, _ = self._encode_beyond(value, score, tail, tail)
            return score, self._condition(value, tail, tail)
        below = self.negatives.mass
        above_null = 1 - torch.where(self.is_alive, below, 0.0) - mass * uniform
        upper = torch.where(hit, (1 - null - below) * tail, above_null)
        score = -torch.special.ndtri(upper.clamp(_TINY, _ALMOST_ONE))
        negative_tail = self._negative_tail(value, uniform)
        negative = torch.special.ndtri((below * negative_tail).clamp(_TINY, _ALMOST_ONE))
        score = torch.where(value < 0, negative, score)
        score, tail, negative_tail = self._encode_beyond(value, score, tail, negative_tail)
        return score, self._condition(value, tail, negative_tail)

    def _encode_beyond(
        self, value: Tensor, score: Tensor, tail: Tensor, negative_tail: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Scores on the lines beyond the quantiles, and the probabilities to be further out."""
        if self.upper is not None:
            beyond = (value > 0) & (score > self.upper.begins())
            if bool(beyond.any()):
                found = self.upper.score_of(value[beyond], beyond)
                score = score.masked_scatter(beyond, found)
                further = torch.special.ndtr(-found) / self.upper.mass[beyond]
                tail = tail.masked_scatter(beyond, further)
        if self.lower is not None:
            has_sign = value < 0 if self.lower.end > 0 else value > 0
            beyond = has_sign & (-score > self.lower.begins())
            if bool(beyond.any()):
                found = self.lower.score_of(value[beyond].abs(), beyond)
                score = score.masked_scatter(beyond, -found)
                further = torch.special.ndtr(-found) / self.lower.mass[beyond]
                if self.lower.end > 0:
                    negative_tail = negative_tail.masked_scatter(beyond, further)
                else:
                    tail = tail.masked_scatter(beyond, 1 - further)
        return score, tail, negative_tail

    def decode(self, score: Tensor) -> tuple[Tensor, Tensor]:
        """Scores to values; ``(value, condition)``, the inverse of :meth:`encode`."""
        null = self.tables.null_mass
        below = torch.zeros_like(null) if self.negatives is None else self.negatives.mass
        tail = torch.special.ndtr(-score) / (1 - null - below)
        hit = (tail < 1) & self.is_alive
        value = _size_of(self.tables, tail, hit)
        negative_tail = tail
        if self.negatives is not None:
            negative_tail = torch.special.ndtr(score) / below.clamp_min(_TINY)
            hit = (negative_tail < 1) & self.is_alive & (value == 0)
            value = value - _size_of(self.negatives.tables, negative_tail, hit)
        if self.upper is not None:
            beyond = (score > self.upper.begins()) & self.is_alive
            if bool(beyond.any()):
                value = value.masked_scatter(beyond, self.upper.size_of(score[beyond], beyond))
        if self.lower is not None:
            beyond = (-score > self.lower.begins()) & self.is_alive
            if bool(beyond.any()):
                size = self.lower.size_of(-score[beyond], beyond)
                value = value.masked_scatter(beyond, -size if self.lower.end > 0 else size)
        if len(self.ties):
            value = self.ties.snap(value)
        return value, self._condition(value, tail, negative_tail)

    def _condition(self, value: Tensor, tail: Tensor, negative_tail: Tensor) -> Tensor:
        """Rank among hits, given the probabilities to be larger or lower; −1 for null cells."""
        if len(self.ties):
            tail = self._tail(value, 0.5)
        if self.negatives is None:
            return torch.where(value > 0, 1 - tail, -1.0)
        if len(self.ties):
            negative_tail = self._negative_tail(value, 0.5)
        below = self.negatives.mass
        above = 1 - self.tables.null_mass - below
        rank = torch.where(value > 0, below + above * (1 - tail), below * negative_tail)
        return torch.where(value != 0, rank / (below + above), -1.0)

    def among_positive(self, value: Tensor, condition: Tensor) -> Tensor:
        """Rank of a positive hit among such, given its rank among all hits; −1 for other cells."""
        if self.negatives is None:
            return condition
        below = self.negatives.mass
        above = 1 - self.tables.null_mass - below
        return torch.where(value > 0, (condition * (below + above) - below) / above, -1.0)

    def _tail(self, value: Tensor, share: Tensor | float) -> Tensor:
        """Probability that a positive hit is larger; of a tie, this share of the way from above."""
        if not len(self.ties):
            return _tail_of(self.tables, value)
        low, high = self.ties.reach(value)
        far, near = _tail_of(self.tables, high), _tail_of(self.tables, low)
        return far + share * (near - far)

    def _negative_tail(self, value: Tensor, share: Tensor | float) -> Tensor:
        """Probability that a negative hit is lower; of a tie, this share of the way from below."""
        if self.negatives is None:
            raise RuntimeError("no negative hits are known")
        if not len(self.ties):
            return _tail_of(self.negatives.tables, -value)
        low, high = self.ties.reach(value)
        tables = self.negatives.tables
        far, near = _tail_of(tables, -low), _tail_of(tables, -high)
        return far + share * (near - far)


def _tail_of(tables: QuantileTables, size: Tensor) -> Tensor:
    """Probability that a hit is larger, at most that above the lowest score."""
    hit = size > 0
    s = tables.of(hit).score_of(torch.log(size[hit].clamp(1e-30, 1e30)))
    tail = torch.full_like(size, _LARGEST_TAIL)
    tail[hit] = torch.special.ndtr(-s.clamp_min(S_LOWEST))
    return tail


def _size_of(tables: QuantileTables, tail: Tensor, hit: Tensor) -> Tensor:
    """E of hits from the probability that one is larger; 0 of the rest."""
    s = -torch.special.ndtri(tail[hit].clamp(_TINY, _ALMOST_ONE)).clamp_max(S_HIGHEST)
    size = torch.zeros_like(tail)
    size[hit] = torch.exp(tables.of(hit).log_energy_of(s))
    return size
