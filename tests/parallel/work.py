"""What the tests have workers do; workers import it by name."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pileupgen.errors import StoreError


def square(offset: int, task: int) -> int:
    return offset + task * task


def add_size(blob: bytes, task: int) -> int:
    return len(blob) + task


def repeat(n: int, task: int) -> bytes:
    return bytes([task]) * n


def square_slowly(folder: Path, task: int) -> int:
    """Leave a mark before and after."""
    (folder / f"begun-{task}-{os.getpid()}").touch()
    time.sleep(0.1)
    (folder / f"done-{task}-{os.getpid()}").touch()
    return task * task


def die_once(folder: Path, task: int) -> int:
    mark = folder / "died"
    if task == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return task * task


def die_once_each(folder: Path, task: int) -> int:
    mark = folder / f"died-{task}"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return task * task


def crash_with_a_word(_: Any) -> Callable[[Any], Any]:
    """What chunks are computed by, which dies with a last word to its standard error."""

    def compute(_: Any) -> Any:
        os.write(2, b"no table of cross sections\n")
        os.kill(os.getpid(), signal.SIGKILL)

    return compute


def die(_: None, task: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return task


def stay_or_die(folder: Path, task: int) -> int:
    """Stay when told to end, as one does that begins while others die; or die beside such a one."""
    mark = folder / "stays"
    if task == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        mark.touch()
        time.sleep(60)
    while not mark.exists():
        time.sleep(0.01)
    return die(None, task)


def fail(_: None, task: int) -> int:
    logging.getLogger("pileupgen").warning("task number %d", task // 2)
    if task == 5:
        raise StoreError("Number 5 is bad.", "Leave it out.")
    return task
