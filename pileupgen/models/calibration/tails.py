"""What lies beyond the training's range: straight lines in score that both domains share.

A line fitted to the upper end of each domain's own quantiles would make E_out proportional to a
power of E_in, the ratio of the two slopes. Here both domains share the slope of a table, and where
the line begins in score, so that encoding with one domain's tables and decoding with the other's
multiplies E by a constant. Where a line begins it is the ratio of the table's own outermost
quantiles, beyond which three hits are left; from there it goes over into the median of such ratios
over the tables of the neighbouring rings, since a single one is known to a quarter only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import ndtr, ndtri
from torch import Tensor

from pileupgen.arrays import Floats
from pileupgen.models.calibration.quantiles import S_MAX, QuantileTables, upper_fractions

MAX_RATIO = 4.0
"""E_out / E_in beyond the training's range lies within 1/4 and 4."""
_NONE = 1e3
"""Beginning of a line that is not used: no score is that large."""
_MIN_SLOPE, _MAX_SLOPE = 0.05, 2.0
"""Limits of d ln E / d score of a line."""
_RING_REACH = 4
"""Rings on either side whose tables say with a ring's own what the ratio is beyond them."""


@dataclass(frozen=True)
class Spectrum:
    """Quantiles of the hits of one sign in one domain, of all tables."""

    log_energy: Floats
    """ln(E / GeV) at the knots. Shape (n_tables, K)."""
    mass: Floats
    """Probability of such a hit. Shape (n_tables,)."""
    n_hits: Floats
    """Hits that the quantiles were taken from; 0 where they say nothing of what is beyond. Shape
    (n_tables,)."""

    def at(self, score: Floats) -> Floats:
        """Find ln E at a score among hits, shape (n_tables,)."""
        n_knots = self.log_energy.shape[1]
        position = np.clip((score + S_MAX) / (2 * S_MAX) * (n_knots - 1), 0, n_knots - 1)
        low = np.minimum(position.astype(np.int64), n_knots - 2)[:, None]
        left, right = (np.take_along_axis(self.log_energy, i, 1)[:, 0] for i in (low, low + 1))
        return np.asarray(left + (position - low[:, 0]) * (right - left))


def fit_upper(spectra: tuple[Spectrum, Spectrum]) -> Floats:
    """Fit lines beyond the upper ends, shape (n_tables, 3).

    A line is its first score, its slope, and ln(E_data / E_mc) there. The first score is the lower
    one of the two domains' at which three hits are left.
    """
    begins, slopes = [], []
    for of in spectra:
        wide, narrow = upper_fractions(of.n_hits)
        inner, outer = -ndtri(of.mass * wide), -ndtri(of.mass * narrow)
        rise = of.at(-ndtri(narrow)) - of.at(-ndtri(wide))
        begins.append(np.minimum(outer, -ndtri(of.mass * ndtr(-S_MAX))))
        slopes.append(rise / np.maximum(outer - inner, 1e-6))
    begin = np.minimum(*begins)
    return _lines(spectra, begin, slopes, sign=1)


def fit_lower(spectra: tuple[Spectrum, Spectrum]) -> Floats:
    """Fit lines below the lower ends, where there are no null cells; scores count downwards."""
    begins, slopes = [], []
    for of in spectra:
        wide, narrow = upper_fractions(of.n_hits)
        rise = of.at(ndtri(wide)) - of.at(ndtri(narrow))
        begins.append(np.minimum(-ndtri(narrow), S_MAX))
        slopes.append(rise / np.maximum(ndtri(wide) - ndtri(narrow), 1e-6))
    return _lines(spectra, np.minimum(*begins), slopes, sign=-1)


def _lines(
    spectra: tuple[Spectrum, Spectrum],
    begin: Floats,
    slopes: list[Floats],
    sign: int,
) -> Floats:
    first = [of.at(-sign * ndtri(np.minimum(ndtr(-begin) / of.mass, 1.0))) for of in spectra]
    slope = np.clip(0.5 * (slopes[0] + slopes[1]), _MIN_SLOPE, _MAX_SLOPE)
    lines = np.stack([begin, slope, first[1] - first[0]], axis=1)
    known = np.minimum(spectra[0].n_hits, spectra[1].n_hits) > 0
    return np.where(known[:, None], lines, no_lines(len(begin)))


def in_agreement(lines: Floats) -> Floats:
    """Make lines of a layer, (R, M, B, 3), agree in their slope and in where their ratio ends.

    All lines of a ring that begin somewhere take their mean slope: the layer before has another
    rank in the target than in the source, and were the slope to depend on it, the ratio would grow
    with E. In place of ln(E_data / E_mc) comes a correction, which is added to it beyond: up to the
    median over the ring's and its neighbours' lines, within ``MAX_RATIO``.
    """
    known = lines[..., 0] < _NONE
    total = np.where(known, lines[..., 1], 0.0).sum(axis=(1, 2))
    slope = total / np.maximum(known.sum(axis=(1, 2)), 1)
    out, limit = lines.copy(), math.log(MAX_RATIO)
    out[..., 1] = np.where(slope > 0, slope, 1.0)[:, None, None]
    for ring in range(len(lines)):
        near = slice(max(ring - _RING_REACH, 0), ring + _RING_REACH + 1)
        ratios = lines[near, ..., 2][known[near]]
        target = float(np.clip(np.median(ratios), -limit, limit)) if len(ratios) else 0.0
        out[ring, ..., 2] = np.where(known[ring], target - lines[ring, ..., 2], 0.0)
    return out


def no_lines(n_tables: int) -> Floats:
    """Lines that are not used, shape (n_tables, 3)."""
    return np.tile(np.array([_NONE, 1.0, 0.0]), (n_tables, 1))


@dataclass(frozen=True)
class Tail:
    """The line beyond one end of every cell's quantiles."""

    tables: QuantileTables
    """Tables of ln|E| of the hits at that end."""
    lines: Tensor
    """From :func:`in_agreement`. Shape (n_tables, 3)."""
    mass: Tensor
    """Probability of such hits in each cell."""
    domain: int
    """0 mc, 1 data: each takes half of the ratio's correction."""
    end: int = 1
    """1 for the largest |E|, −1 for the smallest."""

    def begins(self) -> Tensor:
        """Score at which each cell's line begins, in the direction of the end."""
        return self.tables.mixed(self.lines[:, 0])

    def score_of(self, size: Tensor, chosen: Tensor) -> Tensor:
        """Scores, towards the end, of the |E| of chosen cells, which lie beyond."""
        begin, slope, shift, log_first = self._line(chosen)
        height = (self.end * (torch.log(size.clamp(1e-30, 1e30)) - log_first)).clamp_min(0)
        turn = 2 * shift.abs() + shift
        x = torch.where(
            height <= turn, height / (slope * (1 + 0.5 * shift.sign())), (height - shift) / slope
        )
        return begin + x

    def size_of(self, score: Tensor, chosen: Tensor) -> Tensor:
        """|E| of chosen cells, the inverse of :meth:`score_of`."""
        begin, slope, shift, log_first = self._line(chosen)
        x = (score - begin).clamp_min(0)
        height = slope * x + shift.sign() * torch.minimum(shift.abs(), 0.5 * slope * x)
        return torch.exp((log_first + self.end * height).clamp(-69, 69))

    def _line(self, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """First score, slope, this domain's part of the correction towards the end, first ln|E|."""
        part = self.tables.of(chosen)
        begin, slope, correction = (part.mixed(column) for column in self.lines.T)
        fraction = torch.special.ndtr(-begin) / self.mass[chosen].clamp_min(1e-60)
        s = -self.end * torch.special.ndtri(fraction.clamp(1e-60, 1 - 1e-12))
        shift = self.end * (0.5 if self.domain else -0.5) * correction
        return begin, slope, shift, part.log_energy_of(s)
