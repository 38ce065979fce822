"""Which interactions of the pool make up which event."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pileupgen.errors import UnreadableInputError

PILEUP_STREAM, ORDER_STREAM = 1, 6
"""Parts of a sample's seed: what happened in an event, and the order in which separate pools are
gone through."""

Shares = Sequence[tuple[float, float]]
"""Separate pools: part of the sample's events, and how often each interaction is used."""


@dataclass(frozen=True)
class Multiplicity:
    """The law of the number of interactions of an event."""

    seed: int
    """The sample's seed."""
    mu: NDArray[np.float64]
    """Values of μ. Shape (k,)."""
    cumulative: NDArray[np.float64]
    """Cumulative probabilities of them, the last 1. Shape (k,)."""
    is_poisson: bool
    """Whether the number is Poisson around μ, or μ itself."""

    @classmethod
    def of(
        cls, seed: int, profile: Sequence[tuple[float, float]], *, is_poisson: bool
    ) -> Multiplicity:
        """From [μ, probability] pairs."""
        cumulative = np.cumsum([probability for _, probability in profile])
        mu = np.array([mu for mu, _ in profile], dtype=np.float64)
        return cls(seed, mu, cumulative / cumulative[-1], is_poisson)

    def draw(self, event: int) -> tuple[int, np.random.Generator]:
        """Number of interactions of an event, and the generator of all else that happens in it."""
        rng = np.random.default_rng([self.seed, PILEUP_STREAM, event])
        mu = self.mu[np.searchsorted(self.cumulative, rng.random(), side="right")]
        return int(rng.poisson(mu)) if self.is_poisson else round(float(mu)), rng

    def counts(self, n_events: int) -> NDArray[np.int64]:
        """Numbers of interactions of the first events, shape ``(n_events,)``."""
        return np.array([self.draw(event)[0] for event in range(n_events)], dtype=np.int64)


@dataclass(frozen=True)
class Allotment:
    """Interactions of events whose pools are separate.

    Within a pool interactions are taken in random order and without replacement; only when all were
    used, they are used again. So no event contains an interaction twice (but where a pool ends and
    begins again), and each event by itself is distributed as one of interactions made for it
    alone.
    """

    pool: NDArray[np.int64]
    """Which pool each event's interactions are from. Shape (n_events,)."""
    interaction: NDArray[np.int64]
    """Interactions of all events, those of a pool's first event first. Shape (n,)."""
    offsets: NDArray[np.int64]
    """Where an event's interactions begin in ``interaction``. Shape (n_events,)."""
    bounds: NDArray[np.int64]
    """Pool p has rows ``bounds[p] … bounds[p + 1] − 1``. Shape (n_pools + 1,)."""

    @classmethod
    def of(
        cls, shares: Shares, counts: NDArray[np.int64], seed: int, n_interactions: int
    ) -> Allotment:
        """Allot the interactions of one file to events, pool after pool.

        Parameters
        ----------
        shares : sequence of (part, uses)
            Part of the events, and how often each interaction is used; of each pool.
        counts : int64 array, shape (n_events,)
            Interactions of each event.
        seed : int
            Of the order.
        n_interactions : int
            Interactions there are; of more than :func:`pool_sizes` asks for, the first are taken.

        Raises
        ------
        UnreadableInputError
            If they are fewer, as those of files may be; with the uses that would do.
        """
        pool = pools_of(shares, len(counts))
        sizes = pool_sizes(shares, counts)
        if sum(sizes) > n_interactions:
            raise UnreadableInputError(
                f"{len(shares)} separate pools for {len(counts):,} events need {sum(sizes):,} "
                f"interactions, each used {_text(shares)} times; the files have "
                f"{n_interactions:,}.",
                _advice(shares, counts, n_interactions),
            )
        bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        offsets = np.zeros(len(counts), dtype=np.int64)
        parts, begin = [], 0
        for number, (low, high) in enumerate(pairwise(bounds)):
            events = np.flatnonzero(pool == number)
            n_drawn = int(counts[events].sum())
            offsets[events] = begin + np.cumsum(counts[events]) - counts[events]
            rng = np.random.default_rng([seed, ORDER_STREAM, number])
            rows = np.arange(low, high)
            turns = [rng.permutation(rows) for _ in range(-(-n_drawn // len(rows)))]
            parts.append(np.concatenate([rows[:0], *turns])[:n_drawn])
            begin += n_drawn
        return cls(pool, np.concatenate(parts), offsets, bounds)

    def rows_of(self, event: int) -> tuple[int, int]:
        """First row of an event's pool, and one past its last."""
        pool = self.pool[event]
        return int(self.bounds[pool]), int(self.bounds[pool + 1])

    def of_event(self, event: int, n: int) -> NDArray[np.int64]:
        """Rows of an event's ``n`` interactions."""
        begin = int(self.offsets[event])
        return self.interaction[begin : begin + n]


def pools_of(shares: Shares, n_events: int) -> NDArray[np.int64]:
    """Which pool each event is from: alternating, so that any first events have them in proportion.

    Parameters
    ----------
    shares : sequence of (part, uses)
        Only the parts count.
    n_events : int
        Number of events.

    Returns
    -------
    int64 array, shape (n_events,)

    >>> pools_of([(0.6, 3), (0.15, 3), (0.25, 1)], 10).tolist()
    [0, 2, 0, 1, 0, 0, 2, 0, 0, 1]
    """
    part = np.array([share for share, _ in shares])
    found = np.empty(n_events, dtype=np.int64)
    n = np.zeros(len(part))
    for event in range(n_events):
        found[event] = np.argmax(np.round(part * (event + 1) - n, 9))
        n[found[event]] += 1
    return found


def pool_sizes(shares: Shares, counts: NDArray[np.int64]) -> tuple[int, ...]:
    """Interactions of each pool that events of ``counts`` interactions need.

    At least those of its largest event, so that few events do not hold interactions twice.
    """
    pool = pools_of(shares, len(counts))
    drawn = np.bincount(pool, weights=counts, minlength=len(shares))
    largest = np.ones(len(shares), dtype=np.int64)
    np.maximum.at(largest, pool, counts)
    return tuple(
        max(int(most), int(np.ceil(n / uses)))
        for most, n, (_, uses) in zip(largest, drawn, shares, strict=True)
    )


def _text(shares: Shares) -> str:
    return ", ".join(f"{uses:g}" for _, uses in shares)


def _advice(shares: Shares, counts: NDArray[np.int64], n_interactions: int) -> str:
    """Say which uses of the interactions there are would do, if any."""
    least = sum(pool_sizes([(part, np.inf) for part, _ in shares], counts))
    if least > n_interactions:
        return (
            f"Name more files: {least:,} are in the largest event of each pool, and none is in an "
            "event twice."
        )
    more = list(shares)
    while sum(pool_sizes(more, counts)) > n_interactions:
        # Rounded up, so that what is advised is enough.
        more = [(part, np.ceil(uses * 1.02 * 100) / 100) for part, uses in more]
    said = ", ".join(f"[{part:g}, {uses:g}]" for part, uses in more)
    return (
        f"Name more files, ask for fewer events, or use them more often: separate_pools: [{said}]."
    )
