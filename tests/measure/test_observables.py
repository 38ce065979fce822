from __future__ import annotations

import numpy as np
import pytest

from pileupgen.calo.geometry import Grid
from pileupgen.calo.presets import get_grid
from pileupgen.errors import GeometryError
from pileupgen.measure.observables import ObservableSet, correlation
from pileupgen.measure.regions import Cones, Patches, blocks_of, uniform

ROLLED_DIFFERENTLY = {"met_x", "met_y", "rho", "rho_sigma", "cone_et"}


def measure(grid: Grid, energy: np.ndarray) -> dict[str, np.ndarray]:
    return ObservableSet(grid).measure(energy.astype(np.float32), np.arange(len(energy)))


def test_atlas_has_some_thirty_observables_with_distinct_names_and_labels():
    records = ObservableSet(get_grid("atlas")).records
    assert 28 <= len(records) <= 36
    assert len({record.name for record in records}) == len(records)
    assert len({record.label for record in records}) == len(records)
    assert {record.unit for record in records} == {"", "GeV"}


def test_the_order_of_the_values_is_that_of_the_records(toy):
    observables = ObservableSet(toy.grid)
    values = observables.measure(toy.energies(3), np.arange(3))
    assert tuple(values) == observables.names
    assert all(value.shape == (3,) and value.dtype == np.float64 for value in values.values())


def test_one_hot_cell_by_hand():
    grid = Grid((-1.0, 0.0, 1.0), 4, ("em", "had"))
    energy = np.zeros((1, 2, 2, 4), dtype=np.float32)
    energy[0, 0, 1, 2] = 10.0  # η = 0.5, φ = π/4
    energy[0, 1, 0, 0] = 30.0  # η = −0.5, φ = −3π/4
    values = {name: float(value[0]) for name, value in measure(grid, energy).items()}
    et = np.array([10.0, 30.0]) / np.cosh(0.5)
    assert values["sum_e"] == pytest.approx(40.0)
    assert values["sum_e_had"] == pytest.approx(30.0)
    assert values["sum_et"] == pytest.approx(et.sum())
    assert values["fraction_em"] == pytest.approx(0.25)
    assert values["occupancy_em"] == pytest.approx(1 / 8)
    assert values["lead_et_had"] == pytest.approx(et[1])
    assert values["log_e_mean_em"] == pytest.approx(4.0, abs=1e-6)
    assert values["log_e_width_em"] == pytest.approx(0.0, abs=1e-6)
    assert values["met"] == pytest.approx(et[1] - et[0])
    assert values["met_x"] == pytest.approx((et[1] - et[0]) * np.cos(np.pi / 4))
    assert values["met_y"] == pytest.approx((et[1] - et[0]) * np.sin(np.pi / 4))


def test_a_roll_in_phi_changes_only_what_it_must(toy):
    energy = toy.energies(20)
    before = measure(toy.grid, energy)
    after = measure(toy.grid, np.roll(energy, 5, axis=3))
    for name in before.keys() - ROLLED_DIFFERENTLY:
        assert after[name] == pytest.approx(before[name], rel=1e-6, abs=1e-9), name


def test_missing_et_rotates_with_the_image(toy):
    energy = toy.energies(20)
    before = measure(toy.grid, energy)
    after = measure(toy.grid, np.roll(energy, 2, axis=3))
    turn = np.exp(1j * 2 * 2 * np.pi / 12)
    rotated = (before["met_x"] + 1j * before["met_y"]) * turn
    assert after["met_x"] == pytest.approx(rotated.real, abs=1e-5)
    assert after["met_y"] == pytest.approx(rotated.imag, abs=1e-5)


def test_rho_is_unchanged_by_a_roll_of_whole_patches():
    grid = get_grid("atlas")
    energy = np.random.default_rng(0).gamma(1.0, size=(4, *grid.shape)).astype(np.float32)
    before, after = measure(grid, energy), measure(grid, np.roll(energy, 3, axis=3))
    assert after["rho"] == pytest.approx(before["rho"])
    assert after["rho_sigma"] == pytest.approx(before["rho_sigma"])


def test_rho_and_cone_of_a_uniform_density():
    grid = Grid(tuple(np.linspace(-2.5, 2.5, 101)), 128)
    area = 0.05 * 2 * np.pi / 128
    et = np.full((50, *grid.shape), 7.0 * area / 2)  # 7 GeV per unit area, two layers
    energy = et * np.cosh(grid.eta_centres)[:, None]
    values = measure(grid, energy)
    assert values["rho"] == pytest.approx(7.0, rel=1e-5)
    assert values["rho_sigma"] == pytest.approx(0.0, abs=1e-4)
    assert values["cone_et"] == pytest.approx(7.0 * np.pi * 0.4**2, rel=0.05)


def test_cones_depend_on_the_event_alone_and_stay_inside():
    grid = get_grid("atlas")
    cones = Cones(grid)
    ids = np.arange(5000)
    eta, phi = cones.axes(ids)
    alone = [cones.axes(ids[i : i + 1])[0][0] for i in (0, 17, 4999)]
    assert alone == [eta[0], eta[17], eta[4999]]
    assert np.abs(eta).max() <= 2.5 - 0.4
    assert np.abs(phi).max() <= np.pi
    assert abs(np.corrcoef(eta, phi)[0, 1]) < 0.05
    assert eta.std() == pytest.approx(2 * 2.1 / np.sqrt(12), rel=0.05)


def test_uniform_numbers_are_uniform_and_differ_between_streams():
    first, second = uniform(np.arange(20000), 0), uniform(np.arange(20000), 1)
    assert first.min() >= 0
    assert first.max() < 1
    assert np.histogram(first, 10, (0, 1))[0] == pytest.approx(2000, rel=0.1)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03


def test_neighbour_correlation_sees_leakage(toy):
    plain = measure(toy.grid, toy.energies(200))
    leaky = measure(toy.grid, toy.energies(200, leak=0.3))
    assert leaky["corr_phi_em"].mean() > plain["corr_phi_em"].mean() + 0.2
    # The mean over a ring of 12 is removed, so independent cells are at −1/11.
    assert plain["corr_phi_em"].mean() == pytest.approx(-1 / 11, abs=0.03)


def test_layer_correlation_of_equal_layers_is_one(toy):
    energy = toy.energies(5)
    energy[:, 1] = energy[:, 0]
    assert measure(toy.grid, energy)["corr_em_had"] == pytest.approx(1.0)


@pytest.mark.parametrize("layers", [("only",), ("em", "had"), ("a", "b", "c", "d")])
def test_any_number_of_layers(toy, layers):
    grid = Grid(toy.grid.eta_edges, 12, layers)
    values = measure(grid, toy.energies(4, grid=grid))
    assert sum(name.startswith("occupancy_") for name in values) == len(layers)
    assert sum(name.startswith("fraction_") for name in values) == len(layers) - 1
    assert ("sum_e_only" in values) is False


@pytest.mark.parametrize(
    "grid",
    [
        Grid((0.0, 0.2, 0.5, 1.1), 5, phi_min=0.0, phi_max=1.0),
        Grid((-0.1, 0.1), 16),
        Grid((-3.2, -2.5, -1.4, 1.4, 2.5, 3.2), 18),
        Grid((0.0, 1.0), 1, ("one",), 0.0, 1.0),
    ],
)
def test_any_grid_gives_finite_numbers(toy, grid):
    values = measure(grid, toy.energies(3, grid=grid))
    assert all(np.isfinite(value).all() for value in values.values())
    assert ("met" in values) is grid.is_periodic


def test_an_empty_event_gives_zeros(toy):
    values = measure(toy.grid, np.zeros((2, *toy.grid.shape)))
    assert all(np.all(value == 0.0) for value in values.values())


def test_a_constant_image_has_no_correlation(toy):
    flat = np.ones((2, *toy.grid.shape)) * np.cosh(toy.grid.eta_centres)[:, None]
    assert np.all(measure(toy.grid, flat)["corr_eta_em"] == 0.0)
    assert correlation(np.zeros((1, 2, 2)), np.ones((1, 2, 2)))[0] == 0.0


def test_blocks_conserve_energy():
    grid = get_grid("atlas")
    energy = np.random.default_rng(1).gamma(1.0, size=(3, *grid.shape)).astype(np.float32)
    blocks = blocks_of(energy, grid)
    assert blocks.shape == (3, 60)  # 10 × 6 blocks of 5 × 6 cells
    assert blocks.sum(axis=1) == pytest.approx(energy.sum(axis=(1, 2, 3)), rel=1e-5)
    assert blocks[0, 0] == pytest.approx(energy[0, :, :5, :6].sum(), rel=1e-5)


def test_another_shape_is_refused(toy):
    with pytest.raises(GeometryError, match="Images of shape"):
        measure(toy.grid, np.zeros((1, 2, 3, 4)))


def noisy(toy, n: int, threshold: float, seed: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    energy = toy.energies(n) + rng.normal(0.0, 0.4, (n, *toy.grid.shape))
    return np.where(np.abs(energy) >= threshold, energy, 0.0).astype(np.float32)


def test_a_hit_is_a_cell_that_is_not_0(toy):
    energy = noisy(toy, 20, 0.3)
    values = measure(toy.grid, energy)
    hit = energy[:, 0] != 0
    logs = np.log10(
        1000 * np.abs(energy[:, 0], dtype=np.float64), where=hit, out=np.full(hit.shape, np.nan)
    )
    assert (energy[:, 0] < 0).any()
    assert values["occupancy_em"] == pytest.approx(hit.mean(axis=(1, 2)))
    assert values["log_e_mean_em"] == pytest.approx(np.nanmean(logs, axis=(1, 2)))
    assert values["log_e_width_em"] == pytest.approx(np.nanstd(logs, axis=(1, 2)))
    assert values["sum_e"] == pytest.approx(energy.sum(axis=(1, 2, 3), dtype=np.float64))


def test_images_without_negative_cells_give_the_bits_of_a_hit_above_0(toy):
    energy = toy.energies(30)
    values = ObservableSet(toy.grid).measure(energy, np.arange(30))
    e = energy[:, 1].astype(np.float64)
    n_hits = (e > 0).sum(axis=(1, 2)).astype(np.float64)
    logs = np.where(e > 0, np.log10(np.where(e > 0, e, 1.0)), 0.0)
    first, second = logs.sum(axis=(1, 2)) / n_hits, np.einsum("nij,nij->n", logs, logs) / n_hits
    assert np.array_equal(values["occupancy_had"], n_hits / (10 * 12))
    assert np.array_equal(values["log_e_mean_had"], first + 3.0)
    assert np.array_equal(values["log_e_width_had"], np.sqrt(np.maximum(second - first**2, 0.0)))


def test_negative_cells_are_counted_by_themselves_where_asked(toy):
    energy = noisy(toy, 20, 0.0)
    plain, signed = ObservableSet(toy.grid), ObservableSet(toy.grid, with_negatives=True)
    assert signed.records[: len(plain.records)] == plain.records
    values = signed.measure(energy, np.arange(20))
    assert tuple(values) == signed.names
    et = energy[:, 1] / np.cosh(toy.grid.eta_centres)[:, None]
    assert values["negative_had"] == pytest.approx((energy[:, 1] < 0).mean(axis=(1, 2)))
    assert values["negative_et_had"] == pytest.approx(np.where(et < 0, et, 0.0).sum(axis=(1, 2)))
    for name, value in plain.measure(energy, np.arange(20)).items():
        assert np.array_equal(value, values[name])


def test_the_fluctuation_of_the_density_is_that_of_independent_cells_per_root_area():
    """σ(ρ) of cells of variance 1 is their standard deviation over the root of a cell's area."""
    grid = get_grid("atlas")
    towers = np.random.default_rng(3).normal(100.0, 1.0, (400, grid.n_eta, grid.n_phi))
    _, fluctuation = Patches(grid).density(towers)
    area = np.diff(grid.eta_edges).mean() * 2 * np.pi / grid.n_phi
    assert np.mean(fluctuation) == pytest.approx(1 / np.sqrt(area), rel=0.03)
