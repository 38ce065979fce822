"""Training on a budget of CPU time, which goes on where it was interrupted."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pileupgen.errors import TrainingError
from pileupgen.files import written_whole
from pileupgen.zoo.contract import Budget

SAVE_EVERY = 30.0
"""CPU seconds between two states on disk."""
WARMUP = 0.03
"""Fraction of the training in which the learning rate rises."""
CLIP = 1.0
"""Largest norm of a gradient."""
EMA_DECAY = 0.998


@dataclass(frozen=True)
class TrainingStep:
    """One step of a training."""

    number: int
    progress: float
    """Fraction of the budget that is used up."""
    rng: torch.Generator
    """Random numbers of this step: a function of the seed and the number alone."""


@dataclass(frozen=True)
class FitRecord:
    """How a training went."""

    steps: int
    seconds: float
    """CPU time."""
    losses: tuple[float, ...]
    """Loss of the first part, smoothed, at up to 100 steps."""


def train(
    network: nn.Module,
    parts: Sequence[nn.Module],
    losses: Sequence[Callable[[TrainingStep], Tensor]],
    budget: Budget,
    seed: int,
    *,
    rates: Sequence[float],
    momentum: float = 0.9,
) -> FitRecord:
    """Train the parts of a network in turns; at the end it has the average of its weights.

    AdamW with a learning rate that rises and falls like a cosine over the budget. The weights are
    averaged exponentially. The state is kept every ``SAVE_EVERY`` seconds and at the end.

    Parameters
    ----------
    network : nn.Module
        All that is trained.
    parts : sequence of nn.Module
        What each loss is for; in a step one after another.
    losses : sequence of callables
        The loss of a part, a scalar, given the step.
    budget : Budget
    seed : int
    rates : sequence of float
        Largest learning rates of the parts.
    momentum : float
        First coefficient of Adam.

    Raises
    ------
    TrainingError
        If a loss is not finite.
    OutputError
        If the state cannot be written.
    """
    optimisers = [
        torch.optim.AdamW(part.parameters(), lr=rate, betas=(momentum, 0.99), weight_decay=1e-4)
        for part, rate in zip(parts, rates, strict=True)
    ]
    average = {name: value.detach().clone() for name, value in network.named_parameters()}
    state = _State(network, optimisers, average)
    done = state.load(budget.state)
    steps, before, curve, running = done.steps, done.seconds, list(done.losses), float("nan")
    begun, saved = time.process_time(), 0.0
    network.train()
    while True:
        used = before + time.process_time() - begun
        progress = used / max(budget.seconds, 1e-9)
        if budget.max_steps is not None:
            progress = steps / budget.max_steps if budget.max_steps > 0 else 1.0
        if progress >= 1 or used >= budget.seconds:
            break
        rng = torch.Generator().manual_seed((seed * 1_000_003 + steps) & 0x7FFF_FFFF_FFFF_FFFF)
        step = TrainingStep(steps, progress, rng)
        for index, (part, loss) in enumerate(zip(parts, losses, strict=True)):
            found = loss(step)
            value = float(found.detach())
            if not math.isfinite(value):
                raise TrainingError(
                    f"The loss is {value} at step {steps}.", "Give another --seed or more events."
                )
            optimisers[index].zero_grad()
            torch.autograd.backward(found, inputs=list(part.parameters()))
            nn.utils.clip_grad_norm_(part.parameters(), CLIP)
            for group in optimisers[index].param_groups:
                group["lr"] = rates[index] * _shape(progress)
            optimisers[index].step()
            if index == 0:
                running = value if math.isnan(running) else 0.95 * running + 0.05 * value
        steps += 1
        decay = min(EMA_DECAY, 1 - (1 + steps) ** -0.75)
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                average[name].lerp_(parameter, 1 - decay)
        if len(curve) < math.floor(100 * progress) + 1:
            curve.append(running)
        if budget.state is not None and used - before - saved > SAVE_EVERY:
            saved = used - before
            state.save(budget.state, FitRecord(steps, used, tuple(curve)))
    used = before + time.process_time() - begun
    if budget.state is not None and steps > done.steps:
        # What comes after, as a second network or a calibration, may be interrupted, too.
        state.save(budget.state, FitRecord(steps, used, tuple(curve)))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(average[name])
    network.eval()
    return FitRecord(steps, used, tuple(curve))


def _shape(progress: float) -> float:
    """Learning rate over its largest value: a linear rise, then a cosine to a hundredth."""
    if progress < WARMUP:
        return (progress + 1e-3) / (WARMUP + 1e-3)
    rest = (progress - WARMUP) / (1 - WARMUP)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * rest))


@dataclass(frozen=True)
class _State:
    """All that a training needs to go on, as one safetensors file."""

    network: nn.Module
    optimisers: Sequence[torch.optim.Optimizer]
    average: dict[str, Tensor]

    def save(self, path: Path, done: FitRecord) -> None:
        tensors = {f"network.{name}": v for name, v in self.network.state_dict().items()}
        tensors |= {f"average.{name}": v for name, v in self.average.items()}
        for key, (of, name) in self._moments().items():
            tensors[key] = of[name]
        head = {"steps": done.steps, "seconds": done.seconds, "losses": done.losses}
        with written_whole(path) as part:
            held = {key: value.contiguous() for key, value in tensors.items()}
            save_file(held, part, {"done": json.dumps(head)})

    def load(self, path: Path | None) -> FitRecord:
        """Take the state of a file; what cannot be read, or is of another network, begins anew."""
        nothing = FitRecord(0, 0.0, ())
        if path is None or not path.is_file():
            return nothing
        try:
            with safe_open(path, "pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                head = json.loads(file.metadata()["done"])
            done = FitRecord(int(head["steps"]), float(head["seconds"]), tuple(head["losses"]))
            average = {name: tensors[f"average.{name}"] for name in self.average}
        except (SafetensorError, OSError, KeyError, TypeError, ValueError):
            return nothing
        own = self.network.state_dict()
        kept = {k.removeprefix("network."): v for k, v in tensors.items() if k[:8] == "network."}
        if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in kept.items()}:
            return nothing
        self.network.load_state_dict(kept)
        for name, value in self.average.items():
            value.copy_(average[name])
        for number, optimiser in enumerate(self.optimisers):
            for index, parameter in enumerate(_parameters(optimiser)):
                start = f"optimiser.{number}.{index}."
                optimiser.state[parameter] = {
                    key.removeprefix(start): value
                    for key, value in tensors.items()
                    if key.startswith(start)
                }
        return done

    def _moments(self) -> dict[str, tuple[dict[str, Tensor], str]]:
        return {
            f"optimiser.{number}.{index}.{name}": (optimiser.state[parameter], name)
            for number, optimiser in enumerate(self.optimisers)
            for index, parameter in enumerate(_parameters(optimiser))
            for name in optimiser.state[parameter]
        }


def _parameters(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]
