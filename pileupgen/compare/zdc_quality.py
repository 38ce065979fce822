"""How near generated light of a zero-degree calorimeter is to other: W1 of its five channels.

The table of the papers on ALICE's calorimeters (2306.13606, 2406.03263): W1 in photons between the
distributions of a channel's sum, and the mean over channels. A classifier sees what these do not:
whether the light goes with the particle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import wasserstein_distance

from pileupgen.arrays import Floats
from pileupgen.calo.presets import FIBRES, PRESETS
from pileupgen.compare.cell_classifier import cell_test
from pileupgen.compare.halves import Halves
from pileupgen.compare.quality import MethodOutput, SampleQuality
from pileupgen.compare.two_sample import feature_test
from pileupgen.errors import GeometryError
from pileupgen.measure.bootstrap import Estimate, estimate, event_counts
from pileupgen.measure.fibres import CHANNELS, channel_sums
from pileupgen.samples.columns import PARTICLE
from pileupgen.samples.store import Images, ImageStore

N_BOOTSTRAP = 100


@dataclass(frozen=True, kw_only=True)
class ZdcQuality(SampleQuality):
    """One row's numbers.

    Distances are in photons. The two-sample test is on channels, lit fibres, the light's place and
    the particle; that of cells is on fibres.
    """

    channels: dict[str, Estimate]
    """W1 by the names of ``CHANNELS``, photons."""
    photons: float
    """Mean of an event."""


@dataclass(frozen=True)
class MeasuredLight:
    """What is compared of N events."""

    sums: Floats
    """Photons of each channel. Shape (N, 5)."""
    features: Floats
    """What a classifier sees. Shape (N, k)."""
    weight: Floats
    """Shape (N,)."""

    def __len__(self) -> int:
        return len(self.weight)


def measure_light(images: Images) -> MeasuredLight:
    """Measure events.

    Raises
    ------
    GeometryError
        If the grid is none of ``zdc_neutron`` and ``zdc_proton``.
    """
    grid = images.grid
    if not any(PRESETS[name] == grid for name in FIBRES):
        raise GeometryError(
            f"Grid '{grid.name}' has not the fibres of a zero-degree calorimeter.",
            f"Preprocess with geometry {' or '.join(FIBRES)}.",
        )
    photons = images.energy.astype(np.float64)[:, 0]
    sums, total = channel_sums(images.energy), np.maximum(photons.sum(axis=(1, 2)), 1e-12)
    centre_x = photons.sum(axis=2) @ grid.eta_centres / total
    centre_y = photons.sum(axis=1) @ (10 * grid.phi_centres) / total
    known = [images.columns[name] for name in ("mu", *PARTICLE) if name in images.columns]
    lit = np.count_nonzero(photons, axis=(1, 2))
    columns = [*np.log1p(sums).T, np.log1p(lit), centre_x, centre_y, *known]
    return MeasuredLight(sums, np.stack(columns, axis=1).astype(np.float64), images.weight)


@dataclass(frozen=True)
class ZdcJudge:
    """Held-out events, measured once; see :class:`~pileupgen.compare.quality.QualityJudge`."""

    source_images: Images
    target_images: Images
    """Test events of both domains."""
    wanted: Images
    """Other test events of the target's, whose conditions generated ones have."""
    target: MeasuredLight
    reference: MeasuredLight
    """Other events of the target's domain, as many as there are source events."""
    n_seeds: int
    seed: int

    @classmethod
    def of(
        cls, mc: ImageStore, data: ImageStore, n_events: int | None, n_seeds: int, seed: int
    ) -> ZdcJudge:
        """Measure test events of both domains and the reference.

        Raises
        ------
        StoreError
            If there are too few; see :class:`~pileupgen.compare.halves.Halves`.
        """
        half = Halves.of(mc, data, n_events, seed)
        target, reference = (measure_light(images) for images in (half.target, half.reference))
        return cls(half.source, half.target, half.wanted, target, reference, n_seeds, seed)

    def reference_quality(self) -> ZdcQuality:
        """What two samples of the target's domain differ by."""
        return self._quality(self.reference)

    def quality(
        self, output: MethodOutput, *, has_source: bool = True, on_cells: bool = False
    ) -> ZdcQuality:
        """Measure events that a method made; parameters as those of the pileup's judge."""
        assert output.energy is not None
        like = self.source_images if has_source else self.wanted
        images = Images(output.energy, like.grid, like.columns)
        if output.weight is not None:
            images = images.weighted(images.weight * output.weight)
        cells: tuple[float, float] | tuple[None, None] = (None, None)
        if on_cells:
            test = cell_test(
                self.target_images.energy,
                images.energy,
                images.grid,
                self.target.weight,
                images.weight,
                seed=self.seed,
            )
            cells = test.auc, max(test.error, test.spread)
        return self._quality(measure_light(images), *cells)

    def _quality(
        self, found: MeasuredLight, auc: float | None = None, error: float | None = None
    ) -> ZdcQuality:
        rng = np.random.default_rng([self.seed, 17])
        # How often each event counts: as it is, then resampled.
        pairs = [
            (self.target.weight * of_target, found.weight * of_found)
            for of_target, of_found in zip(
                event_counts(len(self.target), N_BOOTSTRAP, rng).T,
                event_counts(len(found), N_BOOTSTRAP, rng).T,
                strict=True,
            )
        ]
        drawn = np.array(
            [
                [wasserstein_distance(x, y, p, q) for p, q in pairs]
                for x, y in zip(self.target.sums.T, found.sums.T, strict=True)
            ]
        )
        mean = drawn.mean(axis=0)
        test = feature_test(
            self.target.features,
            found.features,
            self.target.weight,
            found.weight,
            n_seeds=self.n_seeds,
            seed=self.seed,
        )
        channels = {
            name: estimate(each[0], each[1:], lower=0.0)
            for name, each in zip(CHANNELS, drawn, strict=True)
        }
        return ZdcQuality(
            w1=estimate(mean[0], mean[1:], lower=0.0),
            channels=channels,
            auc=test.auc,
            auc_error=max(test.error, test.spread),
            photons=float(np.average(found.sums.sum(axis=1), weights=found.weight)),
            n_events=len(found),
            cell_auc=auc,
            cell_auc_error=error,
        )
