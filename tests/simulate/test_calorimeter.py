from __future__ import annotations

import numpy as np
import pytest

from pileupgen.calo.presets import get_grid
from pileupgen.simulate.calorimeter import Calorimeter, TowerGrid
from pileupgen.simulate.response import Region, ResponseCard, load_response
from pileupgen.simulate.rho import GridMedian
from tests.simulate_inputs import change


@pytest.fixture(scope="module")
def grid(mc_card: ResponseCard) -> TowerGrid:
    return Calorimeter(mc_card).grid


def measure(card: ResponseCard, energy: float, n: int = 50, layer: int = 0) -> np.ndarray:
    calorimeter = Calorimeter(card)
    deposited = np.full((2, calorimeter.grid.n_cells), energy)
    rng = np.random.default_rng(5)
    return np.array([calorimeter.measure(deposited, rng)[layer] for _ in range(n)])


def test_towers_are_those_of_the_atlas_card(grid: TowerGrid) -> None:
    assert grid.n_cells == 2340
    inner = np.abs(grid.eta) < 2.5
    assert inner.sum() == 50 * 36
    preset = get_grid("atlas")
    np.testing.assert_allclose(np.unique(grid.edges[inner, :2]), preset.eta_edges, atol=1e-9)
    np.testing.assert_allclose(np.unique(grid.edges[inner, 2]), preset.phi_edges[:-1], atol=1e-9)


def test_locate_finds_the_cell_that_holds_the_point(grid: TowerGrid) -> None:
    rng = np.random.default_rng(1)
    eta, phi = rng.uniform(-5.5, 5.5, 20_000), rng.uniform(-9, 9, 20_000)
    cell = grid.locate(np.sinh(eta).astype(np.float32), phi.astype(np.float32))
    outside = np.abs(eta) > 4.9
    np.testing.assert_array_equal(cell == grid.n_cells, outside)
    edges = grid.edges[cell[~outside]]
    wrapped = np.mod(phi[~outside] + np.pi, 2 * np.pi) - np.pi
    assert np.all((edges[:, 0] - 1e-5 < eta[~outside]) & (eta[~outside] < edges[:, 1] + 1e-5))
    assert np.all((edges[:, 2] - 1e-5 < wrapped) & (wrapped < edges[:, 3] + 1e-5))


def test_infinite_directions_lie_outside(grid: TowerGrid) -> None:
    cot = np.array([np.inf, -np.inf], dtype=np.float32)
    assert np.all(grid.locate(cot, np.zeros(2, dtype=np.float32)) == grid.n_cells)


def test_leaked_energy_goes_to_the_sides(grid: TowerGrid) -> None:
    matrix = grid.neighbours()
    np.testing.assert_allclose(matrix.sum(axis=0), 1.0)
    cell = int(grid.first[30] + 7)
    expected = {cell - 1: 0.25, cell + 1: 0.25, cell - 36: 0.25, cell + 36: 0.25}
    column = matrix[:, [cell]].tocoo()
    assert dict(zip(column.coords[0].tolist(), column.data.tolist(), strict=True)) == expected


def test_coarser_ring_receives_by_overlap(grid: TowerGrid) -> None:
    ring = int(np.flatnonzero(np.diff(grid.n_phi) == -18)[-1])
    cell = int(grid.first[ring] + 5)
    facing = int(grid.first[ring + 1] + 2)
    assert grid.neighbours()[facing, cell] == pytest.approx(0.25)
    back = grid.neighbours()[[cell - 1, cell], facing]
    np.testing.assert_allclose(back.toarray().ravel(), 0.125)


def test_region_may_pass_through_the_back(grid: TowerGrid) -> None:
    region = Region(eta=(-0.1, 0.1), phi_degrees=(170.0, 190.0))
    found = grid.in_region(region)
    assert sorted(set(np.round(np.rad2deg(grid.phi[found])))) == [-175.0, 175.0]
    assert grid.in_region(Region(eta=(-5.0, 5.0))).all()


def test_resolution_is_that_of_delphes_formula(mc_card: ResponseCard) -> None:
    calorimeter = Calorimeter(mc_card)
    sigma = calorimeter.sigma(np.full((2, calorimeter.grid.n_cells), 9.0))
    eta = np.abs(calorimeter.grid.eta)
    em, had = sigma
    np.testing.assert_allclose(em[eta < 3.2], np.sqrt(81 * 0.0017**2 + 9 * 0.101**2))
    np.testing.assert_allclose(em[eta > 3.2], np.sqrt(81 * 0.035**2 + 9 * 0.285**2))
    np.testing.assert_allclose(had[eta < 1.7], np.sqrt(81 * 0.0302**2 + 9 * 0.5205**2 + 1.59**2))
    np.testing.assert_allclose(had[eta > 3.2], np.sqrt(81 * 0.0942**2 + 9 * 1.0**2))


def test_smearing_keeps_the_mean_and_has_the_width(mc_card: ResponseCard) -> None:
    measured = measure(mc_card, 20.0, layer=1)[:, np.abs(Calorimeter(mc_card).grid.eta) < 1.7]
    sigma = np.sqrt(400 * 0.0302**2 + 20 * 0.5205**2 + 1.59**2)
    error = sigma / np.sqrt(measured.size)
    assert measured.mean() == pytest.approx(20.0, abs=5 * error)
    assert measured.std() == pytest.approx(sigma, rel=0.02)


def test_smallest_kept_energies_are_the_thresholds(mc_card: ResponseCard) -> None:
    em, had = measure(mc_card, 0.6), measure(mc_card, 1.5, layer=1)
    barrel = np.abs(Calorimeter(mc_card).grid.eta) < 1.7
    assert np.any(em == 0)
    assert em[em > 0].min() == pytest.approx(0.5, abs=0.01)
    # E = σ(E) with a noise term of 1.59 GeV.
    kept = had[:, barrel]
    assert kept[kept > 0].min() == pytest.approx(1.731, abs=0.01)


def test_dead_cells_stay_silent_and_no_others(ideal_card: ResponseCard) -> None:
    region = {"eta": [0.8, 1.1], "phi_degrees": [60, 90], "layers": ["em"]}
    card = change(ideal_card, dead=[region], em__electronic_noise={"sigma": 1.0})
    silent = np.all(measure(card, 20.0) == 0, axis=0)
    assert silent.sum() == 9
    assert np.all(measure(card, 20.0, layer=1) == 20.0)


def test_hot_cells_fire_as_often_as_they_should(ideal_card: ResponseCard) -> None:
    region = {"eta": [0, 1], "probability": 0.2, "energy": 3.0, "layers": ["had"]}
    card = change(ideal_card, hot=[region])
    found = measure(card, 0.0, n=200, layer=1)
    grid = Calorimeter(card).grid
    hot = (grid.eta > 0) & (grid.eta < 1)
    assert np.all(found[:, ~hot] == 0)
    assert (found[:, hot] > 0).mean() == pytest.approx(0.2, abs=0.01)
    assert found[:, hot].mean() == pytest.approx(0.6, rel=0.05)
    assert np.all(measure(card, 0.0) == 0)


def test_noise_has_its_width_and_sectors_move_together(ideal_card: ResponseCard) -> None:
    noise = {"sigma": 0.3, "common_sigma": 0.4, "n_sectors": 18}
    card = change(ideal_card, had__electronic_noise=noise)
    found = measure(card, 50.0, n=400, layer=1) - 50.0
    assert found.std() == pytest.approx(0.5, rel=0.02)
    grid = Calorimeter(card).grid
    first = int(grid.first[30])
    correlation = np.corrcoef(found[:, [first, first + 1, first + 36, first + 2]].T)
    np.testing.assert_allclose(correlation[0, 1:3], 0.64, atol=0.1)
    assert abs(correlation[0, 3]) < 0.15


def test_leakage_conserves_energy(ideal_card: ResponseCard) -> None:
    card = change(ideal_card, em__leakage={"fraction": 0.2, "spread": 0.5})
    calorimeter = Calorimeter(card)
    rng = np.random.default_rng(2)
    deposited = rng.exponential(2.0, (2, calorimeter.grid.n_cells))
    measured = calorimeter.measure(deposited, rng)
    np.testing.assert_allclose(measured.sum(axis=1), deposited.sum(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(measured[1], deposited[1])
    assert np.abs(measured[0] - deposited[0]).mean() > 0.1


def test_leakage_correlates_neighbours(ideal_card: ResponseCard) -> None:
    card = change(ideal_card, em__leakage={"fraction": 0.2})
    calorimeter = Calorimeter(card)
    rng = np.random.default_rng(2)
    found = np.array(
        [
            calorimeter.measure(rng.exponential(1.0, (2, calorimeter.grid.n_cells)), rng)[0]
            for _ in range(200)
        ]
    )
    first = int(calorimeter.grid.first[30])
    ring = found[:, first : first + 36]
    expected = 2 * 0.8 * 0.05 / (0.8**2 + 4 * 0.05**2)
    measured = np.mean([np.corrcoef(ring[:, i], ring[:, i + 1])[0, 1] for i in range(35)])
    assert measured == pytest.approx(expected, abs=0.03)


def test_even_density_is_its_own_median(grid: TowerGrid) -> None:
    area = (grid.edges[:, 1] - grid.edges[:, 0]) * (grid.edges[:, 3] - grid.edges[:, 2])
    energy = 40.0 * area * np.cosh(grid.eta)
    rho = GridMedian(grid).density(energy[None])
    assert rho.shape == (1, 3)
    # 36 cells do not fit 13 patches in φ, so a patch holds 2 or 3 columns.
    assert rho[0, 1] == pytest.approx(40.0, rel=0.15)


def test_unsuppressed_energies_are_those_before_the_thresholds() -> None:
    card = load_response("data")
    deposited = np.zeros((2, Calorimeter(card).grid.n_cells))
    deposited[:, ::7] = 1.5
    suppressed, signed = (
        Calorimeter(one).measure(deposited, np.random.default_rng(3))
        for one in (card, card.read_out("unsuppressed"))
    )
    kept = suppressed != 0
    np.testing.assert_array_equal(suppressed[kept], signed[kept])
    empty = Calorimeter(card.read_out("unsuppressed")).measure(
        np.zeros_like(deposited), np.random.default_rng(4)
    )
    dead = ~Calorimeter(card)._alive[0]
    assert not empty[dead].any()
    noise = empty[~dead]
    assert (noise < 0).mean() == pytest.approx(0.5, abs=0.1)
    assert abs(noise.mean()) < 0.02


def test_noiseless_readout_leaves_empty_cells_empty() -> None:
    card = load_response("data").read_out("noiseless")
    deposited = np.zeros((2, Calorimeter(card).grid.n_cells))
    assert not Calorimeter(card).measure(deposited, np.random.default_rng(3)).any()
    quiet = load_response("mc").read_out("noiseless")
    assert quiet.had.resolution[0].n == 0
    assert quiet.had.resolution[0].s == load_response("mc").had.resolution[0].s


def test_a_card_that_is_read_out_as_it_says_keeps_its_fingerprint() -> None:
    card = load_response("mc")
    # Events of samples made before cards had signed energies and pulses hang on these.
    assert card.read_out("card").fingerprint() == "2d7673514b7dfd37"
    assert load_response("data").fingerprint() == "ebf42a27590e1f0a"
    others = [card.read_out(one).fingerprint() for one in ("unsuppressed", "noiseless")]
    assert len({card.fingerprint(), *others}) == 3
