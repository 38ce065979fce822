"""One accelerate loop for all three networks."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from pileupgen.config import TrainingConfig
from pileupgen.errors import RunError
from pileupgen.progress import Advance, silent
from pileupgen.training.ahead import Ahead
from pileupgen.training.checkpoints import (
    Making,
    TrainingState,
    load_best,
    load_state,
    optimizer_tensors,
    restore_optimizer,
    save_best,
    save_state,
)
from pileupgen.training.data import Augmentation, Batch, HeldOut, Training
from pileupgen.training.log import LossLog
from pileupgen.training.objectives import Objective
from pileupgen.training.replicas import Replicas
from pileupgen.training.step import optimise, pieces, prepared, require_divisible, share

HELD_OUT_EVENTS = 128
"""Validation events per domain on which the held-out loss is taken."""
_N_EVALUATIONS = 6
_N_ROWS = 100
_PIECE = 64

History = list[dict[str, float]]


@dataclass(frozen=True)
class Stage:
    """What to train, on what, and where to keep it."""

    network: nn.Module
    objective: Objective
    sample: Training
    """Training split, as scores or latents."""
    held_out: HeldOut
    """Validation split."""
    steps: int
    augmentation: Augmentation
    folder: Path
    """Checkpoints."""
    log: Path
    """Loss curve, one JSON object a line."""
    making: Making
    """Inputs that determine the result; checkpoints of others are refused."""
    seconds: float = 0.0
    """Wall time spent on it before the first step."""


@dataclass(frozen=True)
class StageResult:
    """How a stage went."""

    history: History
    """step, loss, learning_rate, gradient_norm and, where it was taken, held_out, as logged."""
    seconds: float
    """Wall time that it took, over all resumes."""


def train_stage(
    stage: Stage,
    config: TrainingConfig,
    seed: int,
    accelerator: Accelerator,
    advance: Advance = silent,
) -> StageResult:
    """Train a network; at the end it holds the moving average of its weights.

    Continues from the newest whole checkpoint. The random numbers of a step are a function of
    (seed, step) alone, so a continued run equals an uninterrupted one and the order of events does
    not depend on the number of processes.

    Raises
    ------
    TrainingError
        If a loss or gradient is not finite.
    RunError
        If the checkpoints are of another config, geometry or sample.
    OutputError
        If a checkpoint cannot be written.
    """
    return TrainingLoop(stage, config, seed, accelerator).run(advance)


class TrainingLoop:
    """State of a stage in training: what changes from step to step."""

    def __init__(
        self, stage: Stage, config: TrainingConfig, seed: int, accelerator: Accelerator
    ) -> None:
        require_divisible(config.batch_size, accelerator)
        self.stage, self.config, self.seed, self.accelerator = stage, config, seed, accelerator
        # Fused: one call for all of a small network's many parameters.
        optimizer = torch.optim.AdamW(
            stage.network.parameters(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.network, self.optimizer = prepared(stage.network, optimizer, accelerator)
        # Decay at step s: min(ema_decay, 1 - (1 + s)^(-3/4)), so that the first steps are forgotten
        # soon; a stage of few steps never comes to ema_decay.
        self.average = EMAModel(
            stage.network.parameters(), decay=config.ema_decay, use_ema_warmup=True, power=0.75
        )
        self.average.to(accelerator.device)
        self.log = LossLog(stage.log, config.tensorboard)
        self.batches = Ahead(
            lambda step: global_batch(stage, step, config.batch_size, seed), stage.steps
        )
        self.replicas = Replicas(self.network, [], map)
        self.step, self.running, self.history = 0, 0.0, History()
        self.seconds = stage.seconds
        self._resume()

    def run(self, advance: Advance) -> StageResult:
        """Take the steps that are left, judge and save on the way; see :func:`train_stage`."""
        if self.accelerator.is_main_process:
            self.log.begin(self.step)
        replicas = Replicas.of(self.network, self.accelerator)
        with closing(self.batches), closing(self.log), replicas as self.replicas:
            self._take_steps(advance)
        self._finish()
        return StageResult(self.history, self.seconds)

    def _take_steps(self, advance: Advance) -> None:
        stage, config = self.stage, self.config
        every = config.evaluate_every or max(stage.steps // _N_EVALUATIONS, 1)
        each_row = max(stage.steps // _N_ROWS, 1)
        is_main = self.accelerator.is_main_process
        advance(self.step, **_latest(self.history))
        begun, first = time.perf_counter(), self.step
        before = self.seconds
        self.network.train()
        while self.step < stage.steps and not gave_up(self.history, config.patience):
            row = self.take_step()
            if self.step % every == 0 or self.step == stage.steps:
                row["held_out"] = evaluate(stage, self.average, self.seed, self.accelerator)
            if "held_out" in row or self.step % each_row == 0:
                self.history.append(row)
                if is_main:
                    self.log.write(self.history)
            if "held_out" in row and is_main and lowest(self.history) == row:
                weights = {"ema": self._averaged()}
                save_best(stage.folder, TrainingState(self.step, weights, []), stage.making)
            is_end = self.step == stage.steps or gave_up(self.history, config.patience)
            passed = time.perf_counter() - begun
            self.seconds = before + passed
            if self.step % config.checkpoint_every == 0 or is_end:
                self._save()
            rate = (self.step - first) * config.batch_size / passed
            advance(1, **_latest(self.history), loss=self.running, samples_per_second=rate)

    def take_step(self) -> dict[str, float]:
        """One step of network, optimiser and average; what there is to log of it."""
        stage, config = self.stage, self.config
        rate = learning_rate(self.step, stage.steps, config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch, drawn = self.batches(self.step)
        result = optimise(
            self.replicas,
            stage.objective,
            self.optimizer,
            batch,
            drawn,
            self.accelerator,
            grad_clip=config.grad_clip,
            micro_batch=config.micro_batch,
        )
        self.average.step(stage.network.parameters())
        self.running = result.loss if self.step == 0 else 0.95 * self.running + 0.05 * result.loss
        self.step += 1
        return {
            "step": self.step,
            "loss": self.running,
            "learning_rate": rate,
            "gradient_norm": result.gradient_norm,
        }

    def _finish(self) -> None:
        """Give the network its averaged weights, of the best evaluation if that is wanted."""
        self.accelerator.wait_for_everyone()
        stage, row = self.stage, lowest(self.history)
        if self.config.keep == "best" and row is not None and row["step"] < self.step:
            best = load_best(stage.folder, stage.making)
            if best is not None and best.step == row["step"]:
                self._take_average(best)
        self.average.copy_to(stage.network.parameters())
        stage.network.eval()

    def _resume(self) -> None:
        stage = self.stage
        state = load_state(stage.folder, stage.making)
        if state is None or state.step > stage.steps:
            return
        try:
            stage.network.load_state_dict(state.tensors["network"])
            inner = getattr(self.optimizer, "optimizer", self.optimizer)
            restore_optimizer(inner, state.tensors.get("optimizer", {}))
            self._take_average(state)
        except (RuntimeError, KeyError, ValueError) as error:
            raise RunError(
                f"The checkpoint in {stage.folder} does not fit the {stage.objective.name}.",
                "It was written by another version; give --force to train again.",
            ) from error
        self.average.optimization_step = state.step
        self.step, self.running, self.history = state.step, state.running, state.history
        self.seconds = state.seconds

    def _take_average(self, state: TrainingState) -> None:
        kept = state.tensors["ema"]
        old = self.average.shadow_params
        self.average.shadow_params = [kept[str(i)].to(p) for i, p in enumerate(old)]

    def _averaged(self) -> dict[str, Tensor]:
        return {str(i): p for i, p in enumerate(self.average.shadow_params)}

    def _save(self) -> None:
        self.accelerator.wait_for_everyone()
        if not self.accelerator.is_main_process:
            return
        inner = getattr(self.optimizer, "optimizer", self.optimizer)
        tensors = {
            "network": dict(self.stage.network.state_dict()),
            "ema": self._averaged(),
            "optimizer": optimizer_tensors(inner),
        }
        state = TrainingState(self.step, tensors, self.history, self.running, self.seconds)
        save_state(self.stage.folder, state, self.stage.making, self.config.keep_checkpoints)


def learning_rate(step: int, steps: int, config: TrainingConfig) -> float:
    """Linear warm-up, then a cosine to a hundredth (Loshchilov & Hutter 1608.03983, eq. 5)."""
    warmup = config.warmup * steps
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(steps - warmup, 1)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def lowest(history: Sequence[dict[str, float]]) -> dict[str, float] | None:
    """The row with the lowest held-out loss, the first of equals."""
    judged = [row for row in history if "held_out" in row]
    return min(judged, key=lambda row: row["held_out"]) if judged else None


def gave_up(history: Sequence[dict[str, float]], patience: int) -> bool:
    """Whether the last ``patience`` held-out losses were not below the lowest before them.

    >>> rows = [{"held_out": value} for value in (3.0, 2.0, 2.5, 2.0)]
    >>> gave_up(rows, 2), gave_up(rows, 3), gave_up(rows, 0)
    (True, False, False)
    """
    losses = [row["held_out"] for row in history if "held_out" in row]
    return 0 < patience < len(losses) and min(losses[-patience:]) >= min(losses[:-patience])


def global_batch(
    stage: Stage, step: int, batch_size: int, seed: int
) -> tuple[Batch, dict[str, Tensor]]:
    """Batch and random numbers of a step, the same in every process."""
    batch = stage.sample.batch(step, batch_size, seed, stage.augmentation)
    rng = torch.Generator().manual_seed(_mix(seed, step))
    return batch, stage.objective.draw(batch, rng)


@torch.no_grad()
def evaluate(stage: Stage, average: EMAModel, seed: int, accelerator: Accelerator) -> float:
    """Loss of the averaged weights on validation events, always with the same random numbers."""
    parameters = list(stage.network.parameters())
    average.store(parameters)
    average.copy_to(parameters)
    stage.network.eval()
    everything = stage.held_out.in_order(HELD_OUT_EVENTS, seed)
    drawn = stage.objective.draw(everything, torch.Generator().manual_seed(_mix(seed, -1)))
    total = torch.zeros((), dtype=torch.float32, device=accelerator.device)
    own, own_drawn = share(everything, drawn, accelerator)
    for batch, batch_drawn in pieces(own, own_drawn, _PIECE, accelerator.device):
        with accelerator.autocast():
            total += stage.objective.loss(stage.network, batch, batch_drawn).sum()
    average.restore(parameters)
    stage.network.train()
    return float(accelerator.reduce(total, "sum")) / len(everything)


def _latest(history: Sequence[dict[str, float]]) -> dict[str, float]:
    judged = [row["held_out"] for row in history if "held_out" in row]
    return {"held_out": judged[-1]} if judged else {}


def _mix(seed: int, step: int) -> int:
    return (seed * 1_000_003 + step + 1) & 0x7FFF_FFFF_FFFF_FFFF
