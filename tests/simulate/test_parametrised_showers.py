"""Laws of the parametrised showers: energy, depth, width, fluctuations, and what files hold."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from pileupgen.errors import CardError, ConfigError
from pileupgen.measure.showers import ShowerSet
from pileupgen.resources import find_file
from pileupgen.samples.cards import load_card
from pileupgen.simulate.shower_profile import MEDIA, Medium, Profiles, draw_profiles
from pileupgen.simulate.shower_spec import ShowerSpec
from pileupgen.simulate.showers import are_current, make_shower, make_showers, measured
from pileupgen.workflow.generated import parse_spec, simulate_to

ENERGIES = (1.0, 10.0, 100.0)


def mean_profile(energy: np.ndarray, medium: Medium) -> Profiles:
    """Profile of the mean shower, without fluctuations: A.1.1, whose constants are its own."""
    log_y = np.log(energy / medium.critical_energy)
    return Profiles(energy, log_y - 0.858, 0.21 + (0.492 + 2.38 / medium.z) * log_y, medium)


def mean_of_showers(energy: float, medium: str, n: int = 1500) -> tuple[np.ndarray, np.ndarray]:
    """Depths, and dE/dt of the mean of showers that fluctuate."""
    profile = draw_profiles(np.full(n, energy), MEDIA[medium], np.random.default_rng(3))
    edges = np.linspace(0, 40, 401)
    return 0.5 * (edges[1:] + edges[:-1]), np.diff(profile.below(edges).mean(axis=0))


@pytest.mark.parametrize(
    ("medium", "x0", "critical", "moliere"),
    # Particle Data Group, within the accuracy of the formula for E_c: mm, MeV, mm.
    [("pbwo4", 8.9, 9.6, 20.0), ("iron", 17.57, 21.7, 17.2), ("w_si", 4.2, 8.0, 11.3)],
)
def test_media_have_their_known_lengths(medium, x0, critical, moliere):
    found = MEDIA[medium]
    assert found.radiation_length == pytest.approx(x0, rel=0.01)
    assert 1000 * found.critical_energy == pytest.approx(critical, rel=0.1)
    assert found.moliere_radius == pytest.approx(moliere, rel=0.1)


@pytest.mark.parametrize("medium", MEDIA)
def test_showers_that_fluctuate_have_the_mean_profile(medium):
    """A.1.2 was fitted to single showers and A.1.1 to their mean, with constants of their own."""
    for energy in ENERGIES:
        depth, density = mean_of_showers(energy, medium)
        wanted = mean_profile(np.array([energy]), MEDIA[medium])
        centre = float((density * depth).sum() / density.sum())
        assert centre == pytest.approx(float((wanted.alpha / wanted.beta)[0]), rel=0.03)
        assert depth[density.argmax()] == pytest.approx(float(wanted.maximum[0]), abs=0.15)


def test_the_maximum_is_deeper_by_the_logarithm_of_the_energy():
    y = np.array(ENERGIES) / MEDIA["w_si"].critical_energy
    profiles = [mean_of_showers(energy, "w_si") for energy in ENERGIES]
    maxima = [depth[density.argmax()] for depth, density in profiles]
    assert np.polyfit(np.log(y), maxima, 1)[0] == pytest.approx(1.0, abs=0.04)


@pytest.mark.parametrize("energy", ENERGIES)
def test_energy_lies_within_molieres_radius(energy):
    """Nine tenths within one radius, all but 2 % within three and a half; heavy media."""
    depth = np.linspace(0.1, 40, 400)
    for medium in ("w_si", "pbwo4"):
        profile = mean_profile(np.array([energy]), MEDIA[medium])
        core, tail, part = (values[0] for values in profile.radial(depth))
        weight = np.gradient(profile.below(depth)[0])
        for radius, expected in ((1.0, 0.89), (3.5, 0.983)):
            inside = part / (1 + (core / radius) ** 2) + (1 - part) / (1 + (tail / radius) ** 2)
            assert float((weight * inside).sum() / weight.sum()) == pytest.approx(
                expected, abs=0.02
            )


def test_depth_and_shape_fluctuate_and_are_correlated():
    """Less at high energy, with the correlation of A.1.2."""
    n, medium = 20_000, MEDIA["pbwo4"]
    spread = []
    for energy in (2.0, 50.0):
        log_y = np.log(energy / medium.critical_energy)
        found = draw_profiles(np.full(n, energy), medium, np.random.default_rng(1))
        logs = np.log(found.maximum), np.log(found.alpha)
        assert logs[0].std() == pytest.approx(1 / (-1.4 + 1.26 * log_y), rel=0.03)
        assert logs[1].std() == pytest.approx(1 / (-0.58 + 0.86 * log_y), rel=0.03)
        assert np.corrcoef(*logs)[0, 1] == pytest.approx(0.705 - 0.023 * log_y, abs=0.02)
        spread.append(logs[0].std())
    assert spread[0] > 1.5 * spread[1]


def showers_of(n: int = 120, **values) -> list:
    spec = ShowerSpec(n_events=n, **values)
    return [make_shower(spec, number) for number in range(n)]


def test_without_sampling_no_energy_is_lost():
    for shower in showers_of(20, sampling=0.0, angle=30.0, upstream=1.0):
        assert shower.voxels.sum() + shower.outside == pytest.approx(shower.energy, rel=1e-9)


def test_sampling_has_the_stated_resolution():
    made = showers_of(500, sampling=0.05, energy=(2.0, 2.0))
    ratio = np.array([shower.voxels.sum() + shower.outside for shower in made]) / 2.0
    assert ratio.mean() == pytest.approx(1.0, abs=4 * 0.05 / np.sqrt(2 * 500))
    assert ratio.std() == pytest.approx(0.05 / np.sqrt(2), rel=0.12)


def test_sides_fluctuate_as_the_number_of_spots_has_it():
    """Each spot lies on either side by chance; some have more energy than others."""
    made = showers_of(300, sampling=0.0, energy=(10.0, 10.0))
    share = np.array([one.voxels[:, :8].sum() / one.voxels.sum() for one in made])
    n_spots = 93 * np.log(MEDIA["w_si"].z) * 10.0**0.876
    assert 0.65 * n_spots < 1 / (4 * share.var()) < 1.1 * n_spots


def test_layers_of_voxels_follow_the_profile():
    """Spots are deposited where the profile has them, at any radius."""
    spec = ShowerSpec(energy=(20.0, 20.0), n_events=150, sampling=0.0)
    found = np.mean([make_shower(spec, i).voxels.sum(axis=(1, 2)) for i in range(150)], axis=0)
    wanted = mean_profile(np.array([20.0]), spec.material)
    step = spec.layer_mm / spec.material.radiation_length
    expected = 20.0 * np.diff(wanted.below(step * np.arange(46))[0])
    assert np.abs(np.cumsum(found) - np.cumsum(expected)).max() < 0.06 * 20.0


def test_sectors_are_alike_only_along_the_axis():
    straight = sum(one.voxels for one in showers_of(60, energy=(30.0, 30.0))).sum(axis=(0, 2))
    assert straight.std() / straight.mean() < 0.05
    inclined = sum(one.voxels for one in showers_of(20, energy=(30.0, 30.0), angle=20.0))
    towards, away = inclined[12:, 7:9].sum(), inclined[12:, [0, 15]].sum()
    assert towards > 5 * away


def test_dead_material_takes_energy_and_shifts_the_shower():
    depth = np.arange(45)
    centre = {}
    for upstream in (0.0, 2.0):
        layers = sum(one.voxels for one in showers_of(60, upstream=upstream)).sum(axis=(1, 2))
        centre[upstream] = (depth * layers).sum() / layers.sum(), layers.sum()
    step = 3.4 / MEDIA["w_si"].radiation_length
    # The centre of what is left moves by less than the material's depth: its first part is gone.
    assert 1.2 < step * (centre[0.0][0] - centre[2.0][0]) < 2.0
    assert centre[2.0][1] < centre[0.0][1]


def test_a_file_is_read_as_the_challenge_s(tmp_path: Path):
    """What simulate writes comes back as images, with the incident energy as condition."""
    spec = parse_spec({"process": "shower", "n_events": 12, "energy": [5, 50]}, "test")
    path = simulate_to(spec, tmp_path / "shower.h5")
    card = yaml.safe_load(find_file("showers_mc", "data_cards").read_text(encoding="utf-8"))
    card.pop("generate")
    card["files"] = str(path)
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")
    read = load_card(tmp_path / "card.yaml")
    towers = next(iter(read.open(read.input_files()).chunks()))
    assert towers.n_events == 12
    with h5py.File(path) as file:
        incident = file["incident_energies"][:, 0]
        voxels = file["showers"][:].reshape(12, 45, 16, 9)
    assert incident.min() >= 5_000
    assert incident.max() <= 50_000
    np.testing.assert_allclose(towers.mu, incident, rtol=1e-6)
    made = measured(spec, make_shower(spec, 7))
    np.testing.assert_array_equal(voxels[7], made)
    images = voxels.transpose(0, 1, 3, 2) / 1000
    ratio = ShowerSet(spec.grid).measure(images, np.arange(12), incident)["e_ratio"]
    assert 0.8 < ratio.mean() < 1.05


def test_a_sample_is_what_its_spec_says(tmp_path: Path):
    spec = ShowerSpec(n_events=5)
    path = tmp_path / "few.h5"
    summary = make_showers(spec, path)
    assert are_current(spec, path)
    assert not are_current(spec.model_copy(update={"angle": 5.0}), path)
    assert "5 showers" in summary.note
    more = tmp_path / "more.h5"
    make_showers(spec.model_copy(update={"n_events": 8}), more)
    with h5py.File(path) as one, h5py.File(more) as other:
        np.testing.assert_array_equal(one["showers"][:], other["showers"][:5])
        assert json.loads(one.attrs["pileupgen"])["spec"]["medium"] == "w_si"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"medium": "w_sj"}, "Did you mean 'w_si'"),
        ({"energy": [10, 1]}, "must ascend"),
        ({"energy": [0.01, 1]}, "within 0.5 and 10000 GeV, where electrons"),
        ({"particle": "pion", "energy": [0.1, 1]}, "within 1 and 300 GeV, where pions"),
        ({"particle": "pion", "energy": [9, 400]}, "within 1 and 300 GeV, where pions"),
        ({"pool_size": 5}, "pool_size"),
        ({"angle": 80}, "60"),
    ],
)
def test_what_is_no_shower_is_refused(values, words):
    with pytest.raises(CardError, match=words):
        parse_spec({"process": "shower", **values}, "test")


def test_showers_are_no_pool_and_no_ntuple(tmp_path: Path):
    spec = parse_spec({"process": "shower", "n_events": 2}, "test")
    with pytest.raises(ConfigError, match="--hepmc"):
        simulate_to(spec, tmp_path / "a.h5", hepmc=tmp_path / "a.hepmc")
    with pytest.raises(ConfigError, match="HDF5"):
        simulate_to(spec, tmp_path / "a.h5", container="rntuple")
    assert not list(tmp_path.iterdir())


def test_a_late_part_of_a_shower_is_wider():
    profile = Profiles(np.array([10.0]), np.array([6.0]), np.array([4.0]), MEDIA["w_si"])
    core, _, part = (values[0] for values in profile.radial(np.array([3.0, 6.0, 15.0])))
    assert (np.diff(core) > 0).all()
    assert part[2] < part[1]
