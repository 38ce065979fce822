"""Diffusion without μ, with attention between blocks, and on latents."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pileupgen.zoo.contract import Budget, EventConditions, ZooSample
from pileupgen.zoo.diffusion import Ddpm
from pileupgen.zoo.latent import SHARE, LatentDiffusion
from tests.toys import Toy
from tests.zoo.test_autoregressive import randomised
from tests.zoo.test_systems import ALIKE, TINY_GRID


@pytest.fixture(scope="module")
def sample(toy: Toy) -> ZooSample:
    mu = np.linspace(30, 90, 60).astype(np.float32)
    images = toy.images(toy.energies(60, 1, grid=TINY_GRID, leak=0.3), TINY_GRID, mu=mu)
    return ZooSample(images, symmetry=ALIKE)


def fitted(system, sample: ZooSample, steps: int = 0):
    conditions = EventConditions.of_pileup(sample.target)
    system.fit(sample, conditions, Budget(60.0, max_steps=steps), 1)
    return system


@pytest.mark.parametrize("is_conditional", [True, False])
def test_a_network_that_is_not_told_mu_makes_the_same_scores_at_any(is_conditional, sample):
    system = fitted(Ddpm(steps=3, conditional=is_conditional), sample)
    randomised(system.network)
    events = np.arange(4)
    low, high = (
        system._drawn(EventConditions(np.full((4, 1), mu, dtype=np.float32), events), 2)
        for mu in (35.0, 85.0)
    )
    assert torch.equal(low, high) != is_conditional


@torch.no_grad()
def test_attention_carries_mu_and_distant_cells_into_the_velocity(sample):
    system = fitted(Ddpm(steps=3, attention=True), sample)
    local, between = system.network.last, system.network.between
    assert not local.weight.any()
    randomised(between)
    x, t = torch.randn(2, *TINY_GRID.shape), torch.full((2,), 500)
    alpha, sigma = (part[t] for part in system._alpha_sigma())
    mu = torch.full((2,), 60.0)
    found = system._velocity(x, t, mu, alpha, sigma)
    assert not torch.allclose(system._velocity(x, t, mu + 20, alpha, sigma), found)
    plain = system.network.closed_form(x, torch.ones(2, dtype=torch.long), alpha, sigma)
    assert not torch.allclose(found, plain)


def test_what_is_saved_with_attention_makes_the_same_events(sample, tmp_path: Path):
    system = fitted(Ddpm(steps=2, attention=True), sample, 1)
    system.save(tmp_path / "system")
    again = Ddpm()
    again.load(tmp_path / "system")
    few = EventConditions.of_pileup(sample.target).taken(np.arange(3))
    np.testing.assert_array_equal(again.generate(few, 2), system.generate(few, 2))


def test_latents_are_scaled_and_both_networks_have_their_share(sample):
    system = fitted(LatentDiffusion(steps=4), sample, 5)
    scores = system.space.encode(sample.target, sample.target.mu, 1, 1)
    latents = system._encoded(scores, torch.from_numpy(sample.target.mu)) / system.network.scale
    assert float(latents.std()) == pytest.approx(1.0, abs=0.1)
    assert system.trained.steps == 5
    budget = Budget(100.0, max_steps=10, state=Path("training.safetensors"))
    first, second = budget.shared(SHARE, "autoencoder")
    assert first.seconds == pytest.approx(100 * SHARE)
    assert first.seconds + second.seconds == pytest.approx(100.0)
    assert (first.max_steps, second.max_steps) == (4, 6)
    assert first.state != second.state == budget.state
    assert replace(budget, state=None).shared(SHARE, "autoencoder")[0].state is None


def test_evaluations_of_latents_are_the_denoisers_and_one_decoding(sample):
    system = fitted(LatentDiffusion(steps=4), sample)
    calls: list[str] = []
    for name in ("denoiser", "autoencoder"):
        part = getattr(system.network, name)
        part = part.decoder if name == "autoencoder" else part
        part.register_forward_hook(lambda *_, name=name: calls.append(name))
    system.generate(EventConditions.of_pileup(sample.target).taken(np.arange(2)), 1)
    assert calls == ["denoiser"] * 4 + ["autoencoder"]
    assert len(calls) == system.n_evaluations


@pytest.mark.parametrize("kind", [Ddpm, LatentDiffusion])
def test_one_event_is_enough_where_nothing_is_alike(kind, toy):
    """Its Gaussian field is fitted to and judged by the same event."""
    one = ZooSample(toy.images(toy.energies(1, 1, grid=TINY_GRID), TINY_GRID))
    system = fitted(kind(steps=2), one, 1)
    assert np.isfinite(system.generate(EventConditions.of_pileup(one.target), 1)).all()
