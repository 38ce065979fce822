"""What compares whole sets of observables: two-sample tests and physics distances."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pileupgen.farm import Executor
from pileupgen.farm.threads import one_blas_thread
from pileupgen.validation.physics_distance import PhysicsDistance, fpd, kpd
from pileupgen.validation.sample import Sample
from pileupgen.validation.two_sample import TwoSampleTest, feature_test, merge_tests

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RowTests:
    """How a row's samples compare with the target as a whole.

    Attributes
    ----------
    features : TwoSampleTest
        On observables, mean over the row's samples. Where there are several, their spread takes the
        place of that of the seeds.
    fpd, kpd : PhysicsDistance
        On observables, mean over the row's samples.
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
        (target.matrix(), target.weight),
        {name: [(part.matrix(), part.weight) for part in parts] for name, parts in rows.items()},
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
        name: RowTests(merge_tests(tests[name]), *map(_mean, zip(*distances[name], strict=True)))
        for name in rows
    }


_Task = tuple[str, int, Literal["physics", "features"]]


@dataclass(frozen=True)
class _Pairs:
    """Observables and weights of the target and of each row's samples."""

    target: tuple[Floats, Floats]
    rows: dict[str, list[tuple[Floats, Floats]]]
    n_seeds: int
    seed: int


def _test(pairs: _Pairs, task: _Task) -> TwoSampleTest | tuple[PhysicsDistance, PhysicsDistance]:
    name, number, kind = task
    parts = pairs.rows[name]
    (x, wx), (y, wy) = pairs.target, parts[number]
    if kind == "physics":
        with one_blas_thread():
            return fpd(x, y, wx, wy), kpd(x, y, wx, wy)
    n_seeds = max(1, pairs.n_seeds // len(parts))
    return feature_test(x, y, wx, wy, n_seeds=n_seeds, seed=pairs.seed + number)


def _mean(distances: tuple[PhysicsDistance, ...]) -> PhysicsDistance:
    return PhysicsDistance(
        float(np.mean([distance.value for distance in distances])),
        float(np.mean([distance.error for distance in distances])),
    )
