"""A pipeline on made fields with the closed-form denoiser alone: its answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pileupgen.diffusion.for_diffusers import PileupTranslationPipeline
from pileupgen.diffusion.schedule import make_scheduler
from pileupgen.models.calibration.calibration import CellCalibration
from pileupgen.models.networks.autoencoder import Autoencoder
from pileupgen.models.networks.denoiser import Denoiser
from pileupgen.models.networks.ratio import RatioClassifier
from tests.conftest import SMALL_GRID, make_energies


@pytest.fixture(scope="session")
def pipeline() -> PileupTranslationPipeline:
    torch.manual_seed(0)
    samples = [make_energies(1500, domain, seed=40) for domain in (0, 1)]
    calibration = CellCalibration(2, 8, 12, n_knots=128, n_mu_bins=2, n_layer_bins=4)
    calibration.fit([energy for energy, _ in samples], [mu for _, mu in samples])
    autoencoder = Autoencoder(2, 8, 12, width=8, n_blocks=1, n_heads=2)
    scores = []
    for domain, (energy, mu) in enumerate(samples):
        uniform = torch.rand(energy.shape)
        images = torch.from_numpy(energy), torch.from_numpy(mu)
        scores.append(calibration.encode(images[0], domain, images[1], uniform))
    denoiser = Denoiser(8, 4, 6, width=8, n_blocks=1, patch=(2, 2))
    labels = [torch.full((1500,), domain) for domain in (0, 1)]
    mus = torch.full((1500,), 60.0)
    with torch.no_grad():
        latents = [autoencoder.encode(s, y, mus) for s, y in zip(scores, labels, strict=True)]
    denoiser.field.fit(latents)
    ratio = RatioClassifier(8, 4, 6, width=8, n_blocks=1, patch=(2, 2))
    ratio.field.load_state_dict(denoiser.field.state_dict())
    return PileupTranslationPipeline(
        calibration, autoencoder, denoiser, ratio, make_scheduler(1000), SMALL_GRID.to_dict()
    )


@pytest.fixture(scope="session")
def events():
    energy, mu = make_energies(400, 0, seed=50)
    return energy, mu, np.arange(400)
