from __future__ import annotations

import pytest
import torch

from pileupgen.models.field import RingModes, StationaryField
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


def test_log_ratio_is_that_of_the_gaussian_densities_to_rounding(field):
    """Against the densities in double precision, and for any number of events at a time."""
    x_t, _, levels = noised(30 * correlated(50, 0.4, 13), 0.99)
    found = field.log_ratio(x_t, *levels)
    a, s = float(levels[0][0]), float(levels[1][0])
    log_p = []
    for label in (0, 1):
        covariance = field.covariance(label)
        coordinates = torch.fft.rfft(x_t.double(), norm="ortho").permute(3, 0, 1, 2).flatten(2)
        coordinates[0] -= a * 8**0.5 * field.mean[label].double()
        total = torch.zeros(50, dtype=torch.float64)
        for k, c in enumerate(coordinates):
            # A frequency's real and imaginary part are two coordinates, k = 0 and W/2 have one.
            n = 1 if k in (0, 4) else 2
            full = a**2 * covariance[k] + s**2 * torch.eye(12, dtype=torch.float64)
            inverse = torch.linalg.inv(full).to(c)
            total += n * torch.linalg.slogdet(full)[1]
            total += n * torch.einsum("ni,ij,nj->n", c.conj(), inverse, c).real
        log_p.append(-0.5 * total)
    expected = log_p[1] - log_p[0]
    assert float(expected.abs().max()) > 1000
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)
    one = [field.log_ratio(x_t[i : i + 1], levels[0][:1], levels[1][:1]) for i in range(50)]
    torch.testing.assert_close(torch.cat(one), found, rtol=2e-7, atol=0)


def test_patches_change_the_shape_and_nothing_else():
    sample = [correlated(2000, 0.1, 1), correlated(2000, 0.4, 2)]
    plain, patched = StationaryField(2, 6, 8), StationaryField(8, 3, 4, patch=(2, 2))
    plain.fit(sample)
    patched.fit([patchify(z, (2, 2)) for z in sample])
    x_t, _, levels = noised(sample[1][:5], 0.7)
    fine = plain.velocity(x_t, *levels, label=1)
    coarse = patched.velocity(patchify(x_t, (2, 2)), *levels, label=1)
    torch.testing.assert_close(unpatchify(coarse, (2, 2)), fine)


def test_events_of_several_domains_have_the_velocity_of_their_own(field):
    x_t, _, (alpha, sigma) = noised(correlated(6, 0.4, 13), 0.7)
    label = torch.tensor([0, 2, 1, 1, 0, 2])
    together = field.velocity(x_t, alpha, sigma, label)
    for value in (0, 1, 2):
        own = label == value
        alone = field.velocity(x_t[own], alpha[own], sigma[own], value)
        torch.testing.assert_close(together[own], alone)


@pytest.mark.parametrize("width", [1, 2, 5, 8])
def test_both_columns_of_a_frequency_are_multiplied_by_its_matrix(width):
    modes = RingModes(2, 3, width, (1, 1))
    coordinates, matrices = torch.randn(width, 4, 6), torch.randn(modes.n_frequencies, 6, 6)
    expected = torch.bmm(coordinates, matrices[modes.frequency])
    torch.testing.assert_close(modes.times(coordinates, matrices), expected)
