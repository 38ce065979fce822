"""Headline numbers of several runs side by side: as lines, as Markdown and as CSV."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path

from pileupgen.compare.headline import HEADLINE
from pileupgen.compare.results import Comparison
from pileupgen.report.metrics_file import run_of
from pileupgen.report.text import NONE, headline_text

TRANSLATION = {
    "t_release": "release time t",
    "w": "guidance strength w",
    "mode": "mode",
    "num_inference_steps": "steps",
}
"""Settings of the translation that are shown."""


def run_names(paths: list[Path]) -> list[str]:
    """Name each run by its folder; by the whole path where two folders have one name.

    >>> run_names([Path("runs/a/validation/metrics.json"), Path("a/validation/b/metrics.json")])
    ['a', 'a/b']
    """
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


def _hash(comparison: Comparison, role: str) -> str | None:
    return comparison.inputs[role].sha256 if role in comparison.inputs else None


def _worst(comparison: Comparison) -> str:
    from pileupgen.report.text import NONE

    found = comparison.verdicts["translated"].findings
    return found[0].name if found and found[0].significance > 0 else NONE
