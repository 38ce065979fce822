from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pileupgen.compare.overlay_effects import (
    JET_EDGES,
    MIN_OBJECTS,
    OverlaidSample,
    overlay_effects,
)
from pileupgen.compare.records import OverlayEffects
from pileupgen.measure.hard_objects import ISOLATED, HardObjects, OverlaidObjects
from pileupgen.report.overlay import overlay_cells, overlay_words

N = 800


def hard_objects() -> HardObjects:
    rng = np.random.default_rng(1)
    event = np.repeat(np.arange(N), 2)
    zeros, none = np.zeros(2 * N), np.zeros(0)
    return HardObjects(
        N, event, rng.uniform(20, 100, 2 * N), zeros, zeros, none.astype(int), none, none,
        np.zeros((N, 2)), np.arange(N), np.full(N, 40.0), np.zeros(N, int), np.zeros(N, int),
        np.zeros(N),
    )  # fmt: skip


def sample(seed: int, response: float = 0.9, width: float = 0.2, met: float = 30) -> OverlaidSample:
    rng = np.random.default_rng(seed)
    hard = hard_objects()
    objects = OverlaidObjects(
        hard.jet_pt * rng.normal(response, width * response, 2 * N),
        rng.poisson(1.5, N).astype(float),
        rng.normal(0, met, (N, 2)),
        rng.normal(1500, 100, N),
        rng.normal(1.0, 3.0, N),
    )
    return OverlaidSample(objects, rng.poisson(60, N).astype(float), np.ones(N))


def test_planted_numbers_come_back() -> None:
    samples = {"data": sample(2), "mc": sample(3, 0.8, met=45), "translated": sample(4)}
    effects = overlay_effects(hard_objects(), samples, 200, 1)
    values = {(one.family, one.name): one for one in effects.numbers}
    assert len(values) == len(effects.numbers) == 21
    response = values["jets", "response, p_T > 70 GeV"]
    assert response.values["data"].value == pytest.approx(0.9, abs=0.03)
    assert response.values["mc"].value == pytest.approx(0.8, abs=0.03)
    assert response.sigmas["mc"] < -4
    assert abs(response.sigmas["translated"]) < 3
    resolution = values["jets", "resolution, p_T > 70 GeV"]
    assert resolution.values["data"].value == pytest.approx(0.2, abs=0.03)
    # Of the response: of 0.8 it would be 0.16.
    assert resolution.values["mc"].value == pytest.approx(0.2, abs=0.03)
    for one in effects.numbers:
        if one.family == "E_T^miss":
            assert one.values["data"].value == pytest.approx(30, abs=3)
            assert one.sigmas["mc"] > 5
        if one.family == "pileup jets":
            assert one.values["data"].value == pytest.approx(1.5, abs=0.2)
    assert values["isolation", "width"].values["mc"].value == pytest.approx(3.0, abs=0.3)


def test_a_number_is_of_its_own_bin_and_less_what_is_there_without_pileup() -> None:
    hard = replace(hard_objects(), lepton_isolation=np.full(N, 1.5))
    place = np.searchsorted(JET_EDGES, hard.jet_pt, side="right") - 1
    ratio = 0.5 + 0.1 * place
    ratio[::4] = np.nan
    busy = np.arange(N) % 2 == 1
    objects = OverlaidObjects(
        hard.jet_pt * ratio,
        np.where(busy, 3.0, 1.0),
        np.where(busy, 40.0, 10.0)[:, None] * np.ones(2),
        np.where(busy, 2000.0, 1000.0),
        np.where(np.arange(N) % 4, 4.5, 3.5),
    )
    one = OverlaidSample(objects, np.where(busy, 80.0, 20.0), np.ones(N))
    found = overlay_effects(hard, {"data": one, "mc": one, "translated": one}, 20, 1).numbers
    values = {(number.family, number.name): number.values["data"].value for number in found}
    response = [v for (_, name), v in values.items() if name.startswith("response")]
    assert response == pytest.approx([0.5 + 0.1 * number for number in range(len(response))])
    assert values["jets", "found again"] == pytest.approx(0.75)
    assert {v for (family, _), v in values.items() if family == "pileup jets"} == {1.0, 3.0}
    met = [v for (family, _), v in values.items() if family == "E_T^miss"]
    assert sorted(set(met)) == pytest.approx([10.0, 40.0])
    assert values["isolation", "mean in the cone less ρA"] == pytest.approx(2.75)
    assert 3.5 < ISOLATED * 40.0 < 4.5
    assert values["isolation", f"isolated (below {ISOLATED:g} E_T)"] == pytest.approx(0.25)


def test_samples_of_one_kind_differ_by_a_unit_gaussian() -> None:
    sigmas = []
    for seed in range(12):
        samples = {
            kind: sample(10 * seed + i) for i, kind in enumerate(("data", "mc", "translated"))
        }
        found = overlay_effects(hard_objects(), samples, 100, seed)
        sigmas += [sigma for one in found.numbers for sigma in one.sigmas.values()]
    assert np.std(sigmas) == pytest.approx(1.0, abs=0.2)
    assert abs(np.mean(sigmas)) < 0.2


def test_the_same_sample_differs_by_nothing() -> None:
    one = sample(2)
    effects = overlay_effects(
        hard_objects(), {"data": one, "mc": one, "translated": sample(3)}, 50, 1
    )
    for found in effects.numbers:
        assert found.sigmas["mc"] == 0
        assert found.values["mc"] == found.values["data"]


def test_weights_count() -> None:
    hard, counts = hard_objects(), np.arange(N) % 2 == 1
    ratio = np.where(counts, 0.9, 0.5)[hard.jet_event]
    ratio[hard.jet_event % 4 == 0] = np.nan
    objects = OverlaidObjects(
        hard.jet_pt * ratio,
        np.where(counts, 3.0, 1.0),
        np.where(counts, 40.0, 10.0)[:, None] * np.ones(2),
        np.full(N, 1500.0),
        np.where(counts, 2.0, 6.0),
    )
    one = OverlaidSample(objects, np.zeros(N), np.ones(N))
    weighted = replace(one, weight=np.where(counts, 3.0, 0.0))
    found = overlay_effects(hard, {"data": weighted, "mc": one, "translated": one}, 20, 1).numbers
    expected = {"response": 0.9, "resolution": 0.0, "found again": 1.0, "per event": 3.0}
    expected |= {"mean in the cone less ρA": 2.0, "width": 0.0, "isolated (below": 1.0}
    for number in found:
        name = next(name for name in expected if number.name.startswith(name))
        value = 40.0 if number.family == "E_T^miss" else expected[name]
        assert number.values["data"].value == pytest.approx(value)
    unweighted = {number.name: number.values["mc"].value for number in found}
    assert unweighted["found again"] == pytest.approx(0.75)
    assert unweighted["width"] == pytest.approx(2.0)


@pytest.mark.parametrize(("n", "is_there"), [(MIN_OBJECTS - 1, False), (MIN_OBJECTS, True)])
def test_few_objects_give_no_number(n: int, is_there: bool) -> None:
    hard = replace(hard_objects(), jet_pt=np.where(np.arange(2 * N) < n, 80.0, 25.0))
    first = sample(2)
    one = replace(first, objects=replace(first.objects, jet_pt=0.9 * hard.jet_pt))
    found = overlay_effects(hard, {"data": one, "mc": one, "translated": one}, 5, 1).numbers
    names = {number.name for number in found if number.family == "jets"}
    assert ("response, p_T > 70 GeV" in names) == is_there
    assert "response, p_T 20 … 30 GeV" in names
    assert "response, p_T 30 … 45 GeV" not in names


def test_words_tell_where_translation_helps_and_where_not() -> None:
    worse = sample(4, width=0.4)
    samples = {"data": sample(2), "mc": sample(3, met=60), "translated": worse}
    effects = overlay_effects(hard_objects(), samples, 100, 1)
    text = overlay_words(effects)
    nearer, _, farther = text.partition("; farther: ")
    assert "nearer by more than 2 σ: E_T^miss resolution" in nearer
    assert "jets resolution" in farther
    assert len(overlay_cells(effects)) == len(effects.numbers)
    assert OverlayEffects.model_validate_json(effects.model_dump_json()) == effects
