"""Description of where work is done, opened when there is any."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pileupgen.errors import ConfigError
from pileupgen.parallel.executor import Executor, local_executor
from pileupgen.progress import SILENT, Listener


class Farm:
    """Place of work: this process, several processes, or Dask workers.

    Nothing is started before the first task. Use it in a ``with`` statement, or close it.

    Parameters
    ----------
    workers : int
        Processes of this machine, or batch jobs of a cluster.
    scheduler : str, optional
        Address of a Dask scheduler with workers, ``tcp://HOST:8786``, or its scheduler file.
    cluster : str, optional
        Batch system that is asked for Dask workers; see
        :data:`pileupgen.parallel.batch_systems.BATCH_SYSTEMS`.
    job : mapping, optional
        What a batch job gets, as dask-jobqueue calls it: ``cores``, ``memory``, ``walltime`` …
    listener : Listener
        Told where the work goes.

    Raises
    ------
    ConfigError
        If the arguments contradict each other.

    Examples
    --------
    >>> with Farm() as farm:
    ...     farm.open().n_workers
    1
    """

    def __init__(
        self,
        workers: int = 1,
        scheduler: str | None = None,
        cluster: str | None = None,
        job: Mapping[str, Any] | None = None,
        listener: Listener = SILENT,
    ) -> None:
        if scheduler is not None and cluster is not None:
            raise ConfigError("--scheduler and --cluster exclude each other.")
        if job and cluster is None:
            raise ConfigError("--job goes with --cluster.")
        self._workers, self._scheduler, self._cluster = workers, scheduler, cluster
        self._job, self._listener = dict(job or {}), listener
        self._executor: Executor | None = None

    def open(self, *preload: str, logs: Path | None = None) -> Executor:
        """Give the executor, started when first asked for.

        Parameters
        ----------
        *preload : str
            Modules that processes of this machine load once for all.
        logs : Path, optional
            Folder for the logs of batch jobs.

        Raises
        ------
        FarmError
            If the farm cannot be used.
        DependencyError
            If Dask is asked for and not installed.
        """
        if self._executor is None:
            self._executor = self._start(preload, logs)
        return self._executor

    def _start(self, preload: tuple[str, ...], logs: Path | None) -> Executor:
        if self._scheduler is None and self._cluster is None:
            return local_executor(self._workers, preload)
        from pileupgen.parallel.dask_connection import connect, start_cluster

        if self._cluster is None:
            farm = connect(self._scheduler or "", tell=self._tell)
        else:
            kind, n = self._cluster, self._workers
            self._tell(f"asking {kind} for {n:,} worker{'s' if n != 1 else ''}")
            farm = start_cluster(kind, n, self._job, logs=logs, tell=self._tell)
        self._tell(farm.describe())
        return farm

    def _tell(self, line: str) -> None:
        self._listener.tell("farm", line)

    def close(self) -> None:
        """Let go of the workers."""
        if self._executor is not None:
            self._executor.close()
            self._executor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
