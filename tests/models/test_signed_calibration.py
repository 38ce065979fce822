"""Cells of both signs, null cells and tied values through the calibration."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from pileupgen.models.calibration.calibration import CellCalibration
from pileupgen.models.calibration.ties import Ties, find_ties
from tests.conftest import make_energies


def noisy(n: int, domain: int, seed: int, threshold: float = 0.0):
    """Made events with Gaussian electronic noise on all cells, and a two-sided threshold."""
    energy, mu = make_energies(n, domain, seed)
    noise = np.random.default_rng([seed, 7, domain]).normal(0, 0.3 + 0.1 * domain, energy.shape)
    energy = (energy + noise).astype(np.float32)
    energy[np.abs(energy) < threshold] = 0.0
    return energy, mu


def fit(*samples, **settings_) -> CellCalibration:
    shape = samples[0][0].shape[1:]
    calibration = CellCalibration(*shape, **{"n_knots": 128, "n_mu_bins": 2, **settings_})
    calibration.fit([energy for energy, _ in samples], [mu for _, mu in samples])
    return calibration


def encode(calibration, energy, mu, domain, seed=0):
    uniform = torch.rand(energy.shape, generator=torch.Generator().manual_seed(seed))
    return calibration.encode(torch.from_numpy(energy), domain, torch.from_numpy(mu), uniform)


def there_and_back(calibration, energy, mu, domain):
    scores = encode(calibration, energy, mu, domain)
    return calibration.decode(scores, domain, torch.from_numpy(mu)).numpy()


@pytest.fixture(scope="module", params=[0.0, 0.2], ids=["no nulls", "nulls"])
def signed(request):
    threshold = request.param
    samples = [noisy(600, domain, 3, threshold) for domain in (0, 1)]
    return fit(*samples, n_layer_bins=4), threshold


@pytest.mark.parametrize("domain", [0, 1])
def test_both_signs_come_back(signed, domain):
    calibration, threshold = signed
    energy, mu = noisy(200, domain, 9, threshold)
    assert calibration.is_signed
    assert (energy < 0).mean() > 0.05
    back = there_and_back(calibration, energy, mu, domain)
    assert np.array_equal(np.sign(back), np.sign(energy))
    np.testing.assert_allclose(back, energy, rtol=2e-4, atol=1e-3 if threshold else 2e-4)


@pytest.mark.parametrize("domain", [0, 1])
def test_scores_of_unseen_signed_events_are_standard_normal(signed, domain):
    calibration, threshold = signed
    energy, mu = noisy(400, domain, 11, threshold)
    scores = encode(calibration, energy, mu, domain).numpy()
    for layer in (0, 1):
        assert kstest(scores[:, layer].ravel(), "norm").statistic < 0.02


def test_negative_hits_rank_below_null_cells_and_these_below_positive_ones(signed):
    calibration, _ = signed
    energy = np.zeros((1, 2, 8, 12), dtype=np.float32)
    energy[0, 1] = np.concatenate([np.linspace(-2, -0.3, 5), [0, 0], np.linspace(0.3, 9, 5)])
    mu = np.array([60], dtype=np.float32)
    scores = encode(calibration, energy, mu, 0)[0, 1]
    assert bool((scores[:, 4] < scores[:, 5:7].amin(1)).all())
    assert bool((scores[:, 5:7].amax(1) < scores[:, 7]).all())
    assert bool((scores[:, :5].diff(dim=1) > 0).all())
    assert bool((scores[:, 7:].diff(dim=1) > 0).all())


def test_far_below_the_training_in_mu_negative_hits_keep_their_probability():
    threshold = 0.5
    samples = []
    for domain in (0, 1):
        energy, mu = noisy(600, domain, 3, threshold)
        mu = np.random.default_rng(domain).uniform(40, 80, len(mu)).astype(np.float32)
        # The more pileup, the fewer cells are null.
        keep = (
            np.random.default_rng([5, domain]).random(energy.shape) < mu[:, None, None, None] / 90
        )
        samples.append((np.where(keep | (energy < 0), energy, 0).astype(np.float32), mu))
    calibration = fit(*samples, n_layer_bins=1)
    scores = torch.from_numpy(
        np.random.default_rng(1).standard_normal(samples[0][0].shape).astype(np.float32)
    )
    none = torch.zeros(len(scores))
    within = calibration.decode(scores, 1, torch.full((len(scores),), 45.0)).numpy()
    beyond = calibration.decode(scores, 1, none).numpy()
    assert (beyond < 0).mean() == pytest.approx((within < 0).mean(), abs=0.02)
    assert (beyond > 0).mean() < 0.01 < (within > 0).mean()


def test_calibrating_signed_mc_gives_the_spectrum_of_data(signed):
    calibration, threshold = signed
    mc, mu = noisy(400, 0, 21, threshold)
    data, _ = noisy(400, 1, 22, threshold)
    moved = calibration.decode(encode(calibration, mc, mu, 0), 1, torch.from_numpy(mu)).numpy()
    levels = [0.001, 0.02, 0.2, 0.5, 0.8, 0.98]
    np.testing.assert_allclose(np.quantile(moved, levels), np.quantile(data, levels), atol=0.08)
    assert (moved < 0).mean() == pytest.approx((data < 0).mean(), abs=0.01)
    assert (moved == 0).mean() == pytest.approx((data == 0).mean(), abs=0.01)


def test_signed_tables_are_saved_and_plain_models_have_none(signed, tmp_path):
    calibration, threshold = signed
    calibration.save_pretrained(tmp_path / "signed")
    again = CellCalibration.from_pretrained(tmp_path / "signed")
    energy, mu = noisy(10, 0, 7, threshold)
    assert torch.equal(encode(calibration, energy, mu, 0), encode(again, energy, mu, 0))
    plain = fit(make_energies(50, 0, 1), make_energies(50, 1, 1))
    assert plain.is_plain
    assert {"log_negative", "negative_mass", "ties"}.isdisjoint(plain.state_dict())
    assert {"log_energy", "null_mass", "mu_centres", "is_alive"} < set(plain.state_dict())


def features(n: int, domain: int):
    """Four features as layers of one cell: two continuous, a charge, a multiplicity."""
    rng = np.random.default_rng([5, domain])
    mass = rng.normal(80 + domain, 5, n)
    count = rng.poisson(30 + 2 * domain + (mass - 80) / 2)
    columns = [rng.normal(0, 1, n), mass, count, rng.integers(0, 2, n) * 2 - 1]
    return np.stack(columns, 1)[:, :, None, None].astype(np.float32), np.full(n, np.nan, np.float32)


def test_features_of_a_table_come_back_and_are_standard_normal():
    samples = [features(4000, domain) for domain in (0, 1)]
    calibration = fit(*samples, n_mu_bins=1, n_layer_bins=8, n_knots=256)
    for domain, (values, mu) in enumerate(samples):
        back = there_and_back(calibration, values, mu, domain)
        assert np.array_equal(back[:, 2:], values[:, 2:])
        np.testing.assert_allclose(back, values, rtol=1e-4, atol=1e-4)
        scores = encode(calibration, values, mu, domain)[:, :, 0, 0].numpy()
        for feature in range(4):
            assert kstest(scores[:, feature], "norm").statistic < 0.03
        assert np.abs(np.corrcoef(scores.T) - np.eye(4)).max() < 0.06


def test_a_translated_count_is_a_count():
    samples = [features(3000, domain) for domain in (0, 1)]
    calibration = fit(*samples, n_mu_bins=1, n_layer_bins=4)
    moved = calibration.decode(
        encode(calibration, *samples[0], 0), 1, torch.from_numpy(samples[0][1])
    ).numpy()[:, :, 0, 0]
    assert set(np.unique(moved[:, 3])) == {-1, 1}
    assert np.array_equal(moved[:, 2], np.round(moved[:, 2]))
    data = samples[1][0][:, 2, 0, 0]
    assert moved[:, 2].mean() == pytest.approx(data.mean(), abs=0.4)
    assert moved[:, 2].std() == pytest.approx(data.std(), rel=0.05)


def test_a_saturated_value_among_continuous_ones_is_kept():
    energy, mu = make_energies(400, 0, 1)
    energy = np.minimum(energy, np.float32(6.5))
    calibration = fit((energy, mu), (energy, mu), n_layer_bins=3)
    assert calibration.n_ties == 1
    back = there_and_back(calibration, energy, mu, 0)
    assert np.array_equal(back == 6.5, energy > 6.5 * (1 - 5e-4))
    top = torch.full((1, 2, 8, 12), 7.0)
    assert bool((calibration.decode(top, 0, torch.tensor([60.0])) == 6.5).all())
    scores = encode(calibration, energy, mu, 0)[:, 1].numpy()
    assert kstest(scores.ravel(), "norm").statistic < 0.01


def test_a_wide_cell_spread_over_several_is_no_tie():
    rng = np.random.default_rng(1)
    wide = rng.exponential(2, (300, 8, 2)).astype(np.float32)
    assert len(find_ties(np.repeat(wide, 16, axis=2))) == 0


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(-40, 40).filter(bool), min_size=1, max_size=30, unique=True))
def test_reaches_of_a_discrete_layer_cover_all_and_cross_neither_zero_nor_each_other(values):
    ordered = np.sort(np.array(values, dtype=np.float32))
    table = find_ties(np.tile(ordered, (20, 1)))
    assert np.array_equal(table[:, 0], ordered)
    assert np.all(table[1:, 1] >= table[:-1, 2])
    assert np.all((table[:, 1] >= 0) | (table[:, 2] <= 0))
    ties = Ties(torch.from_numpy(table))
    probe = torch.linspace(-50, 50, 777, dtype=torch.float64)
    probe = probe[probe != 0]
    signs = {float(np.sign(value)) for value in values}
    for sign in signs:
        side = probe[probe.sign() == sign]
        assert set(ties.snap(side).tolist()) <= set(ordered.tolist())
    assert float(ties.snap(torch.zeros(1, dtype=torch.float64))) == 0


def test_ties_are_found_in_every_other_value_of_an_array():
    values = np.where(np.arange(4000) % 4 < 2, 2.5, np.linspace(1, 9, 4000)).astype(np.float32)
    ties = Ties(torch.from_numpy(find_ties(values)))
    assert len(ties) == 1
    some = torch.from_numpy(values).double().view(-1, 2)[:, 0]
    assert not some.is_contiguous()
    assert torch.equal(ties.snap(some), ties.snap(some.contiguous()))
