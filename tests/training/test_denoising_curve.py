from __future__ import annotations

import numpy as np
import pytest
import torch

from pileupgen.diffusion.schedule import make_scheduler
from pileupgen.models.networks.cell_patches import CellPatches
from pileupgen.models.networks.denoiser import Denoiser
from pileupgen.training import denoising_curve as module
from pileupgen.training.denoising_curve import N_EVENTS, denoising_curve


@pytest.fixture(scope="module")
def fitted(sample):
    codec = CellPatches(2, 8, 12, (2, 2))
    batch = sample.in_order(240, seed=1)
    z = codec.encode(batch.scores, batch.label, batch.mu)
    latents = [z[batch.label == domain] for domain in (0, 1)]
    torch.manual_seed(1)
    denoiser = Denoiser(8, 4, 6, width=8, n_blocks=1, patch=(2, 2))
    denoiser.field.fit(latents)
    return denoiser, codec, latents


def curve_of(fitted, held_out):
    denoiser, codec, latents = fitted
    scheduler, device = make_scheduler(1000), torch.device("cpu")
    return denoising_curve(denoiser, codec, scheduler, held_out, latents, 1, device)


def test_an_untrained_network_is_the_closed_form_and_that_beats_the_trivial_guess(fitted, held_out):
    curve = curve_of(fitted, held_out)
    assert curve.network == pytest.approx(curve.closed_form, rel=1e-5)
    assert curve.gain == pytest.approx([0.0] * len(curve.t), abs=1e-5)
    # Scores are standard normal, so that knowing a channel's moments is knowing nothing: v̂ ≈ 0.
    assert curve.trivial == pytest.approx([1.0] * len(curve.t), abs=0.06)
    closed, trivial = np.array(curve.closed_form), np.array(curve.trivial)
    assert closed[3:9].max() < trivial[3:9].min() - 0.02  # neighbours tell of each other
    assert closed[0] == pytest.approx(trivial[0], abs=0.02)  # no noise yet, nothing to tell apart
    assert curve.n_events == min(2 * N_EVENTS, sum(held_out.n_events))


def test_a_network_that_adds_noise_to_the_closed_form_is_seen_to_be_worse(fitted, held_out):
    denoiser, _, _ = fitted
    with torch.no_grad():
        denoiser.last.conv.weight.normal_(std=0.3)
    curve = curve_of(fitted, held_out)
    with torch.no_grad():
        denoiser.last.conv.weight.zero_()
    gain, error = np.array(curve.gain), np.array(curve.gain_error)
    assert np.all(gain < -5 * error)
    assert np.all(error > 0)


@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_the_error_of_a_gain_is_what_a_bootstrap_over_events_finds(
    fitted, held_out, monkeypatch, noise
):
    """Events differ in how hard they are, for the network and the closed form alike."""
    rng = np.random.default_rng(3)
    hardness = rng.lognormal(0, 0.5, (2000, 1))
    closed, network = (
        level * hardness * (1 + noise * rng.standard_normal((2000, 1))) for level in (1.0, 0.7)
    )
    shown = iter(range(10**6))

    def errors(denoiser, scheduler, z, eps, t, *_):
        if t == 10:
            errors.rows = [next(shown) for _ in z]
        values = np.concatenate([closed, closed, network, network], axis=1)[errors.rows]
        return torch.from_numpy(values.T)

    monkeypatch.setattr(module, "_errors", errors)
    curve = curve_of(fitted, held_out)
    n = curve.n_events
    drawn = rng.integers(0, n, (4000, n))
    gains = 1 - network[drawn, 0].mean(axis=1) / closed[drawn, 0].mean(axis=1)
    assert curve.gain[0] == pytest.approx(1 - network[:n].mean() / closed[:n].mean())
    assert curve.gain_error == pytest.approx([gains.std()] * len(curve.t), rel=0.1)
