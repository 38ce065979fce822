"""Batch systems, played by scripts: jobs are submitted, refused, run, die and are replaced."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("dask_jobqueue", reason="needs the extra 'cluster'")

import dask

from pileupgen.errors import ConfigError, FarmError, OutputError
from pileupgen.parallel import batch_jobs
from pileupgen.parallel.batch_jobs import BatchJobs
from pileupgen.parallel.dask_connection import start_cluster
from tests.parallel import work
from tests.parallel.batch_stand_in import StandIn
from tests.parallel.conftest import ROOT

LOOPBACK = {"interface": "lo"}


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    system = StandIn(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(batch_jobs, "QUEUE_SECONDS", 0.5)
    monkeypatch.setattr(batch_jobs, "_GRACE_SECONDS", 0.2)
    yield system
    system.close()


def await_that(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_job_that_ends_is_replaced_and_told(slurm: StandIn) -> None:
    settings = {**LOOPBACK, "queue": "short", "walltime": "00:10:00", "memory": "1GB"}
    said: list[str] = []
    logs = slurm.folder / "my logs"
    logs.mkdir()
    with start_cluster("slurm", 1, settings, 60, logs, said.append) as farm:
        (first,) = slurm.listed("submitted")
        results = farm.map(work.square_slowly, slurm.folder, range(12))
        assert next(results) == 0
        slurm.kill(first)
        assert list(results) == [n * n for n in range(1, 12)]
        _, second = slurm.listed("submitted")
        farm.release()
        await_that(lambda: not slurm.is_running(second))
        # Who gives the jobs back gets others when there is more to do.
        assert list(farm.map(work.square, 1, range(3))) == [1, 2, 5]
        third = slurm.listed("submitted")[-1]
        assert third != second
    await_that(lambda: not slurm.is_running(third))
    assert f"slurm took job {first}; logs in" in said[0]
    assert any(f"lost the worker of job {first} on 127.0.0.1" in line for line in said)
    assert any(f"job {first} left the queue; asking for as many again" in line for line in said)
    assert any(f"the worker of job {second} on 127.0.0.1 joined" in line for line in said)
    script = next(slurm.folder.glob("job-*.sh")).read_text()
    for line in ("-p short", "-t 00:10:00", "--cpus-per-task=1", "-J pileupgen"):
        assert f"#SBATCH {line}\n" in script
    assert "distributed.nanny" in (logs / f"pileupgen-{first}.log").read_text()


def test_jobs_cancelled_while_pending_are_replaced(slurm: StandIn) -> None:
    (slurm.folder / "held").touch()
    said: list[str] = []

    def tell(line: str) -> None:
        said.append(line)
        if "pending (Resources)" in line and not slurm.listed("cancelled"):
            subprocess.run(["scancel", *slurm.listed("pending")], check=True)
            (slurm.folder / "held").unlink()

    with start_cluster("slurm", 2, LOOPBACK, 60, tell=tell) as farm:
        assert list(farm.map(work.square, 0, range(5))) == [0, 1, 4, 9, 16]
        assert isinstance(farm._jobs, BatchJobs)
        for stream in farm._jobs.cluster.scheduler.stream_comms.values():
            assert stream.recent_message_log.maxlen == batch_jobs.LOG_LENGTH
    # The stand-in's jobs are numbered by process, and those numbers begin anew at times.
    first = sorted(slurm.listed("pending"), key=int)
    assert len(first) == 2
    assert len(slurm.listed("submitted")) == 2
    assert any(f"jobs {', '.join(first)} pending (Resources)" in line for line in said)


def test_jobs_that_always_end_at_once_are_given_up(slurm: StandIn) -> None:
    settings = {**LOOPBACK, "job_script_prologue": ["echo no such module; exit 3"]}
    with pytest.raises(FarmError, match=r"\d jobs in a row ended .* said: no such module") as found:
        start_cluster("slurm", 1, settings, 60, slurm.folder / "logs")
    assert ".log" in found.value.hint
    assert len(slurm.listed("submitted")) == batch_jobs.MAX_VAIN_JOBS


def test_jobs_that_are_always_cancelled_are_given_up(slurm: StandIn) -> None:
    (slurm.folder / "held").touch()

    def tell(line: str) -> None:
        if "pending" in line:
            subprocess.run(["scancel", *slurm.listed("pending")], check=True)

    with pytest.raises(FarmError, match="4 jobs in a row left the queue before they began"):
        start_cluster("slurm", 1, LOOPBACK, 60, slurm.folder / "logs", tell)


def test_a_refusal_ends_at_once_with_what_was_said(
    slurm: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    (slurm.folder / "refusing").touch()
    began = time.monotonic()
    with pytest.raises(FarmError, match="invalid partition specified: nowhere") as found:
        start_cluster("slurm", 20, {**LOOPBACK, "queue": "nowhere"})
    assert "submission failed: Invalid partition name" in found.value.message
    assert time.monotonic() - began < 20
    assert not caplog.records
    assert not slurm.listed("submitted")


def test_a_farm_works_with_the_jobs_that_were_taken(slurm: StandIn) -> None:
    """As with a limit of jobs for each user."""
    script = slurm.folder / "sbatch"
    limit = f'[ "$(wc -l < {slurm.folder}/submitted)" -lt 1 ] || touch {slurm.folder}/refusing'
    script.write_text(script.read_text().replace("#!/bin/sh", f"#!/bin/sh\n{limit}"))
    said: list[str] = []
    with start_cluster("slurm", 1, LOOPBACK, 60, tell=said.append) as farm:
        jobs = farm._jobs
        assert isinstance(jobs, BatchJobs)
        jobs._n_jobs = 2
        jobs.ask()
        results = list(farm.map(work.square_slowly, slurm.folder, range(25)))
        assert results == [n * n for n in range(25)]
    assert any("slurm takes no more jobs: sbatch: error: invalid" in line for line in said)


def test_a_machine_without_the_batch_system_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FarmError, match="There is no 'sbatch' on this machine"):
        start_cluster("slurm", 1)
    with pytest.raises(FarmError, match="There is no 'condor_submit' on this machine"):
        start_cluster("htcondor", 1)


# dask-jobqueue's half-made cluster complains when it is collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_settings_that_a_batch_system_does_not_know_are_refused(slurm: StandIn) -> None:
    with pytest.raises(ConfigError, match="--job has no 'gpus'"):
        start_cluster("slurm", 1, {"gpus": 3})
    with pytest.raises(ConfigError, match="--job has no 'wall_time'") as found:
        start_cluster("slurm", 1, {**LOOPBACK, "wall_time": "1:00:00"})
    assert "Did you mean 'walltime'" in found.value.hint
    with pytest.raises(ConfigError, match="--job has no 'asynchronous'"):
        start_cluster("slurm", 1, {"asynchronous": True})
    with pytest.raises(ConfigError, match="slurm cluster cannot be set up: Could not interpret"):
        start_cluster("slurm", 1, {**LOOPBACK, "memory": "much"})
    (slurm.folder / "held").touch()
    with pytest.raises(OutputError, match=r"Cannot write .*held/logs: Not a directory"):
        start_cluster("slurm", 1, {**LOOPBACK, "log_directory": f"{slurm.folder}/held/logs"})
    with pytest.raises(ConfigError, match=r"--job interface: 'nothing0'"):
        start_cluster("slurm", 1, {"interface": "nothing0"})
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


@pytest.mark.usefixtures("other_dashboard")
def test_the_dashboard_has_a_free_port_of_loopback_and_a_silent_queue_is_given_up(
    slurm: StandIn,
) -> None:
    (slurm.folder / "held").touch()
    jobs = BatchJobs("slurm", 1, LOOPBACK, None, lambda line: None)
    server = jobs.cluster.scheduler.http_server
    assert server.address == "127.0.0.1"
    assert server.port != 8787
    assert jobs.dashboard == f"http://127.0.0.1:{server.port}/status"
    jobs.close()
    with pytest.raises(FarmError, match="has had no worker for 1 s"):
        start_cluster("slurm", 1, LOOPBACK, patience=1.0)
    assert slurm.listed("pending") == slurm.listed("cancelled")


def test_dask_s_own_configuration_is_kept(slurm: StandIn) -> None:
    ours = {
        "jobqueue.slurm.job-extra-directives": ["--nice"],
        "jobqueue.slurm.scheduler-options": {"allowed_failures": 7},
        "jobqueue.slurm.memory": "3GB",
    }
    with dask.config.set(ours):
        jobs = BatchJobs("slurm", 1, LOOPBACK, slurm.folder / "100% logs", lambda line: None)
        script = jobs.cluster.job_script()
        jobs.close()
    assert jobs.cluster.scheduler.allowed_failures == 7
    assert "#SBATCH --nice\n" in script
    assert "#SBATCH --mem=3G\n" in script
    assert f'#SBATCH --output="{slurm.folder}/100%% logs/pileupgen-%j.log"\n' in script


WAITING = """
import sys
from pathlib import Path
from pileupgen.cli.ui.farm import with_farm
from pileupgen.cli.main import _interruptible, _report
from pileupgen.errors import PileupgenError
from tests.parallel import work

@with_farm
def command(farm=None):
    for n in farm.open(logs=Path("logs")).map(work.square_slowly, Path("."), range(1000)):
        print("done", n, flush=True)

try:
    _interruptible(command)(workers=2, cluster="slurm", job=["interface=lo"])
except PileupgenError as error:
    sys.exit(_report(error))
"""


@pytest.mark.parametrize(
    ("number", "words", "is_working"),
    [
        (signal.SIGINT, "Interrupted", True),
        (signal.SIGTERM, "Ended by SIGTERM", False),
        (signal.SIGHUP, "Ended by SIGHUP", False),
    ],
)
def test_signals_cancel_all_jobs_and_end_with_their_number(
    slurm: StandIn, number: signal.Signals, words: str, is_working: bool
) -> None:
    if not is_working:
        (slurm.folder / "held").touch()
    command = subprocess.Popen(
        # A shell that runs the suite in its background has it ignore Ctrl-C.
        ["env", "--default-signal", sys.executable, "-c", WAITING],
        cwd=slurm.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert command.stdout is not None
    awaited = "done" if is_working else "pending"
    next(line for line in command.stdout if awaited in line)
    command.send_signal(number)
    _, errors = command.communicate(timeout=60)
    assert command.returncode == 128 + number
    assert words in errors
    assert "Traceback" not in errors
    jobs = slurm.listed("submitted") + slurm.listed("pending")
    assert sorted(slurm.listed("cancelled")) == sorted(jobs)
    assert len(jobs) == 2
    await_that(lambda: not any(map(slurm.is_running, slurm.groups())))


EARLY = """
import asyncio, os, signal, threading, time
from pileupgen.parallel import batch_jobs
utils = batch_jobs.load("distributed").utils
runner = utils.LoopRunner(asynchronous=False)
runner.start()
runner.loop.add_callback(time.sleep, 0.5)
threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    utils.sync(runner.loop, asyncio.sleep, 1)
except KeyboardInterrupt:
    time.sleep(1)
    print("interrupted")
"""


def test_ctrl_c_before_the_loop_has_begun_its_work_leaves_no_traceback() -> None:
    done = subprocess.run(
        ["env", "--default-signal", sys.executable, "-c", EARLY],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout == "interrupted\n"
    assert "Traceback" not in done.stderr
