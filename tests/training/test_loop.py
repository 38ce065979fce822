from __future__ import annotations

import errno
import json
import math
import os
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import nn

from pileupgen.config import TrainingConfig
from pileupgen.diffusion.schedule import make_scheduler
from pileupgen.errors import OutputError, RunError, TrainingError
from pileupgen.models.networks.autoencoder import Autoencoder
from pileupgen.models.networks.denoiser import Denoiser
from pileupgen.models.networks.layers import standardise_conditions
from pileupgen.models.networks.ratio import RatioClassifier
from pileupgen.training import checkpoints
from pileupgen.training.checkpoints import Making
from pileupgen.training.data import Augmentation
from pileupgen.training.loop import Stage, evaluate, learning_rate, lowest, train_stage
from pileupgen.training.objectives import (
    FOCUS_SHARE,
    Denoising,
    DensityRatio,
    Reconstruction,
    even_timesteps,
    stratified_timesteps,
)
from pileupgen.training.step import new_accelerator

CONFIG = TrainingConfig(batch_size=16, checkpoint_every=4, mixed_precision="no", tensorboard=False)
MAKING = Making("made", {"config": {"denoiser": {"width": 8}}, "grid": {"n_phi": 12}})


class InterruptionError(Exception):
    pass


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return new_accelerator("cpu")


@pytest.fixture(scope="module")
def autoencoder() -> Autoencoder:
    torch.manual_seed(0)
    network = Autoencoder(2, 8, 12, width=8, n_blocks=1, n_heads=2).requires_grad_(False)
    standardise_conditions(network, torch.tensor([52.0, 60.0, 68.0]))
    return network


def denoiser_stage(autoencoder, sample, held_out, folder, steps=10, width=8) -> Stage:
    torch.manual_seed(1)
    network = Denoiser(8, 4, 6, width=width, n_blocks=1, patch=(2, 2))
    standardise_conditions(network, torch.tensor([52.0, 60.0, 68.0]))
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
        MAKING,
    )


def weights(network: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.flatten() for parameter in network.parameters()]).detach().clone()


@pytest.fixture
def torch_with():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("changes", "n_threads"),
    [
        ({}, 1),
        ({}, 3),
        ({"micro_batch": 4}, 1),
        ({"patience": 1, "evaluate_every": 2, "learning_rate": 0.05}, 1),
    ],
    ids=["plain", "threads", "accumulated", "stopped early"],
)
def test_a_killed_run_continues_bit_for_bit(
    autoencoder, sample, held_out, tmp_path, accelerator, changes, n_threads, torch_with
):
    torch_with(n_threads)
    config = CONFIG.model_copy(update=changes)
    whole = denoiser_stage(autoencoder, sample, held_out, tmp_path / "whole")
    history = train_stage(whole, config, 1, accelerator).history
    killed = denoiser_stage(autoencoder, sample, held_out, tmp_path / "killed")
    steps = []

    def die_at_seven(n=1, **_):
        steps.append(n)
        if sum(steps) == 7:
            raise InterruptionError

    with pytest.raises(InterruptionError):
        train_stage(killed, config, 1, accelerator, die_at_seven)
    meta = json.loads((tmp_path / "killed/checkpoints/step-00000004/state.json").read_text())
    continued = denoiser_stage(autoencoder, sample, held_out, tmp_path / "killed")
    first = []
    again = train_stage(continued, config, 1, accelerator, lambda n=1, **_: first.append(n))
    assert first[0] == 4  # the newest checkpoint before the kill
    assert torch.equal(weights(whole.network), weights(continued.network))
    assert again.history == history
    assert again.seconds > meta["seconds"] > 0


def test_time_spent_before_the_first_step_counts(
    autoencoder, sample, held_out, tmp_path, accelerator
):
    stage = denoiser_stage(autoencoder, sample, held_out, tmp_path, steps=4)
    assert train_stage(replace(stage, seconds=1000.0), CONFIG, 1, accelerator).seconds > 1000


@pytest.mark.parametrize("file", ["ema.safetensors", "network.safetensors", "state.json"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    autoencoder, sample, held_out, tmp_path, accelerator, caplog, file
):
    stage = denoiser_stage(autoencoder, sample, held_out, tmp_path)
    train_stage(stage, CONFIG, 1, accelerator)
    newest = sorted((tmp_path / "checkpoints").glob("step-*"))[-1]
    (newest / file).write_bytes(b"broken")
    begun = []
    train_stage(
        denoiser_stage(autoencoder, sample, held_out, tmp_path),
        CONFIG,
        1,
        accelerator,
        lambda n=1, **_: begun.append(n),
    )
    assert begun[0] == 8
    assert "step-00000010 is damaged" in caplog.text


def test_a_checkpoint_of_another_making_is_refused_and_what_differs_is_named(
    autoencoder, sample, held_out, tmp_path, accelerator
):
    stage = denoiser_stage(autoencoder, sample, held_out, tmp_path, steps=4)
    train_stage(stage, CONFIG, 1, accelerator)
    edges = {"eta_edges": [0.1 * i for i in range(50)]}
    for fingerprint, settings, words in (
        ("other", {"config": {"denoiser": {"width": 16}}}, r"denoiser.width: 8 → 16"),
        ("other", MAKING.settings, "image stores"),
        ("made", {**MAKING.settings, "grid": {"n_phi": 24}}, "n_phi: 12 → 24"),
        ("made", {**MAKING.settings, "grid": {"n_phi": 12, **edges}}, "else: grid.eta_edges\\."),
    ):
        other = replace(stage, making=Making(fingerprint, settings))
        with pytest.raises(RunError, match=words):
            train_stage(other, CONFIG, 1, accelerator)


def test_a_checkpoint_of_another_network_is_one_message(
    autoencoder, sample, held_out, tmp_path, accelerator
):
    train_stage(
        denoiser_stage(autoencoder, sample, held_out, tmp_path, steps=4), CONFIG, 1, accelerator
    )
    wider = denoiser_stage(autoencoder, sample, held_out, tmp_path, steps=4, width=16)
    with pytest.raises(RunError, match="does not fit the denoiser"):
        train_stage(wider, CONFIG, 1, accelerator)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(
    autoencoder, sample, held_out, tmp_path, accelerator
):
    stage = denoiser_stage(autoencoder, sample, held_out, tmp_path)

    def spoil(n=1, **_):
        if n and len(list((tmp_path / "checkpoints").glob("step-*"))):
            with torch.no_grad():
                stage.network.last.conv.weight.fill_(float("nan"))

    with pytest.raises(TrainingError, match="loss is nan"):
        train_stage(stage, CONFIG, 1, accelerator, spoil)
    kept = [path.name for path in (tmp_path / "checkpoints").glob("step-*")]
    assert kept == ["step-00000004"]


def test_a_full_disk_is_one_message_and_keeps_what_was_finished(
    autoencoder, sample, held_out, tmp_path, accelerator, monkeypatch
):
    stage = denoiser_stage(autoencoder, sample, held_out, tmp_path)
    whole = checkpoints.save_file

    def full_at_eight(tensors, path):
        if "step-00000008" in str(path):
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(tensors, path)

    monkeypatch.setattr(checkpoints, "save_file", full_at_eight)
    with pytest.raises(OutputError, match="No space left on device"):
        train_stage(stage, CONFIG, 1, accelerator)
    assert [p.name for p in (tmp_path / "checkpoints").glob("*step*")] == ["step-00000004"]
    monkeypatch.undo()
    begun = []
    again = denoiser_stage(autoencoder, sample, held_out, tmp_path)
    train_stage(again, CONFIG, 1, accelerator, lambda n=1, **_: begun.append(n))
    assert begun[0] == 4
    assert sum(begun) == 10


def test_the_last_checkpoints_and_the_best_are_kept(
    autoencoder, sample, held_out, tmp_path, accelerator
):
    stage = denoiser_stage(autoencoder, sample, held_out, tmp_path, steps=20)
    config = CONFIG.model_copy(update={"keep_checkpoints": 3})
    train_stage(stage, config, 1, accelerator)
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["best", "step-00000012", "step-00000016", "step-00000020"]


def test_the_best_weights_become_the_final_ones(
    autoencoder, sample, held_out, tmp_path, accelerator
):
    config = CONFIG.model_copy(
        update={"learning_rate": 0.1, "evaluate_every": 2, "ema_decay": 0.0, "warmup": 0.5}
    )
    finals = {}
    for keep in ("best", "last"):
        stage = denoiser_stage(autoencoder, sample, held_out, tmp_path / keep, steps=12)
        history = train_stage(
            stage, config.model_copy(update={"keep": keep}), 1, accelerator
        ).history
        average = EMAModel(stage.network.parameters())
        finals[keep] = evaluate(stage, average, 1, accelerator)
    best = lowest(history)["held_out"]
    assert best < history[-1]["held_out"] - 1e-3
    assert finals["best"] == pytest.approx(best, abs=1e-6)
    assert finals["last"] == pytest.approx(history[-1]["held_out"], abs=1e-6)


def test_a_stage_stops_when_the_held_out_loss_has_ceased_to_fall(
    autoencoder, sample, held_out, tmp_path, accelerator
):
    config = CONFIG.model_copy(
        update={"learning_rate": 0.1, "evaluate_every": 2, "ema_decay": 0.0, "patience": 2}
    )
    stage = denoiser_stage(autoencoder, sample, held_out, tmp_path, steps=200)
    history = train_stage(stage, config, 1, accelerator).history
    losses = [row["held_out"] for row in history if "held_out" in row]
    assert history[-1]["step"] < 200
    assert min(losses[-2:]) >= min(losses[:-2])


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
        MAKING,
    )
    return train_stage(
        stage, TrainingConfig(mixed_precision="no", tensorboard=False), 1, accelerator
    ).history


def test_the_autoencoder_learns_to_reconstruct(sample, held_out, tmp_path, accelerator):
    torch.manual_seed(2)
    network = Autoencoder(2, 8, 12, latent_channels=4, width=16, n_blocks=1, n_heads=2)
    objective = Reconstruction((4, 4, 6), 0.1, (4, 6))
    history = fit(network, objective, sample, held_out, tmp_path, accelerator)
    judged = [row["held_out"] for row in history if "held_out" in row]
    assert judged[-1] < judged[0] - 0.05
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


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_timesteps_are_even_in_the_angle_whatever_the_shift(shift):
    """What is learned does not depend on how a schedule numbers its noise levels."""
    scheduler = make_scheduler(1000, shift=shift)
    rng = torch.Generator().manual_seed(2)
    t = torch.cat([even_timesteps(64, scheduler, rng) for _ in range(300)])
    angle = torch.arccos(scheduler.alphas_cumprod.double().sqrt())
    found = angle[t] / (math.pi / 2)
    counts = torch.histc(found.float(), 10, 0, 1)
    np.testing.assert_allclose(counts / len(t), 0.1, atol=0.02)
    if shift > 1:
        assert float((t < 500).double().mean()) > 0.6


def test_most_timesteps_lie_up_to_the_focus_and_are_even_on_either_side():
    scheduler = make_scheduler(1000, shift=2.25)
    rng = torch.Generator().manual_seed(3)
    t = torch.cat([even_timesteps(64, scheduler, rng, 300) for _ in range(300)])
    angle = torch.arccos(scheduler.alphas_cumprod.double().sqrt())
    assert float((t <= 300).double().mean()) == pytest.approx(FOCUS_SHARE, abs=0.01)
    for part, (low, high) in ((t[t <= 300], (0, 300)), (t[t > 300], (300, 999))):
        found = (angle[part] - angle[low]) / (angle[high] - angle[low])
        counts = torch.histc(found.float(), 5, 0, 1) / len(part)
        np.testing.assert_allclose(counts, 0.2, atol=0.03)


def test_the_average_forgets_the_first_steps_and_never_decays_slower_than_said(
    autoencoder, sample, held_out, tmp_path, accelerator
):
    """Decay at step s is min(ema_decay, 1 - (1 + s)^(-3/4)): 0, 0.405, then ema_decay = 0.5."""
    config = CONFIG.model_copy(update={"ema_decay": 0.5, "keep": "last"})
    stage = denoiser_stage(autoencoder, sample, held_out, tmp_path, steps=5)
    seen = []

    def keep(n=1, **_):
        if n == 1:
            seen.append(weights(stage.network).clone())

    train_stage(stage, config, 1, accelerator, keep)
    assert len(seen) == 5
    average = torch.zeros_like(seen[0])
    for decay, values in zip((0, 1 - 2**-0.75, 0.5, 0.5, 0.5), seen, strict=True):
        average = decay * average + (1 - decay) * values
    torch.testing.assert_close(weights(stage.network), average, rtol=1e-5, atol=1e-6)
    assert not torch.equal(average, seen[-1])
