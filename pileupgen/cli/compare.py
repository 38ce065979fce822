"""`pileupgen compare`: headline numbers of several runs in one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table


FORMATS = (".md", ".csv")


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN…", help="Run directories, folders of a validation, or metrics.json files."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Also write the table: .md as it is shown, .csv one line a run with every "
            "headline number.",
        ),
    ] = None,
) -> None:
    """Put the validations of several runs side by side.

    Reads each run's validation/metrics.json. The reference compares real events with other real
    events: the best that can be reached. The source is the simulation before translation.
    Warns where the runs were not validated with the same events in the same way.

    \b
    Examples:
      pileupgen compare runs/demo runs/atlas
      pileupgen compare runs/demo runs/demo/validation/late
      pileupgen compare runs/* --output table.md
      pileupgen compare runs/*/validation/metrics.json --output table.csv
    """
    from pileupgen.cli.ui.console import console, terminal
    from pileupgen.errors import ConfigError
    from pileupgen.files import write_whole
    from pileupgen.report.metrics_file import metrics_path, read_metrics
    from pileupgen.report.side_by_side import (
        differences,
        headline_lines,
        run_names,
        to_csv,
        to_markdown,
    )

    if output is not None and output.suffix not in FORMATS:
        raise ConfigError(
            f"--output {output}: a table is written as {' or '.join(FORMATS)}.",
            "Give it one of these suffixes.",
        )
    found = [read_metrics(run) for run in runs]
    paths = [metrics_path(run) for run in runs]
    for path in paths:
        terminal.read(path)
    names = run_names(paths)
    lines = headline_lines(found)
    console.print(_table(names, lines))
    for text in differences(names, found):
        terminal.warn(text)
    if output is not None:
        text = to_csv(names, found) if output.suffix == ".csv" else to_markdown(names, lines)
        write_whole(output, text)
        terminal.wrote(output)
    reports = [path.with_name("report.html") for path in paths]
    if shown := [str(report) for report in reports if report.is_file()]:
        terminal.next(f"look at {' and '.join(shown[:3])}")


def _table(names: list[str], lines: list[list[str]]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title="Validations",
        caption="of translated events unless said otherwise; ± is half the 68 % interval",
        header_style="bold",
        title_style="bold",
    )
    table.add_column("")
    for name in names:
        table.add_column(escape(name), justify="right", overflow="fold")
    for line in lines:
        table.add_row(*map(escape, line))
    return table
