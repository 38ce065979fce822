from __future__ import annotations

import json
import math
from itertools import pairwise

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from pileupgen.config import TrainingConfig
from pileupgen.diffusion.schedule import make_scheduler
from pileupgen.errors import TrainingError
from pileupgen.models.autoencoder import Autoencoder
from pileupgen.models.denoiser import Denoiser
from pileupgen.models.ratio import RatioClassifier
from pileupgen.training.data import Augmentation
from pileupgen.training.loop import Stage, learning_rate, train_stage
from pileupgen.training.objectives import (
    Denoising,
    DensityRatio,
    Reconstruction,
    stratified_timesteps,
)

CONFIG = TrainingConfig(batch_size=16, checkpoint_every=4, mixed_precision="no")


class InterruptionError(Exception):
    pass


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


@pytest.fixture(scope="module")
def autoencoder() -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(2, 8, 12, width=8, n_blocks=1, n_heads=2).requires_grad_(False)


def denoiser_stage(autoencoder, sample, held_out, folder, steps=10) -> Stage:
    torch.manual_seed(1)
    network = Denoiser(8, 4, 6, width=8, n_blocks=1, patch=(2, 2))
    objective = Denoising(autoencoder, make_scheduler(1000), 0.2, 0.5, "v_prediction")
    return Stage(
        network,
        objective,
        sample,
        held_out,
        steps,
        Augmentation(2, True),
        folder / "checkpoints",
        folder / "log.jsonl",
        "made",
    )


def weights(network: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.flatten() for parameter in network.parameters()]).detach().clone()


def test_a_killed_run_continues_bit_for_bit(autoencoder, sample, held_out, tmp_path, accelerator):
    whole = denoiser_stage(autoencoder, sample, held_out, tmp_path / "whole")
    history = train_stage(whole, CONFIG, 1, accelerator)
    killed = denoiser_stage(autoencoder, sample, held_out, tmp_path / "killed")
    steps = []

    def die_at_seven(n=1, note=""):
        steps.append(n)
        if sum(steps) == 7:
            raise InterruptionError

    with pytest.raises(InterruptionError):
        train_stage(killed, CONFIG, 1, accelerator, die_at_seven)
    continued = denoiser_stage(autoencoder, sample, held_out, tmp_path / "killed")
    first = []
    again = train_stage(continued, CONFIG, 1, accelerator, lambda n=1, note="": first.append(n))
    assert first[0] == 4  # the newest checkpoint before the kill
    assert torch.equal(weights(whole.network), weights(continued.network))
    assert [row["held_out"] for row in again] == [row["held_out"] for row in history]


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    autoencoder, sample, held_out, tmp_path, accelerator
):
    stage = denoiser_stage(autoencoder, sample, held_out, tmp_path)
    train_stage(stage, CONFIG, 1, accelerator)
    newest = sorted((tmp_path / "checkpoints").glob("step-*"))[-1]
    (newest / "ema.safetensors").write_bytes(b"broken")
    begun = []
    train_stage(
        denoiser_stage(autoencoder, sample, held_out, tmp_path),
        CONFIG,
        1,
        accelerator,
        lambda n=1, note="": begun.append(n),
    )
    assert begun[0] == 8


def test_a_checkpoint_of_another_making_is_not_continued(
    autoencoder, sample, held_out, tmp_path, accelerator
):
    stage = denoiser_stage(autoencoder, sample, held_out, tmp_path, steps=4)
    train_stage(stage, CONFIG, 1, accelerator)
    other = Stage(**{**stage.__dict__, "made_from": "other"})
    begun = []
    train_stage(other, CONFIG, 1, accelerator, lambda n=1, note="": begun.append(n))
    assert begun[0] == 0


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(
    autoencoder, sample, held_out, tmp_path, accelerator
):
    stage = denoiser_stage(autoencoder, sample, held_out, tmp_path)

    def spoil(n=1, note=""):
        if n and len(list((tmp_path / "checkpoints").glob("step-*"))):
            with torch.no_grad():
                stage.network.last.conv.weight.fill_(float("nan"))

    with pytest.raises(TrainingError, match="loss is nan"):
        train_stage(stage, CONFIG, 1, accelerator, spoil)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-00000004"]


def fit(network, objective, sample, held_out, folder, accelerator, steps=40):
    stage = Stage(
        network,
        objective,
        sample,
        held_out,
        steps,
        Augmentation(),
        folder / "c",
        folder / "log.jsonl",
        "made",
    )
    return train_stage(stage, TrainingConfig(mixed_precision="no"), 1, accelerator)


def test_the_autoencoder_learns_to_reconstruct(sample, held_out, tmp_path, accelerator):
    torch.manual_seed(2)
    network = Autoencoder(2, 8, 12, latent_channels=4, width=16, n_blocks=1, n_heads=2)
    objective = Reconstruction((4, 4, 6), 0.1, (4, 6))
    history = fit(network, objective, sample, held_out, tmp_path, accelerator)
    assert history[-1]["held_out"] < history[0]["held_out"] - 0.05
    logged = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert logged == history


def test_the_ratio_tells_the_domains_apart(autoencoder, sample, held_out, tmp_path, accelerator):
    network = RatioClassifier(8, 4, 6, width=8, n_blocks=1, patch=(2, 2))
    batch = sample.in_order(240, seed=1)
    z = autoencoder.encode(batch.scores, batch.label, batch.mu)
    network.field.fit([z[batch.label == domain] for domain in (0, 1)])
    objective = DensityRatio(autoencoder, make_scheduler(1000))
    history = fit(network, objective, sample, held_out, tmp_path, accelerator)
    assert history[-1]["held_out"] < math.log(2) - 0.1


def test_learning_rate_warms_up_and_decays():
    config = TrainingConfig(learning_rate=1.0, warmup=0.1)
    rates = [learning_rate(step, 100, config) for step in range(100)]
    assert rates[0] < 0.2
    assert max(rates) == pytest.approx(1.0, abs=0.01)
    assert rates[-1] < 0.02
    assert all(a >= b for a, b in pairwise(rates[10:]))


def test_timesteps_are_stratified():
    t = stratified_timesteps(50, 1000, torch.Generator().manual_seed(1))
    # One of the 50 strata may be cut by the turn at T.
    assert len((t // 20).unique()) >= 49
    assert 0 <= int(t.min()) <= int(t.max()) < 1000
