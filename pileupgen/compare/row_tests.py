"""What compares whole sets of observables: two-sample tests and physics distances."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pileupgen.compare.physics_distance import PhysicsDistance, fpd, kpd
from pileupgen.compare.two_sample import TwoSampleTest, feature_test, merge_tests
from pileupgen.measure.sample import Sample
from pileupgen.measure.showers import ShowerSet, data_set_of
from pileupgen.parallel import Executor
from pileupgen.parallel.threads import one_blas_thread

Floats = NDArray[np.float64]

SHOWER_FPD_SIZE = SHOWER_KPD_SIZE = 10_000
"""Smallest batch of the FPD and batch of the KPD of showers, the CaloChallenge's."""


@dataclass(frozen=True)
class RowTests:
    """How a row's samples compare with the target as a whole.

    Attributes
    ----------
    features : TwoSampleTest
        On observables, mean over the row's samples. Where there are several, their spread takes the
        place of that of the seeds.
    fpd, kpd : PhysicsDistance
        Median over the row's samples, since a few hard events can drive that of one sample; on
        observables, of showers on the CaloChallenge's features.
    """

    features: TwoSampleTest
    fpd: PhysicsDistance
    kpd: PhysicsDistance


def compare_rows(
    target: Sample,
    rows: Mapping[str, tuple[Sample, ...]],
    n_seeds: int,
    seed: int,
    executor: Executor,
    tick: Callable[[int], object],
) -> dict[str, RowTests]:
    """Compare the samples of all rows with the target.

    Parameters
    ----------
    target : Sample
        Real events.
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


def _test(pairs: _Pairs, task: _Task) -> TwoSampleTest | tuple[PhysicsDistance, PhysicsDistance]:
    name, number, kind = task
    parts = pairs.rows[name]
    first, second = pairs.target, parts[number]
    if kind == "physics":
        with one_blas_thread():
            return _physics_distances(first, second)
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
    first: _Matrices, second: _Matrices
) -> tuple[PhysicsDistance, PhysicsDistance]:
    weights = first.weight, second.weight
    if first.shower is None or second.shower is None:
        pair = first.observables, second.observables
        return fpd(*pair, *weights), kpd(*pair, *weights)
    pair = first.shower, second.shower
    return (
        fpd(*pair, *weights, min_samples=SHOWER_FPD_SIZE),
        kpd(*pair, *weights, batch_size=SHOWER_KPD_SIZE),
    )


def median_distance(distances: tuple[PhysicsDistance, ...]) -> PhysicsDistance:
    """Give the median over samples with their range; one sample as it is."""
    if len(distances) == 1:
        return distances[0]
    values = [distance.value for distance in distances]
    errors = [distance.error for distance in distances]
    return PhysicsDistance(
        float(np.median(values)), float(np.median(errors)), min(values), max(values)
    )
