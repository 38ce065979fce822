"""Light of particles in a zero-degree calorimeter: its laws, its file, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from pileupgen.errors import CardError, MissingFieldError
from pileupgen.resources import find_file
from pileupgen.samples.cards import load_card
from pileupgen.samples.columns import PARTICLE
from pileupgen.samples.ingest import ingest
from pileupgen.samples.store import ImageStore
from pileupgen.simulate.shower_profile import MEDIA
from pileupgen.simulate.zdc import CONDITIONS, ZdcEvent, make_zdc_event
from pileupgen.simulate.zdc_spec import ZdcSpec
from pileupgen.workflow.generated import is_current, parse_spec, simulate_to

N = 120


def events(n: int = N, **values) -> list[ZdcEvent]:
    spec = ZdcSpec(**values)
    return [make_zdc_event(spec, number) for number in range(n)]


@pytest.mark.parametrize("particle", ["neutron", "proton"])
def test_a_particle_is_on_its_mass_shell_and_flies_straight(particle):
    spec = ZdcSpec(particle=particle)
    found = events(40, particle=particle)
    known = {name: np.array([one.known[name] for one in found]) for name in CONDITIONS}
    assert len(known) == 9
    assert (known["energy"] >= 20).all()
    assert (known["energy"] <= 300).all()
    p2 = sum(known[f"momentum_{axis}"] ** 2 for axis in "xyz")
    np.testing.assert_allclose(p2 + known["mass"] ** 2, known["energy"] ** 2, rtol=1e-9)
    for axis, impact in zip("xy", np.array([one.impact for one in found]).T, strict=True):
        slope = known[f"momentum_{axis}"] / known["momentum_z"]
        flown = 1000 * spec.distance - known["vertex_z"]
        np.testing.assert_allclose(known[f"vertex_{axis}"] + slope * flown, impact, rtol=1e-9)
    assert (np.abs([one.impact for one in found]) < spec.half_width).all()
    assert set(known["charge"]) == {float(particle == "proton")}


def test_light_is_where_the_particle_hits():
    """Each axis by itself: an image that was transposed or mirrored would not follow."""
    spec = ZdcSpec()
    found = [one for one in events() if np.abs(one.impact).max() < 15]
    photons = np.array([one.photons for one in found])
    total = photons.sum(axis=(1, 2))
    for axis in (0, 1):
        place = spec.pitch_mm * (np.arange(44) - 21.5)
        centre = photons.sum(axis=2 - axis) @ place / total
        slope, offset = np.polyfit([one.impact[axis] for one in found], centre, 1)
        # Less than 1: a shower near an edge loses its far half.
        assert 0.6 < slope < 1.0
        assert abs(offset) < 0.8


def test_light_rises_with_the_energy_and_follows_its_yield():
    mean = {}
    for low in (40.0, 160.0):
        found = events(60, energy=(low, low), divergence=1.0)
        mean[low] = np.mean([one.photons.sum() for one in found])
    # The short part of a shower, which gives more light, rises with the energy.
    assert 4.0 < mean[160.0] / mean[40.0] < 5.2
    assert mean[40.0] < 10.0 * 40.0
    half = np.mean([e.photons.sum() for e in events(60, energy=(40, 40), divergence=1, photons=5)])
    assert half / mean[40.0] == pytest.approx(0.5, rel=0.06)


def test_photons_are_whole_numbers_whose_own_spread_is_left_where_nothing_else_fluctuates():
    one = events(1)[0].photons
    assert one.shape == (44, 44)
    assert (one == np.round(one)).all()
    assert events(1, particle="proton")[0].photons.shape == (56, 30)
    few, many = (
        np.array([e.photons.sum() for e in events(60, energy=(100, 100), divergence=1, photons=n)])
        for n in (0.5, 1000.0)
    )
    extra = (few.std() / few.mean()) ** 2 - (many.std() / many.mean()) ** 2
    assert extra == pytest.approx(1 / few.mean(), rel=0.5)


def test_media_are_as_long_as_a_calorimeter_needs():
    """λ of tungsten is 99 mm and of copper 153 mm; a hundred or so of them stop a hadron."""
    assert MEDIA["w_quartz"].interaction_length == pytest.approx(115, rel=0.05)
    assert MEDIA["brass_quartz"].interaction_length == pytest.approx(165, rel=0.05)
    assert ZdcSpec().depth_mm / MEDIA["w_quartz"].interaction_length > 8


def test_a_sample_is_read_with_all_that_is_known_of_each_particle(tmp_path: Path):
    spec = parse_spec({"process": "zdc", "n_events": 30, "seed": 5}, "test")
    path = simulate_to(spec, tmp_path / "neutrons.h5")
    assert is_current(spec, path)
    assert not is_current(parse_spec({"process": "zdc", "n_events": 30}, "test"), path)
    values = yaml.safe_load(find_file("zdc_data", "data_cards").read_text(encoding="utf-8"))
    values.pop("generate")
    (tmp_path / "card.yaml").write_text(yaml.safe_dump({**values, "files": str(path)}))
    card = load_card(tmp_path / "card.yaml")
    reader = card.open(card.input_files())
    ingest(reader, spec.grid, tmp_path / "data.h5", domain="data", card=card, inputs=())
    store = ImageStore(tmp_path / "data.h5")
    images = store.read()
    for number in (0, 7, 29):
        made = make_zdc_event(spec, number)
        np.testing.assert_array_equal(images.energy[number, 0], made.photons)
        assert images.mu[number] == pytest.approx(made.known["energy"])
        for name in PARTICLE:
            assert store.columns[name][number] == pytest.approx(made.known[name], rel=1e-6)
    assert load_card(find_file("zdc_proton_mc", "data_cards")).conditions == tuple(PARTICLE)


def test_conditions_that_a_file_has_not_are_named(tmp_path: Path):
    spec = parse_spec({"process": "zdc", "n_events": 3}, "test")
    path = simulate_to(spec, tmp_path / "neutrons.h5")
    values = yaml.safe_load(find_file("zdc_mc", "data_cards").read_text(encoding="utf-8"))
    values |= {"files": str(path), "generate": None, "options": {**values["options"]}}
    import h5py

    with h5py.File(path, "a") as file:
        del file["vertex_z"]
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(values))
    card = load_card(tmp_path / "card.yaml")
    with pytest.raises(MissingFieldError, match=r"vertex_z.*a condition"):
        next(iter(card.open(card.input_files()).chunks()))
    (tmp_path / "card.yaml").write_text(yaml.safe_dump({**values, "conditions": ["vertex_w"]}))
    with pytest.raises(CardError, match=r"no condition 'vertex_w'.*vertex_"):
        load_card(tmp_path / "card.yaml")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"particle": "pion"}, "neutron.*proton"),
        ({"energy": [20, 2000]}, "within 5 and 300"),
        ({"vertex": [0.1, 0.1, -1]}, "not be negative"),
        ({"divergence": 2000}, "spread over ± 225 mm.*± 35.2 mm"),
        ({"ring_mm": 4}, "ring_mm"),
    ],
)
def test_what_is_no_such_sample_is_refused(values, words):
    with pytest.raises(CardError, match=words):
        parse_spec({"process": "ZDC", **values}, "test")
