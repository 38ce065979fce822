"""Progress of a training on the terminal: losses, rate and time left of every stage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

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

from pileupgen.cli.ui.console import console
from pileupgen.progress import Advance

if TYPE_CHECKING:
    from rich.table import Table

    from pileupgen.training.run_training import TrainingSummary

_N_LINES = 5
"""Lines a stage prints where there is no terminal."""

FIGURES = {
    "loss": ("loss", "{:.4f}"),
    "held_out": ("held-out", "{:.4f}"),
    "samples_per_second": ("", "{:,.0f} samples/s"),
}
"""Figures of a stage that are shown: the words before each, and its format."""


class _FigureColumn(ProgressColumn):
    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def render(self, task: Task) -> Text:
        return Text(told({self._name: task.fields[self._name]}), style="cyan")


def told(figures: dict[str, float | None]) -> str:
    """Words for what is known.

    >>> told({"loss": 0.25, "held_out": None, "samples_per_second": 1234.5})
    'loss 0.2500  1,234 samples/s'
    """
    words = [
        f"{before} {form.format(figures[name])}".strip()
        for name, (before, form) in FIGURES.items()
        if figures.get(name) is not None
    ]
    return "  ".join(words)


@contextmanager
def live_stage(name: str, total: int) -> Iterator[Advance]:
    """A live line for a stage; where the output is no terminal, a few plain ones."""
    if not console.is_terminal:
        yield _PlainStage(name, total)
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        *(_FigureColumn(figure) for figure in FIGURES),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    ) as bar:
        unknown: dict[str, Any] = dict.fromkeys(FIGURES)
        task = bar.add_task(f"{name:<12}", total=total, **unknown)

        def advance(n: int = 1, _note: str = "", /, **figures: float) -> None:
            known: dict[str, Any] = dict(figures)
            bar.update(task, advance=n, **known)

        yield advance


class _PlainStage:
    """Progress as lines, for a batch farm's log."""

    def __init__(self, name: str, total: int) -> None:
        self._name, self._total, self._done, self._printed = name, total, 0, 0
        self._begun, self._first = time.monotonic(), 0

    def __call__(self, n: int = 1, _note: str = "", /, **figures: float) -> None:
        """Print a line at every fifth of the stage."""
        if not figures.keys() - {"held_out"}:
            self._first += n  # where a resumed stage begins
        self._done += n
        fifth = self._done * _N_LINES // max(self._total, 1)
        if fifth <= self._printed:
            return
        self._printed = fifth
        seconds = time.monotonic() - self._begun
        fresh = max(self._done - self._first, 1)
        left = seconds / fresh * (self._total - self._done)
        parts = [
            f"{self._name:<12}",
            f"{self._done}/{self._total}",
            told(dict(figures)),
            f"{clock(seconds)} passed, {clock(left)} left",
        ]
        console.print("  ".join(part for part in parts if part), soft_wrap=True)


def clock(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> clock(3725.4)
    '1:02:05'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def training_tables(summary: TrainingSummary) -> tuple[Table, Table]:
    """Show what was trained, and how separable the domains are over the diffusion time."""
    from rich.table import Table

    table = Table(title=f"Trained on {summary.n_train[0]} mc and {summary.n_train[1]} data events")
    for column in ("network", "parameters", "steps", "loss", "held-out loss", "time"):
        table.add_column(column, justify="left" if column == "network" else "right")
    for name, history in summary.histories.items():
        last = (
            history[-1] if history else {"step": 0, "loss": float("nan"), "held_out": float("nan")}
        )
        table.add_row(
            name,
            f"{summary.parameters[name]:,}",
            f"{last['step']:.0f}",
            f"{last['loss']:.4f}",
            f"{last['held_out']:.4f}",
            clock(summary.seconds[name]),
        )
    release = summary.release
    low = Table(title=f"Separability on {release.n_mc} + {release.n_data} held-out events")
    for column in ("t", "AUC of ln r [68 %]", "ESS"):
        low.add_column(column, justify="right")
    for index in range(0, len(release.t), max(len(release.t) // 8, 1)):
        interval = f"\\[{release.auc_low[index]:.3f}, {release.auc_high[index]:.3f}]"
        low.add_row(
            str(release.t[index]),
            f"{release.auc[index]:.3f} {interval}",
            f"{release.ess[index]:.2f}",
        )
    return table, low
