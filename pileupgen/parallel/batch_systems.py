"""Batch systems: their commands, and how their queues are read."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

COMMAND_SECONDS = 30.0
"""Time for one command of the batch system."""


@dataclass(frozen=True)
class QueuedJob:
    """What a batch system tells of a job."""

    state: str
    """``pending``, ``running``, or the batch system's own word in lower case."""
    reason: str = ""
    """Why it does not run; empty where it does."""


@dataclass(frozen=True)
class BatchSystem:
    """The commands of a batch system and how its queue is read."""

    cluster: str
    """Class of dask_jobqueue."""
    submit: str
    cancel: str
    """Commands that submit a job and cancel one."""
    query: tuple[str, ...]
    """Command that lists this user's jobs."""
    parse: Callable[[str], dict[str, QueuedJob]]
    """Turns what that command prints into jobs by their id; jobs that are over are left out."""

    def queue(self) -> dict[str, QueuedJob] | None:
        """List the user's jobs, or give None if the batch system does not answer."""
        try:
            done = subprocess.run(
                self.query,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=COMMAND_SECONDS,
                start_new_session=True,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return self.parse(done.stdout)


_SLURM_OVER = frozenset(
    (
        "COMPLETED",
        "COMPLETING",
        "CANCELLED",
        "FAILED",
        "TIMEOUT",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "BOOT_FAIL",
        "DEADLINE",
        "REVOKED",
    )
)
_STATUS = 2
"""Place of the status in a line of condor_q."""
_CONDOR_STATES = {"1": "pending", "2": "running", "5": "held", "6": "running", "7": "suspended"}


def parse_squeue(text: str) -> dict[str, QueuedJob]:
    """Jobs in lines of ``id|STATE|reason``.

    >>> jobs = parse_squeue("7|PENDING|Resources\\n8|RUNNING|None\\n9|COMPLETING|None\\n")
    >>> list(jobs), jobs["7"]
    (['7', '8'], QueuedJob(state='pending', reason='Resources'))
    """
    jobs = {}
    for line in text.splitlines():
        number, _, rest = line.strip().partition("|")
        state, _, reason = rest.partition("|")
        if number and state and state not in _SLURM_OVER:
            why = "" if state == "RUNNING" or reason in ("None", "(null)") else reason
            jobs[number] = QueuedJob(state.lower(), why)
    return jobs


def parse_condor_q(text: str) -> dict[str, QueuedJob]:
    """Jobs in lines of ``cluster process status reason``.

    >>> jobs = parse_condor_q("31 0 5 disk is full\\n32 0 2 undefined\\n33 0 4 undefined\\n")
    >>> list(jobs), jobs["31.0"]
    (['31.0', '32.0'], QueuedJob(state='held', reason='disk is full'))
    """
    jobs = {}
    for line in text.splitlines():
        fields = line.split(maxsplit=3)
        if len(fields) > _STATUS and fields[_STATUS] in _CONDOR_STATES:
            why = "".join(fields[_STATUS + 1 :])
            known = QueuedJob(_CONDOR_STATES[fields[_STATUS]], "" if why == "undefined" else why)
            jobs[f"{fields[0]}.{fields[1]}"] = known
    return jobs


BATCH_SYSTEMS = {
    "slurm": BatchSystem(
        "SLURMCluster",
        "sbatch",
        "scancel",
        ("squeue", "--noheader", f"--user={os.getuid()}", "--format=%i|%T|%r"),
        parse_squeue,
    ),
    "htcondor": BatchSystem(
        "HTCondorCluster",
        "condor_submit",
        "condor_rm",
        ("condor_q", "-af", "ClusterId", "ProcId", "JobStatus", "HoldReason"),
        parse_condor_q,
    ),
}
