"""Options of the commands whose work can be spread, and the executor they resolve to."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from pileupgen.cli.ui.interruption import uninterrupted
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
        metavar="ADDRESS|FILE",
        help="Of a Dask scheduler with workers: tcp://HOST:8786, or the file that 'dask scheduler "
        "--scheduler-file FILE' writes.",
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
        "account, interface, job_extra_directives, scheduler_options={…}; may be repeated.",
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
    logs : Path, optional
        Folder for the logs of batch jobs.

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
        logs: Path | None = None,
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
        self._job, self._preload, self._logs = _parse_job(job or []), preload, logs
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
        from pileupgen.parallel.dask_farm import connect, start_cluster

        if self._cluster is None:
            farm = connect(self._scheduler or "", tell=_say)
        else:
            kind, n = self._cluster.value, self._workers
            _say(f"asking {kind} for {n:,} worker{'s' if n != 1 else ''}")
            farm = start_cluster(kind, n, self._job, logs=self._logs, tell=_say)
        _say(farm.describe())
        return farm

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._executor is not None:
            with uninterrupted():
                self._executor.close()


def _say(line: str) -> None:
    from rich.markup import escape

    from pileupgen.cli.ui.console import console

    console.print(f"[bold]farm[/]   {escape(line)}", soft_wrap=True)


_TEXTS = frozenset(
    (
        "account",
        "config_name",
        "disk",
        "interface",
        "job_mem",
        "job_name",
        "local_directory",
        "log_directory",
        "memory",
        "project",
        "protocol",
        "python",
        "queue",
        "shared_temp_directory",
        "shebang",
        "walltime",
        "worker_command",
    )
)
_LISTS = frozenset(
    (
        "cancel_command_extra",
        "job_directives_skip",
        "job_extra_directives",
        "job_script_prologue",
        "submit_command_extra",
        "worker_extra_args",
    )
)
_NUMBERS = frozenset(("cores", "job_cpu", "processes"))


def _parse_job(settings: Sequence[str]) -> dict[str, Any]:
    """Settings of dask-jobqueue, each of the type that it takes.

    >>> _parse_job(["walltime=01:00:00", "cores=2", "job_script_prologue=module load x"])
    {'walltime': '01:00:00', 'cores': 2, 'job_script_prologue': ['module load x']}
    >>> _parse_job(["scheduler_options={host: a.b, dashboard_address: ':8790'}", "nanny=false"])
    {'scheduler_options': {'host': 'a.b', 'dashboard_address': ':8790'}, 'nanny': False}
    >>> _parse_job(["job_extra_directives=--gres=a:1", "job_extra_directives=['-C x', --nice]"])
    {'job_extra_directives': ['--gres=a:1', '-C x', '--nice']}
    """
    found: dict[str, Any] = {}
    for text in settings:
        key, sign, value = text.partition("=")
        if not sign or not key.isidentifier():
            raise ConfigError(f"--job takes KEY=VALUE, not '{text}'.", "Try --job memory=8GB.")
        if key in _TEXTS:
            found[key] = value
        elif key in _LISTS and not value.lstrip().startswith(("[", "{")):
            found[key] = [*found.get(key, []), value]
        else:
            parsed = _parse_value(text, key, value)
            is_more = isinstance(parsed, list) and key in found
            found[key] = [*found[key], *parsed] if is_more else parsed
    return found


def _parse_value(text: str, key: str, value: str) -> Any:
    import yaml

    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"--job {text} cannot be understood: {str(error).splitlines()[0]}.",
            "Lists are written [a, b], mappings {key: value}; quote them for the shell.",
        ) from error
    if key in _NUMBERS and (type(parsed) is not int or parsed < 1):
        raise ConfigError(f"--job {key} is a whole number from 1 on, not '{value}'.")
    if key == "scheduler_options" and not isinstance(parsed, dict):
        raise ConfigError(
            f"--job scheduler_options is a mapping, not '{value}'.",
            "Try --job 'scheduler_options={dashboard_address: \":8790\"}'.",
        )
    return parsed
