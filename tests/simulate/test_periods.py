"""Periods of data taking: their own dead cells and gains, and which events they have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
import yaml
from pydantic import ValidationError

from pileupgen.errors import CardError
from pileupgen.simulate.calorimeter import Calorimeter
from pileupgen.simulate.interactions import Interactions
from pileupgen.simulate.overlay import Overlay
from pileupgen.simulate.pool import pool_path, write_pool
from pileupgen.simulate.produce import make_sample
from pileupgen.simulate.response import RESPONSES, ResponseCard, load_response
from pileupgen.simulate.spec import SampleSpec
from tests.simulate_inputs import change

DEAD = {"eta": [0.8, 1.1], "phi_degrees": [60, 90], "layers": ["em"]}
PERIODS = [
    {"name": "A", "part": 3},
    {"name": "B", "dead": [DEAD], "gains": [{"eta": [-5, 5], "layers": ["had"], "factor": 0.9}]},
]


@pytest.fixture(scope="module")
def card(ideal_card: ResponseCard) -> ResponseCard:
    return change(ideal_card, periods=PERIODS)


def test_each_period_has_its_dead_cells_and_gains(card: ResponseCard) -> None:
    calorimeter = Calorimeter(card)
    deposited = np.full((2, calorimeter.grid.n_cells), 20.0)
    first, second = (
        calorimeter.measure(deposited, np.random.default_rng(1), 0.5 * deposited, period)
        for period in (0, 1)
    )
    assert np.all(first == 30)
    assert (second[0] == 0).sum() == 9
    np.testing.assert_allclose(second[0][second[0] != 0], 30)
    np.testing.assert_allclose(second[1], 27)


def test_gains_leave_the_noise_as_it_is(card: ResponseCard) -> None:
    noisy = change(card, had__electronic_noise={"sigma": 0.4}, signed=True)
    calorimeter = Calorimeter(noisy)
    nothing = np.zeros((2, calorimeter.grid.n_cells))
    first, second = (
        calorimeter.measure(nothing, np.random.default_rng(1), None, period)[1] for period in (0, 1)
    )
    np.testing.assert_array_equal(first, second)


def test_events_have_periods_by_their_parts(card: ResponseCard, interactions: Interactions) -> None:
    overlay = Overlay(SampleSpec(mu=1), interactions, card)
    found = np.array([overlay.period(event) for event in range(4000)])
    assert found.mean() == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / 4000))
    rows = Overlay(SampleSpec(mu=1, consecutive=5), interactions, card)
    periods = np.array([rows.period(event) for event in range(200)]).reshape(-1, 5)
    assert np.all(periods == periods[:, :1])
    assert len(np.unique(periods)) == 2


def test_one_period_alone_has_the_same_interactions(
    card: ResponseCard, interactions: Interactions
) -> None:
    spec = SampleSpec(mu=3)
    mixed, alone = (
        Overlay(spec, interactions, card),
        Overlay(spec, interactions, card.in_period("B")),
    )
    np.testing.assert_array_equal(mixed.draw(7).interaction, alone.draw(7).interaction)
    assert {alone.period(event) for event in range(50)} == {0}
    found, of_b = mixed.events(0, 40), alone.events(0, 40)
    ends = [np.concatenate([[0], np.cumsum(one["n_towers"])]) for one in (found, of_b)]
    for event in np.flatnonzero(found["period"] == 1):
        ours, theirs = (
            one["had"][end[event] : end[event + 1]]
            for one, end in zip((found, of_b), ends, strict=True)
        )
        np.testing.assert_array_equal(ours, theirs)
    assert set(found["period"]) == {0, 1}


def test_a_sample_of_a_period_says_so(tmp_path: Path, interactions: Interactions) -> None:
    plain = yaml.safe_load((RESPONSES / "mc.yaml").read_text("utf-8"))
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**plain, "periods": PERIODS}), "utf-8")
    values = {"mu": 2, "n_events": 30, "pool_size": len(interactions)}
    mixed, alone, before = (
        SampleSpec.parse({**values, **more}, "test")
        for more in ({"response": str(path)}, {"response": str(path), "period": "B"}, {})
    )
    assert len({one.fingerprint() for one in (mixed, alone, before)}) == 3
    write_pool(pool_path(mixed, tmp_path), interactions)
    for spec, n_periods in ((mixed, 2), (alone, 1)):
        made = make_sample(spec, tmp_path / "made.root", cache=tmp_path, workers=1)
        with uproot.open(made.path) as file:
            period = file["Delphes/Event.Period"].array(library="np")
        assert len(np.unique(np.concatenate(period))) == n_periods
    unknown = SampleSpec.parse({**values, "response": str(path), "period": "C"}, "test")
    with pytest.raises(CardError, match="no period 'C'"):
        unknown.load_response()
    with pytest.raises(CardError, match="no period 'A'") as caught:
        SampleSpec(period="A").load_response()
    assert "leave period out" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([{"name": "A"}, {"name": "A"}], "the same name"),
        ([{"name": "A", "part": 0}], "greater than 0"),
        ([{"name": "A", "gains": [{"eta": [0, 1], "factor": 0}]}], "greater than 0"),
    ],
)
def test_periods_that_are_none(values: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        change(load_response("mc"), periods=values)
