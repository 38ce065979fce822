"""Options that every command has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pileupgen.workflow.estimate import Plan

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="YAML config or the name of a shipped one. (default: the run's own, else demo)",
    ),
]
RunOption = Annotated[
    Path | None,
    typer.Option("--run", "-r", "--run-dir", help="Run directory. (default: runs/<config name>)"),
]
SeedOption = Annotated[
    int | None,
    typer.Option("--seed", min=0, help="Random seed. (default: the config's)"),
]
DeviceOption = Annotated[
    str | None,
    typer.Option("--device", help="Device: cpu, cuda, cuda:1, mps. (default: the best there is)"),
]
DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Print what would be done and how long it may take, and do nothing."
    ),
]
AllowOption = Annotated[
    list[str] | None,
    typer.Option(
        "--allow",
        help="Name of a check whose findings are warnings, not errors; may be repeated.",
        metavar="NAME",
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Run even if the output is up to date.")]


def show_plan(plan: Plan) -> None:
    """Tell what a stage would do, how long that may take, and where the estimate comes from."""
    from pileupgen.cli.ui.console import terminal
    from pileupgen.cli.ui.training_view import clock

    for step in plan.steps:
        found = step.estimate
        if found is None:
            terminal.tell("would", step.what)
        elif found.seconds is None:
            terminal.tell("would", f"{step.what}; time unknown, {found.basis}")
        else:
            terminal.tell("would", f"{step.what}; about {clock(found.seconds)}, {found.basis}")
    if plan.seconds and sum(step.estimate is not None for step in plan.steps) > 1:
        terminal.tell("in all", f"about {clock(plan.seconds)}, with one worker")
