"""Bunch crossings from single interactions: as many events of a library as μ says, added."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pileupgen.arrays import Ints
from pileupgen.calo.geometry import Grid
from pileupgen.errors import StoreError
from pileupgen.overlay.choice import Limits, PileupPool, choose
from pileupgen.overlay.library import Events
from pileupgen.progress import Advance, silent
from pileupgen.samples.mu_profile import MuProfile

_NUMBER_STREAM, _TURN_STREAM, _KEEP_STREAM = 14, 15, 16
_READ_EVENTS = 512


@dataclass(frozen=True)
class CrossingChoice:
    """The interactions of n crossings."""

    offsets: Ints
    """Crossing i has interactions ``offsets[i]`` … ``offsets[i + 1] − 1``. Shape (n + 1,)."""
    row: Ints
    """Row of the library of each interaction. Shape (offsets[-1],)."""
    turn: Ints
    """Cells in φ that each is turned by; 0 where the detector is not alike in φ. Shape as above."""
    n_uses: int
    """How often a source event is used at most."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def number(self) -> Ints:
        """Interactions of each crossing, shape (n,)."""
        return np.diff(self.offsets)

    def part(self, event: Ints) -> CrossingChoice:
        """The choice for consecutive crossings."""
        if not len(event):
            return CrossingChoice(np.zeros(1, dtype=np.int64), self.row[:0], self.turn[:0], 0)
        ends = self.offsets[event[0] : event[-1] + 2]
        inside = slice(int(ends[0]), int(ends[-1]))
        return CrossingChoice(ends - ends[0], self.row[inside], self.turn[inside], self.n_uses)


def choose_crossings(
    pool: PileupPool,
    n: int,
    seed: int,
    profile: MuProfile,
    reuse: int,
    step: int,
    n_turns: int,
    keep: float = 1.0,
) -> CrossingChoice:
    """Choose the interactions of n crossings; those of the first m do not depend on n.

    Parameters
    ----------
    pool : PileupPool
        The library of single interactions; they are dealt like pileup of one stratum.
    seed : int
        Seed of their numbers of interactions, of the order and of the turns.
    step, n_turns : int
        Each interaction is turned by a random one of so many steps of so many cells in φ; one step
        turns none.
    keep : float
        Part of the interactions that stay, the others being left out at random. What stays with a
        smaller part is some of what stays with a larger one; of Poisson numbers it is a Poisson
        number with that part of the mean.

    Raises
    ------
    StoreError
        If the library is too small for the reuse, or has fewer events than a crossing.
    """
    cumulative = np.cumsum(profile.probability)
    uniform = np.random.default_rng([seed, _NUMBER_STREAM]).random(n)
    place = np.searchsorted(cumulative / cumulative[-1], uniform, side="right")
    number = profile.mu[place]
    if number.max(initial=0) > pool.n_sources:
        raise StoreError(
            f"A crossing of {number.max():,} interactions would hold the same one twice: the "
            f"library has {pool.n_sources:,} source events.",
            "Make a larger library, or choose a profile of lower μ.",
        )
    offsets = np.concatenate([[0], np.cumsum(number)]).astype(np.int64)
    total = int(offsets[-1])
    found = choose(pool, total, seed, None, Limits(reuse))
    turn = np.random.default_rng([seed, _TURN_STREAM]).integers(n_turns, size=total) * step
    n_uses = int(found.use.max(initial=-1)) + 1
    if keep == 1:
        return CrossingChoice(offsets, found.row, turn, n_uses)
    stays = np.random.default_rng([seed, _KEEP_STREAM]).random(total) < keep
    offsets = np.concatenate([[0], np.cumsum(stays)])[offsets]
    return CrossingChoice(offsets, found.row[stays], turn[stays], n_uses)


@dataclass(frozen=True)
class SingleInteractions:
    """A library of single interactions in memory: only its hits."""

    hits: Any
    """GeV, float64. Sparse array of shape (S, L · n_eta · n_phi)."""
    grid: Grid
    """Its cells."""

    @classmethod
    def of(cls, events: Events, advance: Advance = silent) -> SingleInteractions:
        """Read a library whole."""
        parts = []
        for begin in range(0, len(events), _READ_EVENTS):
            rows = np.arange(begin, min(begin + _READ_EVENTS, len(events)), dtype=np.int64)
            energy = events.read(rows).energy.reshape(len(rows), -1)
            parts.append(sparse.csr_array(energy.astype(np.float64)))
            advance(len(rows))
        return cls(sparse.vstack(parts, format="csr"), events.grid)

    def add_up(self, choice: CrossingChoice) -> NDArray[np.float32]:
        """Add the interactions of each crossing, turned in φ; shape (n, L, n_eta, n_phi), GeV."""
        n, shape = len(choice), self.grid.shape
        crossing = np.repeat(np.arange(n), choice.number)
        total = np.zeros((n, *shape))
        for turn in np.unique(choice.turn):
            chosen = choice.turn == turn
            ones = np.ones(int(chosen.sum()))
            where = (ones, (crossing[chosen], choice.row[chosen]))
            counts = sparse.csr_array(where, shape=(n, self.hits.shape[0]))
            found = (counts @ self.hits).toarray().reshape(n, *shape)
            total += np.roll(found, turn, axis=-1)
        return total.astype(np.float32)
