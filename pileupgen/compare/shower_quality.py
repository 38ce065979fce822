"""How near generated showers are to others: the table of CaloClouds (2309.05704), and a classifier.

Distances are W1 over the target's standard deviation. Those of cells and profiles are of all
showers together: energies of hits in log10, depths and radii weighted by energy.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.stats import wasserstein_distance

from pileupgen.arrays import Floats, Ints
from pileupgen.calo.geometry import Grid
from pileupgen.calo.presets import CUBE
from pileupgen.compare.cell_classifier import cell_test
from pileupgen.compare.distances import weighted_std
from pileupgen.compare.quality import MethodOutput, SampleQuality, physics_distances
from pileupgen.compare.two_sample import feature_test
from pileupgen.errors import StoreError
from pileupgen.measure.bootstrap import Estimate, estimate, event_counts
from pileupgen.measure.observables import MEV
from pileupgen.measure.showers import ShowerSet
from pileupgen.samples.store import Images, ImageStore

SCALARS = {
    "n_hits": "hits",
    "e_ratio": "E_vis/E_inc",
    "centre_x": "⟨x⟩",
    "centre_y": "⟨y⟩",
    "centre_z": "⟨z⟩",
}
PROFILES = {"e_cell": "log E of a hit", "longitudinal": "depth", "radial": "radius"}
TABLE_A = {**SCALARS, **PROFILES}
"""Distances of the table, in words: five numbers of a shower, three spectra of all."""
N_BOOTSTRAP = 100
N_ENERGY_BINS = 120
_LOWEST, _HIGHEST = -3.0, 6.0
"""log10 of E/MeV of a hit: ends of its spectrum."""


@dataclass(frozen=True, kw_only=True)
class ShowerQuality(SampleQuality):
    """One row's numbers.

    The two-sample test is on layer energies, profiles and moments; physics distances are on five
    numbers of a shower and its incident energy.
    """

    distances: dict[str, Estimate]
    """W1/σ by the names of ``TABLE_A``."""
    response: float
    resolution: float
    """Mean and standard deviation of E_vis/E_inc."""


@dataclass(frozen=True)
class MeasuredShowers:
    """What is compared of N showers."""

    scalars: dict[str, Floats]
    """Numbers by the names of ``SCALARS``. Shape (N,) each."""
    spectra: dict[str, Floats]
    """What each shower adds to the spectra of ``PROFILES``. Shape (N, bins) each."""
    features: Floats
    """What a classifier sees. Shape (N, k)."""
    weight: Floats
    """Shape (N,)."""

    def __len__(self) -> int:
        return len(self.weight)

    @property
    def numbers(self) -> Floats:
        """Numbers that physics distances are taken on: few, as showers may be. Shape (N, 6)."""
        return np.stack([*self.scalars.values(), self.features[:, -1]], axis=1)


def measure_showers(images: Images) -> MeasuredShowers:
    """Measure showers; voxels below the data set's threshold count as empty.

    Parameters
    ----------
    images : Images
        On a grid of the CaloChallenge whose layers are alike, or on ``cube_30``; ``mu`` is the
        incident energy in MeV.

    Raises
    ------
    GeometryError
        If the grid is none of these.
    StoreError
        If the incident energy of a shower is not known.
    """
    if not (images.mu > 0).all():
        raise StoreError(
            "The incident energies of showers are not known.",
            "Name them in the data card: mu: incident_energies, then preprocess again.",
        )
    n, (n_layers, n_ring, n_sector) = len(images), images.grid.shape
    x, y, ring = _places(images.grid)
    voxels = _voxels(images).reshape(n, n_layers, n_ring * n_sector)
    total = voxels.sum(axis=(1, 2))
    known = np.maximum(total, 1e-12)
    transverse, layers = voxels.sum(axis=1), voxels.sum(axis=2)
    rings = transverse @ (ring.ravel()[:, None] == np.arange(ring.max() + 1)).astype(float)
    scalars = {
        "n_hits": (voxels > 0).sum(axis=(1, 2)).astype(np.float64),
        "e_ratio": total / images.mu.astype(np.float64),
        "centre_x": transverse @ x.ravel() / known,
        "centre_y": transverse @ y.ravel() / known,
        "centre_z": layers @ np.arange(n_layers) / known,
    }
    log_e = np.log10(np.maximum(voxels, 10**_LOWEST))
    bins = ((log_e - _LOWEST) / (_HIGHEST - _LOWEST) * N_ENERGY_BINS).astype(np.int64)
    bins = np.minimum(bins, N_ENERGY_BINS - 1)
    event, *_ = hits = np.nonzero(voxels)
    index = event * N_ENERGY_BINS + bins[hits]
    counts = np.bincount(index, minlength=n * N_ENERGY_BINS).reshape(n, N_ENERGY_BINS)
    spectra = {"e_cell": counts.astype(np.float64), "longitudinal": layers, "radial": rings}
    features = np.concatenate(
        [
            np.log10(layers + 1e-3),
            rings / known[:, None],
            np.stack([*scalars.values(), np.log10(images.mu.astype(np.float64))], axis=1),
        ],
        axis=1,
    )
    return MeasuredShowers(scalars, spectra, features, images.weight)


def _places(grid: Grid) -> tuple[Floats, Floats, Ints]:
    """Where voxels of a layer are, x and y in mm or, of squares, in cells, and in which ring.

    Squares count as in the ring that their distance from the axis, in cells, is rounded down to.
    """
    if grid.name == CUBE:
        x, y = np.meshgrid(grid.eta_centres, 10 * grid.phi_centres, indexing="ij")
        return x, y, np.hypot(x, y).astype(np.int64)
    radius = ShowerSet(grid).data_set.mm * grid.eta_centres[:, None]
    ring = np.arange(grid.n_eta)[:, None] + np.zeros(grid.n_phi, dtype=np.int64)
    return radius * np.cos(grid.phi_centres), radius * np.sin(grid.phi_centres), ring


def _voxels(images: Images) -> Floats:
    """Energies in MeV above the data set's threshold, (N, L, voxels of a layer)."""
    if images.grid.name == CUBE:
        return MEV * images.energy.astype(np.float64).reshape(*images.energy.shape[:2], -1)
    return np.stack(ShowerSet(images.grid).voxels(images.energy), axis=1)


@dataclass(frozen=True)
class ShowerJudge:
    """Held-out showers, measured once; see :class:`~pileupgen.compare.quality.QualityJudge`."""

    source_images: Images
    target_images: Images
    """Test showers of both domains."""
    target: MeasuredShowers
    reference: MeasuredShowers
    """Other showers of the target's domain, as many as there are source showers."""
    n_seeds: int
    seed: int
    spread: dict[str, float] = field(default_factory=dict)
    """Standard deviation of each distance's quantity in the target, by weight."""

    @classmethod
    def of(
        cls, mc: ImageStore, data: ImageStore, n_events: int | None, n_seeds: int, seed: int
    ) -> ShowerJudge:
        """Measure test showers of both domains and the reference."""
        source = mc.read(mc.indices("test", n_events))
        images = data.read(data.indices("test", n_events))
        others = np.random.default_rng([seed, 5]).permutation(
            np.flatnonzero(data.columns["split"] != 2)
        )
        reference = data.read(np.sort(others[: len(source)]))
        target = measure_showers(images)
        judge = cls(source, images, target, measure_showers(reference), n_seeds, seed)
        spectra = {name: target.weight @ counts for name, counts in target.spectra.items()}
        filled = {name: (target.scalars[name], target.weight) for name in SCALARS}
        filled |= {name: (np.arange(float(len(share))), share) for name, share in spectra.items()}
        for name, (x, weight) in filled.items():
            judge.spread[name] = float(weighted_std(x, weight[:, None])[0]) or 1.0
        return judge

    @property
    def wanted(self) -> Images:
        """Target showers whose conditions generated ones have, as many as there are of source."""
        return self.target_images.cycled(len(self.source_images))

    def reference_quality(self) -> ShowerQuality:
        """What two samples of the target's domain differ by."""
        return self._quality(self.reference)

    def quality(
        self, output: MethodOutput, *, has_source: bool = True, on_cells: bool = False
    ) -> ShowerQuality:
        """Measure showers that a method made; parameters as those of the pileup's judge."""
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
        return self._quality(measure_showers(images), *cells)

    def _quality(
        self, found: MeasuredShowers, auc: float | None = None, error: float | None = None
    ) -> ShowerQuality:
        rng = np.random.default_rng([self.seed, 17])
        of_target = self.target.weight[:, None] * event_counts(len(self.target), N_BOOTSTRAP, rng)
        of_found = found.weight[:, None] * event_counts(len(found), N_BOOTSTRAP, rng)
        drawn = {
            name: self._scalar(name, found, of_target, of_found)
            if name in SCALARS
            else self._spectrum(name, found, of_target, of_found)
            for name in TABLE_A
        }
        mean = np.mean(list(drawn.values()), axis=0)
        test = feature_test(
            self.target.features,
            found.features,
            self.target.weight,
            found.weight,
            n_seeds=self.n_seeds,
            seed=self.seed,
        )
        fpd, kpd = physics_distances(
            self.target.numbers, found.numbers, self.target.weight, found.weight
        )
        ratio = found.scalars["e_ratio"]
        response = float(np.average(ratio, weights=found.weight))
        variance = float(np.average((ratio - response) ** 2, weights=found.weight))
        return ShowerQuality(
            w1=estimate(mean[0], mean[1:], lower=0.0),
            distances={name: estimate(d[0], d[1:], lower=0.0) for name, d in drawn.items()},
            auc=test.auc,
            auc_error=max(test.error, test.spread),
            response=response,
            resolution=variance**0.5,
            n_events=len(found),
            cell_auc=auc,
            cell_auc_error=error,
            fpd=fpd,
            kpd=kpd,
        )

    def _scalar(
        self, name: str, found: MeasuredShowers, of_target: Floats, of_found: Floats
    ) -> Floats:
        x, y = self.target.scalars[name], found.scalars[name]
        pairs = zip(of_target.T, of_found.T, strict=True)
        return np.array([wasserstein_distance(x, y, p, q) for p, q in pairs]) / self.spread[name]

    def _spectrum(
        self, name: str, found: MeasuredShowers, of_target: Floats, of_found: Floats
    ) -> Floats:
        shares = []
        for counts, showers in ((of_target, self.target), (of_found, found)):
            pooled = counts.T @ showers.spectra[name]
            shares.append(pooled / np.maximum(pooled.sum(axis=1, keepdims=True), 1e-300))
        gaps = np.abs(np.cumsum(shares[0] - shares[1], axis=1))[:, :-1]
        return np.asarray(gaps.sum(axis=1) / self.spread[name])
