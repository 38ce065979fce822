"""What every command shares on the terminal: console, progress bars, closing lines."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from pileupgen.progress import Advance

_LOG_WIDTH = 120
"""Columns where the output is no terminal: a batch farm's log."""

console = Console(highlight=False, width=None if sys.stdout.isatty() else _LOG_WIDTH)
error_console = Console(stderr=True, highlight=False)


class RateColumn(ProgressColumn):
    """Units per second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """The rate, empty until it is known."""
        speed = task.finished_speed or task.speed
        text = "" if speed is None else f"{speed:,.4g} {self._unit}/s"
        return Text(text, style="cyan")


@contextmanager
def progress(description: str, total: int | None, unit: str = "events") -> Iterator[Advance]:
    """A bar with count, rate, elapsed and remaining time; yields its ``advance``.

    Where the output is no terminal (a batch farm's log) one closing line is printed instead.
    """
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        RateColumn(unit),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
        console=console,
    ) as bar:
        task = bar.add_task(description, total=total, note="")

        def advance(n: int = 1, note: str = "", /, **_: float) -> None:
            if note:
                bar.update(task, advance=n, note=note)
            else:
                bar.update(task, advance=n)

        yield advance


def is_main_process() -> bool:
    """Whether this is the first of the processes that a launcher has started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def quiet_unless_main() -> None:
    """Leave telling, other than of errors, to the first of several processes."""
    console.quiet = not is_main_process()


def say_read(what: object) -> None:
    """Tell what a command reads."""
    console.print(f"[bold]read[/]   {what}", soft_wrap=True)


def say_wrote(path: Path, note: str = "") -> None:
    """Tell what a command wrote."""
    console.print(
        f"[bold green]wrote[/]  {path}{f'  [dim]{note}[/]' if note else ''}", soft_wrap=True
    )


def say_current(stage: str, path: Path) -> None:
    """Tell that nothing had to be done."""
    console.print(
        f"[bold cyan]as is[/]  {stage}: inputs unchanged, {path} is current", soft_wrap=True
    )


def say_next(command: str) -> None:
    """Tell what to run next."""
    console.print(f"[bold]next[/]   {command}", soft_wrap=True)


def warn(message: str) -> None:
    """A warning on standard error."""
    error_console.print(f"[bold yellow]warning[/] {message}", soft_wrap=True)
