"""Judging by true pairs: the same interactions in both detectors."""

from __future__ import annotations

from functools import partial

import numpy as np

from pileupgen.calo.geometry import require_same_grid
from pileupgen.compare.records import PairedTruth
from pileupgen.compare.resampling import Samples
from pileupgen.compare.selection import Selection, paired_batches, rows_of_events
from pileupgen.compare.source_correlation import source_correlation
from pileupgen.errors import InputError
from pileupgen.measure.bootstrap import resample
from pileupgen.measure.sample import measure_sample
from pileupgen.samples.store import ImageStore


def paired_truth(
    truth: ImageStore,
    selection: Selection,
    samples: Samples,
    *,
    n_bootstrap: int,
    seed: int,
) -> PairedTruth:
    """Correlate source and translated events with their true counterparts.

    Parameters
    ----------
    truth : ImageStore
        The source's interactions in the target's detector, linked by ``event_id``.
    samples : Samples
        The same events measured.

    Raises
    ------
    GeometryError
        If the truth is of another grid.
    InputError
        If it holds none of the interactions, or events of the same number have another μ.
    """
    _, source, translated = selection.stores
    require_same_grid(truth.grid, source.grid, str(truth.path), str(source.path))
    rows = rows_of_events(truth, samples.source.event_id)
    found = rows >= 0
    if not found.any():
        raise InputError(
            f"{truth.path} holds the counterpart of no source event that was compared.",
            "Its event_id must be that of the source event.",
        )
    known_mu = np.asarray(truth.columns["mu"])[rows[found]]
    differs = np.abs(known_mu - samples.source.mu[found]) > 1e-3
    if differs.any():
        raise InputError(
            f"{int(differs.sum()):,} of {len(differs):,} events of {truth.path} have another μ "
            "than the source event of their number: they are other interactions.",
            "The truth is the same interactions in the target's detector: simulate it with "
            "the source's options but for --response.",
        )
    label = f"truth of {truth.path.name}"
    known = measure_sample(label, label, truth.batches(rows[found]), truth.grid)
    place = np.full(len(rows), -1, dtype=np.int64)
    place[found] = np.arange(len(known))
    pairs = {}
    for own, store, own_rows, of in (
        (samples.source, source, selection.source, place),
        (samples.translated, translated, selection.translated, place[selection.source_of]),
    ):
        linked = np.flatnonzero(of >= 0)
        counts = resample(len(linked), n_bootstrap, np.random.default_rng([seed, 4]))
        pairs[own.name] = source_correlation(
            own.take(linked),
            known.take(of[linked]),
            np.concatenate([np.ones((len(linked), 1)), counts], axis=1),
            None
            if truth.grid.is_feature_table
            else partial(paired_batches, store, own_rows[linked], truth, rows[found][of[linked]]),
            are_some=len(linked) < len(own) or len(linked) != len(known),
        )
    return PairedTruth(**pairs)
