"""Training state on disk: whole or not at all, without pickle."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pileupgen.run import folder_written_whole

_KEPT = 2


@dataclass(frozen=True)
class TrainingState:
    """Everything a stage needs to continue.

    Attributes
    ----------
    step : int
        Steps done.
    tensors : dict of dict of Tensor
        Named groups: network, ema, optimizer.
    history : list of dict
        Logged losses so far.
    """

    step: int
    tensors: dict[str, dict[str, Tensor]]
    history: list[dict[str, float]]


def save_state(folder: Path, state: TrainingState, made_from: str) -> None:
    """Write ``folder/step-<n>`` and drop all but the last two.

    Raises
    ------
    OutputError
        If there is no space or permission; earlier checkpoints stay.
    """
    hint = "Free space and repeat the command: training continues from the checkpoint before."
    with folder_written_whole(folder / f"step-{state.step:08d}", hint) as aside:
        for group, tensors in state.tensors.items():
            contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
            save_file(contiguous, aside / f"{group}.safetensors")
        meta = {"step": state.step, "made_from": made_from, "history": state.history}
        (aside / "state.json").write_text(json.dumps(meta))
    for old in _checkpoints(folder)[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def load_state(folder: Path, made_from: str) -> TrainingState | None:
    """The newest checkpoint that is whole and of the same making, or None."""
    for path in reversed(_checkpoints(folder)):
        with suppress(OSError, ValueError, KeyError, SafetensorError):
            meta: dict[str, Any] = json.loads((path / "state.json").read_text())
            if meta["made_from"] != made_from:
                continue
            tensors = {file.stem: load_file(file) for file in sorted(path.glob("*.safetensors"))}
            if {"network", "ema"} <= tensors.keys():
                return TrainingState(int(meta["step"]), tensors, meta["history"])
    return None


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*")) if folder.is_dir() else []


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's moments and step counts as a flat dict."""
    flat = {}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            flat[f"{index}.{name}"] = torch.as_tensor(value)
    return flat


def restore_optimizer(optimizer: torch.optim.Optimizer, flat: dict[str, Tensor]) -> None:
    """Inverse of :func:`optimizer_tensors`."""
    values: dict[int, dict[str, Tensor]] = {}
    for key, tensor in flat.items():
        index, name = key.split(".", 1)
        values.setdefault(int(index), {})[name] = tensor
    state = optimizer.state_dict()
    state["state"] = values
    optimizer.load_state_dict(state)
