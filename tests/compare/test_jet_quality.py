"""Distances of jets: known changes have known distances."""

from __future__ import annotations

from inspect import get_annotations
from pathlib import Path

import numpy as np
import pytest

from pileupgen.calo.constituents import constituent_names
from pileupgen.calo.geometry import Grid
from pileupgen.compare import jet_quality
from pileupgen.compare.jet_quality import TABLE_J, JetJudge, JetQuality, measure_jets
from pileupgen.compare.quality import MethodOutput, Quality, SampleQuality
from pileupgen.compare.shower_quality import ShowerQuality
from pileupgen.compare.zdc_quality import ZdcQuality
from pileupgen.errors import GeometryError, StoreError
from pileupgen.samples.store import Images, ImageStore, create_store

P = 6
GRID = Grid.of_features(constituent_names(P), [""] * (3 * P))


def make_tables(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Jets of two prongs with three to six constituents, (n, 3 P, 1, 1), and their p_T, (n,)."""
    rng = np.random.default_rng([seed, 3])
    axis = rng.uniform(-np.pi, np.pi, n)
    prong = 0.2 * np.stack([np.cos(axis), np.sin(axis)], axis=1)
    which = rng.choice([-1.0, 1.0], size=(n, P))
    place = which[..., None] * prong[:, None] + rng.normal(0, 0.03, (n, P, 2))
    pt = -np.sort(-rng.exponential(1.0, (n, P)) - 0.1, axis=1)
    pt[np.arange(P) >= rng.integers(3, P + 1, n)[:, None]] = 0.0
    pt *= rng.uniform(0.8, 1.0, (n, 1)) / pt.sum(axis=1, keepdims=True)
    tables = np.concatenate([np.where(pt[..., None] > 0, place, 0.0), pt[..., None]], axis=2)
    return tables.reshape(n, 3 * P, 1, 1).astype("f4"), rng.uniform(800, 1200, n).astype("f4")


def jets_of(tables: np.ndarray, pt: np.ndarray, grid: Grid = GRID) -> Images:
    columns = {"mu": pt, "event_id": np.arange(len(pt)), "weight": np.ones(len(pt))}
    return Images(np.ascontiguousarray(tables, dtype="f4"), grid, columns)


def write_jets(path: Path, n: int, seed: int, domain: str, wider: float = 1.0) -> ImageStore:
    """A store of such jets: half training, half test."""
    tables, pt = make_tables(n, seed)
    tables = stretched(tables, wider)
    columns = {
        "mu": pt,
        "event_id": np.arange(n),
        "weight": np.ones(n),
        "split": np.arange(n) % 2 * 2,
    }
    with create_store(path, GRID, domain, {}) as writer:
        writer.append(tables, columns)
    return ImageStore(path)


def stretched(tables: np.ndarray, factor: float) -> np.ndarray:
    """Farther from the axis in η and φ."""
    found = tables.reshape(len(tables), P, 3) * np.array([factor, factor, 1.0])
    return found.reshape(tables.shape).astype("f4")


@pytest.fixture(scope="module")
def judge(tmp_path_factory) -> JetJudge:
    folder = tmp_path_factory.mktemp("jets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jet_quality, "N_BOOTSTRAP", 20)
        stores = [
            write_jets(folder / f"{name}.h5", 480, seed, name)
            for seed, name in ((1, "mc"), (2, "data"))
        ]
        yield JetJudge.of(*stores, None, 1, 1)


def judged(judge: JetJudge, energy: np.ndarray, *, on_cells: bool = False) -> JetQuality:
    output = MethodOutput(np.ascontiguousarray(energy, dtype=np.float32))
    return judge.quality(output, has_source=False, on_cells=on_cells)


def test_two_massless_constituents_have_the_mass_of_the_formula():
    """m² = 2 p_T1 p_T2 (cosh Δη − cos Δφ), in units of the jet's p_T."""
    rng = np.random.default_rng(4)
    place, pt = rng.uniform(-0.4, 0.4, (20, 2, 2)), rng.uniform(0.2, 0.5, (20, 2))
    both = np.concatenate([place, pt[..., None]], axis=2)
    tables = np.concatenate([both, np.zeros((20, P - 2, 3))], axis=1).reshape(20, 3 * P, 1, 1)
    eta, phi = (place[:, 0] - place[:, 1]).T
    expected = np.sqrt(2 * pt.prod(axis=1) * (np.cosh(eta) - np.cos(phi)))
    found = measure_jets(jets_of(tables, np.full(20, 1000.0)), "made")
    np.testing.assert_allclose(found.scalars["relative_mass"], expected, rtol=1e-5)
    assert (found.scalars["n_constituents"] == 2).all()
    assert len(found.particles) == 40


def test_more_mass_is_farther_away(judge):
    """And all else that does not see angles stays where it is."""
    energy = judge.target_images.energy
    same = judged(judge, energy)
    assert same.w1.value == pytest.approx(0, abs=1e-12)
    values = [0.0]
    for factor in (1.05, 1.2, 1.5):
        found = judged(judge, stretched(energy, factor))
        mass = found.distances["relative_mass"]
        assert mass.value > 1.5 * values[-1]
        assert mass.low < mass.value < mass.high
        assert found.mean_mass - same.mean_mass == pytest.approx(mass.value)
        assert found.distances["ptrel"].value < 1e-12 > found.distances["n_constituents"].value
        # Ratios of subjettiness do not know a unit of length.
        assert found.distances["tau21"].value < 1e-6
        values.append(mass.value)
    assert values[-1] == pytest.approx(0.5 * same.mean_mass, rel=0.05)


def test_a_shift_of_all_constituents_is_found_in_its_coordinate_alone(judge):
    energy = judge.target_images.energy.reshape(-1, P, 3).copy()
    energy[..., 1] += np.where(energy[..., 2] > 0, 0.02, 0.0)
    found = judged(judge, energy.reshape(-1, 3 * P, 1, 1))
    values = {name: found.distances[name].value for name in ("etarel", "phirel", "ptrel")}
    assert values == pytest.approx({"etarel": 0.0, "phirel": 0.02, "ptrel": 0.0}, abs=1e-6)
    parts = [found.distances[name].value / judge.spread[name] for name in TABLE_J]
    assert found.w1.value == pytest.approx(np.mean(parts))


@pytest.mark.usefixtures("thorough")
def test_constituents_dealt_to_other_jets_are_told_apart(judge):
    """Their marginals agree: mass, classifiers and physics distances do not."""
    own = judge.wanted.energy.reshape(-1, P, 3)
    dealt, hits = own.copy(), (own[..., 2] > 0).sum(axis=1)
    for alike in (np.flatnonzero(hits == n) for n in np.unique(hits)):
        for place in range(P):
            dealt[alike, place] = own[np.roll(alike, 3 * place), place]
    found = [judged(judge, each.reshape(-1, 3 * P, 1, 1), on_cells=True) for each in (own, dealt)]
    for name in ("etarel", "phirel", "ptrel"):
        assert found[1].distances[name].value == pytest.approx(found[0].distances[name].value)
    assert found[1].distances["tau21"].value > 3 * found[0].distances["tau21"].value
    assert found[0].auc < 0.6 < 0.9 < found[1].auc
    assert found[0].cell_auc < 0.6 < found[1].cell_auc
    assert found[1].fpd.value > found[0].fpd.value


def test_no_jet_is_in_two_samples(judge):
    """Half of 240 test jets are judged against; jets are made at the p_T of the others."""
    assert len(judge.target_images) == len(judge.wanted) == len(judge.source_images) == 120
    assert len(judge.reference) == 120
    assert not set(judge.target_images.event_id) & set(judge.wanted.event_id)
    found = judge.reference_quality()
    assert 0 < found.w1.value < 0.2
    assert found.auc == pytest.approx(0.5, abs=0.12)
    assert found.cell_auc == pytest.approx(0.5, abs=0.12)


def test_a_number_that_does_not_vary_has_no_unit_of_its_own(tmp_path, monkeypatch):
    """As of jets that all have as many constituents as are kept."""
    monkeypatch.setattr(jet_quality, "N_BOOTSTRAP", 2)
    tables, pt = make_tables(80, 1)
    full = tables.reshape(-1, P, 3)
    full[..., 2] = np.maximum(full[..., 2], 0.01)
    columns = {"mu": pt, "event_id": np.arange(80), "weight": np.ones(80), "split": np.full(80, 2)}
    columns["split"][:30] = 0
    for name in ("mc", "data"):
        with create_store(tmp_path / f"{name}.h5", GRID, name, {}) as writer:
            writer.append(full.reshape(tables.shape), columns)
    judge = JetJudge.of(*(ImageStore(tmp_path / f"{n}.h5") for n in ("mc", "data")), None, 1, 1)
    assert judge.spread["n_constituents"] == 1.0
    fewer = judge.wanted.energy.copy()
    fewer[:, -3:] = 0
    assert judged(judge, fewer).distances["n_constituents"].value == pytest.approx(1.0)


def test_what_is_no_jet_is_refused():
    tables, pt = make_tables(10, 1)
    other = Grid.of_features(["mass", *constituent_names(P)[1:]], [""] * (3 * P))
    with pytest.raises(GeometryError, match="constituents: 30"):
        measure_jets(jets_of(tables, pt, other), "made")
    for unknown in (0.0, np.nan):
        jets = jets_of(tables, np.where(np.arange(10) == 3, unknown, pt))
        with pytest.raises(StoreError, match="mu: pt"):
            measure_jets(jets, "made")
    with pytest.raises(StoreError, match="No jet has constituents: made"):
        measure_jets(jets_of(0 * tables, pt), "made")
    one = tables.copy()
    one[1:] = 0
    found = measure_jets(jets_of(one, pt), "made")
    assert all(np.isfinite(values).all() for values in found.scalars.values())


@pytest.mark.parametrize("empty", ["mc", "data"])
def test_a_store_without_constituents_is_named(tmp_path: Path, empty: str):
    stores = []
    for seed, domain in ((1, "mc"), (2, "data")):
        path = tmp_path / f"{domain}.h5"
        tables, pt = make_tables(64, seed)
        columns = {"mu": pt, "event_id": np.arange(64), "weight": np.ones(64)}
        with create_store(path, GRID, domain, {}) as writer:
            writer.append((domain != empty) * tables, {**columns, "split": np.arange(64) % 2 * 2})
        stores.append(ImageStore(path))
    with pytest.raises(StoreError, match=f"constituents: {empty}, .*{empty}\\.h5"):
        JetJudge.of(*stores, None, 1, 1)


def test_four_kinds_of_quality_share_their_common_fields():
    """Each kind adds its own to what every judge gives, and repeats none of it."""
    common = set(get_annotations(SampleQuality))
    for kind in (Quality, ShowerQuality, ZdcQuality, JetQuality):
        assert issubclass(kind, SampleQuality)
        assert not common & set(get_annotations(kind))
