"""A scheduler and workers of Dask as processes of their own, as a farm has them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


class FarmProcesses:
    """A scheduler and its workers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "scheduler.json"
        # Port 0: a port found free here may be somebody else's by the time the scheduler asks.
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", "0")
        self.workers: list[subprocess.Popen[bytes]] = []

    @cached_property
    def address(self) -> str:
        """Where the scheduler listens, once it does."""
        deadline = time.monotonic() + 60
        while True:
            with suppress(FileNotFoundError, json.JSONDecodeError):
                return str(json.loads(self.file.read_text())["address"])
            assert self.scheduler.poll() is None, "the scheduler ended: see its log"
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def add_worker(self, **environment: str) -> subprocess.Popen[bytes]:
        arguments = ["--nthreads", "1", "--no-nanny", "--no-dashboard"]
        name = f"worker-{len(self.workers)}"
        worker = self._start("worker", self.address, *arguments, "--name", name, **environment)
        self.workers.append(worker)
        return worker

    def _start(self, command: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        settings = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
        if command == "scheduler":
            # Without one there is still a port: 8787 may be somebody else's.
            arguments = (*arguments, "--no-dashboard", "--dashboard-address", "127.0.0.1:0")
            arguments = (*arguments, "--scheduler-file", str(self.file))
        with (self.folder / f"{command}-{time.monotonic_ns()}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "distributed.cli.dask_" + command, *arguments],
                cwd=self.folder,
                env=settings,
                stdout=log,
                stderr=log,
            )

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[FarmProcesses]:
    pytest.importorskip("distributed", reason="needs the extra 'cluster'")
    processes = FarmProcesses(tmp_path)
    yield processes
    processes.close()
