"""The translation on made fields, with the closed-form denoiser alone: its answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pileupgen.diffusion.guidance import LabelContrast, Predictor, Strength
from pileupgen.diffusion.pipeline import PileupTranslationPipeline
from pileupgen.diffusion.sampling import solve, timesteps_between
from pileupgen.diffusion.schedule import make_scheduler
from pileupgen.diffusion.settings import Settings
from pileupgen.diffusion.translator import Translation
from pileupgen.errors import ConfigError, RunError
from pileupgen.models.autoencoder import Autoencoder
from pileupgen.models.calibration import CellCalibration
from pileupgen.models.denoiser import DATA, MC, NULL, Denoiser
from pileupgen.models.ratio import RatioClassifier
from tests.conftest import SMALL_GRID, make_energies


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def events():
    energy, mu = make_energies(400, 0, seed=50)
    return energy, mu, np.arange(400)


def neighbour_correlation(energy: np.ndarray) -> float:
    e = np.log(energy.clip(0.3))
    e = e - e.mean(axis=0)
    return float((e * np.roll(e, 1, axis=3)).mean() / (e**2).mean())


def test_inversion_carries_correlations_over_and_keeps_the_event(pipeline, events):
    target = neighbour_correlation(make_energies(400, 1, seed=51)[0])
    source = neighbour_correlation(events[0])
    calibrated = pipeline(*events, settings=Settings("calibrate")).energy
    inverted = pipeline(*events, settings=Settings("invert", 995, 0.0, 20)).energy
    assert target - source > 0.1
    left = target - neighbour_correlation(inverted)
    assert abs(left) < 0.25 * (target - neighbour_correlation(calibrated))
    assert np.corrcoef(inverted.ravel(), events[0].ravel())[0, 1] > 0.85


def test_a_later_release_keeps_less_of_the_event(pipeline, events):
    kept = [
        np.corrcoef(
            pipeline(*events, settings=Settings("partial", t, 0.0, 8)).energy.ravel(),
            events[0].ravel(),
        )[0, 1]
        for t in (50, 300, 900)
    ]
    assert kept[0] > kept[1] + 0.05 > kept[2] + 0.1


def test_inverting_as_mc_and_decoding_as_mc_is_the_identity(pipeline, events):
    z = torch.randn(50, 8, 4, 6, generator=torch.Generator().manual_seed(3))
    predict = Predictor(pipeline.denoiser, pipeline.scheduler, MC, torch.full((50,), 60.0))
    errors = []
    for n in (10, 80):
        steps = timesteps_between(900, n)
        x_t = solve(z, steps[::-1], predict, pipeline.scheduler, "dpmsolver++")
        back = solve(x_t, steps, predict, pipeline.scheduler, "dpmsolver++")
        errors.append(float((back - z).abs().max()))
    assert errors[1] < 0.03
    assert errors[1] < 0.5 * errors[0]


def test_guidance_extrapolates_from_the_null_label(pipeline):
    x, mu, nothing = torch.randn(10, 8, 4, 6), torch.full((10,), 60.0), torch.zeros(10, 8, 4, 6)
    eps = {}
    for w in (0.0, 1.5):
        guides = (LabelContrast(Strength(w), NULL),)
        predict = Predictor(pipeline.denoiser, pipeline.scheduler, DATA, mu, guides)
        eps[w], x_0 = predict(x, 300, nothing)
        alpha_bar = pipeline.scheduler.alphas_cumprod[300]
        torch.testing.assert_close(alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * eps[w], x)
    free, _ = Predictor(pipeline.denoiser, pipeline.scheduler, NULL, mu)(x, 300, nothing)
    torch.testing.assert_close(eps[1.5], 2.5 * eps[0.0] - 1.5 * free, atol=1e-4, rtol=1e-4)


def test_an_event_does_not_depend_on_its_batch(pipeline, events):
    energy, mu, event_id = events
    whole = pipeline(energy[:120], mu[:120], event_id[:120])
    order = np.random.default_rng(0).permutation(120)[:37]
    part = pipeline(energy[order], mu[order], event_id[order])
    assert np.array_equal(part.energy, whole.energy[order])
    assert np.array_equal(part.log_ratio, whole.log_ratio[order])
    other = pipeline(energy[:120], mu[:120], event_id[:120], seed=2)
    assert not np.array_equal(other.energy, whole.energy)


def test_release_at_zero_is_the_calibration(pipeline, events):
    zero = pipeline(*events, settings=Settings("partial", 0, 0.0, 5))
    calibrated = pipeline(*events, settings=Settings("calibrate"))
    np.testing.assert_allclose(zero.energy, calibrated.energy, rtol=1e-3, atol=1e-3)


def test_weights_are_clipped():
    image, t = np.zeros((1, 1, 1, 1), np.float32), np.array([300])
    for limit in (5.0, 2.0):
        weight = Translation(image, np.array([50.0]), t, limit).weight
        assert weight[0] == pytest.approx(np.exp(limit))


def test_renewal_mends_the_marginals_of_over_guided_events(pipeline, events):
    settings = Settings("partial", 400, 4.0, 6)
    renewal = pipeline.fit_renewal(*events, 1, settings)
    fresh = (*make_energies(400, 0, seed=52), np.arange(400, 800))
    target = make_energies(400, 1, seed=53)[0]

    def distance(energy: np.ndarray) -> float:
        return abs(float(np.log(energy[energy > 0]).std() - np.log(target[target > 0]).std()))

    raw = distance(pipeline(*fresh, settings=settings).energy)
    assert distance(pipeline(*fresh, settings=settings, renewal=renewal).energy) < 0.5 * raw + 0.005


def test_saved_and_loaded_it_translates_the_same(pipeline, events, tmp_path):
    pipeline.save_pretrained(tmp_path / "model")
    assert not list((tmp_path / "model").rglob("*.bin"))
    again = PileupTranslationPipeline.from_pretrained(tmp_path / "model")
    few = tuple(part[:5] for part in events)
    assert np.array_equal(again(*few).energy, pipeline(*few).energy)
    assert again.geometry == SMALL_GRID


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings(t_release=1000), "outside 0 … 999"),
        (Settings(t_release=-1), "outside"),
        (Settings(mode="sideways"), "No mode 'sideways'"),
        (Settings(num_inference_steps=0), "at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(pipeline, events, settings, words):
    with pytest.raises(ConfigError, match=words):
        pipeline(*events, settings=settings)


def test_a_model_that_lacks_tensors_is_refused_and_not_left_uncalibrated(pipeline, tmp_path, capfd):
    pipeline.save_pretrained(tmp_path)
    file = tmp_path / "ratio" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    save_file({k: v for k, v in tensors.items() if k not in ("slope", "offset")}, file)
    with pytest.raises(RunError, match=r"another version: its ratio lacks offset, slope"):
        PileupTranslationPipeline.from_pretrained(tmp_path)
    assert "newly initialized" not in capfd.readouterr().err


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(RunError, match="No trained model"):
        PileupTranslationPipeline.from_pretrained(tmp_path)
