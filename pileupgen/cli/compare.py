"""`pileupgen compare`: headline numbers of several runs in one table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

NONE = "–"
FORMATS = (".md", ".csv")
Metrics = dict[str, Any]


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

    Reads each run's validation/metrics.json.
    Reference is real against other real events, source is simulation as it is.
    Warns where runs were not compared with the same events in the same way.

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
    from pileupgen.report.schema import metrics_path, read_metrics

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
    from pileupgen.report.schema import run_of

    names = []
    for path in paths:
        run = run_of(path.absolute())
        inside = path.absolute().parent.relative_to(run).parts
        names.append("/".join([run.name, *(part for part in inside if part != "validation")]))
    return [
        name if names.count(name) == 1 else str(path)
        for name, path in zip(names, paths, strict=True)
    ]


def headline_lines(found: list[Metrics]) -> list[list[str]]:
    """Give the lines of the table: what it is, then one text a run.

    Lines that no run has a number for are left out.
    """
    lines = []
    for label, of in _QUANTITIES:
        texts = [of(metrics) for metrics in found]
        if any(text != NONE for text in texts):
            lines.append([label, *texts])
    return lines


def differences(names: list[str], found: list[Metrics]) -> list[str]:
    """Say in what the runs' comparisons are not alike, so that their numbers are not either."""
    texts = []
    for what, of in (
        ("target files", lambda m: m.get("inputs", {}).get("target", {}).get("sha256")),
        ("source files", lambda m: m.get("inputs", {}).get("source", {}).get("sha256")),
        ("numbers of target events", lambda m: m["target"]["n_events"]),
        ("observables", lambda m: tuple(m["observables"])),
        ("uses of release weights", lambda m: m["settings"]["weighted"]),
    ):
        values = [of(metrics) for metrics in found]
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


def to_csv(names: list[str], found: list[Metrics]) -> str:
    """Write every headline number as CSV, one line a run; empty where a run has none."""
    import csv
    from io import StringIO

    numbers = [
        {
            **metrics["headline"],
            **_bounds("mean_w1", metrics["rows"]["translated"]["mean_w1"]),
            **_bounds("shift_removed", metrics["rows"]["translated"]["shift_removed"]),
            **metrics.get("translation", {}),
            "weighted": metrics["settings"]["weighted"],
        }
        for metrics in found
    ]
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
        caption="of translated events unless said; ± is the 68 % interval's half width or error",
        header_style="bold",
        title_style="bold",
    )
    table.add_column("")
    for name in names:
        table.add_column(escape(name), justify="right", overflow="fold")
    for line in lines:
        table.add_row(*map(escape, line))
    return table


def _bounds(name: str, estimate: dict[str, float | None]) -> dict[str, float | None]:
    return {f"{name}_low": estimate["low"], f"{name}_high": estimate["high"]}


def _estimate(row: str, *keys: str) -> Callable[[Metrics], str]:
    def text(metrics: Metrics) -> str:
        found = metrics["rows"][row]
        for key in keys:
            found = None if found is None else found[key]
        if found is None or found["value"] is None:
            return NONE
        low, high = found["low"], found["high"]
        error = "" if low is None or high is None else f" ± {0.5 * (high - low):.3f}"
        return f"{found['value']:.3f}{error}"

    return text


def _auc(key: str) -> Callable[[Metrics], str]:
    def text(metrics: Metrics) -> str:
        from pileupgen.report.text import auc_error

        test = metrics["rows"]["translated"]["two_sample"][key]
        return NONE if test is None else f"{test['auc']:.3f} ± {auc_error(test):.3f}"

    return text


def _distance(key: str) -> Callable[[Metrics], str]:
    def text(metrics: Metrics) -> str:
        from pileupgen.report.text import number, physics_range

        found = metrics["rows"]["translated"][key]
        if found is None or found["value"] is None or found["error"] is None:
            return NONE
        return f"{number(found['value'], 1000, 2)} {physics_range(found, 2)}"

    return text


def _significance(row: str) -> Callable[[Metrics], str]:
    def text(metrics: Metrics) -> str:
        from pileupgen.report.text import sigma_text

        return sigma_text(metrics["verdicts"][row]["significance"])

    return text


def _worst(metrics: Metrics) -> str:
    found = metrics["verdicts"]["translated"]["findings"]
    return str(found[0]["name"]) if found and found[0]["significance"] > 0 else NONE


def _setting(key: str) -> Callable[[Metrics], str]:
    return lambda metrics: str(metrics.get("translation", {}).get(key, NONE))


_QUANTITIES: tuple[tuple[str, Callable[[Metrics], str]], ...] = (
    ("fraction of the shift removed", _estimate("translated", "shift_removed")),
    ("mean W1/σ", _estimate("translated", "mean_w1")),
    ("mean W1/σ, source", _estimate("source", "mean_w1")),
    ("mean W1/σ, reference", _estimate("reference", "mean_w1")),
    ("AUC observables", _auc("features")),
    ("AUC cells", _auc("cells")),
    ("FPD × 1000", _distance("fpd")),
    ("KPD × 1000", _distance("kpd")),
    ("source correlation, blocks", _estimate("translated", "source_correlation", "block")),
    ("source correlation, cells", _estimate("translated", "source_correlation", "cell")),
    ("significance", _significance("translated")),
    ("significance, source", _significance("source")),
    ("significance, reference", _significance("reference")),
    ("differs most in", _worst),
    ("ESS of weights", lambda metrics: f"{metrics['headline']['ess']:.3f}"),
    ("weights used", lambda metrics: "yes" if metrics["settings"]["weighted"] else "no"),
    ("events", lambda metrics: f"{metrics['rows']['translated']['n_events']:,}"),
    ("target events", lambda metrics: f"{metrics['target']['n_events']:,}"),
    ("release t", _setting("t_release")),
    ("guidance w", _setting("w")),
    ("mode", _setting("mode")),
    ("steps", _setting("num_inference_steps")),
)
