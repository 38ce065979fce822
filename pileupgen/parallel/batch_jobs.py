"""Dask workers as jobs of a batch system: submitted, watched in its queue, replaced, cancelled."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pileupgen.errors import ConfigError, FarmError, did_you_mean, first_line, import_extra
from pileupgen.files import output_errors
from pileupgen.parallel.batch_systems import (
    BATCH_SYSTEMS,
    COMMAND_SECONDS,
    BatchSystem,
    QueuedJob,
)

JOB_NAME = "pileupgen"
QUEUE_SECONDS = 10.0
"""How often the batch system is asked for its queue, in the long run."""
FIRST_SECONDS = 1.0
"""The same after jobs were submitted; doubled from time to time."""
MAX_VAIN_JOBS = 3
"""Jobs in a row that may end before their worker comes."""
LOG_LENGTH = 20
"""Messages to each worker that the scheduler keeps for debugging; Dask's own 1,000 hold about 3 kB
a task, 3 GB with a thousand workers."""
_GRACE_SECONDS = 2.0
"""Time after a submission within which the queue may not list the job yet."""
_LOOPBACK = "127.0.0.1"
_OURS = frozenset(
    (
        "asynchronous",
        "dashboard_address",
        "job_cls",
        "loop",
        "n_workers",
        "name",
        "scheduler",
        "scheduler_cls",
        "silence_logs",
    )
)
"""Settings of dask_jobqueue's clusters that are given here."""
_SUBMISSIONS_AT_A_TIME = 8
_SHOWN_JOBS = 5


@dataclass
class _Submissions:
    """What became of the submissions; written by the event loop's thread."""

    jobs: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Id and time of submission of each job that is wanted, by its worker's name."""
    refusals: list[str] = field(default_factory=list)
    """What the batch system said, newest last."""
    news: list[str] = field(default_factory=list)
    """Ids submitted since somebody looked."""
    is_closed: bool = False
    """Whether submitting has ended."""
    gate: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(_SUBMISSIONS_AT_A_TIME)
    )


class BatchJobs:
    """Jobs of a batch system, each with a Dask worker, kept at their number until closed.

    Parameters
    ----------
    kind : str
        ``slurm`` or ``htcondor``.
    job : mapping
        Keyword arguments of dask_jobqueue's cluster. What is not here is taken from Dask's own
        configuration, else one core and 4 GB.

    Raises
    ------
    ConfigError
        If the batch system is unknown or the settings do not fit.
    FarmError
        If there is no such batch system on this machine.
    OutputError
        If the folder for logs cannot be made.
    DependencyError
        If dask-jobqueue is not installed.
    """

    def __init__(
        self,
        kind: str,
        n_jobs: int,
        job: Mapping[str, Any],
        logs: Path | None,
        tell: Callable[[str], None],
    ) -> None:
        if kind not in BATCH_SYSTEMS:
            raise ConfigError(f"No cluster '{kind}'.", did_you_mean(kind, BATCH_SYSTEMS))
        self._system, self._kind, self._n_jobs, self._tell = BATCH_SYSTEMS[kind], kind, n_jobs, tell
        jobqueue = load("dask_jobqueue")
        if shutil.which(self._system.submit) is None:
            raise FarmError(
                f"There is no '{self._system.submit}' on this machine, which {kind} takes jobs by.",
                "Run the command on a login node, or load the module that brings it.",
            )
        base = getattr(jobqueue, self._system.cluster)
        _require_known(job, base)
        self._logs = logs.absolute() if logs is not None else None
        settings = self._settings(job)
        if self._logs is not None:
            with output_errors(self._logs, "Give a folder for the logs of jobs that can be made."):
                self._logs.mkdir(parents=True, exist_ok=True)
        self._submissions = _Submissions()
        self._queue: dict[str, QueuedJob] = {}
        self._with_worker: set[str] = set()
        self._n_vain = self._n_cancelled = 0
        self._next_query = self._pause = 0.0
        self._said = ""
        dask = load("dask")
        # Read whenever a worker comes.
        dask.config.set({"distributed.admin.low-level-log-length": LOG_LENGTH})
        hint = "Correct --job, or the section jobqueue of Dask's configuration."
        try:
            self.cluster = base(
                job_cls=_recording(base.job_cls, self._submissions, self._system), **settings
            )
        except (TypeError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"The {kind} cluster cannot be set up: {first_line(error)}", hint
            ) from error
        except (OSError, RuntimeError) as error:
            raise FarmError(
                f"The {kind} cluster cannot be started: {first_line(error)}", hint
            ) from error

    def ask(self) -> None:
        """Submit as many jobs as there are too few, and look after them soon."""
        self.refill()
        self._pause = min(FIRST_SECONDS, QUEUE_SECONDS)
        self._next_query = time.monotonic() + self._pause

    def refill(self) -> None:
        """Submit again what Dask has seen to end."""
        self.cluster.scale(jobs=self._n_jobs)

    @property
    def dashboard(self) -> str:
        """Address of the scheduler's dashboard."""
        host = str(self.cluster.scheduler.http_server.address)
        return f"http://{host}:{self.cluster.scheduler.http_server.port}/status"

    def release(self) -> None:
        """Give all jobs back; :meth:`ask` asks again."""
        self.cluster.scale(jobs=0)

    def close(self) -> None:
        """Cancel all jobs and end the scheduler."""
        submissions = self._submissions
        submissions.is_closed = True
        cancelled = {number for number, _ in list(submissions.jobs.values())}
        self._cancel(cancelled)
        with suppress(Exception):
            self.cluster.close(timeout=COMMAND_SECONDS)
        # What was being submitted meanwhile.
        self._cancel({number for number, _ in list(submissions.jobs.values())} - cancelled)

    def job_of(self, worker: str) -> str | None:
        """Id of the job that a worker belongs to, by the worker's name."""
        jobs = self._submissions.jobs
        # A job with several processes adds a number to each one's name.
        found = jobs.get(worker) or jobs.get(worker.rpartition("-")[0])
        return found[0] if found else None

    def check(self, workers: Iterable[str]) -> None:
        """Report what happened, and replace jobs that have left the queue.

        Raises
        ------
        FarmError
            If the batch system takes no job, or jobs repeatedly end before they can work.
        """
        there = {job for name in workers if (job := self.job_of(name)) is not None}
        if there - self._with_worker:
            self._n_vain = self._n_cancelled = 0
        self._with_worker |= there
        self._report_submissions()
        if time.monotonic() < self._next_query:
            return
        begun = time.monotonic()
        queue = self._system.queue()
        self._pause = min(2 * self._pause, QUEUE_SECONDS)
        self._next_query = time.monotonic() + self._pause
        if queue is None:
            return
        self._queue = queue
        known = list(self._submissions.jobs.items())
        gone = {
            name: number
            for name, (number, since) in known
            if number not in queue and since < begun - _GRACE_SECONDS
        }
        if gone:
            self._replace(gone, bool(there))
        if len(there) < self._n_jobs:
            self._say_queue(there)

    def _report_submissions(self) -> None:
        submissions = self._submissions
        if submissions.news:
            new, submissions.news = submissions.news, []
            where = f"; logs in {_shown(self._logs)}" if self._logs is not None else ""
            self._tell(f"{self._kind} took {_jobs(new)}{where}")
        if submissions.refusals:
            said, submissions.refusals = submissions.refusals[0], []
            if not submissions.jobs:
                raise FarmError(
                    f"{self._kind} refuses the jobs: {said}",
                    "Correct --job: queue, account, memory, cores, walltime.",
                )
            self._tell(f"{self._kind} takes no more jobs: {said}")

    def _replace(self, gone: Mapping[str, str], has_workers: bool) -> None:
        """Forget jobs that are over and submit others."""
        for number in gone.values():
            if number in self._with_worker:
                continue
            if self._log(number) is not None:
                self._n_vain += 1
            else:
                self._n_cancelled += 1
        self._give_up_if_vain([*gone.values()][-1], has_workers)
        self.cluster.sync(self._forget, list(gone))
        self._tell(f"{_jobs(gone.values())} left the queue; asking for as many again")
        self.ask()

    def _give_up_if_vain(self, number: str, has_workers: bool) -> None:
        if has_workers:
            return
        if self._n_vain >= MAX_VAIN_JOBS:
            log = self._log(number)
            said = f" The last one said: {_tail(log)}" if log is not None else ""
            raise FarmError(
                f"{self._n_vain} jobs in a row ended before their worker came.{said}",
                f"See {_shown(log or self._logs)}." if self._logs is not None else "",
            )
        if self._n_cancelled > MAX_VAIN_JOBS * self._n_jobs:
            raise FarmError(
                f"{self._n_cancelled} jobs in a row left the queue before they began.",
                f"They are cancelled by a person or by {self._kind} does: ask its administrators.",
            )

    async def _forget(self, names: list[str]) -> None:
        for name in names:
            self._submissions.jobs.pop(name, None)
            self.cluster.worker_spec.pop(name, None)
            self.cluster.workers.pop(name, None)

    def _say_queue(self, there: set[str]) -> None:
        """Tell the states of jobs that have no worker yet, whenever these change."""
        states: dict[tuple[str, str], list[str]] = {}
        for number, _ in list(self._submissions.jobs.values()):
            job = self._queue.get(number)
            if job is not None and number not in there:
                what = "starting" if job.state == "running" else job.state
                states.setdefault((what, job.reason), []).append(number)
        parts = [
            f"{_jobs(numbers)} {state}{f' ({reason})' if reason else ''}"
            for (state, reason), numbers in states.items()
        ]
        said = ", ".join(parts)
        if said and said != self._said:
            self._tell(said)
        self._said = said

    def _log(self, number: str) -> Path | None:
        """What a job printed, if it has begun."""
        if self._logs is None:
            return None
        found = sorted(self._logs.glob(f"*-{number}.*"))
        return found[-1] if found else None

    def _cancel(self, numbers: Iterable[str]) -> None:
        """Cancel in one command: at an interruption there may be little time."""
        if numbers:
            with suppress(OSError, subprocess.SubprocessError):
                subprocess.run(
                    [self._system.cancel, *numbers],
                    capture_output=True,
                    timeout=COMMAND_SECONDS,
                    start_new_session=True,
                )

    def _settings(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Keyword arguments of dask_jobqueue's cluster."""
        import dask

        kind, known = self._kind, dask.config.get(f"jobqueue.{self._kind}", {})
        settings: dict[str, Any] = {"python": shlex.quote(sys.executable), "job_name": JOB_NAME}
        usual = {"cores": 1, "memory": "4GB"} | ({"disk": "1GB"} if kind == "htcondor" else {})
        settings |= {name: value for name, value in usual.items() if known.get(name) is None}
        settings |= job
        interface = settings.get("interface") or known.get("interface")
        options = settings.get("scheduler_options") or known.get("scheduler-options") or {}
        # A dashboard has no password: nobody else sees it unless asked for.
        host = _LOOPBACK if interface is None else _address(str(interface))
        settings["scheduler_options"] = {"dashboard_address": f"{host}:0", **options}
        extra = settings.get("worker_extra_args") or known.get("worker-extra-args") or []
        no_dashboard = ["--no-dashboard", "--dashboard-address", f"{_LOOPBACK}:0"]
        settings["worker_extra_args"] = [*no_dashboard, *extra]
        directives = settings.get("job_extra_directives") or known.get("job-extra-directives")
        own_logs = settings.get("log_directory") or known.get("log-directory")
        if kind == "htcondor":
            settings["job_extra_directives"] = {"batch_name": JOB_NAME, **(directives or {})}
            if own_logs is None and self._logs is not None:
                settings["log_directory"] = str(self._logs)
        if own_logs is not None:
            self._logs = Path(str(own_logs)).absolute()
        elif kind == "slurm" and self._logs is not None:
            # One file a job; Slurm takes a % for the beginning of a pattern.
            name = str(self._logs / JOB_NAME).replace("%", "%%")
            settings["job_extra_directives"] = [f'--output="{name}-%j.log"', *(directives or [])]
        return settings


def _require_known(job: Mapping[str, Any], base: Any) -> None:
    """Refuse settings that a cluster of dask_jobqueue does not know, or that are this module's.

    Raises
    ------
    ConfigError
        Naming those that are meant.
    """
    classes = (base, base.job_cls, base.job_cls.__base__)
    parameters = [part for one in classes for part in inspect.signature(one).parameters.values()]
    known = {part.name for part in parameters if part.kind is not part.VAR_KEYWORD} - _OURS
    for name in job:
        if name not in known:
            raise ConfigError(f"--job has no '{name}'.", did_you_mean(name, known))


def _recording(base: Any, submissions: _Submissions, system: BatchSystem) -> Any:
    """A job class that tells what became of its submission instead of raising in the event loop."""
    from distributed.core import Status

    class Recorded(base):
        config_name = base.config_name

        async def start(self) -> None:
            async with submissions.gate:
                is_hopeless = bool(submissions.refusals) and not submissions.jobs
                if not submissions.is_closed and not is_hopeless:
                    try:
                        await super().start()
                    except (OSError, RuntimeError, ValueError) as error:
                        submissions.refusals.append(_refusal(error, system.submit))
                    else:
                        submissions.jobs[self.name] = (self.job_id, time.monotonic())
                        submissions.news.append(self.job_id)
            self.status = Status.running

        async def close(self) -> None:
            # Its worker's name may be another job's by now.
            if submissions.jobs.get(self.name, ("", 0.0))[0] == self.job_id:
                del submissions.jobs[self.name]
            if not submissions.is_closed:
                await super().close()
            self.status = Status.closed

        @staticmethod
        async def _call(cmd: list[str], **kwargs: Any) -> str:
            # In a session of its own: Ctrl-C at a terminal goes to all processes of ours.
            said: str = await base._call(cmd, start_new_session=True, **kwargs)
            return said

    return Recorded


def _refusal(error: BaseException, command: str) -> str:
    """What the submitting command said, without what dask-jobqueue puts around it."""
    text = str(error).rpartition("stderr:\n")[2] or str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "; ".join(lines) or f"{command} failed without a message"


def _address(interface: str) -> str:
    """IPv4 address of a network interface.

    Raises
    ------
    ConfigError
        If there is no such interface, or it has none.
    """
    from distributed.utils import get_ip_interface

    try:
        address: str = get_ip_interface(interface)
    except ValueError as error:
        raise ConfigError(f"--job interface: {first_line(error)}.") from error
    return address


def load(name: str) -> Any:
    """Import a package of the extra 'cluster'; Ctrl-C stays what it was.

    Raises
    ------
    DependencyError
        If it is not installed.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        module = import_extra(name, "cluster", "A farm")
    finally:
        # dask-jobqueue 0.9.0 makes Ctrl-C a successful end of the process, when it is imported.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)
    for library in ("distributed", "dask_jobqueue", "tornado.application"):
        # Workers come and go: what matters of it is said here. Through tornado distributed 2026.8
        # logs a NameError if Ctrl-C comes before what it waits for has begun.
        logging.getLogger(library).setLevel(logging.CRITICAL)
    return module


def _jobs(numbers: Iterable[str]) -> str:
    found = sorted(numbers, key=lambda number: (len(number), number))
    shown = ", ".join(found[:_SHOWN_JOBS]) + (", …" if len(found) > _SHOWN_JOBS else "")
    if len(found) == 1:
        return f"job {shown}"
    return f"{'' if len(found) <= _SHOWN_JOBS else f'{len(found)} '}jobs {shown}"


def _shown(path: Path | None) -> str:
    if path is None:
        return "the jobs' logs"
    return min((str(path), os.path.relpath(path)), key=len)


def _tail(log: Path) -> str:
    with suppress(OSError):
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
        return ([line for line in lines if line] or ["nothing."])[-1][-300:]
    return "nothing."
