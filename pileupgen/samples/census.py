"""What is counted of a sample while it is read, so that it can be judged afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Floats, Ints
from pileupgen.calo.geometry import TWO_PI
from pileupgen.calo.towers import Towers
from pileupgen.fields import PlainRecord

_PROBE = 1 << 14
_LOOKED_FOR = 1 << 16
"""Towers with energy of a layer and chunk in which values are looked for that come again and
again, and towers among which these are."""
_KEPT = 2
"""Most frequent values that are kept."""
_MIX = np.uint64(0x9E3779B97F4A7C15)
_LOOKED_AT = 4096
"""Towers of a chunk that are looked at to tell whether an event has its towers twice."""
_ROWS_AT_ONCE = 1024
"""Towers whose places are compared with the next ones' in one call."""

Extreme = tuple[float, int]
"""A layer's lowest or highest energy in GeV, and how many towers have exactly this one."""


@dataclass
class TowerCensus:
    """Extremes of towers with energy; of several pieces by :meth:`add`."""

    phi: tuple[float, float] = (np.inf, -np.inf)
    eta: tuple[float, float] = (np.inf, -np.inf)
    """Lowest and highest centre; (inf, −inf) where there is no tower."""
    phi_span: float = 0.0
    """Largest difference of two φ in one event, in rad; where that of a chunk of events is no more
    than a turn, of that chunk."""
    is_phi_whole: bool = True
    is_eta_whole: bool = True
    """Whether every φ, and every η, is a whole number."""
    layers: tuple[str, ...] = ()
    """Order of the numbers by layer: the towers' own, whether or not the grid has them."""
    lowest: list[Extreme] = field(default_factory=list)
    highest: list[Extreme] = field(default_factory=list)
    """Least and greatest energy of a tower by layer: what the file has of it, E or E_T before the
    card's scale, in GeV by the card's unit."""
    distinct: list[float] = field(default_factory=list)
    """Number by layer of distinct energies over that of towers with energy, of the first ones and
    without the most frequent one; 1 where there is no other."""
    absolute: list[float] = field(default_factory=list)
    negative: list[float] = field(default_factory=list)
    """Σ|E| in GeV by layer, of all towers and of those below zero."""
    frequent: list[list[Extreme]] = field(default_factory=list)
    """Most frequent of these by layer among the towers looked at, and how many have them."""
    size: list[float] = field(default_factory=list)
    """Sum of their absolute values by layer."""
    n_looked_at: int = 0
    n_twice: int = 0
    """Towers looked at, and those that are, in place and energies, another one of their event."""
    left_out: dict[str, float] = field(default_factory=dict)
    """Σ|E| in GeV of cells that the card leaves out, by what they are called in the file."""
    collections: dict[str, float] = field(default_factory=dict)
    """ΣE in GeV by collection, where the card joins several."""

    @classmethod
    def of(cls, towers: Towers) -> TowerCensus:
        """Count a chunk of towers."""
        census = cls(
            layers=towers.layers,
            left_out=dict(towers.left_out),
            collections=dict(towers.collections),
        )
        has_energy = _with_energy(towers)
        if has_energy.any():
            eta, phi = towers.centres()
            is_all = bool(has_energy.all())
            if not is_all:
                eta, phi = eta[has_energy], phi[has_energy]
            if is_all and towers.edges.shape[1] == 2:
                census.eta, census.phi = _ends_of_rows(towers.edges)
            else:
                census.eta, census.phi = ((float(c.min()), float(c.max())) for c in (eta, phi))
            census.is_phi_whole = _are_whole(phi)
            census.is_eta_whole = _are_whole(eta)
            census.n_looked_at, census.n_twice = _count_twice(towers, has_energy)
            census.phi_span = census.phi[1] - census.phi[0]
            if census.phi_span > TWO_PI:
                census.phi_span = _span(phi, towers.event_index()[has_energy])
        numbers = _as_in_the_file(towers)
        for energy, number in zip(towers.energy.T, numbers.T, strict=True):
            low, high = _extremes(number)
            census.lowest.append(low)
            census.highest.append(high)
            probe = _first_filled(number)
            values, counts = _counted(probe)
            often = _frequent(values, counts)
            census.frequent.append(often)
            others = len(probe) - (often[0][1] if often else 0)
            census.distinct.append((len(values) - 1) / others if others else 1.0)
            total, below = _sum(energy), 0.0
            if low[0] < 0:
                below = -_sum(np.minimum(energy, 0))
            census.negative.append(below)
            census.absolute.append(total + 2 * below)
            is_energy = numbers is towers.energy
            census.size.append(census.absolute[-1] if is_energy else _sum(np.abs(number)))
        return census

    def add(self, later: TowerCensus) -> None:
        """Add what was counted of later towers."""
        if not self.layers:
            self.layers = later.layers
            self.lowest, self.highest = list(later.lowest), list(later.highest)
            self.distinct = list(later.distinct)
            self.absolute, self.negative = list(later.absolute), list(later.negative)
            self.frequent, self.size = list(later.frequent), list(later.size)
        else:
            self.lowest = [_extreme(a, b, low=True) for a, b in _pairs(self.lowest, later.lowest)]
            self.highest = [
                _extreme(a, b, low=False) for a, b in _pairs(self.highest, later.highest)
            ]
            self.absolute = [a + b for a, b in zip(self.absolute, later.absolute, strict=True)]
            self.negative = [a + b for a, b in zip(self.negative, later.negative, strict=True)]
            self.size = [a + b for a, b in zip(self.size, later.size, strict=True)]
            self.frequent = [
                _most_frequent([*a, *b]) for a, b in zip(self.frequent, later.frequent, strict=True)
            ]
        self.phi = (min(self.phi[0], later.phi[0]), max(self.phi[1], later.phi[1]))
        self.eta = (min(self.eta[0], later.eta[0]), max(self.eta[1], later.eta[1]))
        self.phi_span = max(self.phi_span, later.phi_span)
        self.is_phi_whole &= later.is_phi_whole
        self.is_eta_whole &= later.is_eta_whole
        self.n_looked_at += later.n_looked_at
        self.n_twice += later.n_twice
        for sums, more in (
            (self.left_out, later.left_out),
            (self.collections, later.collections),
        ):
            for name, energy in more.items():
                sums[name] = sums.get(name, 0.0) + energy


def _pairs(first: list[Extreme], second: list[Extreme]) -> list[tuple[Extreme, Extreme]]:
    return list(zip(first, second, strict=True))


def _as_in_the_file(towers: Towers) -> NDArray[np.float32]:
    """Numbers that the energies were made of, (n_towers, L), without what rounding added to them.

    A value that stands for a missing one is the same in all towers there, and not after it was
    multiplied by cosh η.
    """
    if towers.factor is None:
        return towers.energy
    numbers = (towers.energy / towers.factor[:, None]).astype(np.float32)
    bits = numbers.view(np.int32)
    # To the nearest of 21 significant bits: energies are rounded to 24 of them.
    bits[...] = (bits + 4) & ~7
    return numbers


def _with_energy(towers: Towers) -> NDArray[np.bool_]:
    """Whether each tower has energy in any layer, shape (n_towers,)."""
    # Column by column: along an axis of two numbers numpy is several times slower.
    first, *others = towers.energy.T
    has_energy = first != 0
    for energy in others:
        has_energy |= energy != 0
    return has_energy


def _sum(numbers: NDArray[np.float32]) -> float:
    """Sum to float32's precision: numpy adds in pairs, in half of the time that doubles take."""
    return float(numbers.sum())


def _are_whole(values: NDArray[Any]) -> bool:
    """Whether all are whole numbers; the first few mostly tell that they are not."""
    return all(bool(np.all(part == np.round(part))) for part in (values[:64], values[64:]))


def _most_frequent(counted: Iterable[Extreme]) -> list[Extreme]:
    """The most frequent of some values, which may be named more than once."""
    total: Counter[float] = Counter()
    for value, count in counted:
        total[value] += count
    return total.most_common(_KEPT)


def _ends_of_rows(rows: NDArray[Any]) -> list[tuple[float, float]]:
    """Lowest and highest number of each column of rows, shape (n, k) with n > 0.

    Many rows at a time are one of a wide array: along long rows numpy takes half of the time that
    a copy of each column would.
    """
    n_whole = len(rows) - len(rows) % _ROWS_AT_ONCE
    wide = np.ascontiguousarray(rows[:n_whole]).reshape(-1, _ROWS_AT_ONCE * rows.shape[1])
    ends = []
    for reduced in (np.minimum.reduce, np.maximum.reduce):
        parts = [rows[n_whole:]]
        if n_whole:
            parts.append(reduced(wide).reshape(_ROWS_AT_ONCE, -1))
        ends.append(reduced(np.concatenate(parts)))
    return [(float(low), float(high)) for low, high in zip(*ends, strict=True)]


def _extremes(numbers: NDArray[np.float32]) -> tuple[Extreme, Extreme]:
    """Lowest and highest number that is not zero, and how many are exactly these."""
    if not len(numbers):
        return (0.0, 0), (0.0, 0)
    low, high = numbers.min(), numbers.max()
    if low == 0:
        low = _least_above_zero(numbers)
    elif high == 0:
        high = -_least_above_zero(-numbers)
    return tuple(  # type: ignore[return-value]
        (float(end), int(np.count_nonzero(numbers == end)) if end else 0) for end in (low, high)
    )


def _least_above_zero(numbers: NDArray[np.float32]) -> np.float32:
    """Least of numbers none of which is below zero, but for the zeros; 0 where there are but zeros.

    Among positive floats the order is that of their bits; those of 0, less one, are the greatest.
    """
    # One number is kept an array, which wraps around without a warning.
    bits = (numbers.view(np.uint32) - np.uint32(1)).min(keepdims=True) + np.uint32(1)
    return np.maximum(bits.view(np.float32)[0], np.float32(0))


def _first_filled(numbers: NDArray[np.float32]) -> NDArray[np.float32]:
    """The first ``_PROBE`` numbers that are not zero, of the first ``_LOOKED_FOR``."""
    looked_at = numbers[:_LOOKED_FOR]
    return looked_at[np.flatnonzero(looked_at != 0)[:_PROBE]]


def _counted(numbers: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Distinct numbers, ascending, and how often each comes; faster than numpy.unique."""
    ordered = np.sort(numbers)
    is_last = np.ones(len(ordered), dtype=np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=is_last[:-1])
    last = np.flatnonzero(is_last)
    return ordered[last], np.diff(last, prepend=-1)


def _frequent(values: NDArray[Any], counts: NDArray[np.int64]) -> list[Extreme]:
    """The most frequent values, the lowest of equally frequent ones first."""
    often = []
    for _ in range(min(_KEPT, len(values))):
        first = int(counts.argmax())
        often.append((float(values[first]), int(counts[first])))
        counts[first] = 0
    return often


def _count_twice(towers: Towers, has_energy: NDArray[np.bool_]) -> tuple[int, int]:
    """Towers with energy of the first events, and those that repeat another one of their event."""
    last = max(int(np.searchsorted(towers.offsets, _LOOKED_AT, side="right")) - 1, 1)
    n = int(towers.offsets[last])
    event = np.repeat(np.arange(last), np.diff(towers.offsets[: last + 1]))
    columns = [event, *towers.edges[:n].T, *towers.energy[:n].T]
    key = np.zeros(n, dtype=np.uint64)
    for column in columns:
        # Rows that differ have the same 64 bits once in 10¹² chunks; −0.0 is 0.
        key ^= (column.astype(np.float64) + 0.0).view(np.uint64)
        key *= _MIX
        key ^= key >> np.uint64(32)
    key = key[has_energy[:n]]
    key.sort()
    return len(key), int(np.count_nonzero(key[1:] == key[:-1]))


def _extreme(first: Extreme, second: Extreme, *, low: bool) -> Extreme:
    if not first[1] or not second[1]:
        return first if first[1] else second
    if first[0] == second[0]:
        return first[0], first[1] + second[1]
    return min(first, second) if low else max(first, second)


def _span(phi: NDArray[Any], event: Ints) -> float:
    """Largest difference of two φ in one event, whose towers lie one after another."""
    starts = np.flatnonzero(np.diff(event, prepend=-1))
    high, low = np.maximum.reduceat(phi, starts), np.minimum.reduceat(phi, starts)
    return float((high - low).max())


@dataclass(frozen=True)
class Census(PlainRecord):
    """What was counted of a whole sample."""

    towers: TowerCensus
    """Census of the towers as they were read."""
    n_events: int
    """Events."""
    n_empty: int
    """Events without energy in any cell, before the zero suppression."""
    n_duplicates: int
    """Events with energy that are, equal to another one in every cell."""
    n_mu_unknown: int
    n_mu_negative: int
    """Events whose μ is NaN or infinite, and below zero; the store has NaN for both."""
    mu_correlation: float
    """Correlation of μ with ΣE_T over events; NaN where either is constant or μ is not known."""
    n_negative_weights: int
    """Events with a weight below zero."""
    weight_sum: float
    weight_sum_abs: float
    n_effective: float
    """Σw, Σ|w| and (Σw)² / Σw²."""
    ring_hits: tuple[tuple[int, ...], ...]
    """Number of events × cells with energy, by layer and ring."""
    sector_hits: tuple[tuple[int, ...], ...]
    """The same by layer and φ column."""
    highest_mu: Extreme = (0.0, 0)
    next_mu: float = 0.0
    """Largest μ, how many events have exactly this one, and the largest of all others."""

    @property
    def is_weighted(self) -> bool:
        """Whether events have weights that differ."""
        return abs(self.n_effective - self.n_events) > 1e-9 * self.n_events


class EventTally:
    """Collects numbers of every event; eight bytes each and number."""

    def __init__(self) -> None:
        self.towers = TowerCensus()
        self._columns: dict[str, list[Floats]] = {
            name: [] for name in ("mu", "sum_et", "weight", "signature")
        }

    def add(self, towers: TowerCensus, **columns: NDArray[Any]) -> None:
        """Add a chunk: ``mu``, ``sum_et``, ``weight`` and ``signature``, shape (n,)."""
        self.towers.add(towers)
        for name, values in columns.items():
            self._columns[name].append(np.asarray(values, dtype=np.float64))

    def column(self, name: str) -> Floats:
        """All events' numbers."""
        return np.concatenate(self._columns[name]) if self._columns[name] else np.empty(0)

    def census(self, hits: Ints) -> Census:
        """Judge the events together; ``hits`` are counts by cell, (L, n_eta, n_phi)."""
        mu, weight = self.column("mu"), self.column("weight")
        signature = self.column("signature")
        filled = signature[signature != 0]
        is_known = np.isfinite(mu) & (mu >= 0)
        squares = float(np.square(weight).sum())
        known = mu[is_known]
        largest = float(known.max(initial=0.0))
        highest = (largest, int(np.count_nonzero(known == largest)))
        below = float(known[known < largest].max(initial=0.0))
        return Census(
            towers=self.towers,
            n_events=len(weight),
            n_empty=len(signature) - len(filled),
            n_duplicates=len(filled) - len(np.unique(filled)),
            n_mu_unknown=int(np.count_nonzero(~np.isfinite(mu))),
            n_mu_negative=int(np.count_nonzero(mu < 0)),
            mu_correlation=_correlation(known, self.column("sum_et")[is_known]),
            n_negative_weights=int(np.count_nonzero(weight < 0)),
            weight_sum=float(weight.sum()),
            weight_sum_abs=float(np.abs(weight).sum()),
            n_effective=float(weight.sum()) ** 2 / squares if squares else 0.0,
            ring_hits=tuple(tuple(int(n) for n in row) for row in hits.sum(axis=2)),
            sector_hits=tuple(tuple(int(n) for n in row) for row in hits.sum(axis=1)),
            highest_mu=highest,
            next_mu=below,
        )


def _correlation(x: Floats, y: Floats) -> float:
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])
