"""Training state on disk: whole or not at all, without pickle."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pileupgen.errors import RunError, first_line
from pileupgen.files import folder_written_whole
from pileupgen.run import differing_keys

_log = logging.getLogger(__name__)

BEST = "best"
_HINT = "Free space and repeat the command: training continues from the checkpoint before."
_MAX_SHOWN = 100
_DAMAGE = (OSError, ValueError, KeyError, TypeError, SafetensorError)


@dataclass(frozen=True)
class Making:
    """Inputs that determine the result of a training."""

    fingerprint: str
    """Fingerprint of all of it; only checkpoints of the same one are continued."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Config and grid, so that a message can name what differs."""


@dataclass(frozen=True)
class TrainingState:
    """Everything a stage needs to continue."""

    step: int
    """Steps done."""
    tensors: dict[str, dict[str, Tensor]]
    """Named groups: network, ema, optimizer."""
    history: list[dict[str, float]]
    """Logged losses so far."""
    running: float = 0.0
    """Smoothed training loss."""
    seconds: float = 0.0
    """Wall time that the steps took."""


def save_state(folder: Path, state: TrainingState, making: Making, n_kept: int = 2) -> None:
    """Write ``folder/step-<n>`` and drop all but the last ``n_kept``.

    Raises
    ------
    OutputError
        If there is no space or permission; earlier checkpoints stay.
    """
    _write(folder / f"step-{state.step:08d}", state, making)
    for old in _checkpoints(folder)[:-n_kept]:
        shutil.rmtree(old, ignore_errors=True)


def save_best(folder: Path, state: TrainingState, making: Making) -> None:
    """Write ``folder/best``, the weights with the lowest held-out loss, in place of the older.

    Raises
    ------
    OutputError
        If there is no space or permission; the older stays.
    """
    _write(folder / BEST, state, making)


def load_state(folder: Path, making: Making) -> TrainingState | None:
    """The newest checkpoint that is whole, or None; what is passed over is logged as a warning.

    Raises
    ------
    RunError
        If that checkpoint is of another making: another config, geometry or sample.
    """
    for path in reversed(_checkpoints(folder)):
        state = _read(path, making, {"network", "ema"})
        if state is not None:
            return state
    return None


def load_best(folder: Path, making: Making) -> TrainingState | None:
    """What :func:`save_best` wrote, or None if there is none that is whole.

    Raises
    ------
    RunError
        If it is of another making.
    """
    path = folder / BEST
    return _read(path, making, {"ema"}) if path.is_dir() else None


def _write(path: Path, state: TrainingState, making: Making) -> None:
    with folder_written_whole(path, _HINT) as aside:
        for group, tensors in state.tensors.items():
            contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
            save_file(contiguous, aside / f"{group}.safetensors")
        meta = {
            "step": state.step,
            "made_from": making.fingerprint,
            "settings": making.settings,
            "history": state.history,
            "running": state.running,
            "seconds": state.seconds,
        }
        (aside / "state.json").write_text(json.dumps(meta))


def _read(path: Path, making: Making, needed: set[str]) -> TrainingState | None:
    try:
        meta: dict[str, Any] = json.loads((path / "state.json").read_text())
        made_from, settings = str(meta["made_from"]), dict(meta["settings"])
        tensors = {file.stem: load_file(file) for file in sorted(path.glob("*.safetensors"))}
        state = TrainingState(
            int(meta["step"]),
            tensors,
            list(meta["history"]),
            float(meta["running"]),
            float(meta["seconds"]),
        )
        missing = needed - tensors.keys()
    except _DAMAGE as error:
        _log.warning(
            "%s is damaged (%s); going on from the checkpoint before.", path, first_line(error)
        )
        return None
    if missing:
        _log.warning("%s lacks %s; going on from the checkpoint before.", path, min(missing))
        return None
    differing = differing_keys(settings, making.settings)
    # A preset's grid may change while its name, which is all that the config has, does not.
    is_other_grid = any(key.startswith("grid.") for key in differing)
    if made_from != making.fingerprint or is_other_grid:
        named = [text if len(text) <= _MAX_SHOWN else text.split(":")[0] for text in differing]
        shown = "; ".join(named[:5]) if named else "the image stores are other ones"
        raise RunError(
            f"{path} was made from something else: {shown}.",
            "Give --force to train again, or choose another --run.",
        )
    return state


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
