"""Separation powers of showers in the CaloChallenge's own histograms (2410.21611).

They differ from those of :mod:`~pileupgen.compare.distances` in their edges and in that what
lies outside the edges is dropped, as in the challenge's tables; the dropped fraction is given too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pileupgen.arrays import Floats
from pileupgen.compare.distances import separation_power
from pileupgen.compare.records import ShowerSeparation
from pileupgen.compare.resampling import Samples
from pileupgen.measure.observables import MEV
from pileupgen.measure.sample import Sample
from pileupgen.measure.showers import FAMILIES, DataSet, ShowerSet
from pileupgen.samples.store import Images

Batches = Callable[[], Iterator[Images]]

VOXELS = "voxels"
"""Family of the voxel spectrum."""
N_LAYER_EDGES, N_VOXEL_EDGES = 40, 50
"""Edges, even in log E between the threshold and the target's largest value."""


@dataclass(frozen=True)
class _Histogram:
    name: str
    family: str
    edges: Floats
    of: Callable[[Sample], tuple[Floats, Floats]]


def shower_separations(
    samples: Samples, batches: Mapping[str, tuple[Batches, ...]]
) -> tuple[ShowerSeparation, ...]:
    """Fill the challenge's histograms with every sample.

    Parameters
    ----------
    batches : mapping
        By ``"target"`` and row, functions that give each sample's showers again, in the order of
        its weights: the edges of the voxel spectrum depend on the target's largest voxel.
    """
    observables = ShowerSet(samples.target.grid)
    found = []
    for histogram in _histograms(samples.target, observables):
        fill = {
            row: [_filled(*histogram.of(part), histogram.edges) for part in parts]
            for row, parts in {"target": (samples.target,), **samples.rows()}.items()
        }
        found.append(_compared(histogram.name, histogram.family, len(histogram.edges) - 1, fill))
    return (*found, _voxel_spectrum(samples, batches, observables))


def _histograms(target: Sample, observables: ShowerSet) -> Iterator[_Histogram]:
    data_set = observables.data_set
    if np.any(target.observables["e_ratio"] > 0):
        edges = np.linspace(0.5, 1.5, 101)
        yield _Histogram("e_ratio", "e_ratio", edges, _column("e_ratio"))
        if data_set.is_discrete:
            yield from _at_incident_energies()
    for family in FAMILIES:
        for layer in observables.layers_of(family):
            name = f"{family}_{layer}"
            if family == "e":
                edges = _log_edges(
                    data_set.threshold, target.observables[name].max() * MEV, N_LAYER_EDGES
                )
                yield _Histogram(name, family, edges, _column(name, MEV))
            else:
                yield _Histogram(name, family, _shape_edges(data_set, family, layer), _column(name))


def _at_incident_energies() -> Iterator[_Histogram]:
    energies = 2.0 ** np.arange(8, 24)
    for number, (low, high) in enumerate(pairwise(energies)):
        edges = np.linspace(0.4, 1.4, 21) if number <= 3 else np.linspace(0.9, 1.1, 21)

        def of(sample: Sample, low: float = low, high: float = high) -> tuple[Floats, Floats]:
            inside = (sample.mu >= low) & (sample.mu < high)
            return sample.observables["e_ratio"][inside], sample.weight[inside]

        yield _Histogram(f"e_ratio at {low / MEV:g} GeV", "e_ratio at fixed energy", edges, of)


def _shape_edges(data_set: DataSet, family: str, layer: str) -> Floats:
    is_far, is_small = layer in data_set.far_layers, not data_set.is_discrete
    if family == "sparsity":
        return np.linspace(0.0, 1.0, 21)
    if family in ("centre_r", "width_r"):
        small = 42.0 if family == "centre_r" else 20.0
        return np.linspace(0.0, small if is_small else 1500.0 if is_far else 500.0, 101)
    if family.startswith("centre"):
        high = 30.0 if is_small else 500.0 if is_far else 100.0
        return np.linspace(-high, high, 101)
    return np.linspace(0.0, 30.0 if is_small else 400.0 if is_far else 100.0, 101)


def _log_edges(low: float, high: float, n_edges: int) -> Floats:
    """Edges even in the logarithm; of an empty layer one decade, since any do."""
    return np.geomspace(low, high if high > low else 10 * low, n_edges)


def _column(name: str, scale: float = 1.0) -> Callable[[Sample], tuple[Floats, Floats]]:
    return lambda sample: (sample.observables[name] * scale, sample.weight)


def _filled(values: Floats, weight: Floats, edges: Floats) -> tuple[Floats, float]:
    """Counts within the edges, and the sum of all weights."""
    counts, _ = np.histogram(values, bins=edges, weights=weight)
    return counts.astype(np.float64), float(weight.sum())


def _compared(
    name: str, family: str, n_bins: int, fill: Mapping[str, list[tuple[Floats, float]]]
) -> ShowerSeparation:
    reference = fill["target"][0][0]
    values = {
        row: float(np.median([_separation(reference, counts) for counts, _ in parts]))
        for row, parts in fill.items()
        if row != "target"
    }
    outside = {
        row: float(np.mean([_outside(counts, total) for counts, total in parts]))
        for row, parts in fill.items()
    }
    return ShowerSeparation(name=name, family=family, n_bins=n_bins, values=values, outside=outside)


def _outside(counts: Floats, total: float) -> float:
    return max(0.0, 1.0 - float(counts.sum()) / total) if total else 0.0


def _separation(first: Floats, second: Floats) -> float:
    if not first.sum() or not second.sum():
        return float("nan")
    return separation_power(first / first.sum(), second / second.sum())


def _voxel_spectrum(
    samples: Samples, batches: Mapping[str, tuple[Batches, ...]], observables: ShowerSet
) -> ShowerSeparation:
    largest = max(
        float(e.max())
        for images in batches["target"][0]()
        for e in observables.voxels(images.energy)
    )
    edges = _log_edges(observables.data_set.threshold, largest, N_VOXEL_EDGES)
    parts = {"target": (samples.target,), **samples.rows()}
    fill = {
        row: [
            _voxel_counts(part.weight, showers(), edges, observables)
            for part, showers in zip(of_row, batches[row], strict=True)
        ]
        for row, of_row in parts.items()
    }
    return _compared(VOXELS, VOXELS, len(edges) - 1, fill)


def _voxel_counts(
    weight: Floats, showers: Iterator[Images], edges: Floats, observables: ShowerSet
) -> tuple[Floats, float]:
    """Counts within the edges, and those of all voxels that are not empty."""
    counts, total, begin = np.zeros(len(edges) - 1), 0.0, 0
    for images in showers:
        part = weight[begin : begin + len(images)]
        begin += len(images)
        for e in observables.voxels(images.energy):
            event, voxel = np.nonzero(e)
            counts += np.histogram(e[event, voxel], bins=edges, weights=part[event])[0]
            total += float(part[event].sum())
    return counts, total
