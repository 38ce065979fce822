"""A scheduler and workers of Dask as processes of their own, as a farm has them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


class FarmProcesses:
    """A scheduler and its workers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
        self.file = folder / "scheduler.json"
        port = self.address.rsplit(":", 1)[1]
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", port)
        self.workers: list[subprocess.Popen[bytes]] = []

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

    def await_scheduler(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", int(self.address.rsplit(":", 1)[1]))):
                    return
            assert time.monotonic() < deadline
            time.sleep(0.05)

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
