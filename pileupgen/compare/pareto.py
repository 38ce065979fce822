"""Distance to the target against source correlation over settings, on held-out events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.calo.geometry import Grid
from pileupgen.compare.distance_table import DistanceTable
from pileupgen.compare.resampling import Draws, Samples
from pileupgen.compare.source_correlation import block_source_correlation
from pileupgen.compare.two_sample import feature_test
from pileupgen.measure.bootstrap import Estimate
from pileupgen.measure.sample import Sample, measure_sample
from pileupgen.samples.store import Images

N_BOOTSTRAP = 50


@dataclass(frozen=True)
class ScanPoint:
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

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ScanPoint:
        """Inverse of :meth:`to_dict`."""
        estimates = {key: Estimate(**values[key]) for key in ("w1", "block")}
        return cls(**{**values, **estimates})


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
        table = self._table(self.source)
        return {name: table.mean(name) for name in ("reference", "source")}

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
        test = feature_test(self.target.matrix(), sample.matrix(), n_seeds=1, seed=self.seed)
        counts = self._draws(sample).rows["translated"][0]
        return ScanPoint(
            settings=settings,
            label=label,
            n_evaluations=n_evaluations,
            w1=self._table(sample).mean("translated"),
            block=block_source_correlation(self.source.blocks, sample.blocks, counts),
            auc=test.auc,
            auc_error=test.error,
            ess=ess,
            n_events=len(sample),
        )

    def _samples(self, translated: Sample) -> Samples:
        return Samples(self.target, (self.reference,), self.source, translated)

    def _draws(self, translated: Sample) -> Draws:
        one_to_one = np.arange(len(self.source))
        return Draws.of(self._samples(translated), one_to_one, N_BOOTSTRAP, self.seed)

    def _table(self, translated: Sample) -> DistanceTable:
        return DistanceTable.of(self._samples(translated), self._draws(translated))


def is_on_pareto_front(points: Sequence[ScanPoint]) -> NDArray[np.bool_]:
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
    """Among the points nearest to the target, the one of highest source correlation.

    Among points whose block source correlation is at least ``min_source_correlation`` (among all,
    if none is) the nearest is found; of those within the half width of its interval the one of
    highest source correlation is taken, of equals the cheapest.

    Returns
    -------
    point : ScanPoint
    rule : str
        How it was chosen, in words.
    """
    allowed = [point for point in points if point.block.value >= min_source_correlation]
    pool = allowed or list(points)
    best = min(pool, key=lambda point: point.w1.value)
    limit = best.w1.value + best.w1.error
    near = [point for point in pool if point.w1.value <= limit]
    chosen = max(near, key=lambda point: (round(point.block.value, 3), -point.n_evaluations))
    reference = (
        f"block source correlation ≥ {min_source_correlation:g}"
        if allowed
        else f"no point has block source correlation ≥ {min_source_correlation:g}"
    )
    rule = (
        f"highest source correlation among {len(near)} points with W1/σ ≤ {limit:.3f}, the lowest "
        f"({best.w1.value:.3f}) plus its interval's half width; {reference}"
    )
    if not chosen.n_evaluations and any(point.n_evaluations for point in points):
        rule += "; no diffusion comes nearer by more than that, so none is recommended"
    return chosen, rule
