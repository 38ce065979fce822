"""The spectrum of hits after the correction, where a feature of it moves in score with μ."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.special import ndtr, ndtri
from torch import Tensor

from pileupgen.models.calibration.calibration import CellCalibration
from pileupgen.models.correction.marginals import MarginalCorrection
from pileupgen.models.saved import WEIGHTS

SHAPE = (1, 4, 24)
EDGE = 1.0
"""GeV; below it lie soft hits, above it those that a former threshold has left."""


def events(n: int, seed: int, is_signed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Cells null with probability exp(−μ/60), a sixth of the hits below the edge.

    Where energies are of either sign, a tenth of the null cells is below 0 instead.
    """
    rng = np.random.default_rng(seed)
    mu = rng.uniform(30, 90, n).astype(np.float32)
    hit = rng.random((n, *SHAPE)) > np.exp(-mu / 60)[:, None, None, None]
    soft = rng.random((n, *SHAPE)) < 1 / 6
    low = rng.uniform(0.5, EDGE, (n, *SHAPE))
    high = EDGE + rng.exponential(2.0, (n, *SHAPE))
    energy = hit * np.where(soft, low, high)
    if is_signed:
        is_below = ~hit & (rng.random((n, *SHAPE)) < 0.1)
        energy -= is_below * (0.5 + rng.exponential(0.5, (n, *SHAPE)))
    return energy.astype(np.float32), mu


@pytest.fixture(scope="module", params=[False, True], ids=["positive", "signed"])
def calibration(request: pytest.FixtureRequest) -> CellCalibration:
    fitted = CellCalibration(*SHAPE, n_mu_bins=3)
    samples = [events(800, seed, request.param) for seed in (1, 2)]
    fitted.fit([energy for energy, _ in samples], [mu for _, mu in samples])
    return fitted


def emptied_edge(calibration: CellCalibration, seed: int) -> tuple[Tensor, Tensor]:
    """Scores of events of data, hits near the edge's rank of 1/6 pushed away from it."""
    energy, mu = (torch.from_numpy(array) for array in events(800, seed, calibration.is_signed))
    uniform = torch.rand(energy.shape, generator=torch.Generator().manual_seed(seed))
    scores = calibration.encode(energy, 1, mu, uniform)
    rank = calibration.hit_ranks(scores, 1, mu).numpy()
    place = (rank - 1 / 6) / 0.05
    inside = np.abs(place) < 1
    moved = np.where(inside, 1 / 6 + 0.05 * np.sign(place) * np.abs(place) ** 0.5, rank)
    above = torch.special.ndtr(-scores.double()).numpy()
    hits = above / (1 - np.where(rank >= 0, rank, 0.0))
    out = np.where(inside, -ndtri(hits * (1 - moved)), scores.double().numpy())
    return torch.from_numpy(out).float(), mu


def near_the_edge(energy: Tensor) -> float:
    """Fraction of the hits within 0.1 GeV of the edge."""
    hits = energy[energy > 0]
    return float(((hits > EDGE - 0.1) & (hits < EDGE + 0.1)).double().mean())


def test_a_feature_that_moves_with_mu_comes_back(calibration):
    correction = MarginalCorrection(*SHAPE[:2])
    scores, mu = emptied_edge(calibration, 3)
    correction.fit(scores)
    correction.fit_hits(calibration.hit_ranks(correction(scores), 1, mu))
    fresh, mu = emptied_edge(calibration, 4)
    corrected = correction(fresh)
    expected = 0.1 / (EDGE - 0.5) / 6 + (1 - np.exp(-0.1 / 2.0)) * 5 / 6
    without = near_the_edge(calibration.decode(corrected, 1, mu))
    decoder = correction.decoder(calibration, 1)
    assert without < 0.85 * expected
    assert near_the_edge(decoder.decode(corrected, 1, mu)) == pytest.approx(expected, rel=0.06)
    # Cells are hits as they were, and the other domain's quantiles are those of the calibration.
    after, before = (of.decode(corrected, 1, mu) for of in (decoder, calibration))
    assert torch.equal(after > 0, before > 0)
    assert torch.equal(after[after <= 0], before[before <= 0])
    assert bool((after < 0).any()) == calibration.is_signed
    assert torch.equal(decoder.log_energy[0], calibration.log_energy[0])
    assert float(decoder.log_energy[1].diff(dim=-1).min()) > 0


def test_unspoiled_hits_and_few_of_them_stay(calibration):
    energy, mu = (torch.from_numpy(array) for array in events(800, 6, calibration.is_signed))
    uniform = torch.rand(energy.shape, generator=torch.Generator().manual_seed(6))
    scores = calibration.encode(energy, 1, mu, uniform)
    correction = MarginalCorrection(*SHAPE[:2])
    ranks = calibration.hit_ranks(scores, 1, mu)
    correction.fit_hits(ranks[:20])
    again = correction.decoder(calibration, 1)
    assert correction.decoder(calibration, 1) is again
    torch.testing.assert_close(again.log_energy, calibration.log_energy)
    correction.fit_hits(ranks)
    fitted = correction.decoder(calibration, 1)
    assert float((fitted.log_energy - calibration.log_energy)[1].abs().max()) > 1e-3
    even = torch.linspace(-4, 4, correction.hit_knots.shape[-1])
    hits = float((energy > 0).sum()) / 2  # of a ring and its mirror
    shift = (correction.hit_knots - even)[..., even.abs() < 2]
    spread = np.sqrt(ndtr(2) * ndtr(-2) / hits) / (np.exp(-2) / np.sqrt(2 * np.pi))
    assert float(shift.abs().max()) < 5 * spread
    assert float(shift.abs().max()) > 0


def test_a_file_without_ranks_of_hits_leaves_the_spectrum_as_it_is(calibration, tmp_path):
    scores, mu = emptied_edge(calibration, 3)
    correction = MarginalCorrection(*SHAPE[:2])
    correction.fit(scores)
    correction.fit_hits(calibration.hit_ranks(correction(scores), 1, mu))
    correction.save_pretrained(tmp_path)
    before = correction.decoder(calibration, 1).log_energy
    again = MarginalCorrection.from_pretrained(tmp_path)
    for one in (again, pickle.loads(pickle.dumps(correction))):
        assert torch.equal(one.decoder(calibration, 1).log_energy, before)
    file = tmp_path / WEIGHTS
    tensors = load_file(file)
    del tensors["hit_knots"]
    save_file(tensors, file)
    old = MarginalCorrection.from_pretrained(tmp_path)
    assert torch.equal(old(scores), correction(scores))
    tables = old.decoder(calibration, 1).log_energy
    torch.testing.assert_close(tables, calibration.log_energy)


def test_ranks_of_hits_are_uniform_and_other_cells_have_none(calibration):
    energy, mu = (torch.from_numpy(array) for array in events(800, 7, calibration.is_signed))
    uniform = torch.rand(energy.shape, generator=torch.Generator().manual_seed(7))
    ranks = calibration.hit_ranks(calibration.encode(energy, 1, mu, uniform), 1, mu)
    assert torch.equal(ranks == -1, energy <= 0)
    counts = np.histogram(ranks[energy > 0].numpy(), 10, (0, 1))[0]
    assert np.abs(counts / counts.mean() - 1).max() < 5 / np.sqrt(counts.mean())
