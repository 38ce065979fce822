"""Reference, source and translated against the target."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pileupgen.arrays import Floats, Ints
from pileupgen.compare.controls import ControlSample, judge_controls, n_control_steps
from pileupgen.compare.distance_table import DistanceTable
from pileupgen.compare.mu_bins import compare_in_mu
from pileupgen.compare.pileup_physics import pileup_quantities
from pileupgen.compare.records import (
    Equivalence,
    MethodRecord,
    ObservableRecord,
    TargetRecord,
    TwoSampleTest,
)
from pileupgen.compare.resampling import Draws, Samples
from pileupgen.compare.results import Comparison, Controls
from pileupgen.compare.rows import compare_rows, make_row
from pileupgen.compare.significance import judge
from pileupgen.compare.source_correlation import (
    ImagePairs,
    block_source_correlation,
    identity,
    source_correlation,
)
from pileupgen.measure.bootstrap import Estimate, effective_size, estimate
from pileupgen.measure.features import kind_of, observables_of
from pileupgen.parallel import Executor, Serial
from pileupgen.progress import Advance, silent

MIN_TEST_EVENTS = 40
"""Events that a sample needs for a two-sample test."""
CONFIDENCE = 0.95
"""Confidence level of the limit on the excess over the reference."""


def compare(
    samples: Samples,
    source_of: Ints,
    *,
    image_pairs: Callable[[], ImagePairs] | None = None,
    cell_tests: dict[str, TwoSampleTest] | None = None,
    release_weight: Floats | None = None,
    n_bootstrap: int = 100,
    n_seeds: int = 3,
    n_mu_bins: int = 3,
    seed: int = 0,
    weighted: bool = False,
    notes: tuple[str, ...] = (),
    controls: Sequence[ControlSample] = (),
    executor: Executor | None = None,
    advance: Advance = silent,
) -> Comparison:
    """Compare reference, source and translated samples with the target.

    Parameters
    ----------
    source_of : int64 array, shape (len(samples.translated),)
        Place of each translated event's source event in the source sample.
    image_pairs : callable, optional
        Gives images (source, translated) of linked events in the order of the translated sample,
        for the source correlation of cells; it is NaN where not given.
    cell_tests : dict of TwoSampleTest, optional
        Two-sample tests on cells by row, where they were made.
    release_weight : float64 array, shape (len(samples.translated),), optional
        Weights whose effective size is reported; the translated sample's if not given.
    n_seeds : int
        Seeds of the two-sample test on observables; 0 leaves it and the physics distances out.
    n_mu_bins : int
        Bins in μ that the headline is repeated in.
    executor : Executor, optional
        Where samples are compared; the numbers do not depend on it.
    advance : callable
        Called with 1 after each of :func:`n_steps` steps.
    """
    executor = executor or Serial()
    target = samples.target
    draws = Draws.of(samples, source_of, n_bootstrap, seed)
    table = DistanceTable.of(samples, draws, advance, executor)
    enough = min(map(len, (target, samples.source, samples.translated))) >= MIN_TEST_EVENTS
    if n_seeds and not enough:
        notes = (*notes, f"fewer than {MIN_TEST_EVENTS} events: no two-sample test")
    tested = bool(n_seeds) and enough
    bins = compare_in_mu(samples, source_of, n_bins=n_mu_bins, seed=seed)
    is_table = target.grid.is_feature_table
    if not is_table and not all(np.isfinite(p.mu).all() for p in (target, samples.source)):
        notes = (*notes, "μ is unknown for some events: no numbers are given in bins of μ")
    linked = {
        "source": identity(samples.source),
        "translated": source_correlation(
            samples.source.take(source_of),
            samples.translated,
            draws.rows["translated"][0],
            image_pairs,
        ),
    }
    advance(1)
    tests = (
        compare_rows(target, samples.rows(), n_seeds, seed, n_bootstrap, executor, advance)
        if tested
        else {}
    )
    rows = {
        name: make_row(
            target,
            parts,
            parts[0].label,
            table.distances[name],
            table.constant,
            shift_removed=table.shift_removed(name),
            n_events=len(parts[0]),
            effective_events=parts[0].effective_size,
            tests=tests.get(name),
            cells=(cell_tests or {}).get(name),
            correlation=linked.get(name),
        )
        for name, parts in samples.rows().items()
    }
    if table.constant:
        names = ", ".join(table.constant)
        notes = (*notes, f"constant in the target, so not in the mean: {names}")
    release_weight = samples.translated.weight if release_weight is None else release_weight
    kind = kind_of(target.grid)
    pileup = pileup_quantities(samples, draws) if kind == "images" else ()
    records = observables_of(target.grid, with_negatives=samples.have_negatives).records
    return Comparison(
        kind=kind,
        target=TargetRecord(label=target.label, n_events=len(target)),
        observables={one.name: ObservableRecord(label=one.label, unit=one.unit) for one in records},
        rows=rows,
        ess=effective_size(release_weight) / len(release_weight),
        controls=Controls(
            null_source_correlation_block=_null_control(samples, source_of, draws),
            rows=judge_controls(
                controls,
                samples,
                draws,
                table,
                cell_tests=cell_tests or {},
                n_seeds=n_seeds if tested else 0,
                seed=seed,
                executor=executor,
                tick=advance,
            ),
        ),
        verdicts={name: judge(target, parts[0]) for name, parts in samples.rows().items()},
        equivalence=_equivalence(table.means("translated") - table.means("reference")),
        mu_bins=bins,
        pileup={quantity.name: quantity for quantity in pileup},
        notes=notes,
        settings=MethodRecord(
            n_bootstrap=n_bootstrap, n_seeds=n_seeds, seed=seed, weighted=weighted
        ),
    )


def n_steps(
    n_observables: int, n_seeds: int, n_reference: int, controls: Sequence[ControlSample] = ()
) -> int:
    """Count the steps that :func:`compare` reports."""
    own = n_observables + 1 + 2 * (2 + n_reference) * (n_seeds > 0)
    return own + n_control_steps(controls, n_reference, n_seeds)


def _equivalence(excess: Floats) -> Equivalence | None:
    """Limit of an excess, (1 + B,); None where there is none."""
    value, draws = float(excess[0]), excess[1:]
    if not np.isfinite(excess).all():
        return None
    limit = value + float(np.quantile(draws, CONFIDENCE) - draws.mean())
    return Equivalence(excess=estimate(value, draws), limit=limit)


def _null_control(samples: Samples, source_of: Ints, draws: Draws) -> Estimate | None:
    """Correlate translated events with the source events half the sample away."""
    n = len(samples.source)
    if n < 2:
        return None
    other = samples.source.blocks[(source_of + n // 2) % n]
    return block_source_correlation(other, samples.translated.blocks, draws.rows["translated"][0])
