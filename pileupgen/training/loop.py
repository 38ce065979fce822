"""One accelerate loop for all three networks."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from pileupgen.config import TrainingConfig
from pileupgen.errors import TrainingError
from pileupgen.run import write_whole
from pileupgen.training.checkpoints import (
    TrainingState,
    load_state,
    optimizer_tensors,
    restore_optimizer,
    save_state,
)
from pileupgen.training.data import Augmentation, Batch, ScoreSample
from pileupgen.training.objectives import Objective

HELD_OUT_EVENTS = 128
"""Validation events per domain on which the held-out loss is taken."""
_N_EVALUATIONS = 6


@dataclass(frozen=True)
class Stage:
    """What to train, on what, and where to keep it.

    Attributes
    ----------
    network : nn.Module
    objective : Objective
    sample, held_out : ScoreSample
        Training and validation splits.
    steps : int
    augmentation : Augmentation
    folder : Path
        Checkpoints.
    log : Path
        Loss curve, one JSON object a line.
    made_from : str
        Fingerprint of all that determines the result; other checkpoints are not continued.
    """

    network: nn.Module
    objective: Objective
    sample: ScoreSample
    held_out: ScoreSample
    steps: int
    augmentation: Augmentation
    folder: Path
    log: Path
    made_from: str


def train_stage(
    stage: Stage,
    config: TrainingConfig,
    seed: int,
    accelerator: Accelerator,
    advance: Callable[..., None] = lambda n=1, note="": None,
) -> list[dict[str, float]]:
    """Train a network; at the end it holds the moving average of its weights.

    Continues from the newest whole checkpoint of the same making. The random numbers of a step
    are a function of (seed, step) alone, so a continued run equals an uninterrupted one and the
    order of events does not depend on the number of processes.

    Parameters
    ----------
    stage : Stage
    config : TrainingConfig
    seed : int
    accelerator : Accelerator
    advance : callable
        Told the steps done and a note with the losses.

    Returns
    -------
    list of dict
        step, loss, held_out and learning_rate, as logged.

    Raises
    ------
    TrainingError
        If the loss is not finite.
    OutputError
        If a checkpoint cannot be written.
    """
    optimizer = torch.optim.AdamW(
        stage.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    network, optimizer = accelerator.prepare(stage.network, optimizer)
    average = EMAModel(
        stage.network.parameters(), decay=config.ema_decay, use_ema_warmup=True, power=0.75
    )
    average.to(accelerator.device)
    step, history = _continue(stage, optimizer, average)
    advance(step)
    running, every = 0.0, max(stage.steps // _N_EVALUATIONS, 1)
    network.train()
    while step < stage.steps:
        rate = learning_rate(step, stage.steps, config)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = _step_loss(stage, network, step, config.batch_size, seed, accelerator)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(network.parameters(), config.grad_clip)
        optimizer.step()
        optimizer.zero_grad()
        average.step(stage.network.parameters())
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"The {stage.objective.name}'s loss is {value} at step {step}.",
                "Lower training.learning_rate; the last good checkpoint is kept.",
            )
        running = value if step == 0 else 0.95 * running + 0.05 * value
        step += 1
        if step % every == 0 or step == stage.steps:
            held_out = evaluate(stage, average, seed, accelerator)
            history.append(
                {"step": step, "loss": running, "held_out": held_out, "learning_rate": rate}
            )
        note = f"loss {running:.4f}" + (
            f" held-out {history[-1]['held_out']:.4f}" if history else ""
        )
        advance(1, note)
        if step % config.checkpoint_every == 0 or step == stage.steps:
            _save(stage, step, optimizer, average, history, accelerator)
    average.copy_to(stage.network.parameters())
    stage.network.eval()
    if accelerator.is_main_process:
        write_whole(stage.log, "".join(json.dumps(row) + "\n" for row in history))
    return history


def learning_rate(step: int, steps: int, config: TrainingConfig) -> float:
    """Linear warm-up, then a cosine to a hundredth (Loshchilov & Hutter 1608.03983, eq. 5)."""
    warmup = config.warmup * steps
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(steps - warmup, 1)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def _share(
    batch: Batch, drawn: dict[str, Tensor], accelerator: Accelerator
) -> tuple[Batch, dict[str, Tensor]]:
    index, n = accelerator.process_index, accelerator.num_processes
    device = accelerator.device
    return batch.part(index, n).to(device), {k: v[index::n].to(device) for k, v in drawn.items()}


def _step_loss(
    stage: Stage,
    network: nn.Module,
    step: int,
    batch_size: int,
    seed: int,
    accelerator: Accelerator,
) -> Tensor:
    batch = stage.sample.batch(step, batch_size, seed, stage.augmentation)
    rng = torch.Generator().manual_seed(_mix(seed, step))
    batch, drawn = _share(batch, stage.objective.draw(batch, rng), accelerator)
    with accelerator.autocast():
        return stage.objective.loss(network, batch, drawn).mean()


@torch.no_grad()
def evaluate(stage: Stage, average: EMAModel, seed: int, accelerator: Accelerator) -> float:
    """Loss of the averaged weights on validation events, always with the same random numbers."""
    parameters = list(stage.network.parameters())
    average.store(parameters)
    average.copy_to(parameters)
    stage.network.eval()
    everything = stage.held_out.in_order(HELD_OUT_EVENTS, seed)
    drawn = stage.objective.draw(everything, torch.Generator().manual_seed(_mix(seed, -1)))
    total = 0.0
    for begin in range(0, len(everything), 64):
        rows = slice(begin, begin + 64)
        batch = Batch(everything.scores[rows], everything.label[rows], everything.mu[rows])
        device = accelerator.device
        with accelerator.autocast():
            loss = stage.objective.loss(
                stage.network, batch.to(device), {k: v[rows].to(device) for k, v in drawn.items()}
            )
        total += float(loss.sum())
    average.restore(parameters)
    stage.network.train()
    return total / len(everything)


def _mix(seed: int, step: int) -> int:
    return (seed * 1_000_003 + step + 1) & 0x7FFF_FFFF_FFFF_FFFF


def _continue(
    stage: Stage, optimizer: Any, average: EMAModel
) -> tuple[int, list[dict[str, float]]]:
    state = load_state(stage.folder, stage.made_from)
    if state is None or state.step > stage.steps:
        return 0, []
    stage.network.load_state_dict(state.tensors["network"])
    inner = getattr(optimizer, "optimizer", optimizer)
    restore_optimizer(inner, state.tensors.get("optimizer", {}))
    kept = state.tensors["ema"]
    average.shadow_params = [kept[str(i)].to(p) for i, p in enumerate(average.shadow_params)]
    average.optimization_step = state.step
    return state.step, state.history


def _save(
    stage: Stage,
    step: int,
    optimizer: Any,
    average: EMAModel,
    history: list[dict[str, float]],
    accelerator: Accelerator,
) -> None:
    accelerator.wait_for_everyone()
    if not accelerator.is_main_process:
        return
    inner = getattr(optimizer, "optimizer", optimizer)
    tensors = {
        "network": dict(stage.network.state_dict()),
        "ema": {str(i): p for i, p in enumerate(average.shadow_params)},
        "optimizer": optimizer_tensors(inner),
    }
    save_state(stage.folder, TrainingState(step, tensors, history), stage.made_from)
