"""W1/σ of every observable for every row of a comparison, resampled."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pileupgen.arrays import Floats, Ints, quotient
from pileupgen.compare.distances import (
    is_constant,
    separation_edges,
    separation_power,
    unit_histogram,
    wasserstein,
    weighted_std,
)
from pileupgen.compare.resampling import Draws, Samples
from pileupgen.measure.bootstrap import Estimate, estimate
from pileupgen.measure.sample import Sample
from pileupgen.parallel import Executor, Serial
from pileupgen.parallel.threads import Map
from pileupgen.progress import Advance, silent


@dataclass(frozen=True)
class DistanceTable:
    """Distances as they are and from resampled events."""

    distances: dict[str, dict[str, Floats]]
    """W1/σ by row and observable: as it is first, then resampled; NaN where the target is constant.
    Shape (1 + B,) each."""
    constant: tuple[str, ...]
    """Observables that do not vary in the target."""

    @classmethod
    def of(
        cls,
        samples: Samples,
        draws: Draws,
        advance: Advance = silent,
        executor: Executor | None = None,
        *,
        only: Collection[str] = ("reference", "source", "translated"),
    ) -> DistanceTable:
        """Measure the samples of some rows; ``advance`` is called with 1 after each observable."""
        target, of_rows = samples.target, samples.rows()
        weights = {name: [part.weight for part in parts] for name, parts in of_rows.items()}
        rows = {name: of_rows[name] for name in only}
        resampling = _Resampling(target.weight, weights, draws.drawn_by, draws)
        constant = tuple(key for key, values in target.observables.items() if is_constant(values))
        distances: dict[str, dict[str, Floats]] = {name: {} for name in rows}
        tasks = (
            _Columns(
                values,
                {name: [part.observables[key] for part in parts] for name, parts in rows.items()},
                key in constant,
            )
            for key, values in target.observables.items()
        )
        found = (executor or Serial()).map(_measure, resampling, tasks)
        for key, measured in zip(target.observables, found, strict=True):
            for name, values in measured.items():
                distances[name][key] = values
            advance(1)
        return cls(distances, constant)

    def estimates(self, row: str) -> dict[str, Estimate]:
        """W1/σ of a row by observable, with intervals."""
        return {key: estimate(d[0], d[1:], 0.0) for key, d in self.distances[row].items()}

    def mean(self, row: str) -> Estimate:
        """Mean W1/σ of a row over the observables that vary."""
        means = self.means(row)
        return estimate(float(means[0]), means[1:], 0.0)

    def shift_removed(self, row: str) -> Estimate:
        """Fraction of the shift removed by a row."""
        return shift_removed(self.means("source"), self.means(row), self.means("reference"))

    def means(self, row: str) -> Floats:
        """Mean W1/σ of a row, as it is first, then resampled, (1 + B,)."""
        return mean_distances(self.distances[row], self.constant)


def resampled_distances(
    target: Sample,
    target_counts: Floats,
    rows: Mapping[str, tuple[Sample, ...]],
    counts: Mapping[str, tuple[Floats, ...]],
    over: Map = map,
) -> dict[str, dict[str, Floats]]:
    """W1/σ of any rows by observable that varies in the target, as it is first, then resampled.

    Parameters
    ----------
    target_counts : float64 array, shape (n, 1 + B)
        Weights of its events, resampled but for the first column.
    rows : mapping of tuples of Sample
        Samples that each row is the mean over.
    counts : mapping of tuples of float64 arrays, shape (m, 1 + B)
        Counts of their events.
    over : Map
        Over observables.
    """
    drawn = Draws(target_counts, dict(counts), (np.zeros(0, dtype=np.int64), 0, 0))
    resampling = _Resampling(np.zeros(0), {}, drawn.drawn_by, drawn)
    varying = [name for name, x in target.observables.items() if not is_constant(x)]

    def measure(name: str) -> dict[str, Floats]:
        parts = {row: [part.observables[name] for part in of] for row, of in rows.items()}
        return _measure(resampling, _Columns(target.observables[name], parts, False))

    found = list(over(measure, varying))
    return {row: {name: of[row] for name, of in zip(varying, found, strict=True)} for row in rows}


def mean_distances(distances: Mapping[str, Floats], constant: tuple[str, ...]) -> Floats:
    """Mean over the observables that vary in the target, (1 + B,); NaN where none does."""
    varying = [d for key, d in distances.items() if key not in constant]
    if not varying:
        return np.full_like(next(iter(distances.values())), np.nan)
    return np.asarray(np.mean(varying, axis=0))


@dataclass(frozen=True)
class _Columns:
    """One observable of the target and of each row's samples."""

    target: Floats
    rows: dict[str, list[Floats]]
    is_constant: bool


@dataclass
class _Resampling:
    """How often events count; pickled without the draws, which are made again elsewhere."""

    target: Floats
    rows: dict[str, list[Floats]]
    drawn_by: tuple[Ints, int, int]
    draws: Draws | None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "draws": None}

    def __call__(self) -> Draws:
        if self.draws is None:
            self.draws = Draws.from_weights(self.target, self.rows, *self.drawn_by)
        return self.draws


def _measure(resampling: _Resampling, columns: _Columns) -> dict[str, Floats]:
    """W1/σ of one observable by row."""
    draws = resampling()
    sigma = weighted_std(columns.target, draws.target)
    distances = {}
    for name, parts in columns.rows.items():
        w1 = np.mean(
            [
                wasserstein(part, columns.target, weight, draws.target)
                for part, weight in zip(parts, draws.rows[name], strict=True)
            ],
            axis=0,
        )
        defined = (sigma > 0) & (not columns.is_constant)
        distances[name] = np.divide(w1, sigma, out=np.full_like(w1, np.nan), where=defined)
    return distances


def shift_removed(
    source: Floats, translated: Floats, reference: Floats, clear: float = 1.0
) -> Estimate:
    """(source − translated) / (source − reference) of mean distances.

    Parameters
    ----------
    source, translated, reference : float64 arrays, shape (1 + B,)
        Mean W1/σ: as it is first, then resampled.
    clear : float
        Spreads over the resamplings by which the source must be farther than the reference.

    Returns
    -------
    Estimate
        NaN where it is not.
    """
    gap = source - reference
    if not gap[0] > clear * np.std(gap[1:]):
        return Estimate(np.nan, np.nan, np.nan)
    closed = quotient(source - translated, gap, np.nan)
    return estimate(float(closed[0]), closed[1:])


def separations(target: Sample, parts: tuple[Sample, ...]) -> dict[str, float]:
    """Separation power per observable, mean over samples."""
    values = {}
    for key, reference in target.observables.items():
        edges = separation_edges(reference)
        first = unit_histogram(reference, edges, target.weight)
        powers = [
            separation_power(first, unit_histogram(part.observables[key], edges, part.weight))
            for part in parts
        ]
        values[key] = float(np.mean(powers))
    return values
