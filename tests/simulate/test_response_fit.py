"""A response card fitted to recorded towers: planted numbers come back."""

from __future__ import annotations

import numpy as np
import pytest

from pileupgen.calo.towers import Towers
from pileupgen.errors import GeometryError, ImplausibleInputError
from pileupgen.simulate.calorimeter import TowerGrid
from pileupgen.simulate.cell_statistics import Statistics, recorded_cells
from pileupgen.simulate.overlay import Overlay
from pileupgen.simulate.response import ResponseCard, load_response
from pileupgen.simulate.response_fit import PARAMETERS, CellDeposits, fit_response
from pileupgen.simulate.spec import SampleSpec
from tests.simulate_inputs import change, make_interactions

TOWERS = [{"eta": [0, 1.2], "width": 0.1, "n_phi": 36}]
FREE = (
    "hadrons, part measured",
    "hadrons, em part of it",
    "em leakage",
    "had stochastic term / √GeV",
)
POOL = make_interactions(400, 110, 3, eta_max=1.6)


@pytest.fixture(scope="module")
def card() -> ResponseCard:
    return change(load_response("mc"), towers=TOWERS)


def deposits(card: ResponseCard, seed: int, n: int) -> CellDeposits:
    return CellDeposits(SampleSpec.parse({"seed": seed, "mu": 40}, "test"), POOL, card, n)


def test_planted_numbers_come_back_within_their_errors(card: ResponseCard) -> None:
    planted = change(
        card,
        energy_fractions={**card.model_dump()["energy_fractions"], 0: (0.15, 0.8)},
        em__energy_min=0.6,
        em__leakage__fraction=0.06,
    )
    had = planted.had.resolution[0].model_copy(update={"s": 0.65})
    layer = planted.had.model_copy(update={"resolution": (had, *planted.had.resolution[1:])})
    planted = planted.model_copy(update={"had": layer})
    recorded = deposits(card, 2, 180).measured(planted, 99)
    steps: list[int] = []
    fit = fit_response(
        card,
        deposits(card, 1, 160),
        recorded,
        fixed=[name for name in PARAMETERS if name not in FREE],
        n_steps=3,
        advance=lambda n, note="": steps.append(n),
    )
    assert steps
    assert fit.abs_eta_max == 1.2
    assert fit.chi2_start > 20 * fit.n_statistics
    assert fit.chi2 < 2 * fit.n_statistics
    truths = dict(zip(FREE, (0.95, 0.15 / 0.95, 0.06, 0.65), strict=True))
    for name, truth in truths.items():
        number = fit.numbers[name]
        assert 0 < number.error < 0.1
        assert abs(number.value - truth) < 4 * number.error
        assert abs(number.value - truth) < abs(number.start - truth)
    assert fit.numbers["em threshold / GeV"].value == pytest.approx(0.6, abs=0.005)
    # The cut on significance hides the threshold of the hadronic layer: it stays what it was.
    assert fit.numbers["had threshold / GeV"].value == card.had.energy_min
    assert np.isinf(fit.numbers["had threshold / GeV"].error)
    em, had = fit.card.energy_fractions[0]
    assert em + had == pytest.approx(fit.numbers["hadrons, part measured"].value)
    assert em == pytest.approx(0.15, abs=0.02)
    assert fit.card.em.energy_min == fit.numbers["em threshold / GeV"].value


def test_no_number_of_an_event_is_always_the_same(card: ResponseCard) -> None:
    recorded = deposits(card, 2, 60).measured(card, 99)
    statistics = Statistics(TowerGrid(card.ring_edges(), card.ring_n_phi()), 1.2, recorded)
    found = statistics(recorded)
    # One hit in a bin that is empty otherwise would outweigh all else in χ².
    assert found.std(axis=0).min() > 0.01
    low = recorded.copy()
    event, cell = (int(found[0]) for found in np.nonzero(recorded[:, 0] == 0))
    low[event, 0, cell] = 0.1
    assert (statistics(low) - found)[event, 0] == 1


def test_deposits_are_the_overlay_s_and_random_numbers_common(card: ResponseCard) -> None:
    found = deposits(card, 1, 3)
    overlay = Overlay(SampleSpec.parse({"seed": 1, "mu": 40}, "test"), POOL, card)
    em, had = card.energy_fractions[0]
    for event in range(3):
        expected = overlay.deposit(event, overlay.draw(event))
        shared = np.array([[em], [had]]) * found.hadrons[event] + found.others[event]
        np.testing.assert_allclose(shared, expected, rtol=1e-5, atol=1e-5)
    first = found.measured(card, 5)
    np.testing.assert_array_equal(first, found.measured(card, 5))
    # A change of one layer leaves the other's random numbers as they were.
    raised = found.measured(change(card, em__energy_min=1.5), 5)
    np.testing.assert_array_equal(first[:, 1], raised[:, 1])
    np.testing.assert_array_equal(np.where(first[:, 0] >= 1.5, first[:, 0], 0), raised[:, 0])


def test_towers_go_to_the_cell_of_their_centre(card: ResponseCard) -> None:
    grid = TowerGrid(card.ring_edges(), card.ring_n_phi())
    cells = np.array([0, 5, 5, 800])
    edges = np.concatenate([grid.edges[cells], [[2.0, 2.1, 0.0, 0.1]]])
    energy = np.array([[1, 2], [3, 0], [0, 4], [5, 6], [9, 9]], dtype=np.float32)
    parts = Towers(
        offsets=np.array([0, 2, 2, 5]),
        edges=edges,
        energy=energy,
        layers=("em", "had"),
        mu=np.zeros(3, dtype=np.float32),
        event_id=np.arange(3),
    )
    found = recorded_cells([parts, parts], grid)
    assert found.shape == (6, 2, grid.n_cells)
    np.testing.assert_array_equal(found[:3], found[3:])
    assert found[0, :, 0].tolist() == [1, 2]
    assert found[0, :, 5].tolist() == [3, 0]
    assert found[2, :, 5].tolist() == [0, 4]
    assert found[2, :, 800].tolist() == [5, 6]
    assert found.sum() == 2 * 21, "a tower outside the card's acceptance is left out"
    middles = np.stack([edges[:, :2].mean(axis=1), edges[:, 2:].mean(axis=1)], axis=1)
    points = Towers(**{**vars(parts), "edges": middles})
    np.testing.assert_array_equal(recorded_cells([points], grid), found[:3])
    with pytest.raises(ImplausibleInputError, match="has no events"):
        recorded_cells([], grid)
    other = Towers(**{**vars(parts), "layers": ("a", "b")})
    with pytest.raises(GeometryError, match="has the layers em and had, the sample has a, b"):
        recorded_cells([other], grid)


def test_too_few_events_or_cells_are_told(card: ResponseCard) -> None:
    few = deposits(card, 1, 20)
    recorded = few.measured(card, 5)
    with pytest.raises(ImplausibleInputError, match="too few"):
        fit_response(card, few, recorded)
    with pytest.raises(ImplausibleInputError, match="cells of layer em have energy"):
        fit_response(card, few, np.zeros_like(recorded))
