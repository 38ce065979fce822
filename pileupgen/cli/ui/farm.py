"""Options of the commands whose work can be spread, and the farm they resolve to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from pileupgen.cli.ui.console import terminal
from pileupgen.cli.ui.gathered import gathered, option
from pileupgen.cli.ui.interruption import uninterrupted
from pileupgen.errors import ConfigError, first_line
from pileupgen.parallel.batch_systems import BATCH_SYSTEMS
from pileupgen.parallel.farm import Farm

_PANEL: dict[str, Any] = {"rich_help_panel": "Spreading the work"}
OPTIONS = (
    option(
        int,
        1,
        "--workers",
        "-j",
        min=1,
        text="Processes of this machine, or batch jobs of --cluster.",
        **_PANEL,
    ),
    option(
        Literal["local", "dask"] | None,
        None,
        "--executor",
        text="Place of the work: this machine or a Dask farm, with the same results. "
        "(default: by the options below)",
        **_PANEL,
    ),
    option(
        str | None,
        None,
        "--scheduler",
        metavar="ADDRESS|FILE",
        text="Address of a Dask scheduler, tcp://HOST:8786, or the file that 'dask scheduler "
        "--scheduler-file FILE' writes.",
        **_PANEL,
    ),
    option(
        Literal[tuple(BATCH_SYSTEMS)] | None,
        None,
        "--cluster",
        text="Ask this batch system for Dask workers, until the command ends.",
        **_PANEL,
    ),
    option(
        list[str] | None,
        None,
        "--job",
        metavar="KEY=VALUE",
        text="Setting of a batch job, by dask-jobqueue's name: cores, memory, walltime, queue, "
        "account, interface, job_extra_directives, scheduler_options={…}; may be repeated.",
        **_PANEL,
    ),
)


def farm_of(values: Mapping[str, Any]) -> Farm:
    """Make the farm that the options ask for.

    Raises
    ------
    ConfigError
        If they contradict each other.
    """
    executor, scheduler, cluster = (values[key] for key in ("executor", "scheduler", "cluster"))
    is_dask = scheduler is not None or cluster is not None
    if executor == "local" and is_dask:
        raise ConfigError("--executor local goes with neither --scheduler nor --cluster.")
    if executor == "dask" and not is_dask:
        raise ConfigError(
            "--executor dask needs to know where the workers are.",
            "Give --scheduler tcp://HOST:8786, or --cluster slurm --workers N.",
        )
    job = _parse_job(values["job"] or [])
    return Farm(values["workers"], scheduler, cluster, job, terminal)


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
        if not value.strip():
            raise ConfigError(f"--job {key} has no value.", "Try --job memory=8GB.")
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
            f"--job {text} cannot be understood: {first_line(error)}.",
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


@contextmanager
def _farm(values: Mapping[str, Any]) -> Iterator[Farm]:
    farm = farm_of(values)
    try:
        yield farm
    finally:
        # Jobs are cancelled to the last, whatever signal comes meanwhile.
        with uninterrupted():
            farm.close()


with_farm = gathered("farm", OPTIONS, _farm)
"""Decorates a command that takes ``farm``: where its work is done."""
