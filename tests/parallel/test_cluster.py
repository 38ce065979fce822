"""Batch systems, played by two scripts: jobs are submitted, run, die and are replaced."""

from __future__ import annotations

import gc
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("dask_jobqueue", reason="needs the extra 'cluster'")

import dask

from pileupgen.errors import ConfigError, FarmError
from pileupgen.parallel.dask_farm import start_cluster
from tests.parallel import work
from tests.parallel.conftest import ROOT

SBATCH = """#!/bin/sh
cp "$1" {folder}/job-$$.sh
setsid sh {folder}/job-$$.sh > {folder}/job-$$.log 2>&1 &
echo $! >> {folder}/jobs
echo "Submitted batch job $!"
"""
# Only ever a job that sbatch has started: "kill -- -1" would end every process of the user.
SCANCEL = """#!/bin/sh
if [ "$1" -gt 1 ] && grep -qx -- "$1" {folder}/jobs; then kill -- "-$1" || true; fi
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        script = tmp_path / name
        script.write_text(text.format(folder=tmp_path))
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    yield tmp_path
    for job in jobs(tmp_path):
        try:
            os.killpg(job, signal.SIGKILL)
        except ProcessLookupError:
            continue


def jobs(folder: Path) -> list[int]:
    path = folder / "jobs"
    found = [int(line) for line in path.read_text().split()] if path.exists() else []
    assert all(job > 1 for job in found)
    return found


def test_a_job_that_ends_is_replaced(slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pileupgen.parallel.dask_farm.REFILL_SECONDS", 0.5)
    settings = {"interface": "lo", "queue": "short", "walltime": "00:10:00", "memory": "1GB"}
    quickly = dask.config.set({"distributed.deploy.lost-worker-timeout": "1s"})
    with quickly, start_cluster("slurm", 1, settings, patience=60) as farm:
        (first,) = jobs(slurm)
        results = farm.map(work.square_slowly, slurm, range(12))
        assert next(results) == 0
        os.killpg(first, signal.SIGKILL)
        assert list(results) == [n * n for n in range(1, 12)]
        assert len(jobs(slurm)) >= 2
        script = next(slurm.glob("job-*.sh")).read_text()
        for line in ("#SBATCH -p short", "#SBATCH -t 00:10:00", "#SBATCH --cpus-per-task=1"):
            assert line in script
    deadline = time.monotonic() + 30
    while any(is_running(job) for job in jobs(slurm)):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_running(job: int) -> bool:
    try:
        os.killpg(job, 0)
    except ProcessLookupError:
        return False
    return True


# dask-jobqueue's half-made cluster complains when it is collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_settings_that_a_batch_system_does_not_know_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"slurm cluster cannot be set up: .*gpus"):
        start_cluster("slurm", 1, {"gpus": 3})
    gc.collect()


@pytest.fixture
def other_dashboard() -> Iterator[None]:
    """Somebody else's Dask on the same login node."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("0.0.0.0", 8787))
            taken.listen()
        except OSError:
            pass  # then it is taken already
        yield


# distributed forgets the socket of the port that it could not have.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("other_dashboard")
def test_a_queue_that_starts_nothing_is_given_up(slurm: Path) -> None:
    (slurm / "sbatch").write_text("#!/bin/sh\necho 'Submitted batch job 999999999'\n")
    (slurm / "scancel").write_text("#!/bin/sh\nexit 0\n")
    with pytest.raises(FarmError, match="has had no worker for 1 s"):
        start_cluster("slurm", 1, {"interface": "lo"}, patience=1.0)
    gc.collect()
