"""What is alike is what cards and grid say; a window in φ has two ends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pileupgen.calo.geometry import Grid
from pileupgen.models.networks.layers import PeriodicConv2d
from pileupgen.zoo.contract import Budget, EventConditions, Symmetry, ZooSample
from pileupgen.zoo.diffusion import MARGIN, Ddpm
from pileupgen.zoo.gan import Critic
from pileupgen.zoo.layers import CellTrunk
from pileupgen.zoo.marginals import Marginals
from pileupgen.zoo.registry import find_system
from pileupgen.zoo.scores import Views
from tests.toys import Toy
from tests.zoo.test_autoregressive import ROWS, randomised, stacks_of
from tests.zoo.test_systems import ALIKE, TINY_GRID

RING = Grid((-0.8, -0.4, 0.0, 0.4, 0.8), 14, name="ring")
WINDOW = replace(RING, phi_min=0.0, phi_max=2.0)


def images_of(grid: Grid) -> torch.Tensor:
    return torch.randn(2, *grid.shape, generator=torch.Generator().manual_seed(3))


def swapped(x: torch.Tensor) -> torch.Tensor:
    """Columns 0 and 6 in each other's places: means and variances stay."""
    order = torch.arange(x.shape[3])
    order[[0, 6]] = torch.tensor([6, 0])
    return x[..., order]


@torch.no_grad()
@pytest.mark.parametrize("is_ring", [True, False])
def test_the_ends_of_a_window_do_not_see_each_other(is_ring):
    network = randomised(CellTrunk(2, 2, 2, 4, 6, 2, is_ring=is_ring))
    x, known = images_of(RING), torch.zeros(2, 2)
    last, other = (network(cells, known)[..., -1] for cells in (x, swapped(x)))
    assert torch.allclose(last, other, atol=1e-6) != is_ring


@torch.no_grad()
@pytest.mark.parametrize("is_ring", [True, False])
def test_a_critic_knows_where_a_window_ends(is_ring):
    network = randomised(Critic(2, 2, is_ring=is_ring))
    x, known = images_of(RING), torch.zeros(2, 2)
    turned = network(x.roll(4, 3), known)
    assert torch.allclose(turned, network(x, known), atol=1e-5) == is_ring


@pytest.mark.parametrize("is_ring", [True, False])
def test_gated_stacks_look_around_a_ring_alone(is_ring):
    cells = torch.randn(1, 4, ROWS, 16, generator=torch.Generator().manual_seed(1)).requires_grad_()
    stacks_of(is_ring=is_ring)(cells, torch.zeros(1, 2))[0, 5, 15].abs().sum().backward()
    assert bool(cells.grad[0, :, 4, 0].any()) == is_ring
    assert cells.grad[0, :, 4, 13].any()


@pytest.mark.parametrize("name", ["gan", "sdi-gan-regressor", "cvae", "flow", "pixelcnn", "ddpm"])
def test_systems_take_from_the_grid_whether_it_is_a_ring(name):
    is_around = {}
    for grid in (RING, WINDOW):
        system = find_system(name).make()
        system._prepare(grid, ("mu",), Symmetry())
        network = system.make_network()
        around = [isinstance(part, PeriodicConv2d) for part in network.modules()]
        around += [getattr(part, "is_ring", False) for part in network.modules()]
        is_around[grid] = any(around)
    if name == "ddpm":
        assert network.field.width == WINDOW.n_phi + MARGIN
    else:
        assert is_around == {RING: True, WINDOW: False}


def test_diffusion_does_not_join_the_ends_of_a_window(toy: Toy):
    """Cells leak into their neighbours, but not from the last column into the first."""
    window = replace(WINDOW, eta_edges=(-0.4, 0.0, 0.4), layers=("em",))
    wide = replace(window, n_phi=20)
    energy = np.ascontiguousarray(toy.energies(300, 5, leak=0.8, grid=wide)[..., :14])
    sample = ZooSample(toy.images(energy, window), symmetry=ALIKE)
    system = Ddpm(steps=6)
    system.fit(sample, EventConditions.of_pileup(sample.target), Budget(60.0, max_steps=0), 1)
    made = np.log1p(system.generate(EventConditions.of_pileup(sample.target), 2))
    near = np.corrcoef(made[..., 4].ravel(), made[..., 5].ravel())[0, 1]
    ends = np.corrcoef(made[..., 0].ravel(), made[..., -1].ravel())[0, 1]
    assert near > 0.25
    assert ends < 0.5 * near


def views_of(symmetry: Symmetry, grid: Grid = TINY_GRID) -> set[tuple[bool, bool]]:
    """Whether events came turned or mirrored in φ, and mirrored in η, in any of 30 batches."""
    energy = torch.arange(float(np.prod(grid.shape))).view(1, *grid.shape)
    views = Views(grid, symmetry, torch.zeros(1, 2), np.ones(1))
    found = [views.draw((energy,), 1, torch.Generator().manual_seed(seed))[0] for seed in range(30)]
    rows = [view[0, 0, :, 0] // grid.n_phi for view in found]
    columns = [view[0, 0, 0] % grid.n_phi for view in found]
    plain_rows, plain_columns = torch.arange(grid.n_eta), torch.arange(grid.n_phi)
    return {
        (not torch.equal(c, plain_columns.float()), not torch.equal(r, plain_rows.float()))
        for r, c in zip(rows, columns, strict=True)
    }


def test_events_are_turned_and_mirrored_only_where_that_is_said():
    assert views_of(Symmetry()) == {(False, False)}
    assert views_of(Symmetry(phi=True)) == {(False, False), (True, False)}
    assert {eta for _, eta in views_of(Symmetry(eta=True))} == {False, True}
    assert not any(phi for phi, _ in views_of(Symmetry(eta=True)))
    lopsided = replace(TINY_GRID, eta_edges=(*TINY_GRID.eta_edges[:-1], 1.5))
    assert not any(eta for _, eta in views_of(ALIKE, lopsided))


def test_quantiles_of_both_sides_are_their_own_where_the_card_says_no_more(toy: Toy):
    energy = toy.energies(200, 1, grid=TINY_GRID)
    energy[:, :, :2] *= 3.0
    images, sides = toy.images(energy, TINY_GRID), {}
    for symmetry in (Symmetry(phi=True), ALIKE):
        system, conditions = Marginals(), EventConditions.of_pileup(images)
        system.fit(ZooSample(images, symmetry=symmetry), conditions, Budget(1.0), 1)
        made = system.generate(conditions, 1)
        sides[symmetry.eta] = made[:, :, :2].mean() / made[:, :, 2:].mean()
    expected = energy[:, :, :2].mean() / energy[:, :, 2:].mean()
    assert sides[False] == pytest.approx(expected, rel=0.08)
    assert sides[True] == pytest.approx(1.0, rel=0.08)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({"phi_symmetric": True, "eta_symmetric": True}, ALIKE),
        ({"phi_symmetric": True}, Symmetry(phi=True)),
        ({}, Symmetry()),
    ],
    ids=["both", "phi", "neither"],
)
def test_a_sample_of_stores_takes_what_all_cards_allow(other, expected, toy: Toy, tmp_path: Path):
    both = {"phi_symmetric": True, "eta_symmetric": True}
    stores = [
        toy.store(
            tmp_path / f"{domain}.h5",
            toy.energies(20, 1, grid=TINY_GRID),
            domain,
            TINY_GRID,
            {"card": {"detector": detector}},
        )
        for domain, detector in (("data", both), ("mc", other))
    ]
    sample = ZooSample.of_stores(*stores)
    assert sample.symmetry == expected
    assert len(sample.target) == len(stores[0].indices("train"))
    assert sample.source is not None
    assert ZooSample.of_stores(stores[0]).symmetry == ALIKE
