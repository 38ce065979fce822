"""Connections to a Dask scheduler that is there, or to one that asks a batch system for workers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pileupgen.errors import FarmError, first_line
from pileupgen.parallel.batch_jobs import BatchJobs, load
from pileupgen.parallel.dask_farm import DaskFarm, silent

CONNECT_SECONDS = 10.0
"""Time to reach a scheduler."""
FILE_SECONDS = 60.0
"""Time for a scheduler that was just started to write its file."""
SCHEDULER_PATIENCE = 60.0
"""Seconds without any worker before a farm with a scheduler of its own is given up."""
QUEUE_PATIENCE = 6 * 3600.0
"""The same where a batch system's queue has to be waited for."""


def connect(
    scheduler: str,
    patience: float = SCHEDULER_PATIENCE,
    tell: Callable[[str], None] = silent,
) -> DaskFarm:
    """Use the scheduler at an address, ``tcp://host:8786``, or that of a scheduler file.

    Parameters
    ----------
    scheduler : str
        Address, or path of the file that ``dask scheduler --scheduler-file`` writes; it is waited
        for.
    patience : float
        Seconds without any worker before giving up.

    Raises
    ------
    FarmError
        If it cannot be reached, has no worker in time, or workers have other software.
    DependencyError
        If Dask is not installed.
    """
    distributed = load("distributed")
    is_address = "://" in scheduler or (":" in scheduler and "/" not in scheduler)
    address = scheduler if is_address else _read_scheduler_file(Path(scheduler))
    try:
        client = _client(distributed, address)
    except (OSError, ValueError, TypeError) as error:
        raise FarmError(
            f"No Dask scheduler at {address}: {first_line(error)}",
            "Start one with 'dask scheduler' and give its address, tcp://HOST:8786.",
        ) from error
    return DaskFarm(client, patience, tell=tell)


def start_cluster(
    kind: str,
    n_workers: int,
    job: Mapping[str, Any] | None = None,
    patience: float = QUEUE_PATIENCE,
    logs: Path | None = None,
    tell: Callable[[str], None] = silent,
) -> DaskFarm:
    """Ask a batch system for workers, kept at their number until the farm is closed.

    Parameters
    ----------
    kind : str
        ``slurm`` or ``htcondor``.
    n_workers : int
        Batch jobs, each with one worker unless ``job`` has ``processes``.
    job : mapping, optional
        Keyword arguments of dask_jobqueue's cluster: ``cores``, ``memory``, ``walltime``,
        ``queue``, ``account`` and so on. What is not here is taken from Dask's own configuration,
        else one core and 4 GB.
    patience : float
        Seconds without any worker before giving up.

    Raises
    ------
    ConfigError
        If the batch system is unknown or the settings do not fit.
    FarmError
        If jobs are refused, no worker comes in time, or it has other software.
    DependencyError
        If Dask or dask-jobqueue is not installed.
    """
    distributed = load("distributed")
    jobs = BatchJobs(kind, n_workers, job or {}, logs, tell)
    try:
        jobs.ask()
        client = _client(distributed, jobs.cluster)
    except BaseException:
        jobs.close()
        raise
    return DaskFarm(client, patience, jobs, tell)


def _client(distributed: Any, target: Any) -> Any:
    """Connect to an address or a cluster.

    An interruption may leave the client half made, which Dask's own would wait for when it is
    taken away, 20 s long and with a traceback, as nobody listens any more.
    """

    class Client(distributed.Client):
        def __del__(self) -> None:
            if getattr(self, "status", "") == "running":
                super().__del__()

    return Client(target, timeout=CONNECT_SECONDS, set_as_default=False)


def _read_scheduler_file(path: Path) -> str:
    """Address in a scheduler file, once it is there and whole.

    Raises
    ------
    FarmError
        If it does not come in time.
    """
    deadline = time.monotonic() + FILE_SECONDS
    while True:
        with suppress(OSError, ValueError, KeyError, TypeError):
            return str(json.loads(path.read_text())["address"])
        if time.monotonic() > deadline:
            raise FarmError(
                f"No Dask scheduler has written {path} within {FILE_SECONDS:g} s.",
                "Start one with 'dask scheduler --scheduler-file', or give its address, "
                "tcp://HOST:8786.",
            )
        time.sleep(0.2)
