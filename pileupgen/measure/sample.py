"""One pass over images: observables of each event, and averages over all events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Flags, Floats, Ints
from pileupgen.calo.geometry import Grid
from pileupgen.errors import InputError
from pileupgen.measure.bootstrap import effective_size, require_weights
from pileupgen.measure.cell_correlation import CellCorrelation, CorrelationAccumulator
from pileupgen.measure.features import in_spreads, kind_of, observables_of
from pileupgen.measure.observables import negative_records, negative_values
from pileupgen.measure.regions import blocks_of
from pileupgen.measure.spectrum import SPECTRUM_EDGES, event_spectra
from pileupgen.parallel import Executor, Serial
from pileupgen.parallel.threads import one_blas_thread
from pileupgen.progress import Advance, silent
from pileupgen.samples.store import Images, ImageStore

BATCH = 128
"""Events measured at a time: their arrays stay in the processor's cache."""
TASK_EVENTS = 4 * BATCH
"""Events that are a task of a farm."""


@dataclass(frozen=True)
class CellSummary:
    """Averages over events, with the standard error of each."""

    energy: Floats
    energy_error: Floats
    """Mean energy per cell in GeV, and its error. Shape (L, n_eta, n_phi)."""
    occupancy: Floats
    occupancy_error: Floats
    """Fraction of events with a hit in the cell, and its error. Shape (L, n_eta, n_phi)."""
    ring_et: Floats
    ring_et_error: Floats
    """Mean ΣE_T of each ring in GeV and its error; of showers ΣE. Shape (L, n_eta)."""
    spectrum: Floats
    spectrum_error: Floats
    """Hits above 0 per event in bins of log10(E/MeV), underflow first, overflow last. The error is
    from the spread over events, so that it holds what the cells of one event have in common. Shape
    (L, len(SPECTRUM_EDGES) + 1)."""
    negative: Floats
    negative_error: Floats
    """The same of hits below 0, in bins of log10(−E/MeV). Shape (L, len(SPECTRUM_EDGES) + 1)."""


@dataclass(frozen=True)
class Sample:
    """A measured sample of N events."""

    name: str
    """Role in the comparison, such as ``"source"``."""
    label: str
    """What figures call it."""
    grid: Grid
    """The images' grid."""
    observables: dict[str, Floats]
    """Observables by name, see :class:`~pileupgen.measure.observables.ObservableSet`. Shape (N,)
    each."""
    weight: Floats
    """Event weights ≥ 0. Shape (N,)."""
    mu: NDArray[np.float32]
    """Pileup interactions; NaN where unknown. Shape (N,)."""
    event_id: Ints
    """Number of the event, or of its source event where it was translated. Shape (N,)."""
    blocks: NDArray[np.float32]
    """Energy in GeV of blocks of cells, layers summed; of a feature table each feature over its
    standard deviation. Shape (N, n_blocks)."""
    cells: CellSummary
    """Averages over the events; of a feature table only ``energy`` means something."""
    correlation: CellCorrelation
    """How cells fluctuate together."""
    n_empty: int
    """Events without any energy."""
    negatives: Floats
    """What :func:`~pileupgen.measure.observables.negative_values` gives; k = 0 but for images.
    Shape (N, k)."""

    def __len__(self) -> int:
        return len(self.weight)

    @property
    def effective_size(self) -> float:
        """Effective number of events (Σw)² / Σw²."""
        return effective_size(self.weight)

    def matrix(self) -> Floats:
        """Observables as columns, shape ``(N, n_observables)``."""
        return np.stack(list(self.observables.values()), axis=1)

    def take(self, rows: Ints | Flags) -> Sample:
        """Keep the events of the given rows; averages over events remain those of all events."""
        return replace(
            self,
            observables={name: values[rows] for name, values in self.observables.items()},
            weight=self.weight[rows],
            mu=self.mu[rows],
            event_id=self.event_id[rows],
            blocks=self.blocks[rows],
            negatives=self.negatives[rows],
        )

    def with_negatives(self) -> Sample:
        """Count cells below 0 among the observables."""
        names = [record.name for record in negative_records(self.grid)]
        added = dict(zip(names, self.negatives.T, strict=True)) if self.negatives.size else {}
        return replace(self, observables={**self.observables, **added})


def measure_sample(
    name: str,
    label: str,
    batches: Iterable[Images],
    grid: Grid,
    *,
    where: str = "",
    advance: Advance = silent,
) -> Sample:
    """Measure images batch by batch; memory does not grow with the size of the images.

    Parameters
    ----------
    where : str
        What to call the sample in messages; ``label`` if empty.

    Raises
    ------
    InputError
        If there is no event, an energy is NaN or infinite, or a weight is unusable; counted.
    """
    accumulator = _Accumulator(grid, where or label)
    for images in batches:
        for begin in range(0, len(images), BATCH):
            part = slice(begin, begin + BATCH)
            columns = {key: values[part] for key, values in images.columns.items()}
            accumulator.add(Images(images.energy[part], grid, columns))
        advance(len(images))
    return accumulator.finish(name, label)


def measure_store(
    name: str,
    label: str,
    store: ImageStore,
    rows: Ints,
    *,
    weight: Floats | None = None,
    executor: Executor | None = None,
    advance: Advance = silent,
) -> Sample:
    """Measure events of a store, ``TASK_EVENTS`` at a time.

    Parameters
    ----------
    rows : int64 array, shape (N,)
        Which, ascending.
    weight : float64 array, shape (N,), optional
        In place of the events' own.
    executor : Executor, optional
        Where it is done; the result does not depend on it.

    Raises
    ------
    InputError
        See :func:`measure_sample`.
    """
    source = _WorkerStore(store.path.absolute(), str(store.path))
    tasks = [
        (
            rows[begin : begin + TASK_EVENTS],
            None if weight is None else weight[begin : begin + TASK_EVENTS],
        )
        for begin in range(0, len(rows), TASK_EVENTS)
    ]
    whole = _Accumulator(store.grid, source.where)
    for parts in (executor or Serial()).map(_measure_rows, source, tasks):
        for part in parts:
            whole.merge(part)
            advance(part.n_events)
    return whole.finish(name, label)


@dataclass
class _WorkerStore:
    """A store to be measured, which every worker opens for itself."""

    path: Path
    where: str

    @cached_property
    def store(self) -> ImageStore:
        return ImageStore(self.path)


def _measure_rows(source: _WorkerStore, task: tuple[Ints, Floats | None]) -> list[_Accumulator]:
    """Measure each batch by itself: sums of sums would differ in their last bits."""
    rows, weight = task
    images = source.store.read(rows)
    images = images if weight is None else images.weighted(weight)
    parts = []
    for begin in range(0, len(rows), BATCH):
        part = slice(begin, min(begin + BATCH, len(rows)))
        parts.append(_Accumulator(images.grid, source.where))
        batch = {key: values[part] for key, values in images.columns.items()}
        with one_blas_thread():
            parts[-1].add(Images(images.energy[part], images.grid, batch))
    return parts


_observables_of = lru_cache(maxsize=4)(observables_of)


class _Accumulator:
    def __init__(self, grid: Grid, where: str) -> None:
        self._grid, self._where = grid, where
        self._transverse = grid.transverse_shares
        self._columns: dict[str, list[NDArray[np.generic]]] = {}
        self.n_events = 0
        self._n_bad = 0
        self._first_bad = -1
        self._n_empty = 0
        self._weight_sum = 0.0
        n_bins = len(SPECTRUM_EDGES) + 1
        self._energy = [np.zeros(grid.shape) for _ in range(3)]
        self._occupancy = [np.zeros(grid.shape) for _ in range(3)]
        self._ring_et = [np.zeros(grid.shape[:2]) for _ in range(3)]
        self._correlation = CorrelationAccumulator(grid)
        self._spectrum = [np.zeros((grid.n_layers, n_bins)) for _ in range(3)]
        self._negative = [np.zeros((grid.n_layers, n_bins)) for _ in range(3)]
        self._weight_squares = 0.0

    def add(self, images: Images) -> None:
        energy, columns = images.energy, images.columns
        source = columns.get("source_event")
        event_id = images.event_id if source is None else np.asarray(source, dtype=np.int64)
        self.n_events += len(energy)
        bad = ~np.isfinite(energy).all(axis=(1, 2, 3))
        if bad.any():
            self._first_bad = int(event_id[bad][0]) if self._n_bad == 0 else self._first_bad
            self._n_bad += int(bad.sum())
        if self._n_bad:
            return
        weight = images.weight
        require_weights(np.append(weight, 1.0), self._where)
        self._n_empty += int(np.sum(~energy.any(axis=(1, 2, 3))))
        values: dict[str, NDArray[np.generic]] = {}
        values.update(_observables_of(self._grid).measure(energy, event_id, images.mu))
        values["/weight"], values["/mu"], values["/event_id"] = weight, images.mu, event_id
        values["/blocks"] = blocks_of(energy, self._grid)
        wide = energy.astype(np.float64)
        et = wide * self._transverse[:, None]
        is_image = kind_of(self._grid) == "images"
        values["/negatives"] = _negatives(et, self._grid) if is_image else np.empty((len(et), 0))
        for name, column in values.items():
            self._columns.setdefault(name, []).append(column)
        self._weight_sum += float(weight.sum())
        self._weight_squares += float(np.square(weight).sum())
        _add_moments(self._energy, wide, weight)
        _add_moments(self._occupancy, (energy != 0).astype(np.float64), weight)
        _add_moments(self._ring_et, et.sum(axis=3), weight)
        self._correlation.add(et, weight)
        _add_moments(self._spectrum, event_spectra(energy), weight)
        if (energy < 0).any():
            _add_moments(self._negative, event_spectra(-energy), weight)

    def merge(self, later: _Accumulator) -> None:
        """Add the events of another accumulator after these."""
        self.n_events += later.n_events
        if later._n_bad and not self._n_bad:
            self._first_bad = later._first_bad
        self._n_bad += later._n_bad
        if self._n_bad:
            return
        self._n_empty += later._n_empty
        self._weight_sum += later._weight_sum
        self._weight_squares += later._weight_squares
        for name, parts in later._columns.items():
            self._columns.setdefault(name, []).extend(parts)
        for name in ("_energy", "_occupancy", "_ring_et", "_spectrum", "_negative"):
            for total, part in zip(getattr(self, name), getattr(later, name), strict=True):
                total += part
        self._correlation.merge(later._correlation)

    def finish(self, name: str, label: str) -> Sample:
        if self._n_bad:
            raise InputError(
                f"{self._where}: {self._n_bad} of {self.n_events} events hold NaN or infinite "
                f"energies, the first is event {self._first_bad}.",
                "Find out what wrote them; a comparison would mean nothing.",
            )
        if not self.n_events:
            raise InputError(f"{self._where} has no events to compare.")
        joined = {key: np.concatenate(parts) for key, parts in self._columns.items()}
        weight = np.asarray(joined.pop("/weight"), dtype=np.float64)
        require_weights(weight, self._where)
        cells = CellSummary(
            *self._mean_and_error(self._energy),
            *self._mean_and_error(self._occupancy),
            *self._mean_and_error(self._ring_et),
            *self._mean_and_error(self._spectrum),
            *self._mean_and_error(self._negative),
        )
        blocks = np.asarray(joined.pop("/blocks"), dtype=np.float32)
        negatives = np.asarray(joined.pop("/negatives"), dtype=np.float64)
        if self._grid.is_feature_table:
            blocks = in_spreads(blocks, weight)
        return Sample(
            name=name,
            label=label,
            grid=self._grid,
            weight=weight,
            mu=np.asarray(joined.pop("/mu"), dtype=np.float32),
            event_id=np.asarray(joined.pop("/event_id"), dtype=np.int64),
            blocks=blocks,
            observables={key: np.asarray(values) for key, values in joined.items()},
            cells=cells,
            correlation=self._correlation.finish(),
            n_empty=self._n_empty,
            negatives=negatives,
        )

    def _mean_and_error(self, moments: list[Floats]) -> tuple[Floats, Floats]:
        """Weighted mean and its standard error √(Σ w²(x − x̄)²) / Σw."""
        first, second_w2, first_w2 = moments
        mean = first / self._weight_sum
        squares = second_w2 - 2 * mean * first_w2 + mean**2 * self._weight_squares
        return mean, np.sqrt(np.maximum(squares, 0.0)) / self._weight_sum


def _negatives(et: Floats, grid: Grid) -> Floats:
    """What counts the cells below 0, shape ``(N, 2 L)``."""
    if not (et < 0).any():
        return np.zeros((len(et), len(negative_records(grid))))
    return np.stack(list(negative_values(et, grid).values()), axis=1)


def _add_moments(moments: list[Floats], values: Floats, weight: Floats) -> None:
    """Add Σ w x, Σ w² x², Σ w² x over events."""
    squared = np.square(weight)
    moments[0] += np.tensordot(weight, values, axes=1)
    moments[2] += np.tensordot(squared, values, axes=1)
    moments[1] += np.tensordot(squared, np.square(values), axes=1)
