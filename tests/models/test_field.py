from __future__ import annotations

import pytest
import torch

from pileupgen.models.field import StationaryField
from pileupgen.models.networks.layers import patchify, unpatchify


def correlated(n: int, leak: float, seed: int) -> torch.Tensor:
    white = torch.randn(n, 2, 6, 8, generator=torch.Generator().manual_seed(seed))
    return (white + leak * white.roll(1, 3) + leak * white.roll(-1, 3)) / (1 + 2 * leak**2) ** 0.5


@pytest.fixture(scope="module")
def field() -> StationaryField:
    fitted = StationaryField(2, 6, 8)
    fitted.fit([correlated(4000, 0.1, 1), correlated(4000, 0.4, 2) + 0.5])
    return fitted


def noised(z: torch.Tensor, alpha: float, seed: int = 5):
    eps = torch.randn(z.shape, generator=torch.Generator().manual_seed(seed))
    sigma = (1 - alpha**2) ** 0.5
    levels = torch.full((len(z),), alpha), torch.full((len(z),), sigma)
    return alpha * z + sigma * eps, alpha * eps - sigma * z, levels


@pytest.mark.parametrize("alpha", [0.95, 0.7, 0.3])
def test_velocity_is_the_best_linear_prediction(field, alpha):
    """No rescaling of it and no other domain's field predicts better; residuals are orthogonal."""
    x_t, v, levels = noised(correlated(4000, 0.4, 7) + 0.5, alpha)
    own = field.velocity(x_t, *levels, label=1)
    loss = ((v - own) ** 2).mean()
    assert loss < ((v - field.velocity(x_t, *levels, label=0)) ** 2).mean() - 1e-3
    assert loss < (v**2).mean() - 1e-2
    assert abs(float(((v - own) * own).mean())) < 0.01 * float((own**2).mean()) + 1e-3


def test_white_noise_has_no_velocity():
    white = StationaryField(2, 6, 8)
    x_t = torch.randn(5, 2, 6, 8)
    levels = torch.full((5,), 0.6), torch.full((5,), 0.8)
    assert float(white.velocity(x_t, *levels, label=0).abs().max()) == 0


def test_a_roll_in_phi_commutes(field):
    x_t, _, levels = noised(correlated(10, 0.4, 8), 0.7)
    rolled = field.velocity(x_t.roll(3, 3), *levels, label=1)
    torch.testing.assert_close(rolled, field.velocity(x_t, *levels, label=1).roll(3, 3))


def test_log_ratio_tells_the_domains_apart_and_averages_to_one(field):
    mc, _, levels = noised(correlated(4000, 0.1, 11), 0.3)
    data, _, _ = noised(correlated(4000, 0.4, 12) + 0.5, 0.3)
    log_mc, log_data = field.log_ratio(mc, *levels), field.log_ratio(data, *levels)
    assert float(log_data.mean()) > 0 > float(log_mc.mean())
    # E_mc[r] = 1 for the true ratio.
    assert float(log_mc.exp().mean()) == pytest.approx(1.0, abs=0.1)


def test_patches_change_the_shape_and_nothing_else():
    sample = [correlated(2000, 0.1, 1), correlated(2000, 0.4, 2)]
    plain, patched = StationaryField(2, 6, 8), StationaryField(8, 3, 4, patch=(2, 2))
    plain.fit(sample)
    patched.fit([patchify(z, (2, 2)) for z in sample])
    x_t, _, levels = noised(sample[1][:5], 0.7)
    fine = plain.velocity(x_t, *levels, label=1)
    coarse = patched.velocity(patchify(x_t, (2, 2)), *levels, label=1)
    torch.testing.assert_close(unpatchify(coarse, (2, 2)), fine)
