"""Source correlation: how much of its source event a translated event keeps.

It is one correlation over all events and all places: r = Σ (x − x̄)(y − ȳ) /
√(Σ (x − x̄)² Σ (y − ȳ)²), sums over events and places, x̄ and ȳ the place's own means over events, so
that the common η profile earns nothing. Places are blocks of about 0.5 × 60° (5 × 6 cells on the
ATLAS grid) or single cells; the energies of the layers are summed. Identity gives 1, unrelated
events give 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Floats, quotient
from pileupgen.compare.records import SourceCorrelation
from pileupgen.measure.bootstrap import UNKNOWN, Estimate, estimate
from pileupgen.measure.sample import Sample

ImagePairs = Iterable[tuple[NDArray[np.float32], NDArray[np.float32]]]

_IDENTITY = Estimate(1.0, 1.0, 1.0)


def source_correlation(
    before: Sample,
    after: Sample,
    counts: Floats,
    image_pairs: Callable[[], ImagePairs] | None = None,
    *,
    are_some: bool = False,
) -> SourceCorrelation:
    """Correlate events with those that they are linked to.

    Parameters
    ----------
    before, after : Sample
        N linked events each, in one order.
    counts : float64 array, shape (N, 1 + B)
        How often each pair counts, see :func:`correlation_of`.
    image_pairs : callable, optional
        Gives images (before, after) of the events, for single cells; NaN where not given.
    are_some : bool
        Whether the samples' mean images are of more events than these, so that the means of just
        these have to be found in another pass.
    """
    cell = UNKNOWN
    if image_pairs is not None:
        means = before.cells.energy, after.cells.energy
        if are_some:
            means = _mean_images(image_pairs(), counts[:, 0])
        cell = cell_source_correlation(image_pairs(), *means, counts)
    features = {}
    if before.grid.is_feature_table:
        features = {
            name: block_source_correlation(
                before.blocks[:, place, None], after.blocks[:, place, None], counts
            )
            for place, name in enumerate(before.grid.layers)
        }
    return SourceCorrelation(
        block=block_source_correlation(before.blocks, after.blocks, counts),
        cell=cell,
        n_pairs=len(after),
        features=features,
    )


def _mean_images(pairs: ImagePairs, weight: Floats) -> tuple[Floats, Floats]:
    share, begin = weight / weight.sum(), 0
    first, second = np.zeros(1), np.zeros(1)
    for x, y in pairs:
        part = share[begin : begin + len(x)]
        first, second = first + np.tensordot(part, x, 1), second + np.tensordot(part, y, 1)
        begin += len(x)
    return first, second


def identity(sample: Sample) -> SourceCorrelation:
    """Correlation of a sample with itself."""
    is_table = sample.grid.is_feature_table
    return SourceCorrelation(
        block=_IDENTITY,
        cell=UNKNOWN if is_table else _IDENTITY,
        n_pairs=len(sample),
        features=dict.fromkeys(sample.grid.layers, _IDENTITY) if is_table else {},
    )


def pair_terms(
    x: NDArray[np.float32], y: NDArray[np.float32], mean_x: Floats, mean_y: Floats
) -> Floats:
    """Give what each linked pair adds to Σ(x − x̄)(y − ȳ), Σ(x − x̄)² and Σ(y − ȳ)².

    Parameters
    ----------
    x, y : float32 arrays, shape (N, k)
        Energies at k places of linked events.
    mean_x, mean_y : float64 arrays, shape (k,)
        Each place's mean over events.

    Returns
    -------
    float64 array, shape (N, 3)
    """
    dx, dy = _deviation(x, mean_x), _deviation(y, mean_y)
    products = [np.einsum("nk,nk->n", *pair) for pair in ((dx, dy), (dx, dx), (dy, dy))]
    return np.stack(products, axis=1)


def _deviation(x: NDArray[np.float32], mean: Floats) -> Floats:
    """Subtract the mean; what is left of a constant is rounding, so it is 0."""
    deviation = x - mean
    deviation[np.abs(deviation) <= 4 * np.finfo(np.float32).eps * np.abs(mean)] = 0.0
    return np.asarray(deviation)


def correlation_of(terms: Floats, counts: Floats) -> Estimate:
    """Correlation from the pairs' terms, with its bootstrap interval.

    Parameters
    ----------
    terms : float64 array, shape (N, 3)
        See :func:`pair_terms`.
    counts : float64 array, shape (N, 1 + B)
        Weights of the pairs: as they are in the first column, resampled in the others.

    Returns
    -------
    Estimate
        NaN where one of the samples does not vary.
    """
    xy, xx, yy = terms.T @ counts
    scale = np.sqrt(xx * yy)
    r = quotient(xy, scale, np.nan)
    return estimate(float(r[0]), r[1:], -1.0, 1.0)


def block_source_correlation(
    x: NDArray[np.float32], y: NDArray[np.float32], counts: Floats
) -> Estimate:
    """Correlate blocks held in memory.

    Parameters
    ----------
    x, y : float32 arrays, shape (N, k)
        Block energies of linked events.
    counts : float64 array, shape (N, 1 + B)
        As in :func:`correlation_of`.
    """
    weight = counts[:, 0] / counts[:, 0].sum()
    return correlation_of(pair_terms(x, y, weight @ x, weight @ y), counts)


def cell_source_correlation(
    pairs: Iterable[tuple[NDArray[np.float32], NDArray[np.float32]]],
    mean_x: Floats,
    mean_y: Floats,
    counts: Floats,
) -> Estimate:
    """Correlate single cells, batch by batch.

    Parameters
    ----------
    pairs : iterable of two float32 arrays, shape (n, L, n_eta, n_phi)
        Images of linked events, in the order of ``counts``.
    mean_x, mean_y : float64 arrays, shape (L, n_eta, n_phi)
        Mean images.
    counts : float64 array, shape (N, 1 + B)
        As in :func:`correlation_of`.
    """
    first, second = mean_x.sum(axis=0).ravel(), mean_y.sum(axis=0).ravel()
    terms = [
        pair_terms(
            x.sum(axis=1).reshape(len(x), -1), y.sum(axis=1).reshape(len(y), -1), first, second
        )
        for x, y in pairs
    ]
    return correlation_of(np.concatenate(terms), counts)
