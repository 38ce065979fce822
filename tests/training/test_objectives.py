from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import truncnorm
from torch import Tensor, nn

from pileupgen.diffusion.schedule import alpha_sigma, make_scheduler
from pileupgen.models.networks.cell_patches import CellPatches
from pileupgen.models.networks.denoiser import NULL, Denoiser
from pileupgen.models.networks.transformer import TransformerDenoiser
from pileupgen.training.data import Batch
from pileupgen.training.objectives import Denoising, velocity_below, velocity_within

CODEC = CellPatches(2, 8, 12)


def objective(**changed) -> Denoising:
    values = {
        "label_dropout": 0.2,
        "self_conditioning": 0.5,
        "prediction_type": "v_prediction",
        **changed,
    }
    return Denoising(CODEC, make_scheduler(1000), **values)


def made_batch(n: int = 64) -> tuple[Batch, torch.Generator]:
    rng = torch.Generator().manual_seed(3)
    scores = torch.randn(n, 2, 8, 12, generator=rng)
    return Batch(scores, torch.arange(n) % 2, torch.full((n,), 60.0), torch.arange(n)), rng


class Spy(nn.Module):
    """Velocity weight · x_t, remembering what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))
        self.asked: list[tuple[Tensor, Tensor, bool]] = []

    def forward(self, x_t, t, label, mu, x_0, alpha, sigma):
        self.asked.append((label, x_0, torch.is_grad_enabled()))
        return self.weight * x_t


def test_self_conditioning_is_per_event_and_its_gradient_stops():
    batch, rng = made_batch()
    drawn, spy = objective().draw(batch, rng), Spy()
    objective().loss(spy, batch, drawn).sum().backward()
    (_, first, first_graded), (label, second, second_graded) = spy.asked
    assert not first_graded
    assert second_graded
    assert float(first.abs().max()) == 0
    assert not second.requires_grad
    conditioned = second.flatten(1).abs().amax(1) > 0
    assert torch.equal(conditioned, drawn["self_coin"] < 0.5)
    assert torch.equal(label == NULL, drawn["label_coin"] < 0.2)
    # As if the first estimate were a constant: the loss is quadratic in the weight.
    alpha, sigma = alpha_sigma(make_scheduler(1000), drawn["t"])
    a, s = alpha[:, None, None, None], sigma[:, None, None, None]
    z = CODEC.encode(batch.scores, batch.label, batch.mu)
    x_t = a * z + s * drawn["eps"]
    wanted = 2 * ((0.5 * x_t - (a * drawn["eps"] - s * z)) * x_t).flatten(1).mean(1).sum()
    assert float(spy.weight.grad) == pytest.approx(float(wanted), rel=1e-4)


def test_an_event_sees_its_own_coarse_content_unless_dropped():
    batch, rng = made_batch()
    seen = []

    class Sees(Spy):
        def forward(self, *args, source):
            seen.append(source)
            return super().forward(*args)

    asked = objective(coarse_dropout=0.3)
    drawn = asked.draw(batch, rng)
    asked.loss(Sees(), batch, drawn)
    dropped = drawn["coarse_coin"] < 0.3
    z = CODEC.encode(batch.scores, batch.label, batch.mu)
    assert 0 < int(dropped.sum()) < len(batch)
    assert bool(seen[1][dropped].isnan().all())
    assert torch.equal(seen[1][~dropped], z[~dropped])
    assert len(seen[0]) == int((drawn["self_coin"] < 0.5).sum())


@pytest.mark.parametrize("floor", [None, -1.4])
def test_the_velocity_of_a_null_cell_is_the_mean_over_the_ranks_it_may_have(floor):
    rng = torch.Generator().manual_seed(11)
    alpha, sigma, ceiling = 0.8, 0.6, -0.3
    z, eps = torch.randn(2, 4_000_000, generator=rng)
    is_null = (z < ceiling) & (z > (-torch.inf if floor is None else floor))
    z, eps = z[is_null], eps[is_null]
    x_t, velocity = alpha * z + sigma * eps, alpha * eps - sigma * z
    for centre in (-1.5, -0.4, 0.5):
        near = velocity[(x_t - centre).abs() < 0.01]
        of = [torch.tensor(value) for value in (ceiling, centre, alpha, sigma)]
        error = 4 * float(near.std()) / len(near) ** 0.5
        found = velocity_below(*of) if floor is None else velocity_within(torch.tensor(floor), *of)
        assert float(found) == pytest.approx(float(near.mean()), abs=error)


def test_the_velocity_within_limits_is_finite_and_right_however_far_they_are():
    cases = [(-torch.inf, 0.4), (-2.0, 0.4), (-0.3, 2.1), (1.9, 2.0), (-2.0, torch.inf)]
    cases += [(-torch.inf, torch.inf), (0.7, 0.7001), (-1.5, -1.5)]
    x_t = torch.linspace(-6, 6, 13)
    for alpha, sigma in ((0.999, 0.045), (0.8, 0.6), (0.05, 0.9987)):
        given = torch.tensor([alpha, sigma])
        for floor, ceiling in cases:
            limits = torch.tensor([floor, ceiling])
            found = velocity_within(*limits, x_t, *given)
            assert bool(torch.isfinite(found).all())
            low, high = (
                (limit - alpha * x_t.double().numpy()) / sigma for limit in (floor, ceiling)
            )
            is_wide = bool((high - low > 0.02).all())
            mean = truncnorm.mean(low, high) if is_wide else (low + high) / 2
            np.testing.assert_allclose(found.numpy(), -mean, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("bottom", [None, -1.6])
def test_taking_the_mean_over_ranks_lowers_the_noise_and_moves_no_minimum(bottom):
    """Half of the cells are null: their ranks are drawn again, as ScoreSample draws them."""
    rng, asked = torch.Generator().manual_seed(4), objective(self_conditioning=0.0)
    ceiling = torch.where(torch.rand(2, 8, 12, generator=rng) < 0.5, 0.2, torch.nan)
    hits = torch.randn(2, 8, 12, generator=rng).clamp_min(0.3)
    floor = None if bottom is None else torch.where(ceiling.isnan(), torch.nan, bottom)
    low = 0.0 if floor is None else torch.special.ndtr(floor)
    gradients = {True: [], False: []}
    for _ in range(60):
        uniform = torch.rand(32, 2, 8, 12, generator=rng)
        ranks = torch.special.ndtri(low + (torch.special.ndtr(ceiling) - low) * uniform)
        scores = torch.where(ceiling.isnan(), hits, ranks)
        zeros = torch.zeros(32, dtype=torch.int64)
        batch = Batch(
            scores,
            zeros,
            torch.full((32,), 60.0),
            zeros,
            ceiling=ceiling.expand_as(scores),
            floor=None if floor is None else floor.expand_as(scores),
        )
        drawn = asked.draw(batch, rng)
        for is_known in (True, False):
            spy = Spy()
            given = batch if is_known else replace(batch, ceiling=None)
            asked.loss(spy, given, drawn).mean().backward()
            gradients[is_known].append(float(spy.weight.grad))
    known, unknown = (torch.tensor(gradients[is_known]) for is_known in (True, False))
    difference = known - unknown
    assert abs(float(difference.mean())) < 4 * float(difference.std()) / 60**0.5
    assert float(known.var()) < 0.7 * float(unknown.var())


def test_min_snr_bounds_the_weight_of_the_clean_end():
    alpha, sigma = alpha_sigma(make_scheduler(1000), torch.arange(1000))
    snr = (alpha / sigma) ** 2
    weight = objective(loss_weighting="min_snr").weight(alpha, sigma)
    # ‖z − z̃‖² = σ² ‖v − v_θ‖²
    torch.testing.assert_close(weight / sigma**2, snr.clamp_max(5.0), rtol=1e-3, atol=1e-6)
    assert torch.equal(objective().weight(alpha, sigma), torch.ones(1000))
    epsilon = objective(prediction_type="epsilon").weight(alpha, sigma)
    torch.testing.assert_close(epsilon, alpha**2)


@pytest.mark.parametrize("kind", [Denoiser, TransformerDenoiser])
def test_every_denoiser_learns_what_the_closed_form_leaves(kind):
    """A field with more than pairwise structure: cells of an event share their size."""
    rng = torch.Generator().manual_seed(5)
    scale = torch.where(torch.rand(96, 1, 1, 1, generator=rng) < 0.5, 0.1, 1.4)
    scores = scale * torch.randn(96, 2, 8, 12, generator=rng)
    batch = Batch(scores, torch.arange(96) % 2, torch.full((96,), 60.0), torch.arange(96))
    torch.manual_seed(0)
    network = kind(8, 4, 6, width=16, n_blocks=1, patch=(2, 2))
    z = CODEC.encode(batch.scores, batch.label, batch.mu)
    network.field.fit([z[batch.label == domain] for domain in (0, 1)])
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    judged = objective().draw(batch, rng)

    @torch.no_grad()
    def loss() -> float:
        return float(objective().loss(network, batch, judged).mean())

    before = loss()
    for _ in range(40):
        objective().loss(network, batch, objective().draw(batch, rng)).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss() < 0.98 * before
