"""Laws of networks on sets, and of the ways in which systems of points make events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from pileupgen.errors import ConfigError
from pileupgen.zoo import point_system
from pileupgen.zoo.caloclouds import CaloClouds, schedule
from pileupgen.zoo.caloclouds2 import (
    SIGMA_MAX,
    SIGMA_MIN,
    CaloClouds2,
    boundary,
    n_scales,
    noise_levels,
    preconditioning,
)
from pileupgen.zoo.contract import Budget, EventConditions, Symmetry, ZooSample
from pileupgen.zoo.epic_fm import EpicFlow, normal_velocity
from pileupgen.zoo.fitting import TrainingStep, train
from pileupgen.zoo.point_layers import EpicNet, PointwiseNet, mean_of_points, pooled
from pileupgen.zoo.point_space import PointSpace, turn_step
from pileupgen.zoo.point_system import (
    PointSystem,
    PointViews,
    padded_size,
)
from pileupgen.zoo.points import hits_of, scaled_to
from tests.toys import Toy
from tests.zoo.test_autoregressive import randomised
from tests.zoo.test_systems import ALIKE, TINY_GRID

N, P, F, K = 3, 10, 5, 4


@pytest.fixture(scope="module", autouse=True)
def _few_to_learn_marginals_from() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(point_system, "CORRECTION_EVENTS", 4)
        yield


class Fixed:
    """Noise of fixed numbers, whoever the events are."""

    def __init__(self, n: int) -> None:
        self.n, self.rng = n, torch.Generator().manual_seed(1)

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(self.n, *shape, generator=self.rng)


def sets(n_points: int = P) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(2)
    x = torch.randn(N, n_points, F, generator=rng)
    mask = torch.arange(n_points) < torch.tensor([P - 2, P // 2, 1])[:, None]
    return x, mask, torch.randn(N, K, generator=rng)


def prepared(system: PointSystem, toy: Toy, n: int = 60) -> PointSystem:
    """With its tables, and networks as they begin."""
    sample = ZooSample(toy.images(toy.energies(n, 1, grid=TINY_GRID), TINY_GRID), symmetry=ALIKE)
    system.batch = 4
    system.fit(sample, EventConditions.of_pileup(sample.target), Budget(60.0, max_steps=0), 1)
    return system


# -- layers ---------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("kind", ["epic", "pointwise"])
def test_networks_follow_the_order_of_points_and_padding_changes_nothing(kind):
    net = randomised(EpicNet(F, F, K) if kind == "epic" else PointwiseNet(F, K))
    x, mask, known = sets()

    def through(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        found = net(x, mask, known) if kind == "epic" else net(x, known)
        return torch.where(mask[..., None], found, 0.0)

    before = through(x, mask)
    assert before.abs().max() > 0.01
    order = torch.randperm(P, generator=torch.Generator().manual_seed(3))
    assert torch.allclose(through(x[:, order], mask[:, order]), before[:, order], atol=1e-5)
    longer = torch.cat([torch.where(mask[..., None], x, 99.0), torch.full((N, 7, F), -99.0)], 1)
    more = torch.cat([mask, torch.zeros(N, 7, dtype=torch.bool)], 1)
    assert torch.allclose(through(longer, more)[:, :P], before, atol=1e-5)
    assert not through(longer, more)[:, P:].any()


@torch.no_grad()
def test_a_judge_depends_on_neither_order_nor_padding_but_on_every_point():
    net = randomised(EpicNet(F, 0, K, n_judged=2))
    x, mask, known = sets()
    before = net.judge(x, mask, known)
    order = torch.randperm(P, generator=torch.Generator().manual_seed(3))
    assert torch.allclose(net.judge(x[:, order], mask[:, order], known), before, atol=1e-5)
    longer = torch.cat([torch.where(mask[..., None], x, 99.0), torch.full((N, 7, F), -99.0)], 1)
    more = torch.cat([mask, torch.zeros(N, 7, dtype=torch.bool)], 1)
    assert torch.allclose(net.judge(longer, more, known), before, atol=1e-5)
    other = x.clone()
    other[0, P - 3] += 1.0
    assert (net.judge(other, mask, known) - before)[0].abs().max() > 1e-3


def test_means_and_sums_are_of_the_points_that_there_are():
    x, mask, _ = sets()
    found = pooled(x, mask)
    assert torch.allclose(found[1, :F], x[1, : P // 2].mean(dim=0), atol=1e-6)
    assert torch.allclose(300 * found[1, F:], x[1, : P // 2].sum(dim=0), atol=1e-4)
    assert not pooled(x, torch.zeros_like(mask)).any()
    whole = float(mean_of_points(x, mask))
    assert whole == pytest.approx(float(x[mask].mean()), abs=1e-6)


# -- batches --------------------------------------------------------------------------------------


def test_few_points_are_drawn_among_all_and_padded_ones_are_nothing(toy: Toy):
    images = toy.images(toy.energies(40, 1, grid=TINY_GRID), TINY_GRID)
    space = PointSpace(TINY_GRID, is_eta_symmetric=False)
    space.fit(ZooSample(images))
    points = hits_of(images, 1)
    known = torch.arange(40.0)[:, None]
    views = PointViews(points, space, Symmetry(), known, np.eye(40)[7] * 3)
    x, mask, shown = views.draw(50, torch.Generator().manual_seed(1))
    assert (shown == 7).all()
    assert x.shape == (50, points.count[7], space.n_features)
    layers = x[..., 0]
    few, chosen, _ = views.draw(400, torch.Generator().manual_seed(1), 5)
    assert few.shape[1] == 5
    assert chosen.all()
    assert few[..., 0].mean() == pytest.approx(float(layers[0].mean()), abs=0.06)
    assert len(few[..., 0].unique()) == points.count[7]
    both = PointViews(points, space, Symmetry(), known, np.ones(40))
    x, mask, _ = both.draw(30, torch.Generator().manual_seed(1))
    assert not x[~mask].any()
    assert (~mask).any()


def test_sets_are_turned_by_whole_cells_and_mirrored(toy: Toy):
    """Cells of what comes are those of an event turned and mirrored."""
    images = toy.images(toy.energies(1, 1, grid=TINY_GRID), TINY_GRID)
    wanted = images.energy[0] > 0
    space = PointSpace(TINY_GRID, is_eta_symmetric=True)
    space.fit(ZooSample(images))
    seen = set()
    for symmetry in (Symmetry(), ALIKE):
        views = PointViews(hits_of(images, 1), space, symmetry, torch.zeros(1, 2), np.ones(1))
        for seed in range(12):
            x, mask, _ = views.draw(1, torch.Generator().manual_seed(seed))
            cells = space.decode(x[mask])[0].floor().long()
            found = np.zeros_like(wanted)
            found[tuple(cells.numpy().T)] = True
            alike = [
                (turn, axes)
                for turn in range(6)
                for axes in ((), (1,), (2,), (1, 2))
                if np.array_equal(np.flip(np.roll(wanted, turn, 2), axes), found)
            ]
            assert alike
            if symmetry == Symmetry():
                assert (0, ()) in alike
            else:
                seen.add(alike[0])
    assert len(seen) > 6


def test_a_turn_maps_cells_of_every_layer_onto_cells():
    assert turn_step(replace(TINY_GRID, layer_n_phi=(6, 3))) == 2
    assert turn_step(replace(TINY_GRID, layer_n_phi=(2, 3))) == 6


def test_sets_are_padded_to_few_sizes():
    sizes = [padded_size(n) for n in range(2000)]
    assert sizes[0] == 0
    assert all(n <= size <= 1.34 * n + 16 for n, size in enumerate(sizes[1:], 1))
    assert len(set(sizes)) < 35


def test_layers_are_scaled_to_their_sums_and_keep_their_smallest_hits():
    image = np.array([[[0.0, 0.5, 1.0, 2.0]], [[0.5, 0.5, 0.0, 0.0]], [[0, 0, 0, 0]]], dtype="f4")
    lowest = np.array([0.5, 0.5, 0.5], dtype="f4")
    found = scaled_to(image, np.array([5.5, 0.2, 3.0]), lowest)
    assert found.sum(axis=(1, 2)).tolist() == [5.5, 1.0, 0.0]
    assert found[0, 0].tolist() == [0.0, 0.5, 1.5, 3.5]


def test_a_layer_of_smallest_hits_alone_gets_its_energy_too():
    """As of one hit whose energy was drawn below its layer's smallest one."""
    image = np.array([[[0.0, 0.5, 0.0, 0.0]], [[0.1, 0.3, 0.0, 0.0]]], dtype="f4")
    found = scaled_to(image, np.array([4.0, 3.0]), np.array([0.5, 0.5], dtype="f4"))
    assert found.sum(axis=(1, 2)).tolist() == [4.0, 3.0]
    assert found[1, 0].tolist() == [1.5, 1.5, 0.0, 0.0]


# -- ways of making sets --------------------------------------------------------------------------


def test_flow_matching_brings_noise_to_a_normal_of_any_mean_and_width(toy: Toy):
    """With the velocity in closed form: x₁ ~ N(m, s²) has E[x₁ − x₀ | x_t] of two joint normals."""
    system = prepared(EpicFlow(steps=25), toy)
    m, s = 1.5, 0.4

    def closed(x, mask, shown):
        t = times[0]
        slope = (t * s**2 - (1 - t)) / (t**2 * s**2 + (1 - t) ** 2)
        return m + slope * (x - t * m) - normal_velocity(x, torch.tensor(t))

    times = [0.0]
    own = system.velocity

    def velocity(x, t, mask, known):
        times[0] = float(t[0])
        return own(x, t, mask, known)

    system.velocity = velocity
    system.network.forward = closed
    mask = torch.ones(40, 32, dtype=torch.bool)
    found = system.draw(mask, torch.zeros(40, system.n_known), Fixed(40))
    assert found.mean() == pytest.approx(m, abs=0.02)
    assert found.std() == pytest.approx(s, rel=0.03)


def test_the_velocity_of_normal_points_is_the_mean_of_lines_through_a_place():
    rng = torch.Generator().manual_seed(1)
    x, noise = torch.randn(2, 200_000, generator=rng)
    for t in (0.1, 0.6):
        x_t = t * x + (1 - t) * noise
        slope = float((x_t * (x - noise)).mean() / x_t.square().mean())
        assert float(normal_velocity(torch.ones(1), torch.tensor(t))) == pytest.approx(
            slope, abs=0.01
        )


@torch.no_grad()
@pytest.mark.parametrize(
    "system",
    [EpicFlow(steps=8), CaloClouds(), CaloClouds2(steps=40)],
    ids=["flow", "ddpm", "edm"],
)
def test_what_was_not_trained_makes_independent_normal_points(system, toy: Toy):
    """Networks give 0 at first, and the rest is that of N(0, 1) points in small steps."""
    system = prepared(system, toy)
    mask = torch.ones(40, 24, dtype=torch.bool)
    found = system.draw(mask, torch.zeros(40, system.n_known), Fixed(40))
    assert abs(float(found.mean())) < 0.05
    assert found.std() == pytest.approx(1.0, abs=0.04)


def test_preconditioning_has_its_known_limits():
    """At no noise the input is kept, in much of it nothing is; inputs have variance 1 always."""
    sigma = torch.tensor([1e-4, 1.0, 1e4])
    c_skip, c_out, c_in, c_noise = preconditioning(sigma)
    assert torch.allclose(c_skip, torch.tensor([1.0, 0.5, 0.0]), atol=1e-6)
    assert torch.allclose(c_out, torch.tensor([0.0, 0.5**0.5, 1.0]), atol=2e-4)
    assert torch.allclose(c_in.square() * (1 + sigma.square()), torch.ones(3))
    assert c_noise[1] == 0.0
    # The network's own target, (y − c_skip x) / c_out, has variance 1 as well.
    variance = ((1 - c_skip).square() + c_skip.square() * sigma.square()) / c_out.square()
    assert torch.allclose(variance, torch.ones(3), atol=1e-3)
    levels = noise_levels(13)
    assert float(levels[0]) == pytest.approx(SIGMA_MAX)
    assert float(levels[-1]) == pytest.approx(SIGMA_MIN)
    assert (levels[1:] < levels[:-1]).all()


@torch.no_grad()
def test_a_student_is_the_identity_at_the_smallest_noise(toy: Toy):
    system = prepared(CaloClouds2(distilled=0.5, sampler="consistency"), toy)
    randomised(system.network["student"])
    x = torch.randn(4, 8, 5, generator=torch.Generator().manual_seed(1))
    known = torch.zeros(4, system.n_known)
    low, high = torch.full((4,), SIGMA_MIN), torch.full((4,), 0.5)
    assert torch.equal(system.consistent(x, low, known), x)
    assert (system.consistent(x, high, known) - x).abs().max() > 0.1
    c_skip, c_out = boundary(torch.tensor([SIGMA_MIN, 1e5]))
    assert c_skip.tolist() == pytest.approx([1.0, 0.0], abs=1e-6)
    assert c_out.tolist() == pytest.approx([0.0, 1.0], abs=1e-4)


def test_a_short_distillation_ends_where_the_teachers_steps_end(toy: Toy):
    """For N(0, 1) points that is where the noise points to; the teacher's own answer is 0."""
    system = prepared(CaloClouds2(distilled=0.5, sampler="consistency"), toy)
    known, mask = torch.zeros(8, system.n_known), torch.ones(8, 40, dtype=torch.bool)

    def loss(step: TrainingStep) -> torch.Tensor:
        x = torch.randn(8, 40, system.space.n_features, generator=step.rng)
        return system.inconsistency(x, mask, known, step)

    student = system.network["student"]
    train(system.network, [student], [loss], Budget(60.0, max_steps=300), 1, rates=[3e-3])
    noise = torch.randn(8, 40, system.space.n_features, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        found = system.consistent(SIGMA_MAX * noise, torch.full((8,), SIGMA_MAX), known)
    assert float((found - noise).square().mean()) < 0.55
    assert [n_scales(progress) for progress in (0.0, 0.35, 0.7, 1.0)] == [3, 7, 18, 18]


@torch.no_grad()
def test_steps_of_the_denoiser_follow_its_ways_to_the_data(toy: Toy):
    """For N(0, 1) points the way from σ to σ' is x √(1 + σ'²) / √(1 + σ²)."""
    system = prepared(CaloClouds2(), toy)
    x = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(1))
    high, low = torch.tensor([1.0, 0.3]), torch.tensor([0.95, 0.28])
    found = system._heun(x, high, low, torch.zeros(2, system.n_known))
    ratio = ((1 + low.square()) / (1 + high.square())).sqrt()
    assert torch.allclose(found, x * ratio[:, None, None], atol=2e-4)


def test_the_schedule_of_points_begins_clean_and_ends_in_noise():
    alpha, sigma = schedule()
    assert alpha[0] > 0.99
    assert alpha[-1] < 0.02
    assert torch.allclose(alpha.square() + sigma.square(), torch.ones(100), atol=1e-6)


def test_a_student_has_the_rest_of_the_budget_and_its_teacher_stays(toy: Toy):
    sample = ZooSample(toy.images(toy.energies(30, 1, grid=TINY_GRID), TINY_GRID), symmetry=ALIKE)
    conditions = EventConditions.of_pileup(sample.target)
    found = {}
    for steps in (4, 8):
        system = CaloClouds2(distilled=0.5, steps=3)
        system.fit(sample, conditions, Budget(60.0, max_steps=steps), 1)
        assert system.trained.steps == steps
        found[steps] = [p.detach().clone() for p in system.network["teacher"].parameters()]
        pairs = zip(found[steps], system.network["student"].parameters(), strict=True)
        assert any(not torch.equal(a, b) for a, b in pairs)
    alone = CaloClouds2(steps=3)
    alone.fit(sample, conditions, Budget(60.0, max_steps=4), 1)
    pairs = zip(alone.network["teacher"].parameters(), found[8], strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


# -- what is made ---------------------------------------------------------------------------------


def test_events_have_the_numbers_that_were_drawn_for_them(toy: Toy):
    """Hits and energies of layers to the last one, unless energies are summed or left alone."""
    system = prepared(EpicFlow(steps=1), toy, 200)
    conditions = EventConditions(
        np.full((50, 1), 60.0, dtype=np.float32), np.arange(50, dtype=np.int64)
    )
    hits, _, sums = system._told(conditions, 3)
    made = system.generate(conditions, 3)
    np.testing.assert_array_equal((made > 0).sum(axis=(2, 3)), hits)
    expected = np.maximum(sums, hits * system.space.lowest.numpy())
    np.testing.assert_allclose(made.sum(axis=(2, 3)), expected, rtol=1e-5)
    system.options = {"steps": 1, "collisions": "sum"}
    summed = system.generate(conditions, 3)
    assert ((summed > 0).sum(axis=(2, 3)) < hits).mean() > 0.9
    np.testing.assert_allclose(summed.sum(axis=(2, 3)), sums, rtol=1e-4)
    system.options = {"steps": 1, "calibrated": False}
    free = system.generate(conditions, 3)
    assert ((free > 0).sum(axis=(1, 2, 3)) == hits.sum(axis=1)).all()
    assert ((free > 0).sum(axis=(2, 3)) != hits).any()


def test_marginals_of_points_are_corrected_whatever_the_network_made_of_them(toy: Toy):
    system = prepared(EpicFlow(steps=1), toy)
    system.draw = lambda mask, known, noise: 3 + 0.1 * noise.normal((mask.shape[1], 5))
    sample = ZooSample(toy.images(toy.energies(60, 1, grid=TINY_GRID), TINY_GRID), symmetry=ALIKE)
    conditions = EventConditions.of_pileup(sample.target)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(point_system, "CORRECTION_EVENTS", 60)
        system.fit_corrections(sample, conditions)
    assert sorted(system.corrections) == ["0", "1", "4"]
    x = system._corrected(
        3 + 0.1 * torch.randn(20, 60, 5, generator=torch.Generator().manual_seed(1))
    )
    for feature in (0, 1, 4):
        assert abs(float(x[..., feature].mean())) < 0.1
        assert x[..., feature].std() == pytest.approx(1.0, abs=0.08)
    assert x[..., 2].mean() == pytest.approx(3.0, abs=0.02)


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        (EpicFlow, {"collisions": "merge"}, "no way of collisions 'merge'"),
        (EpicFlow, {"steps": 0}, "0 steps"),
        (CaloClouds, {"steps": 101}, "1 to 100"),
        (CaloClouds2, {"steps": 1}, "at least two"),
        (CaloClouds2, {"distilled": 1.0}, "less than 1"),
        (CaloClouds2, {"sampler": "euler"}, "no sampler 'euler'"),
        (CaloClouds2, {"sampler": "consistency"}, "no student"),
    ],
)
def test_options_that_do_not_fit_are_refused(kind, options, words):
    with pytest.raises(ConfigError) as raised:
        kind(**options)
    assert words in f"{raised.value.message} {raised.value.hint}"


def test_events_are_made_where_phi_is_a_window(toy: Toy):
    grid = replace(TINY_GRID, phi_min=0.0, phi_max=2.0)
    sample = ZooSample(toy.images(toy.energies(40, 1, grid=grid), grid))
    conditions = EventConditions.of_pileup(sample.target)
    system = EpicFlow(steps=1)
    system.fit(sample, conditions, Budget(60.0, max_steps=1), 1)
    made = system.generate(conditions, 1)
    assert (made > 0).mean() == pytest.approx((sample.target.energy > 0).mean(), abs=0.03)
