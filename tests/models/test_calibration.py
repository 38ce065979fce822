from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp, kstest, norm

from pileupgen.models.calibration.calibration import CellCalibration
from tests.conftest import make_energies


@pytest.fixture(scope="module")
def samples() -> list[tuple[np.ndarray, np.ndarray]]:
    return [make_energies(600, domain, seed=3) for domain in (0, 1)]


@pytest.fixture(scope="module")
def fitted(samples) -> CellCalibration:
    calibration = CellCalibration(2, 8, 12, n_knots=128, n_mu_bins=2, n_layer_bins=6)
    calibration.fit([energy for energy, _ in samples], [mu for _, mu in samples])
    return calibration


def encode(calibration, energy, mu, domain, seed=0):
    uniform = torch.rand(energy.shape, generator=torch.Generator().manual_seed(seed))
    tensors = torch.from_numpy(energy), torch.from_numpy(mu)
    return calibration.encode(tensors[0], domain, tensors[1], uniform)


@pytest.mark.parametrize("domain", [0, 1])
def test_round_trip_is_exact_where_the_map_is_one_to_one(fitted, domain):
    energy, mu = make_energies(200, domain, seed=9)
    back = fitted.decode(encode(fitted, energy, mu, domain), domain, torch.from_numpy(mu)).numpy()
    assert np.array_equal(back > 0, energy > 0)
    inside = energy > np.quantile(energy[energy > 0], 0.01)
    np.testing.assert_allclose(back[inside], energy[inside], rtol=1e-4)


@pytest.mark.parametrize("domain", [0, 1])
@pytest.mark.parametrize("layer", [0, 1])
def test_scores_of_unseen_events_are_standard_normal(fitted, domain, layer):
    energy, mu = make_energies(400, domain, seed=11)
    scores = encode(fitted, energy, mu, domain)[:, layer].numpy()
    # 0.012 is three times the Kolmogorov distance of 400 · 96 independent numbers.
    assert kstest(scores.ravel(), "norm").statistic < 0.02


def test_chaining_removes_the_correlation_of_layers_in_a_cell(samples, fitted):
    energy, mu = samples[0]
    plain = CellCalibration(2, 8, 12, n_knots=128, n_mu_bins=2, n_layer_bins=1)
    plain.fit([energy for energy, _ in samples], [mu for _, mu in samples])

    def correlation(calibration):
        scores = encode(calibration, energy, mu, 0).numpy()
        return np.corrcoef(scores[:, 0].ravel(), scores[:, 1].ravel())[0, 1]

    assert correlation(plain) > 0.15
    assert abs(correlation(fitted)) < 0.02


def test_calibrating_mc_gives_the_cell_spectrum_of_data(fitted):
    mc, mu = make_energies(400, 0, seed=21)
    data, _ = make_energies(400, 1, seed=22)
    moved = fitted.decode(encode(fitted, mc, mu, 0), 1, torch.from_numpy(mu)).numpy()
    for layer in (0, 1):
        before = ks_2samp(mc[:, layer].ravel(), data[:, layer].ravel()).statistic
        after = ks_2samp(moved[:, layer].ravel(), data[:, layer].ravel()).statistic
        assert before > 0.05
        assert after < 0.015


def test_decoding_is_monotonic_in_the_first_layer_of_the_chain(fitted):
    scores = torch.zeros(1, 2, 8, 12)
    scores[0, 1] = torch.linspace(-5, 8, 12)
    energy = fitted.decode(scores, 1, torch.tensor([60.0]))[0, 1]
    assert bool((energy.diff(dim=1) >= 0).all())
    assert bool(torch.isfinite(energy).all())


def test_unknown_mu_takes_the_middle_table(fitted):
    energy, mu = make_energies(20, 0, seed=5)
    nan = np.full_like(mu, np.nan)
    middle = np.full_like(mu, float(fitted.mu_centres[1]))
    assert torch.equal(encode(fitted, energy, nan, 0), encode(fitted, energy, middle, 0))


def test_a_ring_without_hits_decodes_to_nothing():
    energy, mu = make_energies(50, 0, seed=6)
    energy = energy.copy()
    energy[:, :, [0, -1]] = 0
    calibration = CellCalibration(2, 8, 12, n_knots=32, n_mu_bins=1, n_layer_bins=3)
    calibration.fit([energy, energy], [mu, mu])
    scores = encode(calibration, energy, mu, 0)
    assert bool(torch.isfinite(scores).all())
    assert float(calibration.decode(scores, 1, torch.from_numpy(mu))[:, :, 0].abs().max()) == 0


def test_saved_and_loaded_is_the_same(fitted, tmp_path):
    fitted.save_pretrained(tmp_path / "calibration")
    again = CellCalibration.from_pretrained(tmp_path / "calibration")
    energy, mu = make_energies(10, 0, seed=7)
    assert torch.equal(encode(fitted, energy, mu, 0), encode(again, energy, mu, 0))


def test_cells_dead_in_data_are_dead_after_translation():
    mc, mu = make_energies(300, 0, seed=31)
    data, _ = make_energies(300, 1, seed=32)
    whole = CellCalibration(2, 8, 12, n_knots=64, n_mu_bins=1, n_layer_bins=3)
    whole.fit([mc, data], [mu, mu])
    data[:, 0, 2:4, 5:7] = 0
    holed = CellCalibration(2, 8, 12, n_knots=64, n_mu_bins=1, n_layer_bins=3)
    holed.fit([mc, data], [mu, mu])
    assert int((~holed.is_alive).sum()) == 4
    assert bool(whole.is_alive.all())
    scores = encode(holed, mc, mu, 0)
    moved = holed.decode(scores, 1, torch.from_numpy(mu))
    assert float(moved[:, 0, 2:4, 5:7].max()) == 0
    # The ring's other cells do not suffer from the hole.
    rest = moved[:, 0, 2:4, :5].mean()
    expected = whole.decode(scores, 1, torch.from_numpy(mu))[:, 0, 2:4, :5].mean()
    assert float(rest) == pytest.approx(float(expected), rel=0.02)
    # As a source, dead cells take any rank: their scores are standard normal.
    back = encode(holed, data, mu, 1)[:, 0, 2:4, 5:7]
    assert float(back.std()) == pytest.approx(1, abs=0.1)


def test_events_of_unknown_mu_are_ranked_too():
    rng = np.random.default_rng(4)
    energies = [rng.exponential(scale, (400, 1, 1, 1)).astype(np.float32) for scale in (1.0, 2.0)]
    unknown = np.full(400, np.nan, dtype=np.float32)
    known = rng.poisson(60, 400).astype(np.float32)
    for mus in ([unknown, unknown], [known, unknown]):
        calibration = CellCalibration(1, 1, 1, n_mu_bins=3, n_layer_bins=1)
        calibration.fit(energies, mus)
        for domain, mu in ((0, mus[0]), (1, unknown), (1, known)):
            energy, mu = torch.from_numpy(energies[domain]), torch.from_numpy(mu)
            scores = calibration.encode(energy, domain, mu, torch.zeros_like(energy))
            assert abs(float(scores.mean())) < 0.15
            assert float(scores.std()) == pytest.approx(1, abs=0.15)
            torch.testing.assert_close(calibration.decode(scores, domain, mu), energy)


def thinned(n: int, mus: np.ndarray, domain: int, seed: int) -> np.ndarray:
    """Cells that each interaction hits with a small probability; data's with a larger one."""
    rng = np.random.default_rng([seed, domain])
    hits = rng.poisson((0.006 + 0.008 * domain) * mus[:, None, None, None], (n, 1, 8, 12))
    return (0.7 * hits * rng.gamma(4, 0.25, hits.shape)).astype(np.float32)


def scores_by_the_law(
    mc: np.ndarray, trained: np.ndarray, train: np.ndarray, mu: float
) -> np.ndarray:
    """Scores of mc at one μ: null cells by the toy's own law, hits ranked in the nearest bin."""
    null = np.exp(-0.006 * mu)
    low, high = np.quantile(train, [1 / 3, 2 / 3])
    near = np.sort(trained[train >= high if mu > high else train < low], axis=None)
    near = near[near > 0]
    rank = (np.searchsorted(near, mc) + 0.5) / (len(near) + 1)
    uniform = np.random.default_rng(5).random(mc.shape)
    return np.asarray(norm.ppf(np.where(mc > 0, null + (1 - null) * rank, null * uniform)))


@pytest.mark.parametrize("mu", [10, 25, 110])
def test_null_cells_beyond_the_training_in_mu_follow_the_law_of_independent_interactions(mu):
    train = np.random.default_rng(3).poisson(60, 1500).astype(np.float32)
    calibration = CellCalibration(1, 8, 12, n_knots=64, n_mu_bins=3, n_layer_bins=1)
    trained = [thinned(1500, train, domain, 1) for domain in (0, 1)]
    calibration.fit(trained, [train, train])
    assert calibration.mu_range.tolist() == [train.min(), train.max()]
    mus = np.full(1500, mu, dtype=np.float32)
    mc, data = (thinned(1500, mus, domain, 2) for domain in (0, 1))
    scores = encode(calibration, mc, mus, 0)
    moved = calibration.decode(scores, 1, torch.from_numpy(mus)).numpy()
    shift = float((data > 0).mean() - (mc > 0).mean())
    left = float((data > 0).mean() - (moved > 0).mean())
    assert shift > 0.05
    assert abs(left) < 0.12 * shift
    # Hits keep the quantiles of the nearest bin. The toy's are of several interactions more often
    # at a larger μ, so that their scores at μ = 110 are larger and spread by 1.06 instead of by 1.
    expected = scores_by_the_law(mc, trained[0], train, mu)
    assert float(scores.mean()) == pytest.approx(expected.mean(), abs=0.02)
    assert float(scores.std()) == pytest.approx(expected.std(), abs=0.02)


def with_noise(energy: np.ndarray, seed: int) -> np.ndarray:
    """Some null cells with a negative hit of noise."""
    rng = np.random.default_rng(seed)
    noise = np.where(rng.random(energy.shape) < 0.1, -rng.exponential(0.2, energy.shape) - 0.3, 0)
    return np.where(energy > 0, energy, noise).astype(np.float32)


@pytest.mark.parametrize("change", [with_noise, lambda energy, seed: np.ceil(2 * energy)])
@pytest.mark.parametrize("mu", [10, 110])
def test_null_cells_follow_the_law_beside_negative_and_tied_hits_too(mu, change):
    train = np.random.default_rng(3).poisson(60, 1500).astype(np.float32)
    calibration = CellCalibration(1, 8, 12, n_knots=64, n_mu_bins=3, n_layer_bins=1)
    trained = [change(thinned(1500, train, domain, 1), domain) for domain in (0, 1)]
    calibration.fit(trained, [train, train])
    assert not calibration.is_plain
    mus = np.full(1500, mu, dtype=np.float32)
    mc, data = (change(thinned(1500, mus, domain, 2), domain) for domain in (0, 1))
    moved = calibration.decode(encode(calibration, mc, mus, 0), 1, torch.from_numpy(mus)).numpy()
    shift = float((data > 0).mean() - (mc > 0).mean())
    left = float((data > 0).mean() - (moved > 0).mean())
    assert shift > 0.04
    assert abs(left) < 0.2 * shift


def test_null_masses_do_not_go_on_in_mu_where_bins_do_not_tell():
    energy, _ = make_energies(100, 0, seed=6)
    same = np.full(100, 60, dtype=np.float32)
    calibration = CellCalibration(2, 8, 12, n_knots=32, n_mu_bins=3, n_layer_bins=3)
    calibration.fit([energy, energy], [same, same])
    assert not bool(calibration.null_rate.any())
    far = np.full(100, 10, dtype=np.float32)
    assert torch.equal(encode(calibration, energy, far, 0), encode(calibration, energy, same, 0))
