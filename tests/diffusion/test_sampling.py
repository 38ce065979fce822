"""Solvers against a field whose diffusion is known: independent Gaussians of variance λ."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from pileupgen.diffusion.schedule import alpha_sigma, make_scheduler
from pileupgen.diffusion.settings import SAMPLERS, timesteps_between
from pileupgen.diffusion.solvers import solve
from pileupgen.errors import ConfigError

SCHEDULER = make_scheduler(1000)
LAMBDA = 0.25


def predict(x_t, t, x_0):
    """ε and z of N(0, λ): E[z | x_t] = α λ x_t / (α² λ + σ²)."""
    a, s = (float(level) for level in alpha_sigma(SCHEDULER, torch.tensor(t)))
    z = a * LAMBDA / (a**2 * LAMBDA + s**2) * x_t
    return (x_t - a * z) / s, z


def normals(shape, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(shape, generator=rng)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_generation_has_the_variance_of_the_field(sampler):
    x = normals((4000, 1, 2, 2), seed=1)()
    out = solve(x, timesteps_between(999, 200), predict, SCHEDULER, sampler, normals(x.shape))
    assert float(out.var()) == pytest.approx(LAMBDA, rel=0.06)
    assert float(out.mean()) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("sampler", ["ddim", "dpmsolver++"])
def test_deterministic_decoding_scales_a_gaussian_by_its_width(sampler):
    """The probability flow of a Gaussian is the linear map x_T √λ."""
    x = torch.linspace(-2, 2, 9).view(1, 1, 1, 9)
    out = solve(x, timesteps_between(999, 200), predict, SCHEDULER, sampler)
    torch.testing.assert_close(out, x * LAMBDA**0.5, atol=0.02, rtol=0.02)


def test_inversion_undoes_decoding_to_solver_error():
    z = torch.linspace(-1, 1, 9).view(1, 1, 1, 9)
    steps = timesteps_between(995, 60)
    x_t = solve(z, steps[::-1], predict, SCHEDULER, "dpmsolver++")
    back = solve(x_t, steps, predict, SCHEDULER, "dpmsolver++")
    assert float((back - z).abs().max()) < 0.02
    assert float(x_t.std() / z.std()) == pytest.approx(LAMBDA**-0.5, rel=0.05)


def test_second_order_needs_fewer_steps_than_first():
    x = torch.linspace(-2, 2, 9).view(1, 1, 1, 9)
    exact = x * LAMBDA**0.5
    errors = {
        sampler: float(
            (solve(x, timesteps_between(999, 12), predict, SCHEDULER, sampler) - exact).abs().max()
        )
        for sampler in ("ddim", "dpmsolver++")
    }
    assert errors["dpmsolver++"] < 0.5 * errors["ddim"]


@pytest.mark.parametrize(("t_release", "n"), [(300, 50), (300, 1), (0, 5), (999, 1000), (7, 50)])
def test_timesteps_start_at_the_release_and_end_clean(t_release, n):
    steps = timesteps_between(t_release, n)
    assert steps[0] == t_release
    assert steps[-1] == -1
    assert all(a > b for a, b in pairwise(steps))
    assert len(steps) - 1 == min(n, t_release + 1)


def test_a_stochastic_sampler_without_noise_is_refused():
    with pytest.raises(ConfigError, match="needs noise"):
        solve(torch.zeros(1, 1, 1, 1), [5, -1], predict, SCHEDULER, "ancestral")
    with pytest.raises(ConfigError, match="No sampler 'euler'"):
        solve(torch.zeros(1, 1, 1, 1), [5, -1], predict, SCHEDULER, "euler")
