"""The headline in bins of μ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Flags, Floats, Ints
from pileupgen.compare.distance_table import DistanceTable
from pileupgen.compare.records import MuBin
from pileupgen.compare.resampling import Draws, Samples
from pileupgen.compare.source_correlation import block_source_correlation
from pileupgen.measure.sample import Sample

MIN_EVENTS = 100
"""Target events that a bin holds at least, on average."""


def mu_edges(mu: NDArray[np.float32], n_bins: int) -> Floats:
    """Edges between quantiles of μ, at half integers; fewer bins where μ does not vary enough.

    Parameters
    ----------
    mu : float32 array, shape (n,)
        μ of the target's events.
    n_bins : int
        Wanted bins.

    Returns
    -------
    float64 array, shape (k + 1,)
        k ≤ n_bins; the outer edges hold all events.
    """
    inner = np.quantile(mu, np.arange(1, n_bins) / n_bins)
    inner = np.unique(np.floor(inner) + 0.5)
    low, high = float(mu.min()), float(mu.max())
    return np.array([low, *inner[(inner > low) & (inner < high)], high])


def compare_in_mu(
    samples: Samples,
    source_of: Ints,
    *,
    n_bins: int = 3,
    n_bootstrap: int = 50,
    seed: int = 0,
) -> tuple[MuBin, ...]:
    """Compare the samples in bins of equal numbers of target events.

    Parameters
    ----------
    source_of : int64 array, shape (len(samples.translated),)
        Place of each translated event's source event in the source sample.
    n_bins : int
        Wanted bins; fewer if there are not ``MIN_EVENTS`` target events for each.

    Returns
    -------
    tuple of MuBin
        Empty where a sample's μ is unknown, or there are too few events for two bins. Bins that a
        sample does not reach are left out.
    """
    parts = [samples.target, *samples.reference, samples.source, samples.translated]
    n_bins = min(n_bins, len(samples.target) // MIN_EVENTS)
    if n_bins < 2 or not all(np.isfinite(part.mu).all() for part in parts):
        return ()
    edges = mu_edges(samples.target.mu, n_bins)
    bins = []
    for number in range(len(edges) - 1):
        outer = (number == 0, number == len(edges) - 2)
        chosen = _restrict(samples, source_of, edges[number], edges[number + 1], outer)
        if chosen is None:
            continue
        inside, place = chosen
        draws = Draws.of(inside, place, n_bootstrap, seed)
        table = DistanceTable.of(inside, draws)
        blocks = inside.source.blocks[place], inside.translated.blocks
        bins.append(
            MuBin(
                low=float(edges[number]),
                high=float(edges[number + 1]),
                n_target=len(inside.target),
                n_translated=len(inside.translated),
                mean_distance={row: table.mean(row) for row in inside.rows()},
                shift_removed=table.shift_removed("translated"),
                source_correlation=block_source_correlation(*blocks, draws.rows["translated"][0]),
            )
        )
    return tuple(bins)


def _restrict(
    samples: Samples,
    source_of: Ints,
    low: float,
    high: float,
    outer: tuple[bool, bool],
) -> tuple[Samples, Ints] | None:
    """Samples with μ inside the edges, open at the outer ones, and the links between them."""

    def inside(sample: Sample) -> Flags:
        above = np.ones(len(sample), dtype=bool) if outer[0] else sample.mu >= low
        return above & (np.ones(len(sample), dtype=bool) if outer[1] else sample.mu < high)

    keep_source = inside(samples.source)
    keep_translated = keep_source[source_of]
    place = np.cumsum(keep_source)[source_of[keep_translated]] - 1
    kept = replace(
        samples,
        target=samples.target.take(inside(samples.target)),
        reference=tuple(part.take(inside(part)) for part in samples.reference),
        source=samples.source.take(keep_source),
        translated=samples.translated.take(keep_translated),
    )
    parts = (kept.target, *kept.reference, kept.source, kept.translated)
    if any(len(part) < 2 or not np.any(part.weight > 0) for part in parts):
        return None
    return kept, place.astype(np.int64)
