"""Laws of the autoregressive systems: what a cell may see, inverses, densities that add up to 1."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pileupgen.calo.geometry import Grid
from pileupgen.zoo.autoregressive import Autoregressive
from pileupgen.zoo.cells import (
    N_FEATURES,
    cell_features,
    gained_of_cells,
    mixture_cdf,
    mixture_quantile,
    starting_bias,
)
from pileupgen.zoo.contract import Budget, EventConditions, Symmetry, ZooSample
from pileupgen.zoo.gated import REACH, GatedStacks, RowCache
from pileupgen.zoo.masked import CellOrder, MaskedCells
from pileupgen.zoo.scores import SOURCE, TARGET, joined_scores, split_scores
from tests.toys import Toy

N_CONDITIONS = 2
ALIKE = Symmetry(phi=True, eta=True)
NARROW_GRID = Grid((-0.8, -0.4, 0.0, 0.4, 0.8), 9, name="narrow")


def randomised(network: nn.Module, seed: int = 0, scale: float = 0.3) -> nn.Module:
    """With weights at which every path through the network counts."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=rng))
    return network.eval()


# -- groups of cells ------------------------------------------------------------------------------

SHAPES = {
    "periodic": ((2, 8, 12), True),
    "no third of the ring": ((2, 7, 8), True),
    "prime": ((1, 4, 5), True),
    "open": ((3, 6, 7), False),
    "one ring": ((2, 1, 12), True),
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_cell_is_in_one_group(name):
    shape, is_periodic = SHAPES[name]
    order = CellOrder(shape, is_periodic=is_periodic)
    count = torch.zeros(1, *shape)
    for number in range(len(order)):
        count[order.cells(number)] += 1
    assert (count == 1).all()


def test_the_grid_of_the_demo_takes_18_passes():
    assert len(CellOrder((2, 50, 36))) == 18


@torch.no_grad()
@pytest.mark.parametrize("name", SHAPES)
def test_no_group_sees_itself_or_a_later_one(name):
    shape, is_periodic = SHAPES[name]
    order = CellOrder(shape, is_periodic=is_periodic)
    network = randomised(MaskedCells(order, N_CONDITIONS, 8))
    rng = torch.Generator().manual_seed(1)
    cells = torch.randn(2, N_FEATURES * shape[0], *shape[1:], generator=rng)
    domain, condition = torch.tensor([0, 1]), torch.randn(2, N_CONDITIONS, generator=rng)
    group = order.number().repeat_interleave(N_FEATURES, dim=0)
    for number in range(len(order)):
        before = network(cells, number, domain, condition)
        later = torch.where(group >= number, cells + 1.0, cells)
        for found, expected in zip(network(later, number, domain, condition), before, strict=True):
            assert torch.equal(found, expected)
        if number:
            earlier = torch.where(group == number - 1, cells + 1.0, cells)
            assert not torch.equal(network(earlier, number, domain, condition)[0], before[0])


@torch.no_grad()
@pytest.mark.parametrize("is_periodic", [True, False])
def test_densities_of_a_network_add_up_to_one(is_periodic):
    """Over all that three cells may be: a null cell or any score, with a quadrature."""
    shape = 1, 1, 3
    network = randomised(MaskedCells(CellOrder(shape, is_periodic=is_periodic), 2, 6), 3, 0.12)
    nodes = torch.linspace(-7.0, 7.0, 57)
    kinds = torch.cat([torch.full((1,), math.nan), nodes])
    states = torch.cartesian_prod(kinds, kinds, kinds).view(-1, *shape)
    hit, z = torch.isfinite(states), torch.nan_to_num(states).double()
    mass = torch.full((len(states), 1, 1, 1), 0.35).double()
    cells = cell_features(hit, z, mass, torch.ones_like(hit))
    domain, condition = torch.ones(len(states), dtype=torch.long), torch.zeros(len(states), 2)
    log_p = torch.zeros(len(states), dtype=torch.float64)
    for number in range(3):
        found = network(cells, number, domain, condition)
        at = network.order.cells(number)
        gained = gained_of_cells(found, hit[at], z[at], mass[:, 0], has_nulls=True)
        log_p += gained.double().sum(dim=(1, 2))
    normal = -0.5 * z.square() - 0.5 * math.log(2 * math.pi) + math.log(0.65 * 14 / 56)
    log_p += torch.where(hit, normal, math.log(0.35)).sum(dim=(1, 2, 3))
    assert float(log_p.exp().sum()) == pytest.approx(1.0, abs=2e-3)


# -- one cell -------------------------------------------------------------------------------------


def some_mixture(n: int, seed: int = 0) -> list[Tensor]:
    rng = torch.Generator().manual_seed(seed)
    weight, mean, width = torch.randn(3, n, 6, generator=rng)
    return [weight.log_softmax(dim=1), mean, 0.5 * width]


def test_quantiles_invert_the_distribution_of_a_mixture():
    mixture = some_mixture(200)
    rank = torch.rand(200, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    z = mixture_quantile(rank, *mixture)
    torch.testing.assert_close(mixture_cdf(z, *mixture), rank, atol=1e-7, rtol=0)


def test_a_network_begins_near_the_marginal():
    _, *mixture = torch.split(starting_bias()[None], [1, 6, 6, 6], dim=1)
    mixture[0] = mixture[0].log_softmax(dim=1)
    z = torch.linspace(-2, 2, 9).double()
    found = mixture_cdf(z, *(part.expand(9, 6) for part in mixture))
    torch.testing.assert_close(found, torch.special.ndtr(z), atol=0.03, rtol=0)


def test_scores_are_split_and_joined_without_loss():
    rng = torch.Generator().manual_seed(0)
    scores = torch.randn(5, 2, 4, 6, generator=rng) * 1.5
    mass = torch.rand(5, 2, 4, 1, generator=rng).double()
    hit, z, rank = split_scores(scores, mass)
    assert 0.2 < hit.float().mean() < 0.8
    torch.testing.assert_close(joined_scores(hit, z, rank, mass), scores, atol=1e-4, rtol=1e-4)


def test_scores_of_hits_are_normal_among_hits():
    scores = torch.randn(4000, 1, 3, 4, generator=torch.Generator().manual_seed(1))
    mass = torch.tensor([0.1, 0.5, 0.9]).double().view(1, 1, 3, 1).expand(4000, 1, 3, 1)
    hit, z, rank = split_scores(scores, mass)
    torch.testing.assert_close(
        hit.double().mean(dim=(0, 1, 3)), 1 - mass[0, 0, :, 0], atol=0.015, rtol=0
    )
    assert float(z[hit].mean()) == pytest.approx(0, abs=0.02)
    assert float(z[hit].std()) == pytest.approx(1, abs=0.02)
    assert float(rank[~hit].mean()) == pytest.approx(0.5, abs=0.01)


# -- the translator -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def translator(toy: Toy) -> SimpleNamespace:
    """Target whose cells leak into their neighbours along φ, source whose cells do not."""
    target = toy.images(toy.energies(300, 1, grid=NARROW_GRID, leak=0.5), NARROW_GRID)
    source = toy.images(toy.energies(300, 2, grid=NARROW_GRID, scale=1.6), NARROW_GRID)
    system = Autoregressive(width=24)
    system.fit(
        ZooSample(target, source, ALIKE),
        EventConditions.of_pileup(target),
        Budget(60, max_steps=160),
        1,
    )
    return SimpleNamespace(system=system, target=target, source=source)


def test_a_domain_to_itself_is_the_identity(translator):
    system, images = translator.system, translator.source
    mu = torch.from_numpy(images.mu)
    scores = system.mapped(images, mu, 3, SOURCE, SOURCE)
    energy = system.space.decode(scores, images.mu, SOURCE)
    np.testing.assert_array_equal(energy > 0, images.energy > 0)
    np.testing.assert_allclose(energy, images.energy, rtol=1e-3)


@torch.no_grad()
def test_there_and_back_is_the_identity(translator):
    """The map is one to one: the target's ranks lead back to the source's cells."""
    system, images = translator.system, translator.source
    mu = torch.from_numpy(images.mu)
    conditions = system.conditions(mu[:, None])
    scores = system.space.encode(images, images.mu, SOURCE, 3)
    rank = system._ranks(scores, mu, conditions, SOURCE)
    there = system._of_ranks(rank, mu, conditions, TARGET)
    again = system._ranks(there, mu, conditions, TARGET)
    torch.testing.assert_close(again, rank, atol=1e-4, rtol=0)


def neighbours(energy: np.ndarray) -> float:
    """Correlation of cells next to each other in φ."""
    logs = np.log1p(energy)
    return float(np.corrcoef(logs.ravel(), np.roll(logs, 1, 3).ravel())[0, 1])


def test_it_learns_what_cells_do_together(translator, toy):
    """Held-out events: a likelihood above that of independent cells, and the correlation."""
    system = translator.system
    fresh = toy.images(toy.energies(150, 11, grid=NARROW_GRID, leak=0.5), NARROW_GRID)
    gained = system.nats_gained(fresh, fresh.mu, 1)
    assert gained.mean() > 5 * gained.std() / np.sqrt(len(gained)) > 0
    wanted, before = neighbours(fresh.energy), neighbours(translator.source.energy)
    moved = system.translate(translator.source, translator.source.mu, 4)
    made = system.generate(EventConditions.of_pileup(translator.source), 4)
    for found in (neighbours(moved), neighbours(made)):
        assert abs(found - wanted) < 0.75 * abs(before - wanted)


def test_a_translated_event_stays_its_source(translator):
    images = translator.source
    moved = translator.system.translate(images, images.mu, 4)
    r = np.corrcoef(moved.sum(axis=(1, 2, 3)), images.energy.sum(axis=(1, 2, 3)))[0, 1]
    assert r > 0.9


# -- gated stacks ---------------------------------------------------------------------------------

ROWS, COLUMNS = 7, 16


def stacks_of(*, is_ring: bool) -> GatedStacks:
    network = GatedStacks((2, ROWS, COLUMNS), N_CONDITIONS, 6, n_blocks=3, is_ring=is_ring)
    return randomised(network, seed=5)


@pytest.fixture(scope="module")
def stacks() -> GatedStacks:
    return stacks_of(is_ring=True)


def test_a_cell_sees_all_earlier_cells_near_it_and_no_other(stacks):
    """No blind spot: to the right above, too, where a single masked stack sees nothing."""
    rng = torch.Generator().manual_seed(1)
    cells = torch.randn(1, 4, ROWS, COLUMNS, generator=rng).requires_grad_()
    i, j, reach = 5, 8, 3 * REACH
    stacks(cells, torch.zeros(1, N_CONDITIONS))[0, i, j].abs().sum().backward()
    seen = cells.grad[0].abs().sum(dim=0) > 0
    place = torch.arange(ROWS * COLUMNS).view(ROWS, COLUMNS)
    earlier = place < i * COLUMNS + j
    assert not seen[~earlier].any()
    rows, columns = torch.arange(ROWS)[:, None], torch.arange(COLUMNS)[None]
    near = (i - rows <= REACH) & (rows < i) & ((columns - j).abs() <= REACH)
    left = (rows == i) & (j - columns <= reach) & (columns < j)
    assert seen[near | left].all()
    assert seen[i - 1, j + reach]


@torch.no_grad()
def test_cell_after_cell_is_the_same_as_all_at_once(stacks):
    rng = torch.Generator().manual_seed(2)
    cells = torch.randn(3, 4, ROWS, COLUMNS, generator=rng)
    condition = torch.randn(3, N_CONDITIONS, generator=rng)
    expected = stacks(cells, condition)
    cache = RowCache(stacks, condition)
    for i in range(ROWS):
        cache.begin_row()
        for j in range(COLUMNS):
            torch.testing.assert_close(cache.features(i, j), expected[:, i, j], atol=1e-5, rtol=0)
            cache.show(cells[:, :, i, j])
        cache.end_row(cells[:, :, i])


@torch.no_grad()
def test_a_layer_is_told_of_deeper_ones_only(stacks):
    features, own = torch.randn(5, 6), torch.randn(5, 4)
    other = own + torch.tensor([1.0, 1.0, 0.0, 0.0])
    assert torch.equal(stacks.head(features, own, 0)[0], stacks.head(features, other, 0)[0])
    deeper = own + torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert not torch.equal(stacks.head(features, own, 0)[0], stacks.head(features, deeper, 0)[0])
    assert torch.equal(stacks.head(features, own, 1)[0], stacks.head(features, deeper, 1)[0])
