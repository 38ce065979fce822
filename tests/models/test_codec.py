from __future__ import annotations

import numpy as np
import pytest
import torch

from pileupgen.errors import ConfigError
from pileupgen.models.calibration.calibration import CellCalibration
from pileupgen.models.codec import Codec
from pileupgen.models.networks.autoencoder import Autoencoder
from pileupgen.models.networks.cell_patches import CellPatches
from pileupgen.models.reconstruction import ReconstructionTest, reconstruct
from tests.conftest import make_energies


@pytest.fixture(scope="module")
def calibration() -> CellCalibration:
    samples = [make_energies(600, domain, seed=60) for domain in (0, 1)]
    fitted = CellCalibration(2, 8, 12, n_knots=64, n_mu_bins=2, n_layer_bins=4)
    fitted.fit([energy for energy, _ in samples], [mu for _, mu in samples])
    return fitted


@pytest.mark.parametrize("domain", [0, 1])
@pytest.mark.parametrize("is_sampled", [False, True])
def test_the_lossless_codec_gives_every_cell_back(calibration, domain, is_sampled):
    energy, mu = make_energies(50, domain, seed=61)
    codec = Codec(calibration, CellPatches(2, 8, 12))
    again = reconstruct(codec, energy, domain, mu, np.arange(50), 1, is_sampled)
    assert np.array_equal(again > 0, energy > 0)
    hit = energy > 0
    relative = np.abs(again[hit] / energy[hit] - 1)
    # Just above its threshold a hit's score is near the null cells', and single precision coarse.
    assert np.median(relative) < 1e-6
    assert np.mean(relative > 1e-4) < 1e-3
    assert relative.max() < 5e-3
    scores = torch.randn(3, 2, 8, 12)
    latents = codec.encode_scores(scores, domain, torch.full((3,), 60.0))
    assert latents.shape == (3, *codec.autoencoder.latent_shape) == (3, 8, 4, 6)
    assert torch.equal(codec.decode_scores(latents, domain, torch.full((3,), 60.0)), scores)


def test_sampling_widens_what_a_narrow_latent_forgets(calibration):
    torch.manual_seed(0)
    codec = Codec(calibration, Autoencoder(2, 8, 12, latent_channels=3, width=8, n_heads=0))
    latents, mu = torch.randn(40, 3, 4, 6), torch.full((40,), 60.0)
    mean = codec.decode_scores(latents, 1, mu)
    drawn = codec.decode_scores(latents, 1, mu, torch.randn(mean.shape))
    spread = float((drawn - mean).std())
    assert spread == pytest.approx(float(np.exp(-2)), rel=0.02)  # the decoder's first ln σ² is −4


def test_the_lossless_codec_refuses_a_patch_that_does_not_divide_the_image():
    with pytest.raises(ConfigError, match="does not divide"):
        CellPatches(2, 9, 12)


def test_saved_and_loaded_the_lossless_codec_is_the_same(tmp_path):
    CellPatches(2, 9, 12, (3, 2)).save_pretrained(tmp_path)
    assert [path.suffix for path in sorted(tmp_path.iterdir())] == [".json", ".safetensors"]
    again = CellPatches.from_pretrained(tmp_path)
    assert again.latent_shape == (12, 3, 6)
    assert again.patch == (3, 2)


def test_a_codec_is_the_limit_only_beyond_the_floors_interval():
    def test_of(low: float) -> ReconstructionTest:
        return ReconstructionTest("mc", 100, 0.6, low, 0.7, 0.45, 0.55)

    assert test_of(0.56).is_limit
    assert not test_of(0.54).is_limit
    assert not ReconstructionTest("mc", 100, 0.5, 0.5, 0.5, 0.498, 0.4999).is_limit


def test_few_reconstructed_events_are_no_result():
    few, many = (ReconstructionTest("mc", n, 0.5, 0.5, 0.5, 0.49, 0.51) for n in (15, 150))
    assert few.in_words == "15 events are too few to tell"
    assert many.in_words == "AUC 0.500 [0.500, 0.500], reference [0.490, 0.510]"
