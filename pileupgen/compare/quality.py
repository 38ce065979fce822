"""How near a method's output is to data, in few numbers, the same for methods of any kind."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pileupgen.compare.cell_classifier import cell_test
from pileupgen.compare.distance_table import DistanceTable
from pileupgen.compare.physics_distance import fpd, kpd
from pileupgen.compare.records import TwoSampleTest
from pileupgen.compare.resampling import Draws, Samples
from pileupgen.compare.source_correlation import block_source_correlation, cell_source_correlation
from pileupgen.compare.two_sample import feature_test
from pileupgen.fields import PlainRecord
from pileupgen.measure.bootstrap import Estimate
from pileupgen.measure.sample import Sample, measure_sample
from pileupgen.samples.store import Images, ImageStore

Energies = NDArray[np.float32]
Floats = NDArray[np.float64]
N_BOOTSTRAP = 100
MAX_REFERENCES = 3


@dataclass(frozen=True)
class MethodOutput:
    """What became of N source events: images or observables, weights, or images with weights."""

    energy: Energies | None = None
    """Images in GeV. Shape (N, L, n_eta, n_phi)."""
    observables: Floats | None = None
    """Where a method makes no images. Shape (N, k)."""
    weight: Floats | None = None
    """Weights by which the events count, where a method gives them some. Shape (N,)."""


@dataclass(frozen=True, kw_only=True)
class SampleQuality(PlainRecord):
    """What every judge gives of a sample; what was not asked for, or cannot be told, is None."""

    w1: Estimate
    """Mean of the distances W1, in the judge's units."""
    auc: float
    """Two-sample test on observables."""
    auc_error: float
    """The larger of its statistical error and its spread over seeds."""
    n_events: int
    cell_auc: float | None = None
    cell_auc_error: float | None = None
    """Two-sample test on the sample's cells themselves."""
    fpd: Estimate | None = None
    kpd: Estimate | None = None
    """Fréchet and kernel physics distance on observables; of light they are not taken."""


@dataclass(frozen=True, kw_only=True)
class Quality(SampleQuality):
    """One row's numbers: distances are W1/σ of observables."""

    shift_removed: Estimate
    """Fraction of the shift removed."""
    block: Estimate | None
    cell: Estimate | None
    """Source correlation of blocks and of cells."""


@dataclass(frozen=True)
class QualityJudge:
    """Held-out events, measured once."""

    source_images: Images
    """Test events of mc, that every method translates."""
    target_images: Images
    """Test events of data."""
    target: Sample
    source: Sample
    """Both, measured."""
    reference: tuple[Sample, ...]
    """Disjoint samples of other data events."""
    n_seeds: int
    """Seeds of the two-sample test."""
    seed: int

    @classmethod
    def of(
        cls, mc: ImageStore, data: ImageStore, n_events: int | None, n_seeds: int, seed: int
    ) -> QualityJudge:
        """Measure test events of both domains and the reference."""
        source = mc.read(mc.indices("test", n_events))
        others = np.random.default_rng([seed, 5]).permutation(
            np.flatnonzero(data.columns["split"] != 2)
        )
        n = min(len(source), len(others))
        n_references = max(1, min(MAX_REFERENCES, len(others) // n))
        target = data.read(data.indices("test", n_events))
        return cls(
            source,
            target,
            measure_sample("target", "data", [target], mc.grid),
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

    @property
    def wanted(self) -> Images:
        """Target events that generated ones are made alike, as many as there are source events."""
        return self.target_images.cycled(len(self.source_images))

    def reference_quality(self) -> Quality:
        """What two samples of data differ by."""
        table, _ = self._compared(self.source)
        auc, error = self._auc(self.reference[0])
        closed = Estimate(1.0, 1.0, 1.0)
        fpd, kpd = self._physics(self.reference[0])
        return Quality(
            w1=table.mean("reference"),
            shift_removed=closed,
            auc=auc,
            auc_error=error,
            block=None,
            cell=None,
            n_events=len(self.reference[0]),
            fpd=fpd,
            kpd=kpd,
        )

    def quality(
        self, output: MethodOutput, *, has_source: bool = True, on_cells: bool = False
    ) -> Quality:
        """Measure a method's output.

        Parameters
        ----------
        output : MethodOutput
            As many events as there are source events.
        has_source : bool
            Whether they are the translated source events, in their order; else they were made from
            noise at the conditions of the events of :attr:`wanted`, and are correlated with none.
        on_cells : bool
            Whether the two-sample test on cells is made, too.
        """
        images, sample = self.source_images, self.source
        if not has_source:
            images = self.wanted
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
        if output.observables is None and has_source:
            counts = draws.rows["translated"][0]
            block = block_source_correlation(self.source.blocks, sample.blocks, counts)
            pairs = [(self.source_images.energy, images.energy)]
            means = self.source.cells.energy, sample.cells.energy
            cell = cell_source_correlation(pairs, *means, counts)
        cell_auc = cell_error = None
        if on_cells:
            cell_auc, cell_error = self._cell_auc(images, sample.weight)
        fpd, kpd = self._physics(sample)
        return Quality(
            w1=table.mean("translated"),
            shift_removed=table.shift_removed("translated"),
            auc=auc,
            auc_error=error,
            block=block,
            cell=cell,
            n_events=len(sample),
            cell_auc=cell_auc,
            cell_auc_error=cell_error,
            fpd=fpd,
            kpd=kpd,
        )

    def _cell_auc(self, images: Images, weight: Floats) -> tuple[float, float]:
        test = cell_test(
            self.target_images.energy,
            images.energy,
            images.grid,
            self.target.weight,
            weight,
            seed=self.seed,
        )
        return test.auc, max(test.error, test.spread)

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

    def _physics(self, sample: Sample) -> tuple[Estimate, Estimate]:
        pair = self.target.matrix(), sample.matrix()
        return physics_distances(*pair, self.target.weight, sample.weight)

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


def physics_distances(
    target: Floats, sample: Floats, target_weight: Floats, weight: Floats
) -> tuple[Estimate, Estimate]:
    """FPD and KPD of a sample's features, (n, k), to the target's, with bootstrap intervals."""
    given = target, sample, target_weight, weight
    found = (
        fpd(*given, n_bootstrap=N_BOOTSTRAP),
        kpd(*given, n_bootstrap=N_BOOTSTRAP),
    )
    first, second = found
    return (
        Estimate(first.value, max(first.low, 0.0), first.high),
        Estimate(second.value, second.low, second.high),
    )


def _closed(table: DistanceTable) -> np.ndarray:
    """Fraction of the shift removed by the translated sample: as it is, then resampled."""
    source, translated, reference = (
        np.mean([d for key, d in table.distances[row].items() if key not in table.constant], axis=0)
        for row in ("source", "translated", "reference")
    )
    return np.asarray((source - translated) / (source - reference))
