from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from pileupgen.diffusion.schedule import (
    alpha_sigma,
    cosine_betas,
    forward,
    inverted_to,
    make_scheduler,
    noised,
    read_schedule,
)


def test_squared_cosine_is_the_one_of_diffusers():
    theirs = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")
    np.testing.assert_allclose(make_scheduler(1000).betas, theirs.betas, rtol=1e-6)


@pytest.mark.parametrize("shift", [1.0, 2.25])
def test_without_diffusers_a_schedule_and_its_noise_have_the_bits_of_diffusers(shift, tmp_path):
    theirs = make_scheduler(1000, shift=shift)
    theirs.save_pretrained(tmp_path)
    own = read_schedule(tmp_path)
    assert torch.equal(own.alphas_cumprod, theirs.alphas_cumprod)
    x, eps = torch.randn(2, 4, 3, 5, 6, generator=torch.Generator().manual_seed(1))
    for t in (0, 17, 300, 999):
        assert torch.equal(noised(own, x, eps, t), theirs.add_noise(x, eps, torch.full((4,), t)))


def test_power_one_is_the_formula_of_the_talk():
    betas = cosine_betas(1000, power=1)
    alpha_bar = np.cumprod(1 - np.asarray(betas))
    f = [math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) for t in range(1001)]
    np.testing.assert_allclose(alpha_bar[:990], np.asarray(f[1:991]) / f[0], rtol=1e-9)


@pytest.mark.parametrize("power", [1, 2])
def test_signal_to_noise_falls_and_the_levels_are_on_the_circle(power):
    alpha, sigma = alpha_sigma(make_scheduler(1000, power), torch.arange(-1, 1000))
    assert (alpha[0], sigma[0]) == (1, 0)
    assert bool((alpha.diff() < 0).all())
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(alpha))


def test_a_shift_divides_the_signal_to_noise_ratio_by_its_square():
    plain, shifted = (make_scheduler(1000, shift=shift).alphas_cumprod for shift in (1.0, 3.0))
    t = torch.arange(50, 950)
    before, after = (a[t].double() / (1 - a[t].double()) for a in (plain, shifted))
    torch.testing.assert_close(after, before / 9, rtol=2e-3, atol=0)


@pytest.mark.parametrize("t", [100, 300, 900])
def test_an_inversion_and_fresh_noise_lead_to_the_release(t):
    """Signal and noise of the kernel are on the circle, and the share is met."""
    scheduler = make_scheduler(1000)
    assert inverted_to(scheduler, t, 1.0) == -1
    assert inverted_to(scheduler, t, 0.0) == t
    sigma2 = 1 - float(scheduler.alphas_cumprod[t])
    for share in (0.1, 0.5):
        i = inverted_to(scheduler, t, share)
        ratio, fresh = forward(scheduler, i, t)
        assert ratio**2 + fresh**2 == pytest.approx(1, abs=1e-6)
        assert fresh**2 == pytest.approx(share * sigma2, rel=0.1)
    assert forward(scheduler, 300, 300) == (1.0, 0.0)
