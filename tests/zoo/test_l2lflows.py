"""Layer after layer: energies of layers are exact, and a layer knows those before alone."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pileupgen.calo.geometry import Grid
from pileupgen.zoo.contract import Budget, EventConditions, ZooSample
from pileupgen.zoo.flows import CouplingFlow
from pileupgen.zoo.l2lflows import N_BEFORE, L2LFlows, _before
from tests.toys import Toy
from tests.zoo.test_systems import ALIKE

GRID = Grid((0.0, 1.0, 2.0), 6, ("a", "b"), name="two layers")


@pytest.fixture(scope="module")
def fitted(toy: Toy) -> SimpleNamespace:
    """Layer b has energy where layer a has: twice as much, but for a factor."""
    rng = np.random.default_rng(4)
    first = rng.lognormal(0.0, 1.0, (400, 1, 2, 6))
    energy = np.concatenate([first, 2 * first * rng.lognormal(0.0, 0.3, first.shape)], axis=1)
    energy[energy < 0.3] = 0.0
    images = toy.images(energy.astype(np.float32), GRID)
    system, conditions = L2LFlows(n_couplings=2), EventConditions.of_pileup(images)
    budget = Budget(60.0, max_steps=50)
    system.fit(ZooSample(images, symmetry=ALIKE), conditions, budget, 1)
    return SimpleNamespace(system=system, images=images, conditions=conditions)


def test_energies_of_layers_are_those_of_the_first_flow(fitted):
    made = fitted.system.generate(fitted.conditions, 3)
    expected = fitted.system.layer_energies(fitted.conditions, 3)
    np.testing.assert_allclose(made.sum(axis=(2, 3)), expected, rtol=1e-5)


def logs_of(energy: np.ndarray) -> np.ndarray:
    return np.log(energy + 0.1)


def test_what_layers_have_in_common_is_learned(fitted):
    """Energies of layers, and the place of the energy in the second layer."""
    made, real = fitted.system.generate(fitted.conditions, 3), fitted.images.energy
    totals = [np.corrcoef(*logs_of(x.sum(axis=(2, 3))).T)[0, 1] for x in (made, real)]
    assert totals[0] == pytest.approx(totals[1], abs=0.2)
    cells = [np.corrcoef(*(logs_of(x)[:, i].ravel() for i in (0, 1)))[0, 1] for x in (made, real)]
    assert cells[1] > 0.8
    assert cells[0] > 0.6 * cells[1]


def test_a_layer_is_shown_the_layers_before_and_no_later_one():
    cells = torch.randn(3, 6, 2, 4, generator=torch.Generator().manual_seed(1))
    layer = torch.tensor([0, 2, 4])
    seen = _before(cells, layer)
    assert seen.shape == (3, N_BEFORE, 2, 4)
    assert not seen[0].any()
    assert torch.equal(seen[1, 0], cells[1, 1])
    assert torch.equal(seen[2], cells[2, [3, 2, 1]])
    later = cells.clone()
    later[torch.arange(3), layer] += 1.0
    later[:, 5] += 1.0
    assert torch.equal(_before(later, layer), seen)


def test_a_flow_with_a_context_is_inverted():
    torch.manual_seed(0)
    flow = CouplingFlow((1, 3, 4), 2, is_spline=False, is_ring=True, n_couplings=3, n_context=2)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
        x, known, context = torch.randn(2, 1, 3, 4), torch.randn(2, 2), torch.randn(2, 2, 3, 4)
        z, _ = flow(x, known, context)
        torch.testing.assert_close(flow.inverse(z, known, context), x, atol=1e-4, rtol=0)
        assert not torch.allclose(flow(x, known, context + 1.0)[0], z)


def test_a_layer_without_energy_has_no_cells(toy: Toy):
    energy = toy.energies(60, 3, grid=GRID)
    energy[::2, 1] = 0.0
    images = toy.images(energy, GRID)
    system, conditions = L2LFlows(n_couplings=1), EventConditions.of_pileup(images)
    system.fit(ZooSample(images), conditions, Budget(60.0, max_steps=1), 1)
    made = system.generate(conditions, 2)
    is_empty = system.layer_energies(conditions, 2)[:, 1] == 0
    assert is_empty.mean() == pytest.approx(0.5, abs=0.2)
    assert not made[is_empty, 1].any()
    assert made[~is_empty, 1].sum(axis=(1, 2)).min() > 0
