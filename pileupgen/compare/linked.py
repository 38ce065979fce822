"""SourceCorrelation of one sample to another event by event, whatever they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from pileupgen.compare.source_correlation import (
    SourceCorrelation,
    block_source_correlation,
    cell_source_correlation,
)
from pileupgen.measure.bootstrap import Estimate
from pileupgen.measure.sample import Sample

Floats = NDArray[np.float64]
ImagePairs = Iterable[tuple[NDArray[np.float32], NDArray[np.float32]]]

IDENTITY = Estimate(1.0, 1.0, 1.0)
UNKNOWN = Estimate(float("nan"), float("nan"), float("nan"))


def linked_source_correlation(
    before: Sample,
    after: Sample,
    counts: Floats,
    image_pairs: Callable[[], ImagePairs] | None = None,
) -> SourceCorrelation:
    """SourceCorrelation of events to those they were made of.

    Parameters
    ----------
    before, after : Sample
        N linked events each, in one order.
    counts : float64 array, shape (N, 1 + B)
        How often each pair counts, see
        :func:`~pileupgen.compare.source_correlation.correlation_of`.
    image_pairs : callable, optional
        Gives images (before, after) of the events, for single cells; NaN where not given.
    """
    cell = UNKNOWN
    if image_pairs is not None:
        cell = cell_source_correlation(
            image_pairs(), before.cells.energy, after.cells.energy, counts
        )
    block = block_source_correlation(before.blocks, after.blocks, counts)
    features = {}
    if before.grid.is_feature_table:
        names = before.grid.layers
        features = feature_source_correlation(names, before.blocks, after.blocks, counts)
    return SourceCorrelation(block, cell, len(after), features)


def identity(sample: Sample) -> SourceCorrelation:
    """SourceCorrelation of a sample to itself."""
    if not sample.grid.is_feature_table:
        return SourceCorrelation(IDENTITY, IDENTITY, len(sample))
    same = dict.fromkeys(sample.grid.layers, IDENTITY)
    return SourceCorrelation(IDENTITY, UNKNOWN, len(sample), same)


def feature_source_correlation(
    names: tuple[str, ...], x: NDArray[np.float32], y: NDArray[np.float32], counts: Floats
) -> dict[str, Estimate]:
    """Correlation of each feature with that of the linked event.

    Parameters
    ----------
    names : tuple of str, length F
        The features.
    x, y : float32 arrays, shape (N, F)
        Features of linked events.
    counts : float64 array, shape (N, 1 + B)
        As in :func:`~pileupgen.compare.source_correlation.correlation_of`.
    """
    return {
        name: block_source_correlation(x[:, place, None], y[:, place, None], counts)
        for place, name in enumerate(names)
    }
