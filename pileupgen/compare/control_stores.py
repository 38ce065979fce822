"""Which events of a control's store are compared, and their measurement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pileupgen.calo.geometry import require_same_grid
from pileupgen.compare.linked import ImagePairs
from pileupgen.compare.results import Replaced
from pileupgen.compare.selection import Rows, Selection, linked_events, paired_batches
from pileupgen.errors import StoreError
from pileupgen.measure.sample import Sample
from pileupgen.samples.store import ImageStore

Floats = NDArray[np.float64]

SETTINGS = ("model", "mode", "t_release", "w", "num_inference_steps", "sampler", "eta", "guidance")
"""What a control has to share with the translation that it is a control of."""


@dataclass(frozen=True)
class ControlRows:
    """Which events of a control's store are compared.

    Attributes
    ----------
    name : str
        Key in ``metrics.json``.
    label : str
        What tables call it.
    replaces : str
        Row whose events it has: ``reference`` for real ones, ``source`` for simulated ones.
    store : ImageStore
    rows : int64 array, shape (M,)
        Of the store.
    source_of : int64 array, shape (M,)
        For each its source event's place among the selected target or source events.
    """

    name: str
    label: str
    replaces: Replaced
    store: ImageStore
    rows: Rows
    source_of: Rows


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


def select_controls(
    stores: Sequence[ImageStore], target: ImageStore, source: ImageStore, selection: Selection
) -> tuple[ControlRows, ...]:
    """Link the controls' events to the selected events that they were made of.

    Parameters
    ----------
    stores : sequence of ImageStore
        Written by ``translate`` with source and target the same.
    target, source : ImageStore
    selection : Selection

    Raises
    ------
    GeometryError
        If a store is of another grid.
    StoreError
        If a store is no control, is of other samples, or has no event that is compared.
    """
    found: list[ControlRows] = []
    kinds: tuple[tuple[Replaced, ImageStore, Rows], ...] = (
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


def measured(
    control: ControlRows,
    own: ImageStore,
    before: Sample,
    own_rows: Rows,
    measure: Callable[[str, str, ImageStore, Rows, Floats], Sample],
) -> ControlSample:
    """Measure a control's events, with the weights of the events that they were made of.

    Parameters
    ----------
    control : ControlRows
    own : ImageStore
        Of the events before.
    before : Sample
        The target or source sample.
    own_rows : int64 array
        Its rows.
    measure : callable
        (name, label, store, rows, weight) to a sample.
    """
    weight = before.weight[control.source_of]
    sample = measure(control.name, control.label, control.store, control.rows, weight)
    if before.grid.is_feature_table:
        return ControlSample(control, sample)
    rows = own_rows[control.source_of]
    return ControlSample(
        control, sample, partial(paired_batches, own, rows, control.store, control.rows)
    )


def notes_of(controls: Sequence[ControlRows], translated: ImageStore) -> tuple[str, ...]:
    """Say where a control was translated otherwise than what it is a control of."""
    notes = []
    for control in controls:
        first, second = control.store.provenance, translated.provenance
        differing = [
            f"{key} {first[key]} instead of {second[key]}"
            for key in SETTINGS
            if key in first and key in second and first[key] != second[key]
        ]
        if differing:
            notes.append(
                f"the control {control.label} was translated otherwise: {', '.join(differing)}"
            )
    return tuple(notes)
