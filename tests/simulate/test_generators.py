from __future__ import annotations

import sys
import types
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pileupgen.errors import DependencyError, GeneratorError
from pileupgen.simulate import generators
from pileupgen.simulate.generators import GENERATORS, make_generator, require, start_pythia
from pileupgen.simulate.interactions import ETA_MAX, Interactions
from pileupgen.simulate.pool import make_pool
from pileupgen.simulate.spec import SampleSpec
from pileupgen.simulate.tunes import TUNES


@pytest.mark.parametrize(
    ("generator", "least", "most"),
    [("sibyll", 40, 400), ("pythia6", 40, 400), ("pythia8", 40, 400)],
)
def test_offline_generators_make_minimum_bias(
    tmp_path: Path, generator: str, least: int, most: int
) -> None:
    pytest.importorskip(generators.package(generator))
    spec = SampleSpec.parse({"generator": generator, "pool_size": 60, "seed": 4}, "test")
    seen: list[int] = []
    pool = make_pool(spec, tmp_path, workers=1, advance=seen.append)
    assert len(pool) == sum(seen) == 60
    assert least < len(pool.pid) / 60 < most
    check_particles(pool)


def check_particles(pool: Interactions) -> None:
    code = np.abs(pool.pid)
    assert {211, 22, 2212} <= set(code.tolist())
    # Short-lived particles have decayed, those of more than 10 mm have not.
    assert not {111, 113, 411, 1, 2, 21} & set(code.tolist())
    assert {130, 321} <= set(code.tolist())
    np.testing.assert_array_equal(np.sign(pool.pid[code == 211]), pool.charge[code == 211])
    assert np.all(pool.charge[code == 22] == 0)
    pt = np.hypot(pool.px, pool.py)
    assert np.all(np.abs(np.arcsinh(pool.pz / pt)) < ETA_MAX + 1e-3)
    assert 0.3 < pt[pool.charge != 0].mean() < 0.8
    mass2 = pool.energy.astype(float) ** 2 - pool.pz.astype(float) ** 2 - pt**2
    pion = (code == 211) & (pool.energy < 20)
    np.testing.assert_allclose(np.sqrt(mass2[pion]), 0.1396, atol=0.002)


def leading_pairs(pool: Interactions, codes: tuple[int, ...], n: int) -> np.ndarray:
    """Invariant mass of the two particles of largest p_T among some, in each interaction."""
    masses = []
    for begin, end in pairwise(pool.offsets.tolist()):
        rows = begin + np.flatnonzero(np.isin(pool.pid[begin:end], codes))
        pt2 = pool.px[rows] ** 2 + pool.py[rows] ** 2
        rows = rows[np.argsort(-pt2)[:2]]
        p4 = [
            getattr(pool, name)[rows].astype(float).sum() for name in ("energy", "px", "py", "pz")
        ]
        masses.append(np.sqrt(max(p4[0] ** 2 - p4[1] ** 2 - p4[2] ** 2 - p4[3] ** 2, 0)))
    assert len(masses) == n
    return np.array(masses)


@pytest.mark.parametrize(("process", "code"), [("zee", 11), ("zmumu", 13)])
def test_z_bosons_have_their_mass(tmp_path: Path, process: str, code: int) -> None:
    pytest.importorskip("pythia8mc")
    spec = SampleSpec.parse({"process": process, "n_events": 40, "seed": 4}, "test")
    pool = make_pool(spec.pools()["hard"], tmp_path, workers=1)
    masses = leading_pairs(pool, (code, -code), 40)
    # Some leptons lie beyond the acceptance, and photons are radiated.
    assert np.mean(np.abs(masses - 91.2) < 6) > 0.5


def test_dijets_begin_at_their_threshold(tmp_path: Path) -> None:
    pytest.importorskip("pythia8mc")
    sums = []
    for pt_min in (30, 120):
        values = {"process": "dijet", "n_events": 40, "pt_min": pt_min}
        folder = tmp_path / str(pt_min)
        folder.mkdir()
        pool = make_pool(SampleSpec.parse(values, "test").pools()["hard"], folder, workers=1)
        pt = np.hypot(pool.px, pool.py)
        sums.append(np.add.reduceat(pt, pool.offsets[:-1]).mean())
    assert sums[0] > 60
    assert sums[1] > sums[0] + 100


def test_a_named_tune_is_its_base_with_other_settings() -> None:
    pytest.importorskip("pythia8mc")
    plain, named = values_in_pythia(TUNES["ET7"].base), values_in_pythia("ET7")
    assert named == {name: float(value) for name, value in TUNES["ET7"].settings.items()}
    assert named["MultipartonInteractions:pT0Ref"] < plain["MultipartonInteractions:pT0Ref"]


def values_in_pythia(tune: int | str) -> dict[str, float]:
    """Values of the settings that ``ET7`` changes, as Pythia has them with a tune."""
    pythia = start_pythia("test", {"ProcessLevel:all": "off"}, tune, 7000)
    return {name: pythia.settings.parm(name) for name in TUNES["ET7"].settings}


def test_multiparton_interactions_are_all_but_prompt_quarkonia() -> None:
    pytest.importorskip("pythia8mc")
    off = {"ProcessLevel:all": "off"}
    pythia = start_pythia("test", off, 14, 13600)
    assert pythia.settings.mode("MultipartonInteractions:processLevel") == 2
    # What is asked for by name counts.
    pythia = start_pythia("test", {**off, "MultipartonInteractions:processLevel": "3"}, 14, 13600)
    assert pythia.settings.mode("MultipartonInteractions:processLevel") == 3


def test_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generators, "package", lambda name: "no-such-package")
    for name in GENERATORS:
        with pytest.raises(DependencyError) as caught:
            require(name)
        assert caught.value.hint == "pip install 'pileupgen[simulate]'"


@pytest.fixture
def chromo(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """A chromo whose model fails as the fixture's ``failure`` says."""
    fake = types.SimpleNamespace(failure=ConnectionError("no network"))

    def model(beams: object, seed: int) -> object:
        raise fake.failure

    fake.models = types.SimpleNamespace(EposLHC=model)
    fake.kinematics = types.SimpleNamespace(CenterOfMass=lambda *beams: beams)
    monkeypatch.setitem(sys.modules, "chromo", fake)  # type: ignore[arg-type]
    monkeypatch.setattr(generators, "generator_version", lambda name: "1")
    return fake


def test_failed_download_is_told_as_one(chromo: types.SimpleNamespace) -> None:
    with pytest.raises(GeneratorError, match="needs tables that chromo fetches") as caught:
        make_generator("epos", "inelastic", None, 13000)
    assert "pythia8, sibyll" in caught.value.hint


def test_refused_energy_is_told(chromo: types.SimpleNamespace) -> None:
    chromo.failure = ValueError("below 10 GeV")
    with pytest.raises(GeneratorError, match="√s = 5 GeV: below 10 GeV"):
        make_generator("epos", "inelastic", None, 5)


def test_model_unknown_to_chromo_is_told(chromo: types.SimpleNamespace) -> None:
    with pytest.raises(GeneratorError, match="no model QGSJetIII"):
        make_generator("qgsjet", "inelastic", None, 13000)
