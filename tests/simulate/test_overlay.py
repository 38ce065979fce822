from __future__ import annotations

import numpy as np
import pytest

from pileupgen.simulate.interactions import Interactions
from pileupgen.simulate.overlay import Overlay, Pileup
from pileupgen.simulate.response import ResponseCard
from pileupgen.simulate.spec import SampleSpec
from tests.simulate_inputs import change, make_interactions


def still(n: int, **values: object) -> Pileup:
    """The first n interactions, unrotated, at the origin."""
    plain = {
        "interaction": np.arange(n),
        "rotation": np.zeros(n, dtype=np.float32),
        "mirror": np.ones(n, dtype=np.float32),
        "z": np.zeros(n + 1, dtype=np.float32),
    }
    return Pileup(**{**plain, **values})


def test_energy_is_conserved(interactions: Interactions, ideal_card: ResponseCard) -> None:
    overlay = Overlay(SampleSpec(), interactions, change(ideal_card, field__bz=0.0))
    code = np.abs(interactions.pid)
    em = np.select([code == 310, np.isin(code, [11, 22])], [0.3, 1.0], 0.0)
    had = np.select([code == 310, np.isin(code, [11, 22, 12, 13])], [0.7, 0.0], 1.0)
    expected = [float((part * interactions.energy).sum(dtype=float)) for part in (em, had)]
    deposited = overlay.deposit(0, still(len(interactions)))
    np.testing.assert_allclose(deposited.sum(axis=1), expected, rtol=1e-6)
    measured = overlay.calorimeter.measure(deposited, np.random.default_rng(1))
    np.testing.assert_array_equal(measured, deposited)


def test_rotation_rolls_the_rings(interactions: Interactions, ideal_card: ResponseCard) -> None:
    overlay = Overlay(SampleSpec(), interactions, ideal_card)
    n = len(interactions)
    before = overlay.deposit(0, still(n))
    turned = overlay.deposit(0, still(n, rotation=np.full(n, np.deg2rad(60), dtype=np.float32)))
    grid = overlay.calorimeter.grid
    for ring, n_phi in enumerate(grid.n_phi):
        cells = slice(grid.first[ring], grid.first[ring + 1])
        rolled = np.roll(before[:, cells], n_phi // 6, axis=1)
        np.testing.assert_allclose(turned[:, cells], rolled, rtol=1e-9)


def test_mirror_flips_eta(interactions: Interactions, mc_card: ResponseCard) -> None:
    overlay = Overlay(SampleSpec(), interactions, mc_card)
    n, grid = len(interactions), overlay.calorimeter.grid
    z = np.linspace(-0.1, 0.1, n + 1, dtype=np.float32)
    before = overlay.deposit(0, still(n, z=z))
    flipped = overlay.deposit(0, still(n, z=-z, mirror=np.full(n, -1, dtype=np.float32)))
    for ring in range(len(grid.n_phi)):
        other = len(grid.n_phi) - 1 - ring
        np.testing.assert_allclose(
            flipped[:, grid.first[ring] : grid.first[ring + 1]],
            before[:, grid.first[other] : grid.first[other + 1]],
            rtol=1e-9,
        )


def test_repeated_interaction_counts_twice(
    interactions: Interactions, ideal_card: ResponseCard
) -> None:
    overlay = Overlay(SampleSpec(), interactions, ideal_card)
    once = overlay.deposit(0, still(1, interaction=np.array([7])))
    twice = overlay.deposit(0, still(2, interaction=np.array([7, 7])))
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-12)


def test_no_interactions_leave_nothing(interactions: Interactions, mc_card: ResponseCard) -> None:
    found = Overlay(SampleSpec(mu=0), interactions, mc_card).events(0, 3)
    assert found["n_towers"].tolist() == [0, 0, 0]
    assert found["n_vertices"].tolist() == [1, 1, 1]


def numbers(spec: SampleSpec, card: ResponseCard, n: int = 2000) -> np.ndarray:
    overlay = Overlay(spec, make_interactions(20, 3, seed=1), card)
    return np.array([len(overlay.draw(event).interaction) for event in range(n)])


def test_number_of_interactions_is_poisson(mc_card: ResponseCard) -> None:
    n = numbers(SampleSpec(mu=60), mc_card)
    assert n.mean() == pytest.approx(60, abs=4 * np.sqrt(60 / 2000))
    assert n.var() == pytest.approx(60, rel=0.12)


def test_fixed_number_of_interactions(mc_card: ResponseCard) -> None:
    assert set(numbers(SampleSpec(mu=12, mu_spread="fixed"), mc_card, 50)) == {12}


def test_profile_is_followed(mc_card: ResponseCard) -> None:
    spec = SampleSpec(mu_profile=((10, 3), (40, 0), (70, 1)), mu_spread="fixed")
    n = numbers(spec, mc_card)
    assert set(n) == {10, 70}
    assert (n == 70).mean() == pytest.approx(0.25, abs=0.04)


def test_vertices_are_a_cut_off_gaussian(mc_card: ResponseCard) -> None:
    overlay = Overlay(SampleSpec(), make_interactions(20, 3, seed=1), mc_card)
    z = np.concatenate([overlay.draw(event).z for event in range(300)])
    assert z.std() == pytest.approx(0.053, rel=0.03)
    assert abs(z.mean()) < 0.002
    assert np.abs(z).max() <= 0.25
    narrow = change(mc_card, beam_spot={"sigma_z": 0.1, "max_z": 0.1})
    z = Overlay(SampleSpec(), make_interactions(20, 3, seed=1), narrow).draw(0).z
    assert np.abs(z).max() <= 0.1


def test_interactions_are_drawn_evenly(mc_card: ResponseCard) -> None:
    overlay = Overlay(SampleSpec(), make_interactions(20, 3, seed=1), mc_card)
    drawn = np.concatenate([overlay.draw(event).interaction for event in range(300)])
    counts = np.bincount(drawn, minlength=20)
    assert len(counts) == 20
    assert np.all(np.abs(counts - counts.mean()) < 5 * np.sqrt(counts.mean()))


@pytest.mark.parametrize("name", ["mc", "data"])
def test_events_do_not_depend_on_chunks(name: str, interactions: Interactions) -> None:
    spec = SampleSpec(mu=5, mirror_eta=True, response=name)
    overlay = Overlay(spec, interactions, spec.load_response())
    whole, parts = overlay.events(0, 7), [overlay.events(0, 3), overlay.events(3, 4)]
    for key, values in whole.items():
        np.testing.assert_array_equal(values, np.concatenate([part[key] for part in parts]))


def test_samples_that_differ_in_response_share_their_interactions(
    interactions: Interactions, ideal_card: ResponseCard
) -> None:
    cards = [ideal_card, change(ideal_card, had__resolution=[{"abs_eta_max": 5, "s": 0.5}])]
    first, second = (Overlay(SampleSpec(mu=5), interactions, card) for card in cards)
    np.testing.assert_array_equal(first.draw(4).interaction, second.draw(4).interaction)
    np.testing.assert_array_equal(first.draw(4).z, second.draw(4).z)
    np.testing.assert_array_equal(first.events(0, 5)["em"], second.events(0, 5)["em"])
    assert not np.array_equal(first.events(0, 5)["had"], second.events(0, 5)["had"])


def test_towers_come_ordered_and_only_with_energy(
    interactions: Interactions, mc_card: ResponseCard
) -> None:
    found = Overlay(SampleSpec(mu=5), interactions, mc_card).events(0, 4)
    assert np.all(found["em"] + found["had"] > 0)
    for cells in np.split(found["cell"], np.cumsum(found["n_towers"])[:-1]):
        assert np.all(np.diff(cells) > 0)


def test_each_event_has_its_own_hard_scatter_beside_the_pileup(
    interactions: Interactions, ideal_card: ResponseCard
) -> None:
    spec = SampleSpec(process="dijet", mu=5, n_events=6)
    hard = make_interactions(6, 40, seed=9)
    overlay = Overlay(spec, interactions, ideal_card, hard)
    soft = Overlay(spec, interactions, ideal_card)
    alone = Overlay(spec, hard, ideal_card)
    for event in range(6):
        pileup = overlay.draw(event)
        whole = overlay.deposit(event, pileup)
        own = alone.deposit(0, still(1, interaction=np.array([event]), z=np.zeros(2, np.float32)))
        np.testing.assert_allclose(whole, soft.deposit(event, pileup) + own, atol=1e-9)
    found = overlay.events(0, 6)
    for name, values in overlay.events(4, 2).items():
        np.testing.assert_array_equal(values, found[name][len(found[name]) - len(values) :])


def test_a_hard_scatter_without_pileup_needs_no_pool(
    interactions: Interactions, mc_card: ResponseCard
) -> None:
    found = Overlay(SampleSpec(process="zee", mu=0), None, mc_card, interactions).events(0, 3)
    assert found["n_vertices"].tolist() == [1, 1, 1]
    assert found["em"].sum() > 0
