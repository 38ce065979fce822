"""Divergences have the values that are known in closed form."""

from __future__ import annotations

import math

import pytest
import torch

from pileupgen.zoo.divergences import gaussian_kl, mmd, sorted_distance


def normal(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_the_divergence_of_gaussians_is_that_of_torch():
    mean, log_variance = normal(4, 3, 1), normal(4, 3, 2)
    own = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance))
    prior = torch.distributions.Normal(torch.zeros(3), torch.ones(3))
    expected = torch.distributions.kl_divergence(own, prior).sum(dim=1)
    torch.testing.assert_close(gaussian_kl(mean, log_variance), expected)
    assert not gaussian_kl(torch.zeros(2, 3), torch.zeros(2, 3)).any()


def test_equal_samples_have_no_discrepancy_and_a_gradient():
    x = normal(40, 5, 1)
    y = x.clone().requires_grad_()
    found = mmd(x, y)
    assert float(found.detach()) == pytest.approx(0.0, abs=1e-6)
    assert torch.isfinite(torch.autograd.grad(found, y)[0]).all()
    assert float(mmd(x, x[torch.randperm(40)])) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("shift", [0.5, 1.5])
def test_the_discrepancy_of_shifted_gaussians_is_that_of_the_integral(shift):
    """In one dimension 2 w / √(w² + 2) · (1 − exp(−Δ² / 2 (w² + 2)))."""
    x, y, width = normal(1200, 1, 1), normal(1200, 1, 2) + shift, 1.0
    variance = width**2 + 2
    expected = 2 * width / math.sqrt(variance) * (1 - math.exp(-(shift**2) / (2 * variance)))
    assert float(mmd(x, y, (width,))) == pytest.approx(expected, rel=0.1)


def test_the_distance_of_sorted_samples_is_that_of_quantiles():
    x = normal(1, 500, 1)
    assert float(sorted_distance(x, x[:, torch.randperm(500)])) == 0.0
    assert float(sorted_distance(x, 2 * x + 1)) == pytest.approx(float((x + 1).abs().mean()))
