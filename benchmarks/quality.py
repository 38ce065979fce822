"""How near a method's output is to data: the same measures as `pileupgen validate`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.baselines.contract import Output
from pileupgen.compare.distance_table import DistanceTable
from pileupgen.compare.records import TwoSampleTest
from pileupgen.compare.resampling import Draws, Samples
from pileupgen.compare.source_correlation import block_source_correlation, cell_source_correlation
from pileupgen.compare.two_sample import feature_test
from pileupgen.measure.bootstrap import Estimate
from pileupgen.measure.sample import Sample, measure_sample
from pileupgen.samples.store import Images, ImageStore

Energies = NDArray[np.float32]
N_BOOTSTRAP = 100
MAX_REFERENCES = 3


@dataclass(frozen=True)
class Quality:
    """One row's numbers; what a method's output does not tell is None.

    Attributes
    ----------
    w1, shift_removed : Estimate
        Mean W1/σ over the observables, and the fraction of the shift removed.
    auc, auc_error : float
        Two-sample test on observables, and the larger of statistical error and spread over seeds.
    block, cell : Estimate or None
        SourceCorrelation to the source event.
    n_events : int
    """

    w1: Estimate
    shift_removed: Estimate
    auc: float
    auc_error: float
    block: Estimate | None
    cell: Estimate | None
    n_events: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Judge:
    """Held-out events, measured once.

    Attributes
    ----------
    source_images : Images
        Test events of mc, that every method translates.
    target, source : Sample
        Test events of data and of mc.
    reference : tuple of Sample
        Disjoint samples of other data events.
    n_seeds : int
        Of the two-sample test.
    """

    source_images: Images
    target: Sample
    source: Sample
    reference: tuple[Sample, ...]
    n_seeds: int
    seed: int

    @classmethod
    def of(
        cls, mc: ImageStore, data: ImageStore, n_events: int | None, n_seeds: int, seed: int
    ) -> Judge:
        """Measure test events of both domains and the reference."""
        source = mc.read(mc.indices("test", n_events))
        others = np.random.default_rng([seed, 5]).permutation(
            np.flatnonzero(data.columns["split"] != 2)
        )
        n = min(len(source), len(others))
        n_references = max(1, min(MAX_REFERENCES, len(others) // n))
        return cls(
            source,
            measure_sample("target", "data", data.batches(data.indices("test", n_events)), mc.grid),
            measure_sample("source", "mc", [source], mc.grid),
            tuple(
                measure_sample(
                    "reference",
                    "other data",
                    data.batches(np.sort(others[i * n : (i + 1) * n])),
                    mc.grid,
                )
                for i in range(n_references)
            ),
            n_seeds,
            seed,
        )

    def reference_quality(self) -> Quality:
        """What two samples of data differ by."""
        table, _ = self._compared(self.source)
        auc, error = self._auc(self.reference[0])
        closed = Estimate(1.0, 1.0, 1.0)
        return Quality(
            table.mean("reference"), closed, auc, error, None, None, len(self.reference[0])
        )

    def quality(self, output: Output) -> Quality:
        """Measure a method's output of the source events."""
        images, sample = self.source_images, self.source
        if output.energy is not None:
            images = Images(output.energy, images.grid, images.columns)
            sample = measure_sample("translated", "translated", [images], images.grid)
        elif output.observables is not None:
            names = list(sample.observables)
            columns = dict(zip(names, output.observables.T, strict=True))
            sample = replace(sample, observables=columns)
        if output.weight is not None:
            sample = replace(sample, weight=sample.weight * output.weight)
        table, draws = self._compared(sample)
        auc, error = self._auc(sample)
        block = cell = None
        if output.observables is None:
            counts = draws.rows["translated"][0]
            block = block_source_correlation(self.source.blocks, sample.blocks, counts)
            pairs = [(self.source_images.energy, images.energy)]
            means = self.source.cells.energy, sample.cells.energy
            cell = cell_source_correlation(pairs, *means, counts)
        return Quality(
            table.mean("translated"),
            table.shift_removed("translated"),
            auc,
            error,
            block,
            cell,
            len(sample),
        )

    def gap_difference(self, one: Energies, other: Energies) -> Estimate:
        """Shift removed by one less that by another, over the same resampled events."""
        tables = []
        for energy in (one, other):
            images = Images(energy, self.source_images.grid, self.source_images.columns)
            sample = measure_sample("translated", "translated", [images], images.grid)
            tables.append(self._compared(sample)[0])
        closed = [_closed(table) for table in tables]
        difference = closed[0] - closed[1]
        spread = float(difference[1:].std())
        value = float(difference[0])
        return Estimate(value, value - spread, value + spread)

    def _compared(self, sample: Sample) -> tuple[DistanceTable, Draws]:
        samples = Samples(self.target, self.reference, self.source, sample)
        draws = Draws.of(samples, np.arange(len(self.source)), N_BOOTSTRAP, self.seed)
        return DistanceTable.of(samples, draws), draws

    def _auc(self, sample: Sample) -> tuple[float, float]:
        test: TwoSampleTest = feature_test(
            self.target.matrix(),
            sample.matrix(),
            self.target.weight,
            sample.weight,
            n_seeds=self.n_seeds,
            seed=self.seed,
        )
        return test.auc, max(test.error, test.spread)


def _closed(table: DistanceTable) -> np.ndarray:
    """fraction of the shift removed by the translated sample: as it is, then resampled."""
    source, translated, reference = (
        np.mean([d for key, d in table.distances[row].items() if key not in table.constant], axis=0)
        for row in ("source", "translated", "reference")
    )
    return np.asarray((source - translated) / (source - reference))
