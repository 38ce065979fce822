"""Controls: translations that stay in one domain, where nothing should change.

Translated real events take the place of the target's in the reference, translated simulated events
that of the source. A translation that changes nothing gives that row again to the digit, for its
events are the same: what the row rises by is what the translation itself does, and the source
correlation is the ceiling of this release.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pileupgen.compare.control_stores import ControlSample
from pileupgen.compare.distance_table import DistanceTable, mean_distances, separations
from pileupgen.compare.distances import wasserstein, weighted_std
from pileupgen.compare.draws import Draws, Samples
from pileupgen.compare.linked import linked_source_correlation
from pileupgen.compare.results import Control, Row
from pileupgen.compare.row_tests import compare_rows
from pileupgen.compare.significance import judge
from pileupgen.compare.two_sample import TwoSampleTest
from pileupgen.measure.bootstrap import Estimate, effective_size, estimate
from pileupgen.measure.sample import Sample
from pileupgen.parallel import Executor

Floats = NDArray[np.float64]


def judge_controls(
    controls: Sequence[ControlSample],
    samples: Samples,
    draws: Draws,
    table: DistanceTable,
    *,
    cell_tests: dict[str, TwoSampleTest],
    n_seeds: int,
    seed: int,
    executor: Executor,
    tick: Callable[[int], object],
) -> tuple[Control, ...]:
    """Compare each control as the row that it takes the place of.

    Parameters
    ----------
    controls : sequence of ControlSample
    samples : Samples
    draws : Draws
        Of the samples; a control's events are drawn as those they were made of.
    table : DistanceTable
        Of the samples.
    cell_tests : dict of TwoSampleTest
        On cells by name, where they were made.
    n_seeds, seed : int
        Of the two-sample test on observables; 0 seeds leave it and the physics distances out.
    executor : Executor
    tick : callable
        Called with 1 after each of :func:`n_control_steps` steps.
    """
    return tuple(
        _judge(control, samples, draws, table, cell_tests, n_seeds, seed, executor, tick)
        for control in controls
    )


def n_control_steps(controls: Sequence[ControlSample], n_reference: int, n_seeds: int) -> int:
    """Count the steps that :func:`judge_controls` reports."""
    n_parts = sum(n_reference if one.selected.replaces == "reference" else 1 for one in controls)
    return len(controls) + 2 * n_parts * (n_seeds > 0)


def _judge(
    control: ControlSample,
    samples: Samples,
    draws: Draws,
    table: DistanceTable,
    cell_tests: dict[str, TwoSampleTest],
    n_seeds: int,
    seed: int,
    executor: Executor,
    tick: Callable[[int], object],
) -> Control:
    selected, sample = control.selected, control.sample
    replaces = selected.replaces
    before = samples.target if replaces == "reference" else samples.source
    drawn = draws.target if replaces == "reference" else draws.rows["source"][0]
    counts = drawn[selected.source_of]
    # The reference's other events are compared with real ones, the source with the target.
    first = sample if replaces == "reference" else samples.target
    others = samples.reference if replaces == "reference" else (sample,)
    distances = _distances(control, counts, samples, draws, table.constant)
    means = mean_distances(distances, table.constant)
    tick(1)
    tests = None
    if n_seeds:
        found = compare_rows(first, {control.name: others}, n_seeds, seed, executor, tick)
        tests = found[control.name]
    nan = Estimate(float("nan"), float("nan"), float("nan"))
    row = Row(
        name=control.name,
        label=selected.label,
        n_events=len(sample),
        n_samples=len(others),
        effective_events=effective_size(sample.weight),
        distances={key: estimate(d[0], d[1:], 0.0) for key, d in distances.items()},
        separations=separations(first, others),
        mean_distance=estimate(float(means[0]), means[1:], 0.0),
        shift_removed=nan,
        features=tests.features if tests else None,
        cells=cell_tests.get(control.name),
        source_correlation=linked_source_correlation(
            _linked(control, before, counts), sample, counts, control.image_pairs
        ),
        fpd=tests.fpd if tests else None,
        kpd=tests.kpd if tests else None,
    )
    rise = means - table.means(replaces)
    return Control(row, replaces, estimate(float(rise[0]), rise[1:]), judge(first, others[0]))


def _linked(control: ControlSample, before: Sample, counts: Floats) -> Sample:
    """The events that a control's were made of, one by one, with the mean image of just these."""
    linked = before.take(control.selected.source_of)
    if control.image_pairs is None or len(linked) == len(before):
        return linked
    share = counts[:, 0] / counts[:, 0].sum()
    mean, begin = np.zeros_like(before.cells.energy), 0
    for images, _ in control.image_pairs():
        mean += np.tensordot(share[begin : begin + len(images)], images, axes=1)
        begin += len(images)
    return replace(linked, cells=replace(linked.cells, energy=mean))


def _distances(
    control: ControlSample,
    counts: Floats,
    samples: Samples,
    draws: Draws,
    constant: tuple[str, ...],
) -> dict[str, Floats]:
    """W1 over the real target's σ by observable, as it is and resampled, (1 + B,)."""
    found = {}
    for key, values in control.sample.observables.items():
        reference = samples.target.observables[key]
        sigma = weighted_std(reference, draws.target)
        if control.selected.replaces == "reference":
            parts = zip(samples.reference, draws.rows["reference"], strict=True)
            each = [wasserstein(p.observables[key], values, w, counts) for p, w in parts]
        else:
            each = [wasserstein(values, reference, counts, draws.target)]
        w1 = np.mean(each, axis=0)
        defined = (sigma > 0) & (key not in constant)
        found[key] = np.divide(w1, sigma, out=np.full_like(w1, np.nan), where=defined)
    return found
