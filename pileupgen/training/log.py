"""Loss curves: JSON lines always, TensorBoard where it is installed."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pileupgen.errors import DependencyError
from pileupgen.files import write_whole


class LossLog:
    """The rows of one stage, written whole after every new one.

    Parameters
    ----------
    path : Path
        JSON lines; TensorBoard's events go to ``tensorboard/<stem>`` beside it.
    tensorboard : bool or None
        None: if it is installed.

    Raises
    ------
    DependencyError
        If TensorBoard is asked for and not installed.
    """

    def __init__(self, path: Path, tensorboard: bool | None) -> None:
        self._path = path
        self._writer: Any = None
        installed = importlib.util.find_spec("tensorboard") is not None
        if tensorboard and not installed:
            raise DependencyError(
                "training.tensorboard needs TensorBoard.", "pip install 'pileupgen[tensorboard]'"
            )
        self._wanted = installed if tensorboard is None else tensorboard

    def begin(self, step: int) -> None:
        """Open TensorBoard's file; what an interrupted run wrote after ``step`` is disowned."""
        if self._wanted:
            from torch.utils.tensorboard import SummaryWriter

            folder = self._path.parent / "tensorboard" / self._path.stem
            self._writer = SummaryWriter(str(folder), purge_step=step + 1)

    def write(self, rows: Sequence[dict[str, float]]) -> None:
        """Write all rows as JSON lines and add the last one to TensorBoard.

        Raises
        ------
        OutputError
            If there is no space or permission.
        """
        write_whole(self._path, "".join(json.dumps(row) + "\n" for row in rows))
        if self._writer is not None and rows:
            last = dict(rows[-1])
            step = int(last.pop("step"))
            for name, value in last.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close TensorBoard's file."""
        if self._writer is not None:
            self._writer.close()
