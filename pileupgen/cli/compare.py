"""`pileupgen compare`: headline numbers of several runs in one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from pileupgen.compare.results import Comparison

FORMATS = (".md", ".csv")
TRANSLATION = {
    "t_release": "release time t",
    "w": "guidance strength w",
    "mode": "mode",
    "num_inference_steps": "steps",
}
"""Settings of the translation that are shown."""


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN…",
            help="Run directories, folders of a validation, or metrics.json files.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Also write the table: .md as it is shown, .csv one line a run with every "
            "headline number.",
            show_default=False,
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
    from pileupgen.cli.ui.console import console, say_next, say_read, say_wrote, warn
    from pileupgen.errors import ConfigError
    from pileupgen.files import write_whole
    from pileupgen.report.metrics_file import metrics_path, read_metrics

    if output is not None and output.suffix not in FORMATS:
        raise ConfigError(
            f"--output {output}: a table is written as {' or '.join(FORMATS)}.",
            "Give it one of these suffixes.",
        )
    found = [read_metrics(run) for run in runs]
    paths = [metrics_path(run) for run in runs]
    for path in paths:
        say_read(path)
    names = run_names(paths)
    lines = headline_lines(found)
    console.print(_table(names, lines))
    for text in differences(names, found):
        warn(text)
    if output is not None:
        text = to_csv(names, found) if output.suffix == ".csv" else to_markdown(names, lines)
        write_whole(output, text)
        say_wrote(output)
    reports = [path.with_name("report.html") for path in paths]
    if shown := [str(report) for report in reports if report.is_file()]:
        say_next(f"look at {' and '.join(shown[:3])}")


def run_names(paths: list[Path]) -> list[str]:
    """Name each run by its folder; by the whole path where two folders have one name.

    >>> run_names([Path("runs/a/validation/metrics.json"), Path("a/validation/b/metrics.json")])
    ['a', 'a/b']
    """
    from pileupgen.report.metrics_file import run_of

    names = []
    for path in paths:
        run = run_of(path.absolute())
        inside = path.absolute().parent.relative_to(run).parts
        names.append("/".join([run.name, *(part for part in inside if part != "validation")]))
    return [
        name if names.count(name) == 1 else str(path)
        for name, path in zip(names, paths, strict=True)
    ]


def headline_lines(found: list[Comparison]) -> list[list[str]]:
    """Give the lines of the table: what it is, then one text a run.

    Lines that no run has a number for are left out.
    """
    from pileupgen.compare.results import HEADLINE
    from pileupgen.report.text import NONE, headline_text

    lines = []
    for number in HEADLINE:
        for row in ("translated", "source", "reference") if number.beside else ("translated",):
            label = number.term(found[0].kind).label
            texts = [headline_text(number, comparison.column(row)) for comparison in found]
            lines.append([label if row == "translated" else f"{label}, {row}", *texts])
    lines += [
        ["most significant difference", *map(_worst, found)],
        ["release weights used", *("yes" if one.settings.weighted else "no" for one in found)],
        ["target events", *(f"{one.target.n_events:,}" for one in found)],
    ]
    for key, label in TRANSLATION.items():
        lines.append([label, *(str(one.translation.get(key, NONE)) for one in found)])
    return [line for line in lines if any(text != NONE for text in line[1:])]


def differences(names: list[str], found: list[Comparison]) -> list[str]:
    """Say in what the runs' comparisons are not alike, so that their numbers are not either."""
    texts = []
    for what, of in (
        ("target files", lambda one: _hash(one, "target")),
        ("source files", lambda one: _hash(one, "source")),
        ("numbers of target events", lambda one: one.target.n_events),
        ("observables", lambda one: tuple(one.observables)),
        ("uses of release weights", lambda one: one.settings.weighted),
    ):
        values = [of(comparison) for comparison in found]
        kinds = list(dict.fromkeys(values))
        if len(kinds) > 1:
            groups = [
                ", ".join(name for name, value in zip(names, values, strict=True) if value == kind)
                for kind in kinds
            ]
            texts.append(f"different {what}: {' | '.join(groups)}")
    return texts


def to_markdown(names: list[str], lines: list[list[str]]) -> str:
    """Write the table as Markdown, runs across."""

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = "|---|" + "---:|" * len(names)
    return "\n".join([line(["", *names]), rule, *map(line, lines)]) + "\n"


def to_csv(names: list[str], found: list[Comparison]) -> str:
    """Write every headline number as CSV, one line a run; empty where a run has none."""
    import csv
    from io import StringIO

    from pileupgen.compare.results import HEADLINE

    numbers: list[dict[str, object]] = []
    for comparison in found:
        line: dict[str, object] = {**comparison.headline}
        for number in HEADLINE:
            interval = number.get(comparison.column("translated"))
            if interval is not None and interval.has_interval:
                line |= {f"{number.name}_low": interval.low, f"{number.name}_high": interval.high}
        numbers.append(line | comparison.translation | {"weighted": comparison.settings.weighted})
    columns = list(dict.fromkeys(key for line in numbers for key in line))
    text = StringIO()
    writer = csv.DictWriter(text, ["run", *columns], restval="", lineterminator="\n")
    writer.writeheader()
    for name, line in zip(names, numbers, strict=True):
        writer.writerow({"run": name, **line})
    return text.getvalue()


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


def _hash(comparison: Comparison, role: str) -> str | None:
    return comparison.inputs[role].sha256 if role in comparison.inputs else None


def _worst(comparison: Comparison) -> str:
    from pileupgen.report.text import NONE

    found = comparison.verdicts["translated"].findings
    return found[0].name if found and found[0].significance > 0 else NONE
