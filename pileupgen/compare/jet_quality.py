"""How near generated jets are to others: the distances of JetNet (2106.11535), and classifiers.

W1 of the features of particles (W1^P), of the relative mass (W1^M), and of the number of
constituents, girth, N-subjettiness and D₂; physics distances on these; and two-sample tests, on
them and on the constituents themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pileupgen.arrays import Floats
from pileupgen.calo.constituents import COORDINATES, constituents_of, n_constituents
from pileupgen.compare.distances import wasserstein, weighted_std
from pileupgen.compare.halves import Halves
from pileupgen.compare.quality import MethodOutput, SampleQuality, physics_distances
from pileupgen.compare.two_sample import feature_test
from pileupgen.errors import GeometryError, StoreError
from pileupgen.measure.bootstrap import Estimate, estimate, event_counts
from pileupgen.measure.jet_variables import JetArrays, jet_variables
from pileupgen.samples.store import Images, ImageStore

PARTICLES = {"etarel": "W1^P of η", "phirel": "W1^P of φ", "ptrel": "W1^P of p_T"}
SCALARS = {
    "relative_mass": "W1^M",
    "n_constituents": "constituents",
    "girth": "girth",
    "tau21": "τ₂₁",
    "tau32": "τ₃₂",
    "d2": "D₂",
}
TABLE_J = {"relative_mass": SCALARS["relative_mass"], **PARTICLES, **SCALARS}
"""Distances of the table, in words: the mass', three of all constituents, five more of jets."""
N_BOOTSTRAP = 100
_MORE = ("ptd", "c2")
"""Variables that a classifier sees beside those of the table."""


@dataclass(frozen=True, kw_only=True)
class JetQuality(SampleQuality):
    """One row's numbers.

    The mean is of the distances over the target's standard deviations. The two-sample test is on
    variables of jets, that of cells on the constituents, in order of p_T; physics distances are on
    the variables of the table and the jet's p_T.
    """

    distances: dict[str, Estimate]
    """W1 by the names of ``TABLE_J``: relative η and φ, p_T and mass over the jet's p_T."""
    mean_mass: float
    """Mean mass of the jets over their p_T."""


@dataclass(frozen=True)
class MeasuredJets:
    """What is compared of N jets."""

    particles: Floats
    """η, φ and p_T of M constituents, relative to the jets'. Shape (M, 3)."""
    owner: np.ndarray
    """Jet of each. Shape (M,)."""
    scalars: dict[str, Floats]
    """Numbers by the names of ``SCALARS``. Shape (N,) each."""
    features: Floats
    """What a classifier sees. Shape (N, k)."""
    constituents: Floats
    """What a classifier of constituents sees. Shape (N, 3 P + 1)."""
    weight: Floats
    """Shape (N,)."""

    def __len__(self) -> int:
        return len(self.weight)

    @property
    def numbers(self) -> Floats:
        """Numbers that physics distances are taken on. Shape (N, 7)."""
        return np.stack([*self.scalars.values(), self.features[:, -1]], axis=1)

    def values(self, name: str) -> tuple[Floats, np.ndarray]:
        """Values of a distance's quantity, and the jet that each is of."""
        if name in self.scalars:
            return self.scalars[name], np.arange(len(self))
        return self.particles[:, COORDINATES.index(name)], self.owner


def measure_jets(images: Images, where: str) -> MeasuredJets:
    """Measure jets.

    Parameters
    ----------
    images : Images
        A table of constituents; ``mu`` is the jets' p_T in GeV.
    where : str
        What they are, for messages: a domain and its file, or a sample that was made.

    Raises
    ------
    GeometryError
        If it is another table, or has cells.
    StoreError
        If the p_T of a jet is not known, or no jet has constituents.
    """
    if not n_constituents(images.grid):
        raise GeometryError(
            f"Grid '{images.grid.name}' with layers {', '.join(images.grid.layers[:3])} … is no "
            "table of constituents of jets.",
            "Give the data cards format: jetnet and options: {constituents: 30}.",
        )
    if not (images.mu > 0).all():
        raise StoreError(
            f"The p_T of jets are not known: {where}.",
            "Name them in the data card: mu: pt, then preprocess again.",
        )
    found = constituents_of(images.energy).astype(np.float64)
    is_there = found[..., 2] > 0
    if not is_there.any():
        raise StoreError(
            f"No jet has constituents: {where}.",
            "Give files whose particle_features have p_T,rel above 0.",
        )
    n, pt = len(images), images.mu.astype(np.float64)
    # In units of the jet's p_T, as JetNet has them.
    of_jets = np.stack([np.ones(n), np.zeros(n), np.zeros(n), is_there.sum(axis=1)], axis=1)
    jets = JetArrays(np.concatenate([found, is_there[..., None]], axis=2), of_jets)
    names = ["mass", *list(SCALARS)[1:], *_MORE]
    columns = jet_variables(jets, names)
    scalars = dict(zip(SCALARS, columns.T, strict=False))
    features = np.concatenate(
        [columns, found[..., 2].sum(axis=1)[:, None], np.log(pt)[:, None]], axis=1
    )
    constituents = np.concatenate([found.reshape(n, -1), np.log(pt)[:, None]], axis=1)
    owner, _ = np.nonzero(is_there)
    return MeasuredJets(found[is_there], owner, scalars, features, constituents, images.weight)


@dataclass(frozen=True)
class JetJudge:
    """Held-out jets, measured once; see :class:`~pileupgen.compare.quality.QualityJudge`."""

    source_images: Images
    target_images: Images
    """Test jets of both domains."""
    wanted: Images
    """Other test jets of the target's, whose p_T generated ones have."""
    target: MeasuredJets
    reference: MeasuredJets
    """Other jets of the target's domain, as many as there are source jets."""
    n_seeds: int
    seed: int
    spread: dict[str, float] = field(default_factory=dict)
    """Standard deviation of each distance's quantity in the target, by weight; 1 of what does not
    vary."""

    @classmethod
    def of(
        cls, mc: ImageStore, data: ImageStore, n_events: int | None, n_seeds: int, seed: int
    ) -> JetJudge:
        """Measure test jets of both domains and the reference.

        Raises
        ------
        StoreError
            If there are too few, see :class:`~pileupgen.compare.halves.Halves`; or as for
            :func:`measure_jets`.
        """
        half = Halves.of(mc, data, n_events, seed)
        of_mc, of_data = (f"{store.domain}, {store.path}" for store in (mc, data))
        # mc is not judged itself: it is looked at here so that no system is trained in vain.
        measure_jets(half.source, of_mc)
        target, reference = (measure_jets(x, of_data) for x in (half.target, half.reference))
        judge = cls(half.source, half.target, half.wanted, target, reference, n_seeds, seed)
        for name in TABLE_J:
            x, owner = judge.target.values(name)
            spread = float(weighted_std(x, judge.target.weight[owner, None])[0])
            judge.spread[name] = spread if spread > 0 else 1.0
        return judge

    def reference_quality(self) -> JetQuality:
        """What two samples of the target's domain differ by."""
        return self._quality(self.reference, on_constituents=True)

    def quality(
        self, output: MethodOutput, *, has_source: bool = True, on_cells: bool = False
    ) -> JetQuality:
        """Measure jets that a method made; parameters as those of the pileup's judge."""
        assert output.energy is not None
        like = self.source_images if has_source else self.wanted
        images = Images(output.energy, like.grid, like.columns)
        if output.weight is not None:
            images = images.weighted(images.weight * output.weight)
        found = measure_jets(images, "the jets that are judged")
        return self._quality(found, on_constituents=on_cells)

    def _quality(self, found: MeasuredJets, *, on_constituents: bool) -> JetQuality:
        rng = np.random.default_rng([self.seed, 17])
        of_target = self.target.weight[:, None] * event_counts(len(self.target), N_BOOTSTRAP, rng)
        of_found = found.weight[:, None] * event_counts(len(found), N_BOOTSTRAP, rng)
        drawn = {}
        for name in TABLE_J:
            (x, its), (y, theirs) = self.target.values(name), found.values(name)
            drawn[name] = wasserstein(x, y, of_target[its], of_found[theirs])
        mean = np.mean([each / self.spread[name] for name, each in drawn.items()], axis=0)
        auc, error = self._test(self.target.features, found.features, found.weight)
        cells: tuple[float, float] | tuple[None, None] = (None, None)
        if on_constituents:
            cells = self._test(self.target.constituents, found.constituents, found.weight)
        weights = self.target.weight, found.weight
        fpd, kpd = physics_distances(self.target.numbers, found.numbers, *weights)
        return JetQuality(
            w1=estimate(mean[0], mean[1:], lower=0.0),
            distances={name: estimate(d[0], d[1:], lower=0.0) for name, d in drawn.items()},
            auc=auc,
            auc_error=error,
            mean_mass=float(np.average(found.scalars["relative_mass"], weights=found.weight)),
            n_events=len(found),
            cell_auc=cells[0],
            cell_auc_error=cells[1],
            fpd=fpd,
            kpd=kpd,
        )

    def _test(self, x: Floats, y: Floats, weight: Floats) -> tuple[float, float]:
        """AUC of a two-sample test, and its error."""
        test = feature_test(x, y, self.target.weight, weight, n_seeds=self.n_seeds, seed=self.seed)
        return test.auc, max(test.error, test.spread)
