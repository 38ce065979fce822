from __future__ import annotations

import numpy as np
import pytest

from pileupgen.calo.geometry import Grid
from pileupgen.measure.cell_correlation import CorrelationAccumulator


def accumulate(grid: Grid, et: np.ndarray, weight: np.ndarray | None = None, size: int = 64):
    accumulator = CorrelationAccumulator(grid)
    weight = np.ones(len(et)) if weight is None else weight
    for begin in range(0, len(et), size):
        accumulator.add(et[begin : begin + size], weight[begin : begin + size])
    return accumulator.finish()


def test_it_is_what_the_definition_says(toy):
    et = toy.energies(200, leak=0.3).astype(float)
    found = accumulate(toy.grid, et)
    x = et - et.mean(axis=0)
    variance = (x**2).mean(axis=0).sum(axis=(1, 2))
    for step in range(7):
        expected = (x * np.roll(x, -step, axis=3)).mean(axis=0).sum(axis=(1, 2)) / variance
        assert found.phi[:, step] == pytest.approx(expected)
    above = (x[:, :, 2:] * x[:, :, :-2]).mean(axis=(0, 2, 3)) / (variance / 120)
    assert found.eta[:, 2] == pytest.approx(above)
    across = (x[:, 0] * np.roll(x[:, 1], -1, axis=2)).mean(axis=0).sum()
    assert found.layers[0, 1] == pytest.approx(across / np.sqrt(variance[0] * variance[1]))
    assert found.phi[:, 0] == pytest.approx(1.0)
    assert found.eta[:, 0] == pytest.approx(1.0)


def test_a_window_has_no_pairs_around_the_back():
    grid = Grid((0.0, 0.5, 1.0), 6, ("one",), 0.0, 1.0)
    rng = np.random.default_rng(0)
    et = rng.normal(size=(300, *grid.shape))
    et[..., 5] = et[..., 0]
    found = accumulate(grid, et)
    x = et - et.mean(axis=0)
    scale = (x**2).mean()
    assert found.phi[0, 1] == pytest.approx((x[..., 1:] * x[..., :-1]).mean() / scale)
    assert abs(found.phi[0, 1]) < 0.1


def test_batches_of_whole_units_do_not_matter(toy):
    et = toy.energies(160).astype(float)
    one, many = accumulate(toy.grid, et, size=160), accumulate(toy.grid, et, size=32)
    assert one.phi == pytest.approx(many.phi)
    assert one.phi_error == pytest.approx(many.phi_error)


def test_a_weight_of_two_is_an_event_twice(toy):
    et = toy.energies(50).astype(float)
    weight = np.ones(50)
    weight[7] = 2.0
    doubled = accumulate(toy.grid, np.concatenate([et, et[7:8]]))
    assert accumulate(toy.grid, et, weight).eta == pytest.approx(doubled.eta)


def test_errors_cover_the_spread_between_samples(toy):
    values, errors = [], []
    for seed in range(12):
        found = accumulate(toy.grid, toy.energies(320, seed=seed).astype(float))
        values.append(found.phi[0, 1])
        errors.append(found.phi_error[0, 1])
    assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.6)


def test_constant_cells_have_no_correlation(toy):
    found = accumulate(toy.grid, np.zeros((40, *toy.grid.shape)))
    assert np.all(found.phi == 0.0)
    assert np.isnan(accumulate(toy.grid, np.zeros((5, *toy.grid.shape))).phi_error).all()
