"""Fidelity against faithfulness over ways to translate, on held-out events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.calo.geometry import Grid
from pileupgen.compare.distance_table import DistanceTable
from pileupgen.compare.draws import Draws, Samples
from pileupgen.compare.faithfulness import block_faithfulness
from pileupgen.compare.two_sample import feature_test
from pileupgen.measure.bootstrap import Estimate
from pileupgen.measure.sample import Sample, measure_sample
from pileupgen.samples.store import Images

N_BOOTSTRAP = 50


@dataclass(frozen=True)
class Point:
    """One way to translate, measured.

    Attributes
    ----------
    settings : dict
        How.
    label : str
        The same in a few words.
    n_evaluations : int
        Network evaluations an event.
    w1, block : Estimate
        Mean W1/σ and block faithfulness, with 68 % intervals.
    auc, auc_error : float
        Two-sample test on observables, one seed.
    ess : float
        Effective fraction of the release weights.
    n_events : int
        Translated events.
    """

    settings: dict[str, Any]
    label: str
    n_evaluations: int
    w1: Estimate
    block: Estimate
    auc: float
    auc_error: float
    ess: float
    n_events: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Point:
        """Inverse of :meth:`to_dict`."""
        estimates = {key: Estimate(**values[key]) for key in ("w1", "block")}
        return cls(**{**values, **estimates})


@dataclass(frozen=True)
class Judge:
    """What points are measured against.

    Attributes
    ----------
    target, floor, source : Sample
        Held-out real events, other real events as many as the source, and the source events.
    seed : int
    """

    target: Sample
    floor: Sample
    source: Sample
    seed: int

    @classmethod
    def of(
        cls,
        target: Iterable[Images],
        floor: Iterable[Images],
        source: Iterable[Images],
        grid: Grid,
        seed: int,
    ) -> Judge:
        """Measure the three samples."""
        return cls(
            measure_sample("target", "data", target, grid),
            measure_sample("floor", "other data", floor, grid),
            measure_sample("source", "mc", source, grid),
            seed,
        )

    def references(self) -> dict[str, Estimate]:
        """Mean W1/σ of floor and source."""
        table = self._table(self.source)
        return {name: table.mean(name) for name in ("floor", "source")}

    def measure(
        self,
        translated: Iterable[Images],
        settings: dict[str, Any],
        label: str,
        n_evaluations: int,
        ess: float,
    ) -> Point:
        """Measure translated events, in the order of the source's."""
        sample = measure_sample("translated", "translated", translated, self.source.grid)
        test = feature_test(self.target.matrix(), sample.matrix(), n_seeds=1, seed=self.seed)
        counts = self._draws(sample).rows["translated"][0]
        return Point(
            settings=settings,
            label=label,
            n_evaluations=n_evaluations,
            w1=self._table(sample).mean("translated"),
            block=block_faithfulness(self.source.blocks, sample.blocks, counts),
            auc=test.auc,
            auc_error=test.error,
            ess=ess,
            n_events=len(sample),
        )

    def _samples(self, translated: Sample) -> Samples:
        return Samples(self.target, (self.floor,), self.source, translated)

    def _draws(self, translated: Sample) -> Draws:
        one_to_one = np.arange(len(self.source))
        return Draws.of(self._samples(translated), one_to_one, N_BOOTSTRAP, self.seed)

    def _table(self, translated: Sample) -> DistanceTable:
        return DistanceTable.of(self._samples(translated), self._draws(translated))


def is_on_front(points: Sequence[Point]) -> NDArray[np.bool_]:
    """Whether no other point is both nearer to the target and more faithful, shape (n,)."""
    w1 = np.array([point.w1.value for point in points])
    kept = np.array([point.block.value for point in points])
    beaten = (
        (w1[None] <= w1[:, None])
        & (kept[None] >= kept[:, None])
        & ((w1[None] < w1[:, None]) | (kept[None] > kept[:, None]))
    )
    return np.asarray(~beaten.any(axis=1))


def recommend(points: Sequence[Point], min_faithful: float) -> tuple[Point, str]:
    """The most faithful of the points that are as near to the target as the nearest.

    Among points whose block faithfulness is at least ``min_faithful`` (among all, if none is) the
    nearest is found; of those within the half width of its interval the most faithful is taken, of
    equals the cheapest.

    Returns
    -------
    point : Point
    rule : str
        How it was chosen, in words.
    """
    allowed = [point for point in points if point.block.value >= min_faithful]
    pool = allowed or list(points)
    best = min(pool, key=lambda point: point.w1.value)
    limit = best.w1.value + best.w1.error
    near = [point for point in pool if point.w1.value <= limit]
    chosen = max(near, key=lambda point: (round(point.block.value, 3), -point.n_evaluations))
    floor = (
        f"block faithfulness ≥ {min_faithful:g}"
        if allowed
        else f"no point has block faithfulness ≥ {min_faithful:g}"
    )
    rule = (
        f"most faithful of {len(near)} points with W1/σ ≤ {limit:.3f}, the lowest "
        f"({best.w1.value:.3f}) plus its interval's half width; {floor}"
    )
    return chosen, rule
