"""Latents encoded once: the same as encoded at every step, whole, and of the right autoencoder."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from pileupgen.diffusion.schedule import make_scheduler
from pileupgen.errors import OutputError, TrainingError
from pileupgen.models.networks.autoencoder import Autoencoder
from pileupgen.models.networks.denoiser import Denoiser
from pileupgen.models.networks.layers import standardise_conditions
from pileupgen.training import latent_cache
from pileupgen.training.data import Augmentation, Batch
from pileupgen.training.encoded import EncodedHeldOut, LatentSample
from pileupgen.training.latent_cache import cached_latents, drawn_scores, fingerprint_of
from pileupgen.training.objectives import Denoising, latents_of
from pileupgen.training.step import new_accelerator

ROLL_AND_MIRROR = Augmentation(phi_step=2, eta_mirror=True)


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return new_accelerator("cpu")


def new_autoencoder(seed: int = 0) -> Autoencoder:
    """One that is not linear: its last weights, zero at the start, are drawn too."""
    torch.manual_seed(seed)
    network = Autoencoder(2, 8, 12, width=8, n_blocks=1, n_heads=2).requires_grad_(False)
    for parameter in network.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    standardise_conditions(network, torch.tensor([52.0, 60.0, 68.0]))
    return network


def cache(folder: Path, sample, autoencoder, accelerator, key="key", **changes):
    given = {"n_draws": 2, "mirror": True, "seed": 1, "accelerator": accelerator}
    return cached_latents(folder, key, sample, autoencoder, **{**given, **changes})


@pytest.fixture(scope="module")
def cached(tmp_path_factory, sample, accelerator):
    autoencoder = new_autoencoder()
    latents = cache(tmp_path_factory.mktemp("latents"), sample, autoencoder, accelerator)
    return autoencoder, LatentSample(sample, latents, True, 2)


def test_rolls_by_whole_positions_commute_with_the_encoder(sample):
    autoencoder, batch = new_autoencoder(), sample.in_order(8, seed=1)
    z = autoencoder.encode(batch.scores, batch.label, batch.mu)
    for positions in (1, 4):
        rolled = autoencoder.encode(batch.scores.roll(2 * positions, 3), batch.label, batch.mu)
        assert torch.allclose(rolled, z.roll(positions, 3), atol=1e-5)
    off = autoencoder.encode(batch.scores.roll(1, 3), batch.label, batch.mu)
    assert not torch.allclose(off, z, atol=1e-2)


def test_a_cached_batch_is_what_encoding_the_same_draws_gives(sample, cached):
    autoencoder, encoded = cached
    batch = encoded.batch(3, 16, 7, ROLL_AND_MIRROR)
    plain = sample.batch(3, 16, 7)
    assert batch.is_encoded
    for name in ("label", "mu", "event_id"):
        assert torch.equal(getattr(batch, name), getattr(plain, name))
    rows = sample.rows(3, 16, 7)
    draws, mirrors, scores = set(), set(), []
    for event in range(16):
        domain, row = event % 2, int(rows[event % 2][event // 2])
        chunk = slice(row // 64 * 64, min(row // 64 * 64 + 64, 240))
        found = []
        for draw in range(2):
            values = drawn_scores(sample, domain, chunk, draw, 1)[0][row - chunk.start]
            for mirror in (False, True):
                flipped = values.flip(1) if mirror else values
                for shift in range(0, 12, 2):
                    rolled = flipped.roll(shift, 2)
                    z = autoencoder.encode(
                        rolled[None], batch.label[[event]], batch.mu[[event]]
                    ).squeeze(0)
                    # Half precision rounds to one part in 2,000.
                    if torch.allclose(z, batch.scores[event].float(), rtol=1e-3, atol=5e-3):
                        found.append((draw, mirror, rolled))
        assert len(found) == 1
        draws.add(found[0][0])
        mirrors.add(found[0][1])
        scores.append(found[0][2])
    assert draws == {0, 1}
    assert mirrors == {False, True}
    # The loss is that of the scores encoded in the step.
    again = Batch(torch.stack(scores), batch.label, batch.mu, batch.event_id)
    torch.manual_seed(1)
    network = Denoiser(8, 4, 6, width=8, n_blocks=1, patch=(2, 2))
    objective = Denoising(autoencoder, make_scheduler(1000), 0.2, 0.5, "v_prediction")
    drawn = objective.draw(batch, torch.Generator().manual_seed(1))
    losses = [objective.loss(network, one, drawn) for one in (batch, again)]
    assert torch.allclose(*losses, rtol=1e-3)


def test_a_batch_is_a_function_of_seed_and_step(cached):
    encoded = cached[1]
    first = encoded.batch(5, 16, 3, ROLL_AND_MIRROR)
    assert torch.equal(first.scores, encoded.batch(5, 16, 3, ROLL_AND_MIRROR).scores)
    assert not torch.equal(first.scores, encoded.batch(6, 16, 3, ROLL_AND_MIRROR).scores)
    assert not torch.equal(first.scores, encoded.batch(5, 16, 4, ROLL_AND_MIRROR).scores)


def test_without_augmentation_events_are_neither_rolled_nor_mirrored(sample, cached):
    batch = cached[1].batch(0, 16, 1)
    row = int(sample.rows(0, 16, 1)[0][0])
    assert any(np.array_equal(batch.scores[0], cached[1].latents[row, copy]) for copy in (0, 2))


def test_held_out_events_are_encoded_once(held_out, accelerator):
    class Counting:
        n = 0

        def in_order(self, n_per_domain, seed):
            self.n += 1
            return held_out.in_order(n_per_domain, seed)

    counting, autoencoder = Counting(), new_autoencoder()
    encoded = EncodedHeldOut(counting, autoencoder, accelerator.device)
    batch, plain = encoded.in_order(40, 1), held_out.in_order(40, 1)
    assert encoded.in_order(40, 1) is batch
    assert counting.n == 1
    assert torch.allclose(latents_of(batch, autoencoder), latents_of(plain, autoencoder), atol=1e-5)


def test_a_whole_cache_is_opened_and_others_are_made_anew(
    tmp_path, sample, accelerator, monkeypatch
):
    autoencoder = new_autoencoder()
    first = cache(tmp_path, sample, autoencoder, accelerator).copy()
    told = []
    cache(tmp_path, sample, autoencoder, accelerator, advance=told.append)
    assert not told
    (tmp_path / "key.npy").write_bytes((tmp_path / "key.npy").read_bytes()[:-1])
    again = cache(tmp_path, sample, autoencoder, accelerator, advance=told.append)
    assert sum(told) == sum(sample.n_events)
    assert np.array_equal(first, again)
    del again
    other = cache(tmp_path, sample, new_autoencoder(5), accelerator, key="other")
    assert not np.array_equal(first, other)
    assert [path.name for path in tmp_path.iterdir()] == ["other.npy"]


def test_a_cache_that_was_interrupted_is_not_used(tmp_path, sample, accelerator):
    class InterruptionError(Exception):
        pass

    def die(n):
        raise InterruptionError

    autoencoder = new_autoencoder()
    with pytest.raises(InterruptionError):
        cache(tmp_path, sample, autoencoder, accelerator, advance=die)
    assert not list(tmp_path.glob("*.npy"))
    latents = cache(tmp_path, sample, autoencoder, accelerator)
    assert [path.name for path in tmp_path.iterdir()] == ["key.npy"]
    assert np.isfinite(latents).all()
    assert (latents != 0).any(axis=(2, 3, 4)).all()


def test_the_key_follows_weights_calibration_and_facts(calibration):
    same = fingerprint_of(new_autoencoder(), calibration, [1])
    assert same == fingerprint_of(new_autoencoder(), calibration, [1])
    assert same != fingerprint_of(new_autoencoder(1), calibration, [1])
    assert same != fingerprint_of(new_autoencoder(), calibration, [2])
    moved = new_autoencoder()
    moved.shortcut_in.weight[0, 0] += 1e-6
    assert same != fingerprint_of(moved, calibration, [1])


def test_a_full_disk_is_one_message_and_leaves_nothing(tmp_path, sample, accelerator, monkeypatch):
    def full(self, domain, rows, device):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(latent_cache._Writing, "block", full)
    with pytest.raises(OutputError, match=r"No space left.*It takes .* GB.*cache_latents: false"):
        cache(tmp_path, sample, new_autoencoder(), accelerator)
    assert not list(tmp_path.iterdir())


def test_latents_that_are_not_finite_name_their_events(tmp_path, sample, accelerator):
    autoencoder = new_autoencoder()
    autoencoder.shortcut_in.weight.fill_(torch.nan)
    with pytest.raises(TrainingError, match=r"not finite for events mc \d+, mc"):
        cache(tmp_path, sample, autoencoder, accelerator)
