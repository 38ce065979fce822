"""The condition enters networks standardised by the training's own distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pileupgen.models.networks.denoiser import Denoiser
from pileupgen.models.networks.layers import ConditionEmbedding, standardise_conditions


def pileup(rng: np.random.Generator) -> np.ndarray:
    return rng.poisson(60, 4000)


def energies(rng: np.random.Generator) -> np.ndarray:
    """Incident energies of the CaloChallenge's showers: from 10^3 to 10^6 MeV, even in log."""
    return 10 ** rng.uniform(3, 6, 4000)


@pytest.mark.parametrize(("make", "is_log"), [(pileup, False), (energies, True)])
def test_conditions_of_any_scale_enter_with_mean_zero_and_variance_one(make, is_log):
    mu = torch.from_numpy(make(np.random.default_rng(1)).astype(np.float32))
    network = Denoiser(8, 4, 6, width=8, n_blocks=1)
    standardise_conditions(network, mu)
    embedding = network.condition
    assert bool(embedding.is_logarithmic) == is_log
    entered = embedding.standardised(mu)
    assert float(entered.mean()) == pytest.approx(0, abs=1e-3)
    assert float(entered.std()) == pytest.approx(1, abs=1e-3)
    assert float(entered.abs().max()) < 5
    with torch.no_grad():
        out = embedding(torch.zeros(4000), torch.zeros(4000, dtype=torch.long), mu)
    assert float(out.abs().max()) < 10


def test_beyond_the_training_the_end_of_its_range_enters_and_unknown_is_its_own_case():
    embedding = ConditionEmbedding(16, n_labels=0, has_time=False)
    embedding.standardise(torch.tensor([40.0, 60.0, 80.0, torch.nan]))
    mu = torch.tensor([5.0, 40.0, 80.0, 300.0, torch.nan])
    out = embedding(None, None, mu)
    assert torch.equal(out[0], out[1])
    assert torch.equal(out[2], out[3])
    assert bool(torch.isfinite(out).all())
    assert not torch.equal(out[4], embedding(None, None, torch.tensor([60.0]))[0])


def test_the_distribution_is_stored_with_the_model(tmp_path):
    network = Denoiser(8, 4, 6, width=8, n_blocks=1)
    standardise_conditions(network, torch.tensor([1e3, 1e4, 1e6]))
    network.save_pretrained(tmp_path)
    again = Denoiser.from_pretrained(tmp_path).condition
    mu = torch.tensor([2e3, 5e5])
    assert torch.equal(again.standardised(mu), network.condition.standardised(mu))
    one = ConditionEmbedding(8, n_labels=0, has_time=False)
    one.standardise(torch.full((9,), 60.0))
    assert float(one.standardised(torch.tensor([60.0]))) == 0
