"""Controls: translations that stay in one domain, where nothing should change.

Translated real events take the place of the target's in the reference, translated simulated events
that of the source. A translation that changes nothing gives that row again to the digit, for its
events are the same: what the row rises by is what the translation itself does, and the source
correlation is the ceiling of this release.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from pileupgen.arrays import Floats, Ints
from pileupgen.calo.geometry import require_same_grid
from pileupgen.compare.distance_table import DistanceTable, mean_distances
from pileupgen.compare.distances import wasserstein, weighted_std
from pileupgen.compare.headline import Control
from pileupgen.compare.records import Replaced, TwoSampleTest
from pileupgen.compare.resampling import Draws, Samples
from pileupgen.compare.rows import compare_rows, make_row
from pileupgen.compare.selection import Selection, linked_events, paired_batches
from pileupgen.compare.significance import judge
from pileupgen.compare.source_correlation import ImagePairs, source_correlation
from pileupgen.diffusion.settings import OPERATING_POINT
from pileupgen.errors import StoreError
from pileupgen.measure.bootstrap import UNKNOWN, effective_size, estimate
from pileupgen.measure.sample import Sample
from pileupgen.parallel import Executor
from pileupgen.progress import Advance
from pileupgen.samples.store import ImageStore

SHARED_SETTINGS = OPERATING_POINT | {"model"}
"""Settings that a control has to share with the translation that it is a control of."""


Measure = Callable[[str, str, ImageStore, Ints, Floats | None], Sample]
"""Measures rows of a store from name, label, store, rows and weights in place of their own."""


@dataclass(frozen=True)
class ControlRows:
    """Which events of a control's store are compared."""

    name: str
    """Key in ``metrics.json``."""
    label: str
    """What tables call it."""
    replaces: Replaced
    """Row whose events it has: ``reference`` for real ones, ``source`` for simulated ones."""
    store: ImageStore
    rows: Ints
    """Rows of the store. Shape (M,)."""
    source_of: Ints
    """Place of each event's source event among the selected target or source events. Shape (M,)."""


@dataclass(frozen=True)
class ControlSample:
    """A measured control; ``image_pairs`` gives images (before, after) of its events."""

    selected: ControlRows
    sample: Sample
    image_pairs: Callable[[], ImagePairs] | None = None

    @property
    def name(self) -> str:
        """Key in ``metrics.json``."""
        return self.selected.name


def select_controls(stores: Sequence[ImageStore], selection: Selection) -> tuple[ControlRows, ...]:
    """Link the controls' events to the selected events that they were made of.

    Parameters
    ----------
    stores : sequence of ImageStore
        Written by ``translate`` with source and target the same.

    Raises
    ------
    GeometryError
        If a store is of another grid.
    StoreError
        If a store is no control, is of other samples, or has no event that is compared.
    """
    target, source, _ = selection.stores
    found: list[ControlRows] = []
    kinds: tuple[tuple[Replaced, ImageStore, Ints], ...] = (
        ("reference", target, selection.target),
        ("source", source, selection.source),
    )
    for store in stores:
        require_same_grid(store.grid, target.grid, str(store.path), str(target.path))
        for replaces, own, compared in kinds:
            if store.domain != f"{own.domain}_to_{own.domain}":
                continue
            kept, rows, _ = linked_events(own, store)
            inside = np.isin(rows, compared)
            if not inside.any():
                raise StoreError(
                    f"No event of {store.path} is among the {len(compared):,} of {own.path} that "
                    "are compared.",
                    "Translate the control with --split test.",
                )
            order = np.argsort(compared, kind="stable")
            place = order[np.searchsorted(compared[order], rows[inside])]
            n_before = sum(one.store.domain == store.domain for one in found)
            name = f"{store.domain}_{n_before + 1}" if n_before else store.domain
            label = f"{own.domain} → {own.domain}" + (f" ({store.path.stem})" if n_before else "")
            found.append(ControlRows(name, label, replaces, store, kept[inside], place))
            break
        else:
            domains = " or ".join(f"{own.domain} → {own.domain}" for _, own, _ in kinds)
            raise StoreError(
                f"{store.path} holds {store.domain}: no control, which is {domains}.",
                f"Run 'pileupgen translate --source {target.domain} --target {target.domain}'.",
            )
    return tuple(found)


def measure_control(
    control: ControlRows, selection: Selection, samples: Samples, measure: Measure
) -> ControlSample:
    """Measure a control's events, with the weights of the events that they were made of."""
    role = "target" if control.replaces == "reference" else "source"
    before: Sample = getattr(samples, role)
    weight = before.weight[control.source_of]
    sample = measure(control.name, control.label, control.store, control.rows, weight)
    if before.grid.is_feature_table:
        return ControlSample(control, sample)
    own, own_rows = selection.parts()[role][0]
    rows = own_rows[control.source_of]
    return ControlSample(
        control, sample, partial(paired_batches, own, rows, control.store, control.rows)
    )


def notes_of(controls: Sequence[ControlRows], translated: ImageStore) -> tuple[str, ...]:
    """Say where a control was translated with other settings than the translation itself."""
    notes = []
    for control in controls:
        first, second = control.store.provenance, translated.provenance
        differing = [
            f"{key} {first[key]} instead of {second[key]}"
            for key in first
            if key in SHARED_SETTINGS and key in second and first[key] != second[key]
        ]
        if differing:
            notes.append(
                f"the control {control.label} was translated with other settings: "
                f"{', '.join(differing)}"
            )
    return tuple(notes)


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
    tick: Advance,
) -> dict[str, Control]:
    """Compare each control as the row that it takes the place of.

    Parameters
    ----------
    draws : Draws
        Resampling of the samples; a control's events are drawn as those they were made of.
    cell_tests : dict of TwoSampleTest
        On cells by name, where they were made.
    n_seeds, seed : int
        Seeds of the two-sample test on observables; 0 leaves it and the physics distances out.
    tick : callable
        Called with 1 after each of :func:`n_control_steps` steps.
    """
    return {
        control.name: _judge(
            control, samples, draws, table, cell_tests, n_seeds, seed, executor, tick
        )
        for control in controls
    }


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
    tick: Advance,
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
    tick(1)
    tests = None
    if n_seeds:
        n_draws = counts.shape[1] - 1
        rows = {control.name: others}
        tests = compare_rows(first, rows, n_seeds, seed, n_draws, executor, tick)[control.name]
    row = make_row(
        first,
        others,
        selected.label,
        distances,
        table.constant,
        shift_removed=UNKNOWN,
        n_events=len(sample),
        effective_events=effective_size(sample.weight),
        tests=tests,
        cells=cell_tests.get(control.name),
        correlation=source_correlation(
            before.take(selected.source_of),
            sample,
            counts,
            control.image_pairs,
            are_some=len(sample) != len(before),
        ),
    )
    rise = mean_distances(distances, table.constant) - table.means(replaces)
    return Control(
        replaces=replaces,
        rise=estimate(float(rise[0]), rise[1:]),
        row=row,
        verdict=judge(first, others[0]),
    )


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
