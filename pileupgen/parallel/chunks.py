"""Work in chunks, spread over processes, with results that do not depend on how it was spread.

One server process prepares what the chunks share (an initialised generator, a pool in memory) and
forks a child per chunk. Every child begins from the same prepared state and seeds itself from its
chunk, so neither the order nor the number of processes can show in the result; a crash of Fortran
code ends one child and no more; and the caller's own process, with its threads, is never forked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

import pileupgen
from pileupgen import errors
from pileupgen.errors import GeneratorError, PileupgenError
from pileupgen.files import written_whole

Arrays = dict[str, NDArray[Any]]
Work = Callable[[Mapping[str, Any]], Mapping[str, NDArray[Any]]]
"""Computes the arrays of one chunk."""


def run_chunks(
    task: Mapping[str, Any], chunks: Sequence[Mapping[str, Any]], workers: int, scratch: Path
) -> Iterator[Arrays]:
    """Run a task over chunks, each in a process of its own.

    Parameters
    ----------
    task : mapping
        ``{"task": "module:function", …}``: the function that prepares the task, given this
        mapping, and what else it needs. Anything JSON can hold.
    scratch : Path
        An existing, empty folder for results under way; the working directory of all processes.

    Yields
    ------
    dict of arrays
        The result of each chunk, in order.

    Raises
    ------
    GeneratorError
        If a process crashes, or this system cannot fork.
    PileupgenError
        What a process itself raised.
    """
    if not hasattr(os, "fork"):
        raise GeneratorError(
            "pileupgen simulate needs a system that can fork processes: Linux or macOS.",
            "On Windows use WSL.",
        )
    scratch = scratch.resolve()
    log_path = scratch / "log"
    with log_path.open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-P", "-m", "pileupgen.parallel.chunk_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=scratch,
            env=_environment(),
        )
    try:
        job = {**task, "chunks": list(chunks), "workers": workers, "folder": str(scratch)}
        with suppress(BrokenPipeError), _pipe(server.stdin) as stdin:
            stdin.write(json.dumps(job).encode())
        reports = _pipe(server.stdout)
        finished: set[int] = set()
        for index in range(len(chunks)):
            while index not in finished:
                finished.add(_next_report(reports.readline(), log_path))
            path = scratch / f"{index}.npz"
            with np.load(path) as arrays:
                yield dict(arrays)
            path.unlink()
    finally:
        # A server that is still at work ends its children when it is asked to end.
        server.terminate()
        server.wait()
        _pipe(server.stdout).close()


def _pipe(end: IO[bytes] | None) -> IO[bytes]:
    if end is None:
        raise GeneratorError("The simulation process has no pipe to its caller.")
    return end


def _environment() -> dict[str, str]:
    """One thread per process, and this very pileupgen."""
    package = str(Path(pileupgen.__file__).parents[1])
    paths = [package, os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
    }


def _next_report(line: bytes, log: Path) -> int:
    """Tell which chunk a line reports as done, or raise the error it reports."""
    if not line:
        raise GeneratorError(f"A simulation process ended without a message. {_tail(log)}".strip())
    report = json.loads(line)
    if "done" in report:
        return int(report["done"])
    kind = getattr(errors, str(report["error"]), GeneratorError)
    if not issubclass(kind, PileupgenError):
        kind = GeneratorError
    message = str(report["message"])
    if report.get("show_log"):
        message = f"{message} {_tail(log)}".strip()
    raise kind(message, str(report.get("hint", "")))


def _tail(log: Path, n_lines: int = 5) -> str:
    """Quote the last words of the processes, on one line."""
    with suppress(OSError):
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
        return " | ".join([line for line in lines if line][-n_lines:])[-600:]
    return ""


def save(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays as an NPZ file, by their names.

    Raises
    ------
    OutputError
        If the disk is full or the folder cannot be written.
    """
    columns: dict[str, Any] = dict(arrays)
    # An open file, as NumPy would add ".npz" to the name.
    with written_whole(path) as aside, aside.open("wb") as file:
        np.savez(file, **columns)
