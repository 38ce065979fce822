"""The server process of :mod:`pileupgen.parallel.chunks`, run as ``python -m``.

Reads one JSON job from standard input; writes one JSON line per finished chunk, or one with an
error, to standard output. What generators print goes to standard error. The job names the function
that prepares it, as ``module:function``; that takes the job and returns what computes one chunk.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO

import numpy as np

from pileupgen.errors import PileupgenError
from pileupgen.parallel.chunks import Work, save


def serve(job: Mapping[str, Any], channel: TextIO) -> int:
    """Prepare, fork a child per chunk, report; return the exit code."""
    try:
        module, _, prepare = str(job["task"]).partition(":")
        work: Work = getattr(importlib.import_module(module), prepare)(job)
    except Exception as error:
        _tell(channel, _describe(error))
        return 1
    folder = Path(job["folder"])
    waiting = list(enumerate(job["chunks"]))[::-1]
    running: dict[int, int] = {}
    parent = os.getppid()
    _end_with_children(running)
    while waiting or running:
        while waiting and len(running) < job["workers"]:
            index, chunk = waiting.pop()
            # No SIGTERM between the birth of a child and its entry, or nobody would end it.
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
            running[_fork(work, chunk, folder, index)] = index
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        child, status = os.wait()
        index = running.pop(child)
        if status != 0:
            _tell(channel, _failure(folder / f"{index}.error", status))
            _kill(running)
            return 1
        _tell(channel, {"done": index})
        if os.getppid() != parent:
            _kill(running)
            return 1
    return 0


def _fork(work: Work, chunk: Mapping[str, Any], folder: Path, index: int) -> int:
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        _run_child(work, chunk, folder, index)
    return child


def _run_child(work: Work, chunk: Mapping[str, Any], folder: Path, index: int) -> NoReturn:
    code = 1
    try:
        save(folder / f"{index}.npz", work(chunk))
        code = 0
    except BaseException as error:
        (folder / f"{index}.error").write_text(json.dumps(_describe(error)))
    finally:
        sys.stderr.flush()
        os._exit(code)


def _failure(path: Path, status: int) -> dict[str, Any]:
    """Say what ended a child."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        code = os.waitstatus_to_exitcode(status)
        what = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return {
            "error": "GeneratorError",
            "message": f"A simulation process {what}.",
            "hint": "Repeat it; if memory is short, use fewer --workers.",
            "show_log": True,
        }


def _describe(error: BaseException) -> dict[str, Any]:
    if isinstance(error, PileupgenError):
        return {"error": type(error).__name__, "message": error.message, "hint": error.hint}
    traceback.print_exception(error, file=sys.stderr)
    return {
        "error": "GeneratorError",
        "message": f"A simulation process failed: {type(error).__name__}: {error}.",
    }


def _tell(channel: TextIO, report: Mapping[str, Any]) -> None:
    channel.write(json.dumps(report) + "\n")
    channel.flush()


def _kill(running: Mapping[int, int]) -> None:
    """End the children, and return when they write no more."""
    for child in running:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    for child in running:
        with suppress(ChildProcessError):
            os.waitpid(child, 0)


def _end_with_children(running: Mapping[int, int]) -> None:
    """On SIGTERM end the children first. Ctrl-C is the caller's to handle."""

    def end(_signal: int, _frame: object) -> None:
        _kill(running)
        os._exit(1)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def main() -> int:
    """Serve one job."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    np.seterr(all="ignore")
    return serve(json.load(sys.stdin), channel)


if __name__ == "__main__":
    sys.exit(main())
