"""Comparison of three image stores, with what its figures show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from pileupgen.arrays import Floats, Ints
from pileupgen.compare.cell_tests import cell_tests
from pileupgen.compare.comparison import compare, n_steps
from pileupgen.compare.controls import (
    ControlRows,
    ControlSample,
    Measure,
    measure_control,
    notes_of,
    select_controls,
)
from pileupgen.compare.display import Display, choose_display
from pileupgen.compare.pileup_physics import jet_quantities
from pileupgen.compare.resampling import Samples
from pileupgen.compare.results import Comparison
from pileupgen.compare.selection import Selection, select_events
from pileupgen.compare.settings import ComparisonSettings
from pileupgen.compare.shower_separation import shower_separations
from pileupgen.compare.truth import paired_truth
from pileupgen.compare.variations import over_copies, without_weights
from pileupgen.measure.bootstrap import require_weights
from pileupgen.measure.features import kind_of
from pileupgen.measure.pileup_jets import JetSample, find_jets
from pileupgen.measure.sample import Sample, measure_store
from pileupgen.parallel import Executor, Serial
from pileupgen.progress import SILENT, Advance, Progress
from pileupgen.samples.store import Images, ImageStore, usable_weights

LOW_ESS = 0.1
"""Effective over actual number of events below which a note says so."""


@dataclass(frozen=True)
class Validation:
    """Results and samples of a comparison, as tables and figures need them."""

    comparison: Comparison
    """The numbers."""
    samples: Samples
    """The measured samples."""
    display: Display | None
    """Images of single events; none of tables of features and of showers."""
    jets: tuple[JetSample, ...] = ()
    """Pileup jets of target, source and translated, where they were asked for."""


def validate_stores(
    target: ImageStore,
    source: ImageStore,
    translated: ImageStore,
    settings: ComparisonSettings,
    *,
    seed: int = 0,
    device: str = "cpu",
    truth: ImageStore | None = None,
    controls: Sequence[ImageStore] = (),
    progress: Progress | None = None,
    executor: Executor | None = None,
) -> Validation:
    """Compare translated with real events, reference and source beside.

    Parameters
    ----------
    target, source, translated : ImageStore
        Real events, simulated events, simulated events after translation. Only test events of the
        target enter, and only translated events whose source is a test event, if there are any.
    settings : ComparisonSettings
        How; with ``n_seeds`` 0 there is no two-sample test on observables.
    device : str
        Torch device of the test on cells.
    truth : ImageStore, optional
        The source's interactions in the target's detector, linked by ``event_id``; to judge only.
    controls : sequence of ImageStore
        Translations that stay in the target's domain, or in the source's.
    executor : Executor, optional
        Where events are measured and compared; the numbers do not depend on it.

    Raises
    ------
    GeometryError
        If the stores are of different grids.
    StoreError
        If the translated store does not belong to the source, or a control is none.
    InputError
        If there is nothing to compare, energies are not finite or weights unusable.
    """
    bars = progress if progress is not None else SILENT.progress
    executor = executor or Serial()
    selection = select_events(target, source, translated, seed)
    release_weight = _release_weights(translated)[selection.translated]
    require_weights(release_weight, str(translated.path))
    notes: tuple[str, ...] = ()
    kind = kind_of(target.grid)
    is_table = kind == "features"
    if kind == "showers" and settings.jets:
        settings = replace(settings, jets=False)
        notes = ("showers have no pileup jets: none are looked for",)
    if is_table and (settings.cells or settings.jets):
        settings = replace(settings, cells=False, jets=False)
        notes = ("a table of features has neither cells nor jets: no tests on them",)
    chosen = select_controls(controls, selection)
    own = release_weight if settings.weighted else None
    samples = _measure(selection, own, bars, executor)
    checks = _measure_controls(chosen, samples, selection, bars, executor)
    tests = {}
    if settings.cells:
        with bars("cells", 3 + len(checks), "tests") as advance:
            tests = cell_tests(
                samples, selection, checks, seed=seed, device=device, advance=advance
            )
    more = over_copies(samples, selection, seed)
    if settings.weighted:
        more = (*more, without_weights(samples, selection, seed))
    n_observables = len(samples.target.observables)
    total = n_steps(n_observables, settings.n_seeds, len(samples.reference), checks)
    with bars("compare", total, "steps") as advance:
        comparison = compare(
            samples,
            selection.source_of,
            image_pairs=None if is_table else selection.pairs,
            cell_tests=tests,
            release_weight=release_weight,
            n_bootstrap=settings.n_bootstrap,
            n_seeds=settings.n_seeds,
            n_mu_bins=settings.n_mu_bins,
            seed=seed,
            weighted=settings.weighted,
            notes=(
                *selection.notes,
                *notes,
                *(() if is_table else _notes(samples)),
                *more,
                *notes_of(chosen, translated),
            ),
            controls=checks,
            executor=executor,
            advance=advance,
        )
    if kind == "showers":
        batches = {
            name: tuple(partial(store.batches, rows) for store, rows in parts)
            for name, parts in selection.parts().items()
        }
        found = shower_separations(samples, batches)
        comparison = comparison.model_copy(update={"showers": {one.name: one for one in found}})
    if comparison.ess < LOW_ESS:
        note = (
            "the effective sample size of the release weights is "
            f"{100 * comparison.ess:.2g} % of the translated events"
        )
        comparison = comparison.model_copy(update={"notes": (*comparison.notes, note)})
    if truth is not None:
        pairs = paired_truth(
            truth,
            selection,
            samples,
            n_bootstrap=settings.n_bootstrap,
            seed=seed,
        )
        comparison = comparison.model_copy(update={"truth": pairs})
    jets: tuple[JetSample, ...] = ()
    if settings.jets:
        jets = _find_jets(samples, selection, bars)
        extra = jet_quantities(jets, settings.n_bootstrap, seed)
        pileup = {**comparison.pileup, **{one.name: one for one in extra}}
        comparison = comparison.model_copy(update={"pileup": pileup})
    display = None
    if kind == "images":
        display = choose_display(selection, samples.source, seed)
    return Validation(comparison=comparison, samples=samples, display=display, jets=jets)


def _release_weights(translated: ImageStore) -> Floats:
    """Weights that a translated store's events have by their release, shape (N,)."""
    columns = translated.columns
    found = columns.get("release_weight", usable_weights(columns))
    return np.asarray(found, dtype=np.float64)


def _measuring(executor: Executor, advance: Advance) -> Measure:
    def measure(
        name: str, label: str, store: ImageStore, rows: Ints, weight: Floats | None
    ) -> Sample:
        return measure_store(
            name, label, store, rows, weight=weight, executor=executor, advance=advance
        )

    return measure


def _measure(
    selection: Selection, weight: Floats | None, bars: Progress, executor: Executor
) -> Samples:
    """Measure all samples; translated events with a weight of their own or that of their source."""
    parts = selection.parts()
    total = sum(len(rows) for of_name in parts.values() for _, rows in of_name)
    real, simulated = (store.domain for store in selection.stores[:2])
    with bars("measure", total, "events") as advance:
        measure = _measuring(executor, advance)
        before = measure("source", simulated, *parts["source"][0], None)
        inherited = before.weight[selection.source_of] if weight is None else weight
        return Samples(
            target=measure("target", real, *parts["target"][0], None),
            reference=tuple(
                measure("reference", f"other {real}", *part, None) for part in parts["reference"]
            ),
            source=before,
            translated=measure("translated", "translated", *parts["translated"][0], inherited),
        )


def _measure_controls(
    chosen: tuple[ControlRows, ...],
    samples: Samples,
    selection: Selection,
    bars: Progress,
    executor: Executor,
) -> tuple[ControlSample, ...]:
    if not chosen:
        return ()
    with bars("controls", sum(len(control.rows) for control in chosen), "events") as advance:
        measure = _measuring(executor, advance)
        return tuple(measure_control(one, selection, samples, measure) for one in chosen)


def _find_jets(samples: Samples, selection: Selection, bars: Progress) -> tuple[JetSample, ...]:
    found = []
    total = sum(map(len, (selection.target, selection.source, selection.translated)))
    with bars("jets", total, "events") as advance:
        for sample in (samples.target, samples.source, samples.translated):
            store, rows = selection.parts()[sample.name][0]
            batches = _with_weights(store.batches(rows), sample.weight)
            rho = sample.observables["rho"]
            found.append(find_jets(sample.name, sample.label, batches, store.grid, rho, advance))
    return tuple(found)


def _with_weights(batches: Iterator[Images], weight: Floats) -> Iterator[Images]:
    begin = 0
    for images in batches:
        part = weight[begin : begin + len(images)]
        yield images.weighted(part)
        begin += len(images)


def _notes(samples: Samples) -> tuple[str, ...]:
    return tuple(
        f"{sample.n_empty} of {len(sample)} events of {sample.label} are empty"
        for sample in (samples.target, *samples.reference, samples.source, samples.translated)
        if sample.n_empty
    )
