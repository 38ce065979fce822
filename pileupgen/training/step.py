"""One optimiser step: the global batch shared out, its gradients summed as if it were whole."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pileupgen.errors import ConfigError, TrainingError
from pileupgen.models.networks.precision import has_bf16
from pileupgen.training.data import Batch
from pileupgen.training.objectives import Objective
from pileupgen.training.replicas import Replicas

Drawn = dict[str, Tensor]


@dataclass(frozen=True)
class StepResult:
    """Mean loss of the global batch and the norm of its gradient before clipping."""

    loss: float
    gradient_norm: float


def new_accelerator(device: str, mixed_precision: str = "no") -> Accelerator:
    """Make an accelerator, also where a process has trained before with another precision.

    Precision ``auto`` is bfloat16 where the device has it.
    """
    if mixed_precision == "auto":
        mixed_precision = "bf16" if has_bf16(device) else "no"
    AcceleratorState._reset_state()
    return Accelerator(cpu=device == "cpu", mixed_precision=mixed_precision)


def prepared(
    network: nn.Module, optimizer: torch.optim.Optimizer, accelerator: Accelerator
) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Wrap a network and its optimiser for an accelerator.

    A process evaluates the network as often as its events need: nothing may wait for the others in
    forward, so buffers, which are constant, are not sent around.
    """
    wrapped, wrapped_optimizer = accelerator.prepare(network, optimizer)
    if isinstance(wrapped, DistributedDataParallel):
        # The argument of this name is deprecated and its successor unknown to accelerate; the
        # attribute is read by every version.
        wrapped.broadcast_buffers = False
    return wrapped, wrapped_optimizer


def require_divisible(batch_size: int, accelerator: Accelerator) -> None:
    """Refuse a batch that processes cannot share alike.

    Raises
    ------
    ConfigError
        If the batch size is not a multiple of the number of processes.
    """
    n = accelerator.num_processes
    if batch_size % n:
        raise ConfigError(
            f"training.batch_size {batch_size} cannot be shared among {n} processes.",
            f"Choose a multiple of {n}.",
        )


def share(batch: Batch, drawn: Drawn, accelerator: Accelerator) -> tuple[Batch, Drawn]:
    """Consecutive part, for this process, of a global batch and of its random numbers."""
    n = -(-len(batch) // accelerator.num_processes)
    rows = slice(accelerator.process_index * n, (accelerator.process_index + 1) * n)
    return batch.rows(rows), {name: values[rows] for name, values in drawn.items()}


def pieces(
    batch: Batch, drawn: Drawn, size: int, device: torch.device
) -> Iterator[tuple[Batch, Drawn]]:
    """Consecutive parts of at most ``size`` events, on the device one after another."""
    for begin in range(0, len(batch), size):
        rows = slice(begin, begin + size)
        yield (
            batch.rows(rows).to(device),
            {name: values[rows].to(device) for name, values in drawn.items()},
        )


def optimise(
    replicas: Replicas,
    objective: Objective,
    optimizer: Any,
    batch: Batch,
    drawn: Drawn,
    accelerator: Accelerator,
    *,
    grad_clip: float,
    micro_batch: int | None = None,
) -> StepResult:
    """Take a step on the mean loss of a global batch.

    Over how many processes and pieces the batch is spread changes the result by rounding only.
    Nothing is changed if loss or gradient is not finite.

    Parameters
    ----------
    replicas : Replicas
        Replicas of the network as ``accelerator.prepare`` returns it.
    batch, drawn : Batch, dict of Tensor
        The global batch and its random numbers.
    grad_clip : float
        Largest norm of the gradient.
    micro_batch : int or None
        Events held at once by a replica; None deals this process's share out evenly.

    Raises
    ------
    TrainingError
        If loss or gradient is not finite; names the events.
    """
    own, own_drawn = share(batch, drawn, accelerator)
    size = micro_batch or -(-len(own) // len(replicas))
    parts = list(pieces(own, own_drawn, size, accelerator.device))

    def backward(network: nn.Module, index: int) -> Tensor:
        part, part_drawn = parts[index]
        is_last = index + 1 == len(parts)
        with contextlib.nullcontext() if is_last else accelerator.no_sync(network):
            with accelerator.autocast():
                loss = objective.loss(network, part, part_drawn)
            # Processes' gradients are averaged, pieces' are summed.
            accelerator.backward(loss.sum() * (accelerator.num_processes / len(batch)))
        return loss.detach()

    per_event = torch.cat(replicas.gradients(backward, len(parts)))
    total = accelerator.reduce(per_event.sum(), "sum")
    value = float(total) / len(batch)
    if not math.isfinite(value):
        _stop(f"{objective.name}'s loss is {value}", own.rows(~torch.isfinite(per_event).cpu()))
    norm = float(accelerator.clip_grad_norm_(replicas.network.parameters(), grad_clip))
    if not math.isfinite(norm):
        _stop(f"{objective.name}'s gradient is {norm}", own)
    optimizer.step()
    optimizer.zero_grad()
    return StepResult(value, norm)


def _stop(what: str, bad: Batch) -> None:
    named = [part for part in gather_object([bad.names()]) if part]
    raise TrainingError(
        f"The {what} for events {'; '.join(named)}.",
        "Look at these events, or lower training.learning_rate; the last good checkpoint is kept.",
    )
