"""Systems that only translate: transport, cycles and regression on pairs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pileupgen.calo.geometry import Grid
from pileupgen.errors import ConfigError, RunError, TrainingError
from pileupgen.zoo.attention import BlockAttention, block_of
from pileupgen.zoo.contract import Budget, EventConditions, System, ZooSample
from pileupgen.zoo.cycle import lost_on_the_way, make_morph
from pileupgen.zoo.image_system import rows_of
from pileupgen.zoo.perfekt import Perfekt, numbers_of
from pileupgen.zoo.registry import find_system
from pileupgen.zoo.sliced import SlicedTransport, TransportTables, monotone
from tests.toys import Toy
from tests.zoo.test_autoregressive import NARROW_GRID, neighbours
from tests.zoo.test_systems import ALIKE, TINY_GRID, TRANSLATORS

GRID = replace(NARROW_GRID, layers=("em",))


def pairs(toy: Toy, n: int = 80, grid: Grid = TINY_GRID, leak: float = 0.4) -> ZooSample:
    """The same events, in the target with energy that leaks into neighbours."""
    target = toy.images(toy.energies(n, 1, grid=grid, leak=leak), grid)
    source = toy.images(toy.energies(n, 1, grid=grid), grid)
    return ZooSample(target, source, ALIKE, is_paired=True)


def fitted(system, sample: ZooSample, steps: int):
    conditions = EventConditions.of_pileup(sample.target)
    system.fit(sample, conditions, Budget(60.0, max_steps=steps), 1)
    return system


# -- what each of them has to keep ----------------------------------------------------------------


@pytest.fixture(scope="module", params=TRANSLATORS)
def translator(request, toy):
    return fitted(find_system(request.param).make(), pairs(toy), 2)


def test_it_translates_and_does_not_generate(translator, toy):
    sample = pairs(toy)
    assert isinstance(translator, System)
    assert translator.citation
    assert translator.n_parameters > 0
    with pytest.raises(RunError, match="only translates"):
        translator.generate(EventConditions.of_pileup(sample.target), 1)
    moved = translator.translate(sample.source, sample.source.mu, 3)
    assert np.isfinite(moved).all()
    assert (moved > 0).mean() == pytest.approx((sample.target.energy > 0).mean(), abs=0.03)
    few = rows_of(sample.source, np.array([9, 3]))
    np.testing.assert_array_equal(translator.translate(few, few.mu, 3), moved[[9, 3]])


def test_what_is_saved_moves_events_the_same_way(translator, toy, tmp_path: Path):
    translator.save(tmp_path / "system")
    again = type(translator)()
    again.load(tmp_path / "system")
    assert again.n_parameters == translator.n_parameters
    few = rows_of(pairs(toy).source, np.arange(5))
    expected = translator.translate(few, few.mu, 2)
    np.testing.assert_array_equal(again.translate(few, few.mu, 2), expected)


@pytest.mark.parametrize("name", TRANSLATORS)
def test_a_translator_takes_a_window_one_event_and_features(name, toy):
    window = replace(GRID, phi_min=0.0, phi_max=2.0)
    features = Grid.of_features(["pt", "tau"], ["GeV", ""])
    values = np.random.default_rng(0).normal(size=(40, 2, 1, 1)).astype(np.float32)
    both = (toy.images(energy, features) for energy in (values + 1, values))
    for sample in (
        pairs(toy, 30, window),
        pairs(toy, 1),
        ZooSample(*both, is_paired=True),
    ):
        system = fitted(find_system(name).make(), sample, 1)
        moved = system.translate(sample.source, sample.source.mu, 3)
        assert moved.shape == sample.source.energy.shape
        assert np.isfinite(moved).all()


def test_source_and_pairs_are_asked_for(toy):
    sample = pairs(toy, 20)
    with pytest.raises(TrainingError, match="only translates"):
        fitted(SlicedTransport(), ZooSample(sample.target), 0)
    with pytest.raises(TrainingError, match="learns from pairs"):
        fitted(Perfekt(), replace(sample, is_paired=False), 0)


# -- transport ------------------------------------------------------------------------------------


def gaussians(n: int = 6000) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Events of two cells (N, 2, 1, 1), source and target, and the optimal map between them."""
    of_source = torch.tensor([[1.0, 0.6], [0.6, 1.0]]).double()
    of_target = torch.tensor([[1.0, -0.3], [-0.3, 1.0]]).double()

    def power(matrix, exponent):
        values, vectors = torch.linalg.eigh(matrix)
        return vectors @ torch.diag(values**exponent) @ vectors.T

    root, inverse = power(of_source, 0.5), power(of_source, -0.5)
    best = inverse @ power(root @ of_target @ root, 0.5) @ inverse
    rng = torch.Generator().manual_seed(4)
    drawn = [torch.randn(n, 2, generator=rng) for _ in range(2)]
    pieces = zip(drawn, (of_source, of_target), strict=True)
    both = [z @ torch.linalg.cholesky(c).float().T for z, c in pieces]
    return both[0][:, :, None, None], both[1][:, :, None, None], best.float()


@torch.no_grad()
def test_between_gaussians_it_is_the_closed_form():
    source, target, best = gaussians()
    tables = TransportTables((2, 1, 1), 10)
    tables.field.fit([source, target], has_pooled=False)
    tables.maps.copy_(tables.field.transport(0, 1))
    moved = tables.gaussian(source)
    expected = source[:, :, 0, 0] @ best.T
    assert float((moved[:, :, 0, 0] - expected).abs().mean()) < 0.03
    # Nothing is left for the slices.
    after = moved
    for index in range(10):
        tables.learn(index, after, target)
        after = tables.step(index, after)
    assert float((after - moved).abs().mean()) < 0.08


@torch.no_grad()
def test_slices_move_what_is_not_gaussian():
    """A ring of radius 1 from a round Gaussian: no linear map makes it."""
    rng = torch.Generator().manual_seed(1)
    angle = 6.2832 * torch.rand(4000, generator=rng)
    target = torch.stack([angle.cos(), angle.sin()], dim=1)[:, :, None, None]
    source = torch.randn(4000, 2, 1, 1, generator=rng) * 0.5**0.5
    tables, moved = TransportTables((2, 1, 1), 60), source
    for index in range(60):
        tables.learn(index, moved, target)
        moved = tables.step(index, moved)
    spread = [float(x.square().sum(dim=1).sqrt().std()) for x in (source, moved)]
    assert spread[1] < 0.35 * spread[0]


def test_a_map_between_knots_is_monotone_and_a_shift_beyond():
    before = torch.linspace(-2, 2, 5).expand(1, 1, 5)
    after = torch.tensor([-1.0, -0.5, 0.0, 3.0, 4.0]).expand(1, 1, 5)
    x = torch.linspace(-4, 4, 81).expand(1, 1, 81)
    y = monotone(x, before, after)
    assert (y[0, 0, 1:] >= y[0, 0, :-1]).all()
    torch.testing.assert_close(monotone(before, before, after), after)
    torch.testing.assert_close(y[0, 0, [0, -1]], torch.tensor([-3.0, 6.0]))


def test_a_step_moves_blocks_across_the_turn_of_the_ring(toy):
    tables = TransportTables((1, 2, 6), 4)
    x = torch.randn(3, 1, 2, 6, generator=torch.Generator().manual_seed(2))
    tables.knots_3[1] += 1.0
    moved = tables.step(3, x)
    directions = tables.directions_3
    assert torch.allclose(directions.T @ directions, torch.eye(directions.shape[1]), atol=1e-5)
    shifted = tables.slices(3, moved) - tables.slices(3, x)
    torch.testing.assert_close(shifted, torch.ones_like(shifted), atol=1e-4, rtol=0)
    torch.testing.assert_close(tables.step(0, x), x, atol=1e-5, rtol=0)


def test_transport_brings_what_cells_have_in_common(toy):
    sample = pairs(toy, 150, GRID, 0.6)
    moved = {}
    for slices in (0, 20):
        system = fitted(SlicedTransport(slices=slices), sample, slices)
        moved[slices] = system.translate(sample.source, sample.source.mu, 4)
    wanted, before = (neighbours(x.energy) for x in (sample.target, sample.source))
    for energy in moved.values():
        assert abs(neighbours(energy) - wanted) < 0.35 * abs(before - wanted)
    sums = [x.sum(axis=(1, 2, 3)) for x in (moved[20], sample.source.energy)]
    assert np.corrcoef(*sums)[0, 1] > 0.8
    with pytest.raises(ConfigError, match="-1 slices"):
        SlicedTransport(slices=-1)


# -- cycles and pairs -----------------------------------------------------------------------------


@torch.no_grad()
def test_there_and_back_is_the_event_itself():
    """Of networks that change nothing, and of a shift and its inverse; not of the shift twice."""
    go = make_morph((1, 4, 6), 2, is_ring=True)
    x, known = torch.randn(2, 1, 4, 6), torch.zeros(2, 2)
    assert torch.equal(go(x, known), x)
    assert float(lost_on_the_way(go, go, x, known)) == 0.0
    up, down = (lambda y, _, by=by: y + by for by in (1.0, -1.0))
    assert float(lost_on_the_way(up, down, x, known)) == pytest.approx(0.0, abs=1e-6)
    assert float(lost_on_the_way(up, up, x, known)) == pytest.approx(2.0, rel=1e-5)


def test_blocks_far_apart_see_each_other():
    torch.manual_seed(0)
    between = BlockAttention(1, 1, 6, 12, 2)
    for parameter in between.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(1, 1, 6, 12).requires_grad_()
    between(x, torch.zeros(1, 2))[0, 0, 0, 0].backward()
    assert x.grad[0, 0, 5, 6] != 0
    assert [block_of(n) for n in (1, 7, 50)] == [1, 1, 2]


def test_regression_finds_what_a_pair_becomes(toy):
    """Nearer to the very event than the source is, which no system without pairs can be told."""
    sample = pairs(toy, 100, GRID, 0.6)
    moved = fitted(Perfekt(), sample, 50).translate(sample.source, sample.source.mu, 4)
    logs = [np.log1p(x) for x in (moved, sample.source.energy, sample.target.energy)]
    missed = [np.abs(x - logs[2]).mean() for x in logs[:2]]
    assert missed[0] < 0.8 * missed[1]


def test_numbers_of_an_event_tell_what_it_is_like():
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 1, 1] = x[0, 0, 1, 2] = 2.0
    scale = 4 / 4
    expected = torch.tensor([[4 / 16, 8 / 16 - 1, 4 / 16, 0.0]]) * scale
    torch.testing.assert_close(numbers_of(x), expected)
