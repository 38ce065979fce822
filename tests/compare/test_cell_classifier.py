from __future__ import annotations

import numpy as np
import pytest
import torch

from pileupgen.calo.geometry import Grid
from pileupgen.compare.cell_classifier import CellClassifier, cell_test
from pileupgen.compare.two_sample import feature_test
from pileupgen.measure.sample import measure_sample


def test_a_roll_in_phi_by_two_cells_changes_nothing():
    network = CellClassifier(2, is_periodic=True).eval()
    x = torch.randn(3, 5, 10, 12)
    with torch.no_grad():
        assert torch.allclose(network(x), network(x.roll(2, dims=3)), atol=1e-5)


@pytest.mark.usefixtures("thorough")
def test_it_tells_leakage_apart_as_well_as_trees_on_observables_do(toy):
    """The same cells in another order: marginals per ring are equal, neighbours are not."""
    leaky = toy.energies(400, seed=2, leak=0.08)
    shuffled = np.random.default_rng(0).permuted(toy.energies(400, seed=3, leak=0.08), axis=3)
    found = cell_test(leaky, shuffled, toy.grid)
    samples = [
        measure_sample("made", "made", [toy.images(energy)], toy.grid)
        for energy in (leaky, shuffled)
    ]
    trees = feature_test(*(sample.matrix() for sample in samples), n_seeds=1)
    assert found.auc > trees.auc - 2 * trees.error > 0.9


def test_equal_distributions_give_one_half_and_the_same_twice(toy):
    x, y = toy.energies(120, seed=1), toy.energies(120, seed=2)
    first = cell_test(x, y, toy.grid, max_epochs=3)
    assert abs(first.auc - 0.5) < 4 * first.error
    assert first == cell_test(x, y, toy.grid, max_epochs=3)


def test_a_batch_of_one_event_is_left_out(toy):
    """Of 161 events one fold trains on 65: a batch of 64, and one event."""
    x, y = toy.energies(81, seed=1), toy.energies(80, seed=2)
    assert 0.3 < cell_test(x, y, toy.grid, max_epochs=2).auc < 0.7


@pytest.mark.parametrize("grid", [Grid((0.0, 1.0), 6), Grid((0.0, 0.5, 1.0), 3, ("a",), 0.0, 1.0)])
def test_any_grid(toy, grid):
    x, y = toy.energies(20, seed=1, grid=grid), toy.energies(20, seed=2, grid=grid)
    assert 0.0 <= cell_test(x, y, grid, max_epochs=1).auc <= 1.0
