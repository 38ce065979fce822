"""What compares whole sets of observables: two-sample tests and physics distances."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pileupgen.validation.physics_distance import PhysicsDistance, fpd, kpd
from pileupgen.validation.sample import Sample
from pileupgen.validation.two_sample import TwoSampleTest, feature_test, merge_tests


def feature_tests(
    target: Sample,
    parts: tuple[Sample, ...],
    n_seeds: int,
    seed: int,
    tick: Callable[[int], object],
) -> TwoSampleTest:
    """Test each sample of a row on its observables and average.

    Where there are several samples, their spread takes the place of that of the seeds.

    Parameters
    ----------
    target : Sample
        Real events.
    parts : tuple of Sample
        What the row is the mean over.
    n_seeds, seed : int
        Seeds for all samples together, and the first.
    tick : callable
        Called with 1 after each sample.
    """
    tests = []
    for number, part in enumerate(parts):
        tests.append(
            feature_test(
                target.matrix(),
                part.matrix(),
                target.weight,
                part.weight,
                n_seeds=max(1, n_seeds // len(parts)),
                seed=seed + number,
            )
        )
        tick(1)
    return merge_tests(tests)


def physics_distances(
    target: Sample, parts: tuple[Sample, ...], tick: Callable[[int], object]
) -> tuple[PhysicsDistance, PhysicsDistance]:
    """FPD and KPD of a row on its observables, mean over its samples.

    Parameters
    ----------
    target : Sample
        Real events.
    parts : tuple of Sample
        What the row is the mean over.
    tick : callable
        Called with 1 after each sample.
    """
    found: list[tuple[PhysicsDistance, PhysicsDistance]] = []
    for part in parts:
        arguments = (target.matrix(), part.matrix(), target.weight, part.weight)
        found.append((fpd(*arguments), kpd(*arguments)))
        tick(1)
    by_frechet, by_kernel = zip(*found, strict=True)
    return _mean(by_frechet), _mean(by_kernel)


def _mean(distances: tuple[PhysicsDistance, ...]) -> PhysicsDistance:
    return PhysicsDistance(
        float(np.mean([distance.value for distance in distances])),
        float(np.mean([distance.error for distance in distances])),
    )
