"""Rows of a comparison: everything that is measured between a sample and the target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pileupgen.arrays import Floats
from pileupgen.compare.distance_table import mean_distances, separations
from pileupgen.compare.headline import Row
from pileupgen.compare.physics_distance import fpd, kpd
from pileupgen.compare.records import (
    ObservableDistance,
    PhysicsDistance,
    SourceCorrelation,
    TwoSampleTest,
    TwoSampleTests,
)
from pileupgen.compare.two_sample import feature_test, merge_tests
from pileupgen.measure.bootstrap import Estimate, estimate
from pileupgen.measure.sample import Sample
from pileupgen.measure.showers import ShowerSet, data_set_of
from pileupgen.parallel import Executor
from pileupgen.parallel.threads import one_blas_thread
from pileupgen.progress import Advance

SHOWER_FPD_SIZE = SHOWER_KPD_SIZE = 10_000
"""Smallest batch of the FPD and batch of the KPD of showers, the CaloChallenge's."""


@dataclass(frozen=True)
class RowTests:
    """How a row's samples compare with the target as a whole."""

    features: TwoSampleTest
    """Test on observables, mean over the row's samples. Where there are several, their spread takes
    the place of that of the seeds."""
    fpd: PhysicsDistance
    kpd: PhysicsDistance
    """Median over the row's samples, since a few hard events can drive that of one sample; on
    observables, of showers on the CaloChallenge's features."""


def make_row(
    target: Sample,
    parts: tuple[Sample, ...],
    label: str,
    distances: Mapping[str, Floats],
    constant: tuple[str, ...],
    *,
    shift_removed: Estimate,
    n_events: int,
    effective_events: float,
    tests: RowTests | None,
    cells: TwoSampleTest | None,
    correlation: SourceCorrelation | None,
) -> Row:
    """Put together what is known of a row.

    Parameters
    ----------
    target : Sample
        What the row's samples are compared with.
    parts : tuple of Sample
        Samples that the row is the mean over.
    label : str
        What tables call it.
    distances : mapping of float64 arrays, shape (1 + B,)
        W1/σ by observable: as it is first, then resampled.
    shift_removed : Estimate
        Fraction of the shift removed.
    tests : RowTests or None
        Comparisons of the row as a whole, where they were made.
    """
    means = mean_distances(distances, constant)
    powers = separations(target, parts)
    return Row(
        label=label,
        n_events=n_events,
        n_samples=len(parts),
        effective_events=effective_events,
        mean_w1=estimate(float(means[0]), means[1:], 0.0),
        shift_removed=shift_removed,
        two_sample=TwoSampleTests(features=tests.features if tests else None, cells=cells),
        source_correlation=correlation,
        fpd=tests.fpd if tests else None,
        kpd=tests.kpd if tests else None,
        observables={
            name: ObservableDistance(w1=estimate(d[0], d[1:], 0.0), separation=powers[name])
            for name, d in distances.items()
        },
    )


def compare_rows(
    target: Sample,
    rows: Mapping[str, tuple[Sample, ...]],
    n_seeds: int,
    seed: int,
    n_bootstrap: int,
    executor: Executor,
    tick: Advance,
) -> dict[str, RowTests]:
    """Test the samples of all rows against the target.

    Parameters
    ----------
    rows : mapping
        The samples that each row is the mean over.
    n_seeds, seed : int
        Seeds of the two-sample test for all samples of a row together, and the first.
    executor : Executor
        Where it is done; the numbers do not depend on it.
    tick : callable
        Called with 1 twice for each sample.
    """
    pairs = _Pairs(
        _Matrices.of(target),
        {name: [_Matrices.of(part) for part in parts] for name, parts in rows.items()},
        n_seeds,
        seed,
        n_bootstrap,
    )
    tasks: list[_Task] = [
        (name, number, kind)
        for name, parts in rows.items()
        for number in range(len(parts))
        for kind in ("physics", "features")
    ]
    distances: dict[str, list[tuple[PhysicsDistance, PhysicsDistance]]] = {n: [] for n in rows}
    tests: dict[str, list[TwoSampleTest]] = {name: [] for name in rows}
    for (name, _, _), found in zip(tasks, executor.map(_test, pairs, tasks), strict=True):
        if isinstance(found, TwoSampleTest):
            tests[name].append(found)
        else:
            distances[name].append(found)
        tick(1)
    return {
        name: RowTests(
            merge_tests(tests[name]), *map(median_distance, zip(*distances[name], strict=True))
        )
        for name in rows
    }


_Task = tuple[str, int, Literal["physics", "features"]]


@dataclass(frozen=True)
class _Matrices:
    """Observables, what physics distances take in their place for showers, and weights."""

    observables: Floats
    shower: Floats | None
    weight: Floats

    @classmethod
    def of(cls, sample: Sample) -> _Matrices:
        shower = None
        if data_set_of(sample.grid) is not None:
            shower = ShowerSet(sample.grid).physics_features(sample.observables, sample.mu)
        return cls(sample.matrix(), shower, sample.weight)


@dataclass(frozen=True)
class _Pairs:
    """The target and each row's samples."""

    target: _Matrices
    rows: dict[str, list[_Matrices]]
    n_seeds: int
    seed: int
    n_bootstrap: int


def _test(pairs: _Pairs, task: _Task) -> TwoSampleTest | tuple[PhysicsDistance, PhysicsDistance]:
    name, number, kind = task
    parts = pairs.rows[name]
    first, second = pairs.target, parts[number]
    if kind == "physics":
        with one_blas_thread():
            # The range over several samples takes the place of their intervals.
            return _physics_distances(first, second, pairs.n_bootstrap if len(parts) == 1 else 0)
    n_seeds = max(1, pairs.n_seeds // len(parts))
    return feature_test(
        first.observables,
        second.observables,
        first.weight,
        second.weight,
        n_seeds=n_seeds,
        seed=pairs.seed + number,
    )


def _physics_distances(
    first: _Matrices, second: _Matrices, n_bootstrap: int
) -> tuple[PhysicsDistance, PhysicsDistance]:
    weights = first.weight, second.weight
    if first.shower is None or second.shower is None:
        pair = first.observables, second.observables
        return (
            fpd(*pair, *weights, n_bootstrap=n_bootstrap),
            kpd(*pair, *weights, n_bootstrap=n_bootstrap),
        )
    pair = first.shower, second.shower
    return (
        fpd(*pair, *weights, min_samples=SHOWER_FPD_SIZE, n_bootstrap=n_bootstrap),
        kpd(*pair, *weights, batch_size=SHOWER_KPD_SIZE, n_bootstrap=n_bootstrap),
    )


def median_distance(distances: tuple[PhysicsDistance, ...]) -> PhysicsDistance:
    """Give the median over samples with their range; one sample as it is."""
    if len(distances) == 1:
        return distances[0]
    values = [distance.value for distance in distances]
    return PhysicsDistance(
        value=float(np.median(values)),
        low=min(values),
        high=max(values),
        jetnet_error=float(np.median([distance.jetnet_error for distance in distances])),
    )
