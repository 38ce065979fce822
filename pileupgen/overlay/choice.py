"""Which pileup event each hard scatter gets: by a profile of μ, and none more often than allowed.

A target value of μ is drawn for each event from the profile. The library's events of that μ, a
*stratum*, are dealt in an order that the seed fixes and that begins anew when it is through. So
what an event gets depends on the seed, the library, the profile and the event's own position, and
on those before it only by how many of them had the same target: neither on how many events follow
nor on who computes it. All of it is known before the first event is read, so that a limit on the
reuse can neither be passed by a job that is resumed nor be found out in the middle.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pileupgen.arrays import Floats, Ints
from pileupgen.errors import StoreError
from pileupgen.samples.mu_profile import MuProfile, strata

UNCOVERED = 0.01
"""Probability of the profile that may lie where the library has no events."""
_TARGET_STREAM, _ORDER_STREAM, _PART_STREAM = 11, 12, 13


@dataclass(frozen=True)
class PileupPool:
    """Pileup events to choose from."""

    row: Ints
    """Row of each of them in its library, ascending. Shape (N,)."""
    mu: Floats
    """Number of interactions; NaN where unknown. Shape (N,)."""
    source: Ints
    """Number of the event that each is of: translations of one event share it. Shape (N,)."""
    weight: Floats
    """Event weights, not negative. Shape (N,)."""

    @cached_property
    def n_sources(self) -> int:
        """Events that are not translations of each other."""
        return len(np.unique(self.source))

    def part(self, index: int, of: int) -> PileupPool:
        """Give the ``index``-th (from 1) of ``of`` parts that have no source event in common."""
        sources, place = np.unique(self.source, return_inverse=True)
        turn = np.random.default_rng([_PART_STREAM, len(sources)]).permutation(len(sources))
        kept = turn[place] % of == index - 1
        return PileupPool(self.row[kept], self.mu[kept], self.source[kept], self.weight[kept])


@dataclass(frozen=True)
class Limits:
    """How often events may be used."""

    reuse: int = 1
    """Uses of a source event of pileup."""
    copies: int = 1
    """Uses of a hard scatter, each with other pileup."""
    mu_tolerance: float = 2.0
    """How far from the μ that was drawn an event may lie, where those nearer are used up."""


@dataclass(frozen=True)
class Choice:
    """The pileup of n events, in their order."""

    row: Ints
    """Row of the library. Shape (n,)."""
    use: Ints
    """How often its source event was used before. Shape (n,)."""
    weight: Floats
    """Weight of the pileup event over the mean of those that it was drawn among. Shape (n,)."""
    n_moved: int
    """Events whose pileup is not of the μ that was drawn, since that was used up."""
    uncovered: float
    """Probability of the profile that was left out, since the library has nothing near it."""

    def __len__(self) -> int:
        return len(self.row)


def choose(
    pool: PileupPool, n: int, seed: int, profile: MuProfile | None, limits: Limits
) -> Choice:
    """Choose pileup for n events; the choice for the first m of them does not depend on n.

    Parameters
    ----------
    n : int
        Events to be overlaid: hard scatters times copies, the copies of one next to each other.
    profile : MuProfile or None
        Target; None takes the library as it is, whether μ is known or not.

    Raises
    ------
    StoreError
        If the profile lies outside the library's μ, the library is too small for the limits, or
        copies of a hard scatter would meet the same pileup.
    """
    if profile is None:
        stratum = np.zeros(len(pool.mu), dtype=np.int64)
        usable = np.ones(len(pool.mu), dtype=bool)
    else:
        usable = np.isfinite(pool.mu) & (pool.mu >= 0)
        stratum = _by_source(strata(np.where(usable, pool.mu, 0)), pool.source)
    if not usable.any():
        raise StoreError(
            "The library has no events of known μ to choose from.",
            "Take --mu-profile library, or name μ in the card of the sample.",
        )
    deck = _Deck(pool, np.flatnonzero(usable), stratum[usable], seed)
    if profile is None:
        near, wanted, uncovered = [np.zeros(1, dtype=np.int64)], np.zeros(n, dtype=np.int64), 0.0
    else:
        near = [deck.near(int(mu), limits.mu_tolerance) for mu in profile.mu]
        wanted, uncovered = _draw(profile, near, deck.mu, n, seed)
    taken = _take(wanted, near, deck, limits.reuse)
    row, use = deck.deal(taken, _rank(taken))
    if limits.copies > 1:
        _require_other_pileup(pool, row, limits.copies)
    n_moved = 0 if profile is None else int(np.sum(deck.mu[taken] != profile.mu[wanted]))
    return Choice(pool.row[row], use, deck.weight(row, taken), n_moved, uncovered)


def _by_source(stratum: Ints, source: Ints) -> Ints:
    """Give all rows of a source event the stratum of its first one."""
    _, first, place = np.unique(source, return_index=True, return_inverse=True)
    return np.asarray(stratum[first][place], dtype=np.int64)


def _draw(
    profile: MuProfile, near: list[Ints], known: Ints, n: int, seed: int
) -> tuple[Ints, float]:
    """Draw n places in the profile, those without events near them left out; and what these are."""
    is_covered = np.array([len(found) > 0 for found in near])
    uncovered = float(profile.probability[~is_covered].sum())
    if uncovered > UNCOVERED:
        raise StoreError(
            f"{uncovered:.1%} of the μ profile (⟨μ⟩ = {profile.mean:.1f}, {profile.mu[0]} … "
            f"{profile.mu[-1]}) lie where the library has no events: its μ is {known[0]} … "
            f"{known[-1]}.",
            "Choose a profile within it, or make a library that covers the profile.",
        )
    cumulative = np.cumsum(np.where(is_covered, profile.probability, 0.0))
    uniform = np.random.default_rng([seed, _TARGET_STREAM]).random(n)
    wanted = np.searchsorted(cumulative / cumulative[-1], uniform, side="right")
    return wanted.astype(np.int64), uncovered


class _Deck:
    """Strata of the pool, the source events of each in an order that the seed fixes."""

    def __init__(self, pool: PileupPool, rows: Ints, stratum: Ints, seed: int) -> None:
        self._weight = pool.weight
        self.mu, place = np.unique(stratum, return_inverse=True)
        # Rows by stratum, source and place; the rows of a source event are used in turn.
        order = np.lexsort((rows, pool.source[rows], place))
        self._rows = rows[order]
        source, place = pool.source[self._rows], place[order]
        begins = np.flatnonzero(np.diff(source, prepend=source[0] - 1))
        self._n_rows = np.diff(np.append(begins, len(source)))
        of_source = place[begins]
        self.n_sources = np.bincount(of_source, minlength=len(self.mu)).astype(np.int64)
        self._first = np.cumsum(self.n_sources) - self.n_sources
        self._begin = begins
        self._turn = np.concatenate(
            [
                first + np.random.default_rng([seed, _ORDER_STREAM, int(mu)]).permutation(count)
                for mu, first, count in zip(self.mu, self._first, self.n_sources, strict=True)
            ]
        )
        total = np.bincount(place, weights=self._weight[self._rows], minlength=len(self.mu))
        self._mean = total / np.bincount(place, minlength=len(self.mu))

    def near(self, mu: int, tolerance: float) -> Ints:
        """Strata that may stand for a value of μ, the nearest first."""
        distance = np.abs(self.mu - mu)
        order = np.lexsort((self.mu, distance))
        return np.asarray(order[distance[order] <= tolerance], dtype=np.int64)

    def deal(self, stratum: Ints, rank: Ints) -> tuple[Ints, Ints]:
        """Rows of the pool that events of these strata and ranks in them get, and their use."""
        lap, turn = np.divmod(rank, self.n_sources[stratum])
        source = self._turn[self._first[stratum] + turn]
        return self._rows[self._begin[source] + lap % self._n_rows[source]], lap

    def weight(self, row: Ints, stratum: Ints) -> Floats:
        """Weights of rows over the means of their strata."""
        mean = self._mean[stratum]
        return np.where(mean > 0, self._weight[row] / np.where(mean > 0, mean, 1.0), 0.0)


def _rank(stratum: Ints) -> Ints:
    """How many events before each have the same stratum."""
    order = np.argsort(stratum, kind="stable")
    sizes = np.bincount(stratum)
    rank = np.empty(len(stratum), dtype=np.int64)
    rank[order] = np.arange(len(stratum)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return rank


def _take(wanted: Ints, near: list[Ints], deck: _Deck, reuse: int) -> Ints:
    """Stratum of each event: the nearest one to its target that is not used up."""
    capacity = deck.n_sources * reuse
    nearest = np.array([found[0] if len(found) else 0 for found in near], dtype=np.int64)
    taken = nearest[wanted]
    late = np.flatnonzero(_rank(taken) >= capacity[taken])
    if not len(late):
        return taken
    # From the first event on that finds its stratum used up, one after another.
    used = np.bincount(taken[: late[0]], minlength=len(capacity)).tolist()
    room, choices = capacity.tolist(), [found.tolist() for found in near]
    for event in range(int(late[0]), len(wanted)):
        found = next((one for one in choices[wanted[event]] if used[one] < room[one]), None)
        if found is None:
            raise _too_small(event, wanted, near, deck, reuse)
        used[found] += 1
        taken[event] = found
    return taken


def _too_small(event: int, wanted: Ints, near: list[Ints], deck: _Deck, reuse: int) -> StoreError:
    nearest = np.array([found[0] if len(found) else 0 for found in near])
    demand = np.bincount(nearest[wanted], minlength=len(deck.mu))
    enough = int(np.ceil(demand / deck.n_sources).max())
    found = near[wanted[event]]
    mu = deck.mu[found]
    where = "" if len(deck.mu) == 1 else f" of μ = {mu.min()} … {mu.max()}"
    return StoreError(
        f"The library is too small: its {int(deck.n_sources[found].sum()):,} source events{where} "
        f"are used {reuse} times each after {event:,} of {len(wanted):,} events.",
        f"Overlay fewer events, or allow --max-reuse {enough}.",
    )


def _require_other_pileup(pool: PileupPool, row: Ints, copies: int) -> None:
    """Refuse copies of a hard scatter that would meet the same source event."""
    whole = len(row) // copies * copies
    sources = np.sort(pool.source[row[:whole]].reshape(-1, copies), axis=1)
    twice = np.flatnonzero((np.diff(sources, axis=1) == 0).any(axis=1))
    if len(twice):
        mu = pool.mu[row[twice[0] * copies]]
        where = f" near μ = {mu:g}" if np.isfinite(mu) else ""
        raise StoreError(
            f"{copies} copies of a hard scatter would meet the same pileup {len(twice):,} times: "
            f"the library has too few source events{where}.",
            "Take fewer --copies or a larger library.",
        )
