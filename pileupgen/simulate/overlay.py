"""Pileup by overlay, as Delphes' ``PileUpMerger`` does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from pileupgen.arrays import Flags, Floats, Ints
from pileupgen.parallel.chunks import Work
from pileupgen.simulate.allotment import Allotment
from pileupgen.simulate.calorimeter import TWO_PI, Calorimeter
from pileupgen.simulate.fixed_images import FixedImages
from pileupgen.simulate.interactions import Interactions
from pileupgen.simulate.pool import read_pool
from pileupgen.simulate.propagation import Paths, propagate
from pileupgen.simulate.response import BeamSpot, ResponseCard
from pileupgen.simulate.rho import GridMedian
from pileupgen.simulate.spec import SampleSpec

DETECTOR_STREAM, OUT_OF_TIME_STREAM, PERIOD_STREAM, ROW_STREAM, VERTEX_STREAM = 2, 3, 4, 5, 7
"""Parts of an event's seed: what the detector made of it, what happened in the crossings before and
after, its period, and what happened in a row of crossings; and of the sample's seed: vertices of
interactions in other crossings."""

_AT_ONCE = 200_000
"""Particles whose cells are found together."""


@dataclass(frozen=True)
class Deposits:
    """The pool as a detector sees it: particles that leave energy, with their paths."""

    offsets: Ints
    """Interaction i owns rows ``offsets[i]:offsets[i + 1]``. Shape (n_interactions + 1,)."""
    em: NDArray[np.float32]
    had: NDArray[np.float32]
    """Energy deposited in each layer in GeV. Shape (n,)."""
    paths: Paths
    """Paths of the same particles."""

    @classmethod
    def of(cls, pool: Interactions, card: ResponseCard) -> Deposits:
        """Share out the energy of each particle, and prepare its path."""
        code = np.abs(pool.pid)
        em, had = (np.full(len(code), part, np.float32) for part in card.energy_fractions[0])
        for named, fractions in card.energy_fractions.items():
            if named != 0:
                rows = np.flatnonzero(code == named)
                em[rows], had[rows] = fractions
        seen = em + had > 1e-9
        rows = np.flatnonzero(seen)
        energy = pool.energy[rows]
        return cls(
            offsets=np.concatenate([[0], np.cumsum(seen)])[pool.offsets],
            em=energy * em[rows],
            had=energy * had[rows],
            paths=propagate(pool, rows, card.field),
        )


@dataclass(frozen=True)
class Pileup:
    """The interactions that make up an event."""

    interaction: Ints
    """Rows of the pool. Shape (n,)."""
    rotation: NDArray[np.float32]
    """Turn in φ, rad. Shape (n,)."""
    mirror: NDArray[np.float32]
    """−1 where the interaction is mirrored in η, else 1. Shape (n,)."""
    z: NDArray[np.float32]
    """Vertices on the beam line in m; the first is that of the empty event the pileup is laid over.
    Shape (n + 1,)."""

    def some(self, chosen: Flags) -> Pileup:
        """Give some of the interactions, the first vertex kept."""
        z = np.concatenate([self.z[:1], self.z[1:][chosen]])
        return Pileup(self.interaction[chosen], self.rotation[chosen], self.mirror[chosen], z)


@dataclass(frozen=True)
class _Row:
    """Interactions of consecutive crossings."""

    pileup: Pileup
    crossing: Ints
    """Crossing of each interaction; 0 is the first one that is read out. Shape (n,)."""

    def of_crossing(self, crossing: int) -> Pileup:
        """Interactions of one crossing."""
        return self.pileup.some(self.crossing == crossing)


class Overlay:
    """Makes events; each depends on the spec's seed and its own number alone.

    Interactions are drawn from the pool with replacement, where pools are separate as
    :class:`~pileupgen.simulate.allotment.Allotment` says.

    Parameters
    ----------
    pool : Interactions or None
        The spec's minimum-bias pool; None without pileup.
    """

    def __init__(
        self,
        spec: SampleSpec,
        pool: Interactions | None,
        card: ResponseCard,
        hard: Interactions | None = None,
    ) -> None:
        self.spec = spec
        self.card = card
        self.calorimeter = Calorimeter(card)
        self.deposits = None if pool is None else Deposits.of(pool, card)
        self.hard = None if hard is None else Deposits.of(hard, card)
        self._rho = GridMedian(self.calorimeter.grid)
        self._detector = int(card.fingerprint(), 16)
        self._multiplicity = spec.multiplicity
        self.allotment: Allotment | None = None
        if spec.separate_pools is not None and pool is not None:
            counts = self._multiplicity.counts(spec.n_events)
            self.allotment = Allotment.of(spec.separate_pools, counts, spec.seed, len(pool))
        parts = np.cumsum([period.part for period in card.periods] or [1.0])
        self._periods = parts / parts[-1]
        self._row: tuple[int, _Row] | None = None
        self._images: FixedImages | None = None

    def period(self, event: int) -> int:
        """Place of an event's period among the card's; crossings in a row share theirs."""
        row = event // self.spec.consecutive
        uniform = np.random.default_rng([self.spec.seed, PERIOD_STREAM, row]).random()
        return int(np.searchsorted(self._periods, uniform, side="right"))

    def draw(self, event: int) -> Pileup:
        """Choose the interactions of an event."""
        if self.spec.consecutive > 1:
            place = event % self.spec.consecutive
            return self._row_of(event).of_crossing(place)
        n, rng = self._multiplicity.draw(event)
        drawn = self._interactions(rng, n, event)
        if self.allotment is None:
            return drawn
        return replace(drawn, interaction=self.allotment.of_event(event, n))

    def _interactions(self, rng: np.random.Generator, n: int, event: int) -> Pileup:
        """Draw n interactions from the event's pool, with replacement."""
        low, high = 0, 1 if self.deposits is None else len(self.deposits.offsets) - 1
        if self.allotment is not None:
            low, high = self.allotment.rows_of(event)
        interaction = rng.integers(low, high, size=n)
        rotation = rng.uniform(-np.pi, np.pi, size=n).astype(np.float32)
        z = _vertices(self.card.beam_spot, rng.random(n + 1))
        mirror = np.ones(n, dtype=np.float32)
        if self.spec.mirror_eta:
            mirror[rng.random(n) < 0.5] = -1
        return Pileup(interaction, rotation, mirror, z)

    def _row_of(self, event: int) -> _Row:
        """All interactions that the readout of an event's row of crossings sees."""
        number = event // self.spec.consecutive
        if self._row is None or self._row[0] != number:
            rng = np.random.default_rng([self.spec.seed, ROW_STREAM, number])
            bunches, (first, last) = self.spec.bunches, self.card.crossings
            crossing = np.arange(first, last + self.spec.consecutive)
            filled = crossing[bunches[(rng.integers(len(bunches)) + crossing) % len(bunches)]]
            law = self._multiplicity
            mu = law.mu[np.searchsorted(law.cumulative, rng.random(len(filled)), side="right")]
            counts = rng.poisson(mu) if law.is_poisson else np.round(mu).astype(np.int64)
            pileup = self._interactions(rng, int(counts.sum()), event)
            self._row = number, _Row(pileup, np.repeat(filled, counts))
        return self._row[1]

    def deposit(self, event: int, pileup: Pileup) -> Floats:
        """Energy that an event leaves in each cell, GeV, shape ``(2, n_cells)``."""
        found = np.zeros((2, self.calorimeter.grid.n_cells))
        if self.deposits is not None and len(pileup.interaction):
            found += self._deposit(self.deposits, pileup)
        if self.hard is not None:
            # As it was generated, at the first vertex.
            scatter = Pileup(
                interaction=np.array([event]),
                rotation=np.zeros(1, dtype=np.float32),
                mirror=np.ones(1, dtype=np.float32),
                z=np.repeat(pileup.z[:1], 2),
            )
            found += self._deposit(self.hard, scatter)
        return found

    def out_of_time(self, event: int) -> Floats | None:
        """Energy that the readout sees of other crossings, GeV, shape ``(2, n_cells)``.

        The triggered bunch is any of the filling scheme's. Other crossings that are filled have
        interactions of their own, their number Poisson around a μ of the same profile; each layer
        weighs them by its pulse shape. None where no layer has one.
        """
        first, last = self.card.crossings
        if self.deposits is None or (first, last) == (0, 0):
            return None
        if self.spec.consecutive > 1:
            row = self._row_of(event)
            distance = row.crossing - event % self.spec.consecutive
            seen = (distance != 0) & (first <= distance) & (distance <= last)
            others, weights = row.pileup.some(seen), self._weights(distance[seen])
            return self._deposit(self.deposits, others, weights)
        rng = np.random.default_rng([self.spec.seed, OUT_OF_TIME_STREAM, event])
        bunches = self.spec.bunches
        here = rng.choice(np.flatnonzero(bunches))
        crossing = np.arange(first, last + 1)
        filled = crossing[bunches[(here + crossing) % len(bunches)] & (crossing != 0)]
        law = self._multiplicity
        place = np.searchsorted(law.cumulative, rng.random(len(filled)), side="right")
        number = rng.poisson(law.mu[place])
        others = self._interactions(rng, int(number.sum()), event)
        images = self._fixed_images()
        turn = ((0.5 + others.rotation / TWO_PI) * images.n_turns).astype(np.int64)
        weights = self._weights(np.repeat(filled, number))
        return images.sum(others.interaction, turn % images.n_turns, others.mirror, weights)

    def _weights(self, crossing: Ints) -> tuple[Floats, ...]:
        """Weights of interactions in each layer, by their crossings' distance from this one."""
        return tuple(
            np.zeros(len(crossing)) if layer.pulse is None else layer.pulse.of(crossing)
            for layer in self.card.layers
        )

    def _fixed_images(self) -> FixedImages:
        """Images of the pool's interactions, made when they are first asked for."""
        if self._images is None:
            assert self.deposits is not None
            deposits, grid = self.deposits, self.calorimeter.grid
            rng = np.random.default_rng([self.spec.seed, VERTEX_STREAM])
            counts = np.diff(deposits.offsets)
            z = np.repeat(_vertices(self.card.beam_spot, rng.random(len(counts))), counts)
            cells = np.empty(len(z), dtype=np.int32)
            for first in range(0, len(z), _AT_ONCE):
                rows = np.arange(first, min(first + _AT_ONCE, len(z)))
                cells[rows] = grid.locate(*deposits.paths.impact(rows, z[rows], self.card.field))
            energies = (deposits.em, deposits.had)
            self._images = FixedImages(grid, cells, deposits.offsets, energies)
        return self._images

    def _deposit(
        self,
        deposits: Deposits,
        pileup: Pileup,
        weights: Sequence[Floats] | None = None,
    ) -> Floats:
        """Sum the deposits of interactions, weighted by interaction in each layer, if at all."""
        grid = self.calorimeter.grid
        begin = deposits.offsets[pileup.interaction]
        counts = deposits.offsets[pileup.interaction + 1] - begin
        index = np.repeat(np.arange(len(counts)), counts)
        before = np.cumsum(counts) - counts
        rows = np.arange(counts.sum()) + (begin - before)[index]
        mirror = pileup.mirror[index]
        cot_theta, phi = deposits.paths.impact(rows, mirror * pileup.z[1:][index], self.card.field)
        cells = grid.locate(mirror * cot_theta, phi + pileup.rotation[index])
        n = grid.n_cells
        energies = [energy[rows] for energy in (deposits.em, deposits.had)]
        if weights is not None:
            energies = [e * w[index] for e, w in zip(energies, weights, strict=True)]
        return np.stack([np.bincount(cells, weights=e, minlength=n + 1)[:n] for e in energies])

    def events(self, first: int, n: int) -> dict[str, NDArray[np.generic]]:
        """Make events ``first … first + n − 1``.

        Returns
        -------
        dict
            ``n_towers`` (n,), ``cell`` (n_towers,) int32, ``em`` and ``had`` (n_towers,) float32
            in GeV, ``n_vertices`` (n,), ``z`` (n_vertices,) float32 in m, ``rho`` (n, n_rho)
            float32 in GeV per unit of η × φ. Towers are those with energy, ordered by η, then φ.
            ``period`` (n,) where the card has periods, ``pool`` (n,) where pools are separate.
        """
        cells, energies, vertices, total = [], [], [], []
        for event in range(first, first + n):
            pileup = self.draw(event)
            rng = np.random.default_rng([self.spec.seed, DETECTOR_STREAM, event, self._detector])
            deposited, others = self.deposit(event, pileup), self.out_of_time(event)
            measured = self.calorimeter.measure(deposited, rng, others, self.period(event))
            hit = np.flatnonzero(measured.any(axis=0))
            cells.append(hit.astype(np.int32))
            energies.append(measured[:, hit].astype(np.float32))
            vertices.append(pileup.z)
            total.append(measured.sum(axis=0))
        joined = np.concatenate(energies, axis=1)
        periods = [self.period(event) for event in range(first, first + n)]
        found: dict[str, NDArray[np.generic]] = {
            **({"period": np.array(periods)} if self.card.periods else {}),
            "n_towers": np.array([len(hit) for hit in cells]),
            "cell": np.concatenate(cells),
            "em": joined[0],
            "had": joined[1],
            "n_vertices": np.array([len(z) for z in vertices]),
            "z": np.concatenate(vertices),
            "rho": self._rho.density(np.array(total)).astype(np.float32),
        }
        if self.allotment is not None:
            found["pool"] = self.allotment.pool[first : first + n]
        return found


def _vertices(spot: BeamSpot, uniform: Floats) -> NDArray[np.float32]:
    """Vertices of a Gaussian cut off at ±max_z, from uniform numbers."""
    if spot.sigma_z == 0:
        return np.zeros(len(uniform), dtype=np.float32)
    low = ndtr(-spot.max_z / spot.sigma_z)
    return (spot.sigma_z * ndtri(low + uniform * (1 - 2 * low))).astype(np.float32)


def prepare_overlay(job: Mapping[str, Any]) -> Work:
    """Load pools and a detector; a chunk is ``{"first": …, "n": …}``."""
    spec = SampleSpec.model_construct(**job["spec"])
    card = ResponseCard.model_validate(job["response"])
    pools = {kind: read_pool(Path(path)) for kind, path in job["pools"].items()}
    overlay = Overlay(spec, pools.get("pileup"), card, pools.get("hard"))

    def work(chunk: Mapping[str, Any]) -> Mapping[str, NDArray[Any]]:
        return overlay.events(chunk["first"], chunk["n"])

    return work
