"""Distance to the target against source correlation over settings, on held-out events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pileupgen.arrays import Flags
from pileupgen.calo.geometry import Grid
from pileupgen.compare.distance_table import DistanceTable
from pileupgen.compare.records import TELLING
from pileupgen.compare.resampling import Draws, Samples
from pileupgen.compare.source_correlation import block_source_correlation
from pileupgen.compare.two_sample import resampled_auc
from pileupgen.fields import PlainRecord
from pileupgen.measure.bootstrap import Estimate
from pileupgen.measure.sample import Sample, measure_sample
from pileupgen.samples.store import Images

N_BOOTSTRAP = 50
N_ERRORS = 2.0
"""Paired errors by which a point must be nearer to the target than another to be preferred."""


@dataclass(frozen=True)
class ScanPoint(PlainRecord):
    """A measured setting of the translation."""

    settings: dict[str, Any]
    """How."""
    label: str
    """The same in a few words."""
    n_evaluations: int
    """Network evaluations an event."""
    w1: Estimate
    block: Estimate
    """Mean W1/σ and block source correlation, with 68 % intervals."""
    auc: float
    auc_error: float
    """Two-sample test on observables with one seed, and its error."""
    ess: float
    """Effective fraction of the release weights."""
    n_events: int
    """Translated events."""
    w1_draws: tuple[float, ...]
    auc_draws: tuple[float, ...]
    """Mean W1/σ and AUC over the same resamplings of the events for all points of a scan, (B,)."""

    def is_clearly_farther_than(self, other: ScanPoint) -> bool:
        """Whether W1/σ or AUC is above another point's by more than ``N_ERRORS`` paired errors."""
        pairs = (
            (self.w1.value - other.w1.value, self.w1_draws, other.w1_draws),
            (self.auc - other.auc, self.auc_draws, other.auc_draws),
        )
        return any(
            rise > N_ERRORS * float(np.std(np.subtract(own, its), ddof=1))
            for rise, own, its in pairs
        )

    def least_seen(self, other: ScanPoint) -> tuple[float, float]:
        """Smallest clear differences of W1/σ and of the AUC from another point's."""
        pairs = (self.w1_draws, other.w1_draws), (self.auc_draws, other.auc_draws)
        found = [N_ERRORS * float(np.std(np.subtract(*pair), ddof=1)) for pair in pairs]
        return found[0], found[1]


@dataclass(frozen=True)
class Judge:
    """What points are measured against."""

    target: Sample
    reference: Sample
    source: Sample
    """Held-out real events, other real events as many as the source, and the source events."""
    seed: int

    @classmethod
    def of(
        cls,
        target: Iterable[Images],
        reference: Iterable[Images],
        source: Iterable[Images],
        grid: Grid,
        seed: int,
    ) -> Judge:
        """Measure the three samples."""
        return cls(
            measure_sample("target", "data", target, grid),
            measure_sample("reference", "other data", reference, grid),
            measure_sample("source", "mc", source, grid),
            seed,
        )

    def references(self) -> dict[str, Estimate]:
        """Mean W1/σ of reference and source."""
        names = ("reference", "source")
        samples, draws = self._samples(self.source), self._draws(self.source)
        table = DistanceTable.of(samples, draws, only=names)
        return {name: table.mean(name) for name in names}

    def measure(
        self,
        translated: Iterable[Images],
        settings: dict[str, Any],
        label: str,
        n_evaluations: int,
        ess: float,
    ) -> ScanPoint:
        """Measure translated events, in the order of the source's."""
        sample = measure_sample("translated", "translated", translated, self.source.grid)
        draws = self._draws(sample)
        counts = draws.rows["translated"][0]
        distances = DistanceTable.of(self._samples(sample), draws, only=("translated",))
        auc = resampled_auc(
            self.target.matrix(), sample.matrix(), draws.target, counts, seed=self.seed
        )
        return ScanPoint(
            settings=settings,
            label=label,
            n_evaluations=n_evaluations,
            w1=distances.mean("translated"),
            block=block_source_correlation(self.source.blocks, sample.blocks, counts),
            auc=float(auc[0]),
            auc_error=float(np.std(auc[1:], ddof=1)),
            ess=ess,
            n_events=len(sample),
            w1_draws=tuple(distances.means("translated")[1:].tolist()),
            auc_draws=tuple(auc[1:].tolist()),
        )

    def _samples(self, translated: Sample) -> Samples:
        return Samples(self.target, (self.reference,), self.source, translated)

    def _draws(self, translated: Sample) -> Draws:
        one_to_one = np.arange(len(self.source))
        return Draws.of(self._samples(translated), one_to_one, N_BOOTSTRAP, self.seed)


def is_on_pareto_front(points: Sequence[ScanPoint]) -> Flags:
    """Whether no other point is nearer to the target at higher source correlation, shape (n,)."""
    w1 = np.array([point.w1.value for point in points])
    kept = np.array([point.block.value for point in points])
    beaten = (
        (w1[None] <= w1[:, None])
        & (kept[None] >= kept[:, None])
        & ((w1[None] < w1[:, None]) | (kept[None] > kept[:, None]))
    )
    return np.asarray(~beaten.any(axis=1))


def recommend(points: Sequence[ScanPoint], min_source_correlation: float) -> tuple[ScanPoint, str]:
    """Among the points that no other is clearly nearer than, the one of highest source correlation.

    Points whose block source correlation is below ``min_source_correlation`` are left out, unless
    all are. A point is near if every one of the others that is clearly nearer, in W1/σ or in the
    AUC, is clearly farther in the other of the two. Of near points the one of highest source
    correlation is taken, of equals the cheapest.

    Returns
    -------
    point : ScanPoint
    rule : str
        How it was chosen, in words.
    """
    allowed = [point for point in points if point.block.value >= min_source_correlation]
    pool = allowed or list(points)
    near = [
        point
        for point in pool
        if not any(
            point.is_clearly_farther_than(other) and not other.is_clearly_farther_than(point)
            for other in pool
        )
    ]
    chosen = max(near, key=lambda point: (round(point.block.value, 3), -point.n_evaluations))
    required = (
        f"block source correlation ≥ {min_source_correlation:g}"
        if allowed
        else f"no point has block source correlation ≥ {min_source_correlation:g}"
    )
    rule = (
        f"highest source correlation among the {len(near)} of {len(pool)} points than which no "
        f"other is nearer to data by more than {N_ERRORS:g} paired errors in W1/σ or AUC; "
        f"{required}"
    )
    if not chosen.n_evaluations and any(point.n_evaluations for point in points):
        rule += "; no diffusion comes clearly nearer, so none is recommended"
        unseen = [
            max(chosen.least_seen(point)) for point in pool if point.n_evaluations and point in near
        ]
        if unseen and min(unseen) > TELLING:
            rule += (
                f", but {chosen.n_events:,} events are too few to tell: a difference of "
                f"{min(unseen):.2g} in W1/σ or AUC would not be seen, and {TELLING:g} should be"
            )
    return chosen, rule
