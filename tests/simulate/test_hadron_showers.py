"""Laws of the parametrised showers of pions: energy, depth, fluctuations, width, and voxels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.stats import gamma

from pileupgen.compare.shower_quality import measure_showers
from pileupgen.errors import CardError
from pileupgen.resources import find_file
from pileupgen.samples.cards import load_card
from pileupgen.samples.store import Images
from pileupgen.simulate.hadron_profile import (
    correlations,
    draw_hadron_showers,
    draw_radii,
    median_radius,
)
from pileupgen.simulate.shower_profile import MEDIA
from pileupgen.simulate.shower_spec import ShowerSpec
from pileupgen.simulate.showers import make_shower
from pileupgen.workflow.generated import parse_spec, simulate_to

CUBE = {"particle": "pion", "geometry": "cube_30", "ring_mm": 30.0, "layer_mm": 30.0}


def pions(n: int, energy: float, **values) -> list:
    spec = ShowerSpec(
        **{**CUBE, "energy": (energy, energy), "n_events": n, "sampling": 0, **values}
    )
    return [make_shower(spec, number) for number in range(n)]


def centres(showers: list) -> np.ndarray:
    """Mean depth of each shower in layers, weighted by energy."""
    layers = np.array([one.voxels.sum(axis=(1, 2)) for one in showers])
    layers = layers[layers.sum(axis=1) > 0]
    return layers @ np.arange(layers.shape[1]) / layers.sum(axis=1)


@pytest.mark.parametrize(
    ("medium", "length"),
    # Particle Data Group, mm; the formula is good to 4 %.
    [("iron", 167.7), ("pbwo4", 202.7), ("w_si", 114.5)],
)
def test_media_have_their_known_interaction_lengths(medium, length):
    assert MEDIA[medium].interaction_length == pytest.approx(length, rel=0.05)


def test_no_energy_is_lost():
    for one in pions(25, 30.0, angle=25.0, upstream=2.0, h_over_e=0.7):
        total = one.voxels.sum() + one.outside + one.invisible
        assert total == pytest.approx(one.energy, rel=1e-9)
        assert 0 < one.invisible < 0.3 * one.energy


def test_showers_are_deeper_by_the_logarithm_of_the_energy():
    """Maxima and centres in λ from the interaction on.

    Each maximum rises by 0.16 ± 0.01 a decade, the centre by a third to two thirds, both nearly
    straight: the constants have a step at 20 GeV.
    """
    energies, n = np.array([3.0, 10.0, 30.0, 100.0]), 1500
    medium, rng = MEDIA["iron"], np.random.default_rng(2)
    centre, maximum = [], []
    depth = np.arange(5.0, 1500.0, 10.0)
    for energy in energies:
        drawn = draw_hadron_showers(np.full(n, energy), medium, rng)
        mean = (drawn.alpha / drawn.beta * drawn.units[:, None]) / medium.interaction_length
        centre.append((drawn.short * mean[0] + (1 - drawn.short) * mean[1]).mean())
        short, long = (
            gamma.pdf(depth, a[:, None], scale=(unit / b)[:, None])
            for a, b, unit in zip(drawn.alpha, drawn.beta, drawn.units, strict=True)
        )
        density = drawn.short[:, None] * (short - long) + long
        maximum.append(depth[density.argmax(axis=1)].mean() / medium.interaction_length)
    for found, slopes in ((centre, (0.33, 0.67)), (maximum, (0.12, 0.2))):
        slope, first = np.polyfit(np.log10(energies), found, 1)
        assert slopes[0] < slope < slopes[1]
        assert np.abs(first + slope * np.log10(energies) - found).max() < 0.1


def test_the_first_interaction_is_exponential():
    start = draw_hadron_showers(
        np.full(20_000, 50.0), MEDIA["iron"], np.random.default_rng(1)
    ).start
    assert start.mean() == pytest.approx(1.0, abs=0.03)
    assert (start > 3).mean() == pytest.approx(np.exp(-3), rel=0.1)


def test_the_short_part_fluctuates_less_at_high_energy():
    """As the part of neutral pions does, whose mean rises."""
    found = {
        energy: draw_hadron_showers(
            np.full(8000, energy), MEDIA["iron"], np.random.default_rng(1)
        ).short
        for energy in (5.0, 100.0)
    }
    assert found[100.0].mean() > found[5.0].mean() + 0.1
    assert found[100.0].std() < 0.6 * found[5.0].std()
    assert all(short.min() >= 0 and short.max() <= 1 for short in found.values())


def test_the_five_numbers_have_their_correlations():
    """Where the tabulated ones are a correlation matrix, and few draws are refused."""
    energy = np.full(8000, 30.0)
    drawn = draw_hadron_showers(energy, MEDIA["iron"], np.random.default_rng(1))
    logs = np.log([drawn.alpha[0], drawn.beta[0], drawn.alpha[1], drawn.beta[1]])
    wanted = correlations(energy[:1])[0]
    found = np.corrcoef([drawn.short, *logs])
    assert np.abs(found - wanted).max() < 0.06
    assert wanted[1, 2] > 0.7
    # Below 3 GeV it is none, and draws are made all the same.
    assert np.linalg.eigvalsh(correlations(np.array([1.0]))[0]).min() < 0
    assert np.isfinite(
        draw_hadron_showers(energy / 30, MEDIA["iron"], np.random.default_rng(1)).beta
    ).all()


def test_pions_differ_more_from_each_other_than_electrons():
    electrons = pions(40, 20.0, particle="electron", medium="iron", layer_mm=15.0)
    spread, of_electrons = centres(pions(100, 20.0)).std(), centres(electrons).std() / 2
    # Nearly λ, by the first interaction alone; of electrons half an X_0.
    assert 0.7 < spread * 30.0 / MEDIA["iron"].interaction_length < 1.3
    assert spread > 5 * of_electrons


def test_energy_lies_within_an_interaction_length_of_the_axis():
    """Half within R_50, by definition; 19 / 20 within λ to within a third, narrower at 100 GeV."""
    medium, rng = MEDIA["iron"], np.random.default_rng(4)
    drawn = draw_radii(np.full(40_000, 50.0), medium, rng)
    assert np.median(drawn) == pytest.approx(50.0, rel=0.03)
    assert (drawn < 150).mean() == pytest.approx(0.9, abs=0.01)
    widths = {}
    for energy in (10.0, 100.0):
        images = np.array([one.voxels for one in pions(40, energy)]).sum(axis=(0, 1))
        place = 30.0 * (np.arange(30) - 14.5)
        radius = np.hypot(*np.meshgrid(place, place)).ravel()
        order = np.argsort(radius)
        inside = np.cumsum(images.ravel()[order]) / images.sum()
        widths[energy] = radius[order][np.searchsorted(inside, 0.95)] / medium.interaction_length
    assert 0.6 < widths[10.0] < 1.6
    assert widths[100.0] < widths[10.0]
    early, late = median_radius(10.0, np.array([0.0, 300.0]), medium)[0]
    assert late > 2 * early


def test_a_component_that_is_not_measured_worsens_the_response():
    whole, part = pions(60, 20.0), pions(60, 20.0, h_over_e=0.6)
    ratio = [
        np.array([(s.voxels.sum() + s.outside) / 20.0 for s in made]) for made in (whole, part)
    ]
    np.testing.assert_allclose(ratio[0], 1.0, rtol=1e-9)
    # 1 − 0.4 (1 − f) with ⟨f⟩ = 0.65 ± 0.14.
    assert ratio[1].mean() == pytest.approx(0.86, abs=0.02)
    assert ratio[1].std() == pytest.approx(0.4 * 0.137, rel=0.25)


def test_a_cube_is_read_and_measured(tmp_path: Path):
    """Energies come back at their squares; an inclined pion moves in x, not in y."""
    values = {"process": "shower", **CUBE, "energy": [20, 40], "n_events": 30, "angle": 20.0}
    spec = parse_spec(values, "test")
    path = simulate_to(spec, tmp_path / "pions.h5")
    card = yaml.safe_load(find_file("pions_mc", "data_cards").read_text(encoding="utf-8"))
    card.pop("generate")
    card |= {"files": str(path), "options": {"geometry": "cube_30"}}
    card["detector"] = {"text": "a cube", "grid": "cube_30"}
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")
    read = load_card(tmp_path / "card.yaml")
    towers = next(iter(read.open(read.input_files()).chunks()))
    made = [make_shower(spec, number) for number in range(30)]
    energy = np.array([one.voxels.transpose(0, 2, 1) for one in made], dtype=np.float32)
    energy[1000 * energy < spec.threshold] = 0
    assert towers.energy.sum() == pytest.approx(energy.sum(), rel=1e-5)
    columns = {"mu": towers.mu, "event_id": np.arange(30), "weight": np.ones(30)}
    found = measure_showers(Images(energy, spec.grid, columns)).scalars
    assert found["e_ratio"] == pytest.approx(
        energy.sum(axis=(1, 2, 3)) / towers.mu * 1000, rel=1e-5
    )
    assert found["centre_x"].mean() > 1.0
    assert abs(found["centre_y"].mean()) < 0.5
    slope = np.polyfit(found["centre_z"], found["centre_x"], 1)[0]
    assert slope == pytest.approx(np.tan(np.radians(20.0)), abs=0.08)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"particle": "proton"}, "electron.*pion"),
        ({"particle": "pion", "energy": [1, 2000]}, "within 1 and 300 GeV"),
        ({"h_over_e": 0.5}, "for pions"),
        ({"geometry": "cube_3"}, "cube_30"),
    ],
)
def test_what_is_no_pion_is_refused(values, words):
    with pytest.raises(CardError, match=words):
        parse_spec({"process": "shower", **values}, "test")
