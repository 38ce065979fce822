"""Which events of the stores are compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Ints
from pileupgen.calo.geometry import require_same_grid
from pileupgen.errors import InputError, StoreError
from pileupgen.samples.store import SPLITS, ImageStore

FEW_EVENTS = 100
"""Below this a comparison is made, with a warning."""
MAX_REFERENCES = 5
"""Samples that the reference is the mean over, at most."""
PAIR_BATCH = 256
"""Linked events read at a time."""


class Stores(NamedTuple):
    """Real events, simulated events, and simulated events after translation."""

    target: ImageStore
    source: ImageStore
    translated: ImageStore


@dataclass(frozen=True)
class Selection:
    """Rows of the stores that enter a comparison."""

    stores: Stores
    target: Ints
    """Test-split events of the target."""
    references: tuple[Ints, ...]
    """Disjoint samples of other events of the target, each as large as the source sample if there
    are enough events. The reference is the mean over them of their distance to the target, so that
    it holds the same statistical noise as the source's and the translated sample's."""
    source: Ints
    """The source events that were translated."""
    translated: Ints
    """Translated events. Shape (M,)."""
    source_of: Ints
    """Place of each translated event's source event in ``source``. Shape (M,)."""
    held_out: bool
    """Whether the translated events come from the test split."""
    notes: tuple[str, ...]
    """Remarks for the reader of the result."""

    def parts(self) -> dict[str, tuple[tuple[ImageStore, Ints], ...]]:
        """Store and rows of the samples of the target and of each row of the comparison."""
        target, source, translated = self.stores
        return {
            "target": ((target, self.target),),
            "reference": tuple((target, rows) for rows in self.references),
            "source": ((source, self.source),),
            "translated": ((translated, self.translated),),
        }

    def pairs(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Images of source and translated events, as :func:`paired_batches` gives them."""
        _, source, translated = self.stores
        return paired_batches(source, self.source[self.source_of], translated, self.translated)


def select_events(
    target: ImageStore, source: ImageStore, translated: ImageStore, seed: int = 0
) -> Selection:
    """Choose held-out events and link the translated ones to their source.

    Parameters
    ----------
    target, source, translated : ImageStore
        Real events, simulated events, simulated events after translation.

    Raises
    ------
    GeometryError
        If the stores are of different grids.
    StoreError
        If the translated store has no link to its source, or the linked events are not there.
    InputError
        If the target has no test events, or there is nothing to compare.
    """
    for store in (source, translated):
        require_same_grid(store.grid, target.grid, str(store.path), str(target.path))
    rows = target.indices("test")
    if not len(rows):
        raise InputError(
            f"{target.path} has no test events to compare with.",
            "Run 'pileupgen preprocess' with a test fraction above 0.",
        )
    notes: list[str] = []
    kept, source_rows, held_out = linked_events(source, translated)
    if not held_out:
        notes.append(
            f"no event of {translated.path.name} comes from the test split of {source.path.name}: "
            "the networks may have been trained on the events compared here"
        )
    unique, source_of = np.unique(source_rows, return_inverse=True)
    references = _references(target, len(unique), seed)
    if len(references[0]) < len(unique):
        notes.append(
            f"each reference sample has {len(references[0])} events for {len(unique)} source "
            "events, so its distances are slightly too large"
        )
    counts = {"target": len(rows), "translated": len(kept)}
    few = [f"{n} {name}" for name, n in counts.items() if n < FEW_EVENTS]
    if few:
        notes.append(f"only {' and '.join(few)} events: intervals are wide and approximate")
    return Selection(
        stores=Stores(target, source, translated),
        target=rows,
        references=references,
        source=unique.astype(np.int64),
        translated=kept,
        source_of=source_of.astype(np.int64),
        held_out=held_out,
        notes=tuple(notes),
    )


def _references(target: ImageStore, n: int, seed: int) -> tuple[Ints, ...]:
    """Divide the target's other events into up to ``MAX_REFERENCES`` samples of n."""
    others = np.flatnonzero(target.columns["split"] != SPLITS.index("test")).astype(np.int64)
    if not len(others):
        raise InputError(
            f"{target.path} has only test events, none for the reference.",
            "Run 'pileupgen preprocess' with a train fraction above 0.",
        )
    shuffled = np.random.default_rng([seed, 1]).permutation(others)
    n = min(n, len(others))
    n_samples = min(len(others) // n, MAX_REFERENCES)
    return tuple(np.sort(shuffled[i * n : (i + 1) * n]) for i in range(n_samples))


def linked_events(source: ImageStore, translated: ImageStore) -> tuple[Ints, Ints, bool]:
    """Choose translated rows, and give their source rows and whether these are test events.

    Raises
    ------
    StoreError
        If the translated store has no link to its source, is of another sample, or the linked
        events are not there.
    InputError
        If it has no events.
    """
    if "source_event" not in translated.columns:
        raise StoreError(
            f"{translated.path} does not link its events to source events.",
            "Give --input a store written by 'pileupgen translate'.",
        )
    if not len(translated):
        raise InputError(f"{translated.path} has no events.", "Run 'pileupgen translate' again.")
    made_of = translated.provenance.get("source")
    if made_of is not None and made_of != source.provenance:
        raise StoreError(
            f"{translated.path} was translated from another sample than {source.path}, whose "
            "events only have the same numbers.",
            "Give the translation of this run's events, or run 'pileupgen translate' again.",
        )
    links = np.asarray(translated.columns["source_event"], dtype=np.int64)
    source_rows = rows_of_events(source, links)
    n_lost = int(np.sum(source_rows < 0))
    if n_lost:
        raise StoreError(
            f"{translated.path}: the source of {n_lost} of {len(links)} events is not in "
            f"{source.path}.",
            "It was translated from another sample; run 'pileupgen translate' again.",
        )
    is_test = source.columns["split"][source_rows] == SPLITS.index("test")
    held_out = bool(is_test.any())
    chosen = is_test if held_out else np.ones(len(links), dtype=bool)
    for name in ("draw", "member"):
        # Draws of one event are not independent events: each event counts once.
        if name in translated.columns:
            chosen = chosen & (translated.columns[name] == 0)
    kept = np.flatnonzero(chosen)
    return kept.astype(np.int64), source_rows[kept], held_out


def rows_of_events(store: ImageStore, event_id: Ints) -> Ints:
    """Row of each event by its number, −1 where the store has no such event."""
    ids = np.asarray(store.columns["event_id"], dtype=np.int64)
    if not len(ids):
        return np.full(len(event_id), -1, dtype=np.int64)
    order = np.argsort(ids, kind="stable")
    place = np.minimum(np.searchsorted(ids[order], event_id), len(ids) - 1)
    return np.where(ids[order][place] == event_id, order[place], -1).astype(np.int64)


def paired_batches(
    first: ImageStore, first_rows: Ints, second: ImageStore, second_rows: Ints
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Images of linked events, side by side, a batch at a time.

    Parameters
    ----------
    first_rows, second_rows : int64 arrays, shape (M,)
        Linked rows, in any order, repeats allowed.
    """
    for begin in range(0, len(first_rows), PAIR_BATCH):
        part = slice(begin, begin + PAIR_BATCH)
        yield first.read(first_rows[part]).energy, second.read(second_rows[part]).energy
