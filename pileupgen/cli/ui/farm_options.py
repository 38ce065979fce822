"""Options of the commands whose work can be spread, and the executor they resolve to."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from pileupgen.errors import ConfigError

if TYPE_CHECKING:
    from pileupgen.parallel import Executor


class ExecutorChoice(StrEnum):
    """Where work is done."""

    local = "local"
    dask = "dask"


class ClusterChoice(StrEnum):
    """Batch systems that are asked for Dask workers."""

    slurm = "slurm"
    htcondor = "htcondor"


_PANEL = "Spreading the work"

WorkersOption = Annotated[
    int,
    typer.Option(
        "--workers",
        "-j",
        min=1,
        help="Processes of this machine, or batch jobs of --cluster.",
        rich_help_panel=_PANEL,
    ),
]
ExecutorOption = Annotated[
    ExecutorChoice | None,
    typer.Option(
        "--executor",
        help="Here, or on a Dask farm; the results are the same. (default: by the options below)",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="Of a Dask scheduler with workers: tcp://HOST:8786.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
ClusterOption = Annotated[
    ClusterChoice | None,
    typer.Option(
        "--cluster",
        help="Ask this batch system for Dask workers, until the command ends.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
JobOption = Annotated[
    list[str] | None,
    typer.Option(
        "--job",
        metavar="KEY=VALUE",
        help="What a batch job gets, as dask-jobqueue calls it: cores, memory, walltime, queue, "
        "account; may be repeated.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]


class Farm:
    """Where a command's work is done, opened when there is any and closed with the command.

    Parameters
    ----------
    executor, scheduler, cluster, workers, job
        What the options of the same names were given.
    preload : tuple of str
        Modules that processes of this machine load once for all.

    Raises
    ------
    ConfigError
        If the options contradict each other.
    """

    def __init__(
        self,
        executor: ExecutorChoice | None,
        scheduler: str | None,
        cluster: ClusterChoice | None,
        workers: int,
        job: Sequence[str] | None = None,
        preload: tuple[str, ...] = (),
    ) -> None:
        is_dask = scheduler is not None or cluster is not None
        if executor is ExecutorChoice.local and is_dask:
            raise ConfigError("--executor local goes with neither --scheduler nor --cluster.")
        if scheduler is not None and cluster is not None:
            raise ConfigError("--scheduler and --cluster exclude each other.")
        if executor is ExecutorChoice.dask and not is_dask:
            raise ConfigError(
                "--executor dask needs to know where the workers are.",
                "Give --scheduler tcp://HOST:8786, or --cluster slurm --workers N.",
            )
        if job and cluster is None:
            raise ConfigError("--job goes with --cluster.")
        self._scheduler, self._cluster, self._workers = scheduler, cluster, workers
        self._job, self._preload = _parse_job(job or []), preload
        self._executor: Executor | None = None

    @property
    def executor(self) -> Executor:
        """The executor, opened when first asked for.

        Raises
        ------
        FarmError
            If the farm cannot be used.
        DependencyError
            If Dask is asked for and not installed.
        """
        if self._executor is None:
            self._executor = self._open()
        return self._executor

    def _open(self) -> Executor:
        if self._scheduler is None and self._cluster is None:
            from pileupgen.parallel import local_executor

            return local_executor(self._workers, self._preload)
        from pileupgen.cli.ui.console import console
        from pileupgen.parallel.dask_farm import connect, start_cluster

        if self._cluster is None:
            farm = connect(self._scheduler or "")
        else:
            kind, n = self._cluster.value, self._workers
            console.print(f"[bold]farm[/]   asking {kind} for {n} workers", soft_wrap=True)
            farm = start_cluster(kind, n, self._job)
        console.print(f"[bold]farm[/]   {farm.describe()}", soft_wrap=True)
        return farm

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._executor is not None:
            self._executor.close()


def _parse_job(settings: Sequence[str]) -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = {}
    for text in settings:
        key, sign, value = text.partition("=")
        if not sign or not key.isidentifier():
            raise ConfigError(f"--job takes KEY=VALUE, not '{text}'.", "Try --job memory=8GB.")
        # A walltime 01:00:00 is a number of base 60 to YAML.
        found[key] = value if ":" in value else yaml.safe_load(value)
    return found
