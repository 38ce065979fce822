from __future__ import annotations

import numpy as np
import pytest
import torch

from pileupgen.calo.geometry import Grid
from pileupgen.compare.cell_classifier import CellClassifier, cell_test


def test_a_roll_in_phi_by_two_cells_changes_nothing():
    network = CellClassifier(2, is_periodic=True)
    x = torch.randn(3, 5, 10, 12)
    with torch.no_grad():
        assert torch.allclose(network(x), network(x.roll(2, dims=3)), atol=1e-5)


def test_it_tells_leakage_apart_that_no_single_cell_shows(toy):
    plain = toy.energies(200, seed=1)
    # The same cells in another order: marginals per ring are equal, neighbours are not.
    leaky = toy.energies(400, seed=2, leak=0.6)
    shuffled = np.random.default_rng(0).permuted(leaky[200:], axis=3)
    result = cell_test(leaky[:200], shuffled, toy.grid, max_epochs=25)
    assert result.auc > 0.85
    assert plain.shape == shuffled.shape


def test_equal_distributions_give_one_half_and_the_same_twice(toy):
    x, y = toy.energies(120, seed=1), toy.energies(120, seed=2)
    first = cell_test(x, y, toy.grid, max_epochs=3)
    assert abs(first.auc - 0.5) < 4 * first.error
    assert first == cell_test(x, y, toy.grid, max_epochs=3)


@pytest.mark.parametrize("grid", [Grid((0.0, 1.0), 6), Grid((0.0, 0.5, 1.0), 3, ("a",), 0.0, 1.0)])
def test_any_grid(toy, grid):
    x, y = toy.energies(20, seed=1, grid=grid), toy.energies(20, seed=2, grid=grid)
    assert 0.0 <= cell_test(x, y, grid, max_epochs=1).auc <= 1.0
