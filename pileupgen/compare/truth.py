"""Judging by true pairs: the same interactions in both detectors."""

from __future__ import annotations

import numpy as np

from pileupgen.calo.geometry import require_same_grid
from pileupgen.compare.linked import feature_source_correlation
from pileupgen.compare.results import PairedTruth
from pileupgen.compare.selection import Selection, paired_batches, rows_of_events
from pileupgen.compare.source_correlation import (
    SourceCorrelation,
    block_source_correlation,
    cell_source_correlation,
)
from pileupgen.errors import InputError
from pileupgen.measure.bootstrap import Estimate, resample
from pileupgen.measure.sample import Sample, measure_sample
from pileupgen.samples.store import ImageStore


def paired_truth(
    truth: ImageStore,
    source: ImageStore,
    translated: ImageStore,
    selection: Selection,
    samples: tuple[Sample, Sample],
    *,
    n_bootstrap: int,
    seed: int,
) -> PairedTruth:
    """Correlate source and translated events with their true counterparts.

    Parameters
    ----------
    truth : ImageStore
        The source's interactions in the target's detector, linked by ``event_id``.
    source, translated : ImageStore
        Simulated events before and after translation.
    selection : Selection
        The rows that are compared.
    samples : tuple of Sample
        The same events measured: source, translated.
    n_bootstrap, seed : int
        Resamplings and their seed.

    Raises
    ------
    GeometryError
        If the truth is of another grid.
    InputError
        If it holds none of the interactions.
    """
    require_same_grid(truth.grid, source.grid, str(truth.path), str(source.path))
    rows = rows_of_events(truth, samples[0].event_id)
    found = rows >= 0
    if not found.any():
        raise InputError(
            f"{truth.path} holds the counterpart of no source event that was compared.",
            "Its event_id must be that of the source event.",
        )
    label = f"truth of {truth.path.name}"
    known = measure_sample(label, label, truth.batches(rows[found]), truth.grid)
    place = np.full(len(rows), -1, dtype=np.int64)
    place[found] = np.arange(len(known))
    pairs = []
    for own, store, own_rows, of in (
        (samples[0], source, selection.source, place),
        (samples[1], translated, selection.translated, place[selection.source_of]),
    ):
        linked = np.flatnonzero(of >= 0)
        true = rows[found][of[linked]]
        counts = resample(len(linked), n_bootstrap, np.random.default_rng([seed, 4]))
        counts = np.concatenate([np.ones((len(linked), 1)), counts], axis=1)
        blocks = own.blocks[linked], known.blocks[of[linked]]
        if truth.grid.is_feature_table:
            block, unknown = (
                block_source_correlation(*blocks, counts),
                Estimate(*[float("nan")] * 3),
            )
            each = feature_source_correlation(truth.grid.layers, *blocks, counts)
            pairs.append(SourceCorrelation(block, unknown, len(linked), each))
            continue
        pairs.append(
            SourceCorrelation(
                block_source_correlation(*blocks, counts),
                cell_source_correlation(
                    paired_batches(store, own_rows[linked], truth, true),
                    own.cells.energy,
                    known.cells.energy,
                    counts,
                ),
                len(linked),
            )
        )
    return PairedTruth(*pairs)
