"""Floor, source and translated against the target."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from pileupgen.validation.bootstrap import Estimate, effective_size, estimate
from pileupgen.validation.distances import (
    is_constant,
    separation_edges,
    separation_power,
    unit_histogram,
    wasserstein,
    weighted_std,
)
from pileupgen.validation.draws import Draws, Samples
from pileupgen.validation.faithfulness import Faithfulness, block_faithfulness, cell_faithfulness
from pileupgen.validation.observables import ObservableSet
from pileupgen.validation.records import Comparison, Row
from pileupgen.validation.sample import Sample
from pileupgen.validation.two_sample import TwoSampleTest, feature_test, merge_tests

Floats = NDArray[np.float64]
ImagePairs = Iterable[tuple[NDArray[np.float32], NDArray[np.float32]]]

MIN_TEST_EVENTS = 40
"""Events that a sample needs for a two-sample test."""


def compare(
    samples: Samples,
    source_of: NDArray[np.int64],
    *,
    image_pairs: Callable[[], ImagePairs] | None = None,
    cell_tests: dict[str, TwoSampleTest] | None = None,
    release_weight: Floats | None = None,
    n_bootstrap: int = 100,
    n_seeds: int = 3,
    seed: int = 0,
    weighted: bool = False,
    notes: tuple[str, ...] = (),
    advance: Callable[[int], object] | None = None,
) -> Comparison:
    """Compare floor, source and translated samples with the target.

    Parameters
    ----------
    samples : Samples
        What is compared.
    source_of : int64 array, shape (len(samples.translated),)
        Place of each translated event's source event in the source sample.
    image_pairs : callable, optional
        Gives images (source, translated) of linked events in the order of the translated sample,
        for the faithfulness of cells; it is NaN where not given.
    cell_tests : dict of TwoSampleTest, optional
        Two-sample tests on cells by row, where they were made.
    release_weight : float64 array, shape (len(samples.translated),), optional
        Weights whose effective size is reported; the translated sample's if not given.
    n_bootstrap : int
        Resamplings that intervals are made from.
    n_seeds : int
        Seeds of the two-sample test on observables; 0 leaves it out.
    seed : int
        Seed of resampling and of folds.
    weighted : bool
        Recorded: whether the translated sample carries its release weights.
    notes : tuple of str
        Carried to the result.
    advance : callable, optional
        Called with 1 after each of :func:`n_steps` steps.

    Returns
    -------
    Comparison
    """
    tick = advance if advance is not None else _ignore
    target = samples.target
    draws = Draws.of(samples, source_of, n_bootstrap, seed)
    constant = [name for name, values in target.observables.items() if is_constant(values)]
    distances: dict[str, dict[str, Floats]] = {name: {} for name in draws.rows}
    for key, reference in target.observables.items():
        sigma = weighted_std(reference, draws.target)
        for name, parts in samples.rows().items():
            w1 = np.mean(
                [
                    wasserstein(part.observables[key], reference, weight, draws.target)
                    for part, weight in zip(parts, draws.rows[name], strict=True)
                ],
                axis=0,
            )
            defined = (sigma > 0) & (key not in constant)
            distances[name][key] = np.divide(w1, sigma, out=np.full_like(w1, np.nan), where=defined)
        tick(1)
    means = {
        name: mean_distance([d for key, d in by_key.items() if key not in constant], n_bootstrap)
        for name, by_key in distances.items()
    }
    if n_seeds and min(map(len, (target, samples.source, samples.translated))) < MIN_TEST_EVENTS:
        n_seeds = 0
        notes = (*notes, f"fewer than {MIN_TEST_EVENTS} events: no two-sample test")
    linked = _faithfulness(samples, source_of, draws, image_pairs)
    tick(1)
    rows = {}
    for name, parts in samples.rows().items():
        rows[name] = Row(
            name=name,
            label=parts[0].label,
            n_events=len(parts[0]),
            n_samples=len(parts),
            effective_events=parts[0].effective_size,
            distances={k: estimate(d[0], d[1:], 0.0) for k, d in distances[name].items()},
            separations=separations(target, parts),
            mean_distance=estimate(means[name][0], means[name][1:], 0.0),
            gap_closed=gap_closed(means["source"], means[name], means["floor"]),
            features=_feature_tests(target, parts, n_seeds, seed, tick) if n_seeds else None,
            cells=(cell_tests or {}).get(name),
            faithfulness=linked.get(name),
        )
    if constant:
        notes = (*notes, f"constant in the target, so not in the mean: {', '.join(constant)}")
    release_weight = samples.translated.weight if release_weight is None else release_weight
    return Comparison(
        target_label=target.label,
        n_target=len(target),
        observables=ObservableSet(target.grid).records,
        floor=rows["floor"],
        source=rows["source"],
        translated=rows["translated"],
        ess=effective_size(release_weight) / len(release_weight),
        weighted=weighted,
        null=_null_control(samples, source_of, draws),
        notes=notes,
        settings={"n_bootstrap": n_bootstrap, "n_seeds": n_seeds, "seed": seed},
    )


def n_steps(n_observables: int, n_seeds: int, n_floor: int) -> int:
    """Count the steps that :func:`compare` reports."""
    return n_observables + 1 + (2 + n_floor) * (n_seeds > 0)


def gap_closed(source: Floats, translated: Floats, floor: Floats) -> Estimate:
    """(source − translated) / (source − floor) of mean distances.

    Parameters
    ----------
    source, translated, floor : float64 arrays, shape (1 + B,)
        Mean W1/σ: as it is first, then resampled.

    Returns
    -------
    Estimate
        NaN where the source is as near to the target as the floor.
    """
    gap = source - floor
    closed = np.divide(source - translated, gap, out=np.full_like(gap, np.nan), where=gap > 0)
    return estimate(float(closed[0]), closed[1:])


def mean_distance(distances: list[Floats], n_bootstrap: int) -> Floats:
    """Mean over observables, shape ``(1 + B,)``; NaN where there is none."""
    if not distances:
        return np.full(1 + n_bootstrap, np.nan)
    return np.asarray(np.mean(distances, axis=0))


def separations(target: Sample, parts: tuple[Sample, ...]) -> dict[str, float]:
    """Separation power per observable, mean over samples."""
    values = {}
    for key, reference in target.observables.items():
        edges = separation_edges(reference)
        first = unit_histogram(reference, edges, target.weight)
        powers = [
            separation_power(first, unit_histogram(part.observables[key], edges, part.weight))
            for part in parts
        ]
        values[key] = float(np.mean(powers))
    return values


def _feature_tests(
    target: Sample,
    parts: tuple[Sample, ...],
    n_seeds: int,
    seed: int,
    tick: Callable[[int], object],
) -> TwoSampleTest:
    """Test each sample of a row; where there are several, their spread takes that of the seeds."""
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


def _faithfulness(
    samples: Samples,
    source_of: NDArray[np.int64],
    draws: Draws,
    image_pairs: Callable[[], ImagePairs] | None,
) -> dict[str, Faithfulness]:
    source, translated = samples.source, samples.translated
    counts = draws.rows["translated"][0]
    identity = Estimate(1.0, 1.0, 1.0)
    cell = Estimate(float("nan"), float("nan"), float("nan"))
    if image_pairs is not None:
        means = source.cells.energy, translated.cells.energy
        cell = cell_faithfulness(image_pairs(), *means, counts)
    block = block_faithfulness(source.blocks[source_of], translated.blocks, counts)
    return {
        "source": Faithfulness(identity, identity, len(source)),
        "translated": Faithfulness(block, cell, len(translated)),
    }


def _null_control(samples: Samples, source_of: NDArray[np.int64], draws: Draws) -> Estimate | None:
    """Faithfulness to the event half the sample away."""
    n = len(samples.source)
    if n < 2:
        return None
    other = samples.source.blocks[(source_of + n // 2) % n]
    return block_faithfulness(other, samples.translated.blocks, draws.rows["translated"][0])


def _ignore(_: int) -> None:
    pass
