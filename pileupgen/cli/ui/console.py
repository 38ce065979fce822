"""What every command shares on the terminal: console, progress bars, messages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
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

from pileupgen.progress import Advance, Listener, is_main_process

_LOG_WIDTH = 120
"""Columns where the output is no terminal: a batch farm's log."""
_LABEL_WIDTH = 7

console = Console(highlight=False, width=None if sys.stdout.isatty() else _LOG_WIDTH)
error_console = Console(stderr=True, highlight=False)


class Terminal(Listener):
    """Shows progress and messages on the terminal, warnings on standard error."""

    def progress(
        self, description: str, total: int | None, unit: str = "events"
    ) -> AbstractContextManager[Advance]:
        """Open a bar with count, rate, elapsed and remaining time.

        Where the output is no terminal (a batch farm's log) one closing line is printed instead.
        """
        return _bar(description, total, unit)

    def stage(self, name: str, total: int) -> AbstractContextManager[Advance]:
        """Open a live line with losses; where the output is no terminal, a few plain ones."""
        from pileupgen.cli.ui.training_view import live_stage

        return live_stage(name, total)

    def read(self, what: object, note: str = "") -> None:
        """Tell what a command reads."""
        _say("bold", "read", what, note)

    def wrote(self, path: Path, note: str = "") -> None:
        """Tell what a command wrote."""
        _say("bold green", "wrote", path, note)

    def current(self, stage: str, path: Path) -> None:
        """Tell that nothing had to be done."""
        _say("bold cyan", "as is", f"{stage}: inputs unchanged, {path} is current")

    def tell(self, label: str, text: str) -> None:
        """Tell a fact found on the way."""
        _say("bold", label, text)

    def next(self, command: str) -> None:
        """Tell what to run next."""
        _say("bold", "next", command)

    def warn(self, message: str) -> None:
        """Warn on standard error."""
        error_console.print(f"[bold yellow]warning[/] {escape(message)}", soft_wrap=True)


terminal = Terminal()


def quiet_unless_main() -> None:
    """Leave telling, other than of errors, to the first of several processes."""
    console.quiet = not is_main_process()


def _say(style: str, label: str, what: object, note: str = "") -> None:
    extra = f"  [dim]{escape(note)}[/]" if note else ""
    space = " " * max(1, _LABEL_WIDTH - len(label))
    console.print(f"[{style}]{label}[/]{space}{escape(str(what))}{extra}", soft_wrap=True)


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
def _bar(description: str, total: int | None, unit: str) -> Iterator[Advance]:
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
