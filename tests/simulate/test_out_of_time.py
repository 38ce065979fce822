"""What the readout sees of other crossings, against the analytic values of the pulse shape."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from pileupgen.simulate.interactions import Interactions
from pileupgen.simulate.overlay import Overlay
from pileupgen.simulate.response import PulseShape, ResponseCard, load_response
from pileupgen.simulate.spec import SampleSpec
from tests.simulate_inputs import change, make_interactions

SHAPE = {"first": -2, "weights": [-0.4, 0.5, 1, 0.3]}
WEIGHTS = np.array([-0.4, 0.5, 0.3])
"""Of the other crossings."""
N = 3000


@pytest.fixture(scope="module")
def pool() -> Interactions:
    return make_interactions(60, 12, seed=3)


@pytest.fixture(scope="module")
def card(ideal_card: ResponseCard) -> ResponseCard:
    return change(ideal_card, field__bz=0.0, em__pulse=SHAPE, had__pulse=SHAPE, signed=True)


def sums(card: ResponseCard, pool: Interactions, n: int = N, **values: object) -> np.ndarray:
    """Energy of all cells that each event has of other crossings."""
    overlay = Overlay(SampleSpec(**{"mu": 4.0, **values}), pool, card)
    return np.array([overlay.out_of_time(event).sum() for event in range(n)])


def energies(card: ResponseCard, pool: Interactions) -> np.ndarray:
    """Energy of each interaction of the pool in all cells."""
    deposits = Overlay(SampleSpec(), pool, card).deposits
    total = np.concatenate([[0.0], np.cumsum(deposits.em + deposits.had, dtype=float)])
    return np.diff(total[deposits.offsets])


@pytest.mark.parametrize("mu", [2.0, 8.0])
def test_mean_and_variance_are_those_of_a_compound_poisson_process(
    card: ResponseCard, pool: Interactions, mu: float
) -> None:
    found, each = sums(card, pool, mu=mu), energies(card, pool)
    mean = mu * each.mean() * WEIGHTS.sum()
    variance = mu * np.square(each).mean() * np.square(WEIGHTS).sum()
    assert found.mean() == pytest.approx(mean, abs=4 * np.sqrt(variance / N))
    assert found.var() == pytest.approx(variance, rel=0.12)


def test_empty_crossings_are_quiet(card: ResponseCard, pool: Interactions) -> None:
    each = energies(card, pool).mean() * 4.0
    # A single bunch has neighbours too far away; the second of two has one before it.
    assert not sums(card, pool, 50, filling="1b3e").any()
    found = sums(card, pool, 2000, filling="2b4e")
    expected = each * 0.5 * (0.5 + 0.3)
    assert found.mean() == pytest.approx(expected, rel=0.08)
    first, second = np.array([0.3, 0.5]) * each
    assert found.std() > 0.5 * abs(second - first)


def test_the_crossing_itself_is_as_it_was_without_a_pulse(
    card: ResponseCard, ideal_card: ResponseCard, pool: Interactions
) -> None:
    spec = SampleSpec(mu=4)
    plain = Overlay(spec, pool, change(ideal_card, field__bz=0.0))
    pulsed = Overlay(spec, pool, card)
    for event in range(5):
        pileup = pulsed.draw(event)
        np.testing.assert_array_equal(pileup.interaction, plain.draw(event).interaction)
        deposited = pulsed.deposit(event, pileup)
        np.testing.assert_array_equal(deposited, plain.deposit(event, plain.draw(event)))
        others = pulsed.out_of_time(event)
        measured = pulsed.calorimeter.measure(deposited, np.random.default_rng(1), others)
        np.testing.assert_allclose(measured, deposited + others, atol=1e-9)
    assert plain.out_of_time(0) is None
    assert Overlay(SampleSpec(process="zee", mu=0), None, card, pool).out_of_time(0) is None


def test_a_bipolar_pulse_pulls_as_much_down_as_up() -> None:
    card = load_response("out_of_time")
    em, had = (layer.pulse for layer in card.layers)
    assert em is not None
    assert had is not None
    assert abs(sum(em.weights)) < 0.05 * np.abs(em.weights).sum()
    assert min(had.weights) >= 0
    assert card.crossings == (-20, 2)
    spec = SampleSpec(response="out_of_time", mu=8)
    overlay = Overlay(spec, make_interactions(60, 60, seed=3), spec.load_response())
    found = np.mean([overlay.out_of_time(event).sum(axis=1) for event in range(60)], axis=0)
    here = np.mean([overlay.deposit(e, overlay.draw(e)).sum(axis=1) for e in range(60)], axis=0)
    # The pulse takes away what this crossing has itself: all crossings together leave nothing.
    assert found[0] / here[0] == pytest.approx(sum(em.weights) - 1, abs=0.15)
    assert found[1] / here[1] == pytest.approx(sum(had.weights) - 1, abs=0.15)


def test_weights_of_crossings() -> None:
    pulse = PulseShape(**SHAPE)
    crossing = np.arange(-4, 4)
    assert pulse.of(crossing).tolist() == [0, 0, -0.4, 0.5, 1, 0.3, 0, 0]


@pytest.mark.parametrize(
    "values",
    [{"weights": [0.5, 1]}, {"first": -2, "weights": [1, 1]}, {"first": 1, "weights": [1]}],
)
def test_a_pulse_is_1_at_its_own_crossing(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PulseShape(**values)


ROW = 8
"""Crossings in a row."""


def readout(card: ResponseCard, pool: Interactions, n_rows: int, **values: object) -> np.ndarray:
    """Energy of all cells in each crossing of rows as events have it, shape (n_rows, ROW)."""
    spec = SampleSpec(**{"mu": 4.0, "consecutive": ROW, **values})
    events = Overlay(spec, pool, card).events(0, n_rows * ROW)
    ends = np.cumsum(events["n_towers"])
    total = np.concatenate([[0.0], np.cumsum(events["em"] + events["had"], dtype=float)])
    return np.diff(np.concatenate([[0.0], total[ends]])).reshape(n_rows, ROW)


def expected(filling: list[int], mean: float, square: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean of a crossing, and covariance with the one so many later, of a row that begins anywhere.

    The readout of crossing k is Σ_j w_j E_(k+j), E independent with the mean and, by the compound
    Poisson law, the variance μ⟨e²⟩ where the crossing is filled, and 0 where it is not.
    """
    weights, first, n = np.array(SHAPE["weights"]), SHAPE["first"], len(filling)
    is_filled = np.array(filling, dtype=float)
    seen = lambda k: is_filled[(k + first + np.arange(len(weights))) % n]  # noqa: E731
    means = np.array([mean * (weights * seen(k)).sum() for k in range(n)])
    covariance = []
    for lag in range(6):
        later = np.zeros_like(weights)
        later[lag:] = weights[: max(len(weights) - lag, 0)]
        within = [square * (weights * later * seen(k)).sum() for k in range(n)]
        between = np.mean(means * np.roll(means, -lag)) - means.mean() ** 2
        covariance.append(np.mean(within) + between)
    return means.mean(), np.array(covariance)


@pytest.mark.parametrize(
    ("filling", "scheme", "mu"), [("1b", [1], 2.0), ("3b4e", [1, 1, 1, 0, 0, 0, 0], 6.0)]
)
def test_crossings_in_a_row_correlate_as_the_pulse_says(
    card: ResponseCard, pool: Interactions, filling: str, scheme: list[int], mu: float
) -> None:
    n_rows = 300
    found = readout(card, pool, n_rows, filling=filling, mu=mu)
    each = energies(card, pool)
    mean, covariance = expected(scheme, mu * each.mean(), mu * np.square(each).mean())
    away = found - mean
    # Rows are independent of each other: their spread gives the errors.
    error = found.mean(axis=1).std() / np.sqrt(n_rows)
    assert found.mean() == pytest.approx(mean, abs=4 * error)
    for lag, wanted in enumerate(covariance):
        products = (away[:, : ROW - lag] * away[:, lag:]).mean(axis=1)
        error = products.std() / np.sqrt(n_rows)
        assert products.mean() == pytest.approx(wanted, abs=4 * error), lag
        assert error < 0.12 * covariance[0]


def test_a_row_of_crossings_sees_the_same_interactions_at_other_distances(
    card: ResponseCard, pool: Interactions
) -> None:
    spec = SampleSpec(mu=3, consecutive=ROW, mu_spread="fixed", filling="2b1e")
    overlay = Overlay(spec, pool, card)
    inside = [overlay.deposit(event, overlay.draw(event)) for event in range(ROW)]
    number = [len(overlay.draw(event).interaction) for event in range(ROW)]
    assert sorted(set(number)) == [0, 3]
    k, (before2, before1, after) = 4, WEIGHTS
    others = before2 * inside[k - 2] + before1 * inside[k - 1] + after * inside[k + 1]
    np.testing.assert_allclose(overlay.out_of_time(k), others, atol=1e-9)
    # What an event is does not depend on those made before it.
    again = Overlay(spec, pool, card)
    np.testing.assert_array_equal(again.out_of_time(k), overlay.out_of_time(k))


def test_crossings_in_a_row_have_no_hard_scatters() -> None:
    with pytest.raises(ValidationError, match="cannot each have a hard scatter"):
        SampleSpec(process="zee", consecutive=4)


@pytest.mark.parametrize("filling", ["", "b", "3x", "4e", "99999b"])
def test_patterns_that_are_none(filling: str) -> None:
    with pytest.raises(ValidationError, match="filling"):
        SampleSpec(filling=filling)
