"""A Dask farm: a scheduler that is there, or one that asks a batch system for workers."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pileupgen.errors import ConfigError, DependencyError, FarmError, did_you_mean
from pileupgen.parallel.environment import environment, processor, require_equal
from pileupgen.parallel.executor import MAX_DEATHS, Executor
from pileupgen.parallel.task import Job, Unpacker, perform

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")

_log = logging.getLogger("pileupgen")

_CLUSTERS = {"slurm": "SLURMCluster", "htcondor": "HTCondorCluster"}
CONNECT_SECONDS = 10.0
FETCH_SECONDS = 20.0
"""Time to reach a scheduler."""
SCHEDULER_PATIENCE = 60.0
"""Seconds without any worker before a farm with a scheduler of its own is given up."""
QUEUE_PATIENCE = 6 * 3600.0
"""The same where a batch system's queue has to be waited for."""
_TICK = 1.0
REFILL_SECONDS = 5.0
"""How often jobs are counted; Dask calls one lost after distributed.deploy.lost-worker-timeout."""
_HINT = (
    "Start workers with 'dask worker ADDRESS' in the environment that this command runs in, "
    "on machines that see the same files."
)


class DaskFarm(Executor):
    """Tasks on the workers of a Dask scheduler.

    The scheduler holds every task until its result is fetched: what a worker that dies was at, or
    had done and not yet handed over, is done again by another, and nothing is fetched twice.

    Parameters
    ----------
    client : distributed.Client
        Connected.
    patience : float
        Seconds without any worker before giving up.
    cluster : dask_jobqueue cluster, optional
        Closed with the farm; jobs that end before it are submitted again.
    n_jobs : int
        Of the cluster.

    Raises
    ------
    FarmError
        If no worker comes in time, or a worker has other software than this process.
    """

    is_remote = True

    def __init__(
        self,
        client: Any,
        patience: float = SCHEDULER_PATIENCE,
        cluster: Any = None,
        n_jobs: int = 0,
    ) -> None:
        self._client, self._cluster, self._n_jobs = client, cluster, n_jobs
        self._last_refill = time.monotonic()
        self._address = str(client.scheduler.address)
        self._patience = patience
        self._last_seen = time.monotonic()
        try:
            self._wait_for_workers()
            self._require_same_environment()
        except BaseException:
            self.close()
            raise

    @property
    def n_workers(self) -> int:
        """Threads of all workers that are there."""
        return max(1, sum(int(worker["nthreads"]) for worker in self._workers().values()))

    def describe(self) -> str:
        """The scheduler's address and what works for it."""
        n = len(self._workers())
        shown = f"{self._address}, {n} worker{'s' if n != 1 else ''}"
        has_dashboard = "dashboard" in self._client.scheduler_info().get("services", {})
        link = self._client.dashboard_link if has_dashboard else ""
        return f"{shown}; dashboard {link}" if link else shown

    def map(
        self,
        function: Callable[[S, T], R],
        shared: S,
        tasks: Iterable[T],
        *,
        ordered: bool = True,
    ) -> Iterator[R]:
        """See :meth:`Executor.map`."""
        unpack = Unpacker()
        # A task of its own, not a scattered value: what a dead worker held of it is made again.
        job = self._client.submit(_Constant(Job.of(function, shared, environment())), pure=False)
        pending: list[Any] = []
        try:
            for task in tasks:
                pending.append(self._client.submit(perform, job, task, pure=False))
                if len(pending) > 2 * self.n_workers:
                    yield unpack(self._take(pending, ordered))
            while pending:
                yield unpack(self._take(pending, ordered))
        finally:
            with suppress(Exception):
                self._client.cancel([*pending, job])

    def require_visible(self, paths: Sequence[Path]) -> None:
        """See :meth:`Executor.require_visible`."""
        sizes = {str(path): _size(path) for path in paths}
        for worker, found in self._client.run(_sizes, list(sizes)).items():
            for path, size in sizes.items():
                if found[path] != size:
                    state = "does not see" if found[path] is None else "sees another version of"
                    raise FarmError(
                        f"Worker {worker} {state} {path}.",
                        "A farm needs a file system that all its machines share.",
                    )

    def close(self) -> None:
        """Let go of the scheduler; end workers that were started for this farm."""
        for part in (self._client, self._cluster):
            if part is not None:
                with suppress(Exception):
                    part.close()

    def _take(self, pending: list[Any], ordered: bool) -> Any:
        """Wait for the first task, or the first that is done, and fetch what it came to."""
        from distributed import CancelledError, KilledWorker
        from distributed.comm import CommClosedError

        while True:
            self._refill()
            done = [future for future in pending[: 1 if ordered else None] if future.done()]
            if done:
                break
            self._wait(pending, ordered)
            self._require_workers()
        future = done[0]
        try:
            outcome = future.result(timeout=FETCH_SECONDS)
        except TimeoutError:
            # Whoever held the outcome died before it was fetched: it is made again, if anybody can.
            self._require_workers()
            return self._take(pending, ordered)
        except KilledWorker as error:
            raise FarmError(
                f"A task was given up after {MAX_DEATHS + 1} workers died over it.",
                "They may have run out of memory: see their logs, and give each more.",
            ) from error
        except (CancelledError, CommClosedError) as error:
            raise self._lost() from error
        except (ImportError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "deserializ" not in str(error):
                raise
            raise FarmError(f"The farm has other software: {error}.", _HINT) from error
        pending.remove(future)
        return outcome

    def _wait(self, pending: list[Any], ordered: bool) -> None:
        from distributed import CancelledError, wait

        watched = pending[:1] if ordered else pending
        with suppress(TimeoutError, CancelledError), self._client.as_current():
            wait(watched, timeout=_TICK, return_when="FIRST_COMPLETED")

    def _refill(self) -> None:
        """Submit again what the batch system has ended: scaling to the same number does it."""
        if self._cluster is not None and time.monotonic() - self._last_refill > REFILL_SECONDS:
            self._last_refill = time.monotonic()
            self._cluster.scale(jobs=self._n_jobs)

    def _workers(self) -> Mapping[str, Any]:
        known = self._client.scheduler_info(n_workers=-1)
        workers: Mapping[str, Any] = known.get("workers", {})
        return workers

    def _require_workers(self) -> None:
        now = time.monotonic()
        if self._client.status == "running" and self._workers():
            self._last_seen = now
        elif self._client.status in ("closed", "closing"):
            raise self._lost()
        elif now - self._last_seen > self._patience:
            if self._client.status != "running":
                raise self._lost()
            raise FarmError(f"The farm has had no worker for {self._patience:g} s.", _HINT)

    def _lost(self) -> FarmError:
        return FarmError(
            f"The scheduler at {self._address} is gone.",
            "Start it again, and run the same command again.",
        )

    def _wait_for_workers(self) -> None:
        while not self._workers():
            time.sleep(0.1)
            self._require_workers()

    def _require_same_environment(self) -> None:
        expected, here = environment(), processor()
        try:
            found = self._client.run(_environment)
        except ImportError as error:
            raise FarmError(f"The workers cannot load pileupgen: {error}.", _HINT) from error
        for worker, (theirs, their_processor) in found.items():
            require_equal(expected, theirs, str(worker))
            if their_processor != here:
                _log.warning(
                    "worker %s has another processor: the last bits of results may differ", worker
                )


def connect(address: str, patience: float = SCHEDULER_PATIENCE) -> DaskFarm:
    """Use the scheduler at an address, ``tcp://host:8786``.

    Raises
    ------
    FarmError
        If it cannot be reached, has no worker in time, or workers have other software.
    DependencyError
        If Dask is not installed.
    """
    distributed = _load("distributed")
    try:
        client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise FarmError(
            f"No Dask scheduler at {address}: {_first_line(error)}",
            "Start one with 'dask scheduler' and give its address, tcp://HOST:8786.",
        ) from error
    return DaskFarm(client, patience)


def start_cluster(
    kind: str,
    n_workers: int,
    job: Mapping[str, Any] | None = None,
    patience: float = QUEUE_PATIENCE,
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
        If the batch system is unknown or refuses the settings.
    FarmError
        If jobs cannot be submitted, no worker comes in time, or it has other software.
    DependencyError
        If Dask or dask-jobqueue is not installed.
    """
    if kind not in _CLUSTERS:
        raise ConfigError(f"No cluster '{kind}'.", did_you_mean(kind, _CLUSTERS))
    import sys

    dask, distributed, jobqueue = _load("dask"), _load("distributed"), _load("dask_jobqueue")
    settings = {"python": sys.executable, **(job or {})}
    known = dask.config.get(f"jobqueue.{kind}", {})
    for name, value in (("cores", 1), ("memory", "4GB"), ("disk", "1GB")):
        if name not in settings and known.get(name) is None and (name, kind) != ("disk", "slurm"):
            settings[name] = value
    try:
        with warnings.catch_warnings():
            # Somebody else's dashboard: another port is taken, and describe() names it.
            warnings.filterwarnings("ignore", r"(?s)\s*Port \d+ is already in use")
            cluster = getattr(jobqueue, _CLUSTERS[kind])(**settings)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"The {kind} cluster cannot be set up: {_first_line(error)}",
            "Mend --job, or the section jobqueue of Dask's configuration.",
        ) from error
    except (OSError, RuntimeError) as error:
        raise FarmError(f"The {kind} cluster cannot be started: {_first_line(error)}") from error
    try:
        cluster.scale(jobs=n_workers)
        client = distributed.Client(cluster, timeout=CONNECT_SECONDS, set_as_default=False)
    except BaseException:
        cluster.close()
        raise
    return DaskFarm(client, patience, cluster, n_workers)


class _Constant:
    """A value as a task."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def __call__(self) -> Job:
        return self._job


def _environment() -> tuple[dict[str, str], str]:
    return environment(), processor()


def _size(path: str | Path) -> int | None:
    try:
        return 0 if Path(path).is_dir() else Path(path).stat().st_size
    except OSError:
        return None


def _sizes(paths: Sequence[str]) -> dict[str, int | None]:
    return {path: _size(path) for path in paths}


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _load(name: str) -> Any:
    import importlib

    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise DependencyError(
            f"A farm needs {name.replace('_', '-')}, which is not installed.",
            "Run 'pip install pileupgen[cluster]'.",
        ) from error
    for library in ("distributed", "dask_jobqueue"):
        # Workers come and go: what matters of it is said here.
        logging.getLogger(library).setLevel(logging.CRITICAL)
    return module
