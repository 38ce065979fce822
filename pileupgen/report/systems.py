"""The page of a benchmark of generators and translators."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pileupgen.compare.systems import SystemRow, SystemTable
from pileupgen.files import write_whole
from pileupgen.report.captions import Caption
from pileupgen.report.figures.control import control_figure
from pileupgen.report.figures.style import write_figure
from pileupgen.report.figures.systems import systems_figure
from pileupgen.report.page import environment, page_style, picture_of
from pileupgen.report.shown_quality import shown_of
from pileupgen.report.tables import Table
from pileupgen.report.text import NONE

NAME = "systems"
"""Name of the files that are written, without suffix."""
CONTROL = "systems_control"
"""Name of the figure of events that were asked for a property."""
COST_COLUMNS = (
    "system",
    "parameters",
    "evaluations",
    "training, CPU s",
    "steps",
    "an event, CPU ms",
    "alone · of 100, ms",
    "speed-up",
    "follows",
)


def quality_columns(table: SystemTable) -> tuple[str, ...]:
    """Heads of the table of quality."""
    return shown_of(table).columns


def quality_lines(table: SystemTable) -> list[list[str]]:
    """Rows of the table of quality: the reference, the source, every system."""
    shown = shown_of(table)
    beside = (("reference", table.reference), ("source", table.source))
    return [
        *([name, *shown.cells(found), *([NONE] if shown.last else [])] for name, found in beside),
        *(
            [row.label, *shown.cells(row.quality), *([shown.last(row)] if shown.last else [])]
            for row in table.rows
        ),
    ]


def cost_lines(table: SystemTable) -> list[list[str]]:
    """Rows of the table of cost, one a system."""
    return [
        [
            row.label,
            f"{row.n_parameters:,}",
            f"{row.n_evaluations:,}",
            f"{row.training_seconds:.0f}",
            f"{row.training_steps:,}",
            f"{row.event_ms:.3g}",
            NONE if row.single_ms is None else f"{row.single_ms:.3g} · {row.batch_ms:.3g}",
            _speed_up(row, table),
            row.citation,
        ]
        for row in table.rows
    ]


def notes_of(table: SystemTable) -> list[str]:
    """What has to be known to read the tables, and which systems do worse than the yardstick."""
    shown = shown_of(table)
    notes = [
        f"Systems learn from {table.n_train:,} events of the target with "
        f"{table.minutes:g} minutes of CPU time each. {shown.learned}",
        "Nats a cell: ln p of held-out target events above that of independent cells; "
        "≥ where it is a lower bound. Null cells stand at a random rank.",
        "What is translated is correlated with its source event; what is made from noise is not.",
        shown.note,
    ]
    if table.simulation_ms is not None:
        notes.append(
            f"The built-in simulation takes {table.simulation_ms:.3g} ms of CPU time "
            f"{shown.simulated}"
        )
    notes += [
        f"Of {row.name}'s events {curve.label} rises by {curve.slope:.2f} ± "
        f"{curve.slope_error:.2f} of what is asked."
        for row in table.rows
        for curve in row.controls
    ]
    known = [(row, table.is_worse_than_yardstick(row)) for row in table.rows]
    worse = [row.label for row, is_worse in known if is_worse]
    if worse:
        notes.append(
            f"Farther from the target by AUC than {table.yardstick}, {shown.independent}: "
            f"{', '.join(worse)}."
        )
    elif all(is_worse is False for _, is_worse in known):
        notes.append(f"No system is farther from the target by AUC than {table.yardstick}.")
    return notes


def write_systems(table: SystemTable, folder: Path) -> list[Path]:
    """Write numbers, table, figure and page.

    Returns
    -------
    list of Path
        ``systems.json``, ``systems.csv``, the figures' files, ``systems.html``.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    write_whole(folder / f"{NAME}.json", json.dumps(table.to_dict(), indent=2, ensure_ascii=False))
    write_whole(folder / f"{NAME}.csv", table.to_csv())
    drawn = write_figure(systems_figure(table), folder, NAME)
    curves = [(row.name, curve) for row in table.rows for curve in row.controls]
    if curves:
        drawn += write_figure(control_figure(curves), folder, CONTROL)
    write_whole(folder / f"{NAME}.html", _page(table, drawn))
    return [folder / f"{NAME}.json", folder / f"{NAME}.csv", *drawn, folder / f"{NAME}.html"]


def _page(table: SystemTable, drawn: Sequence[Path]) -> str:
    mean = quality_columns(table)[1].replace("mean", "Mean")
    of_systems = Caption(
        title="Quality against cost",
        see=f"{mean} and AUC against the CPU time of an event. Filled: made from noise; open: "
        "translated. The band is the reference; lower is better.",
        alt=f"{mean} and AUC of every system against the time that an event takes",
    )
    of_control = Caption(
        title="Properties as asked for",
        see="Median and central 68 % of 100 events at each asked value, at the conditions of "
        "target events. Full control is on the dashed line; the band is what target events have.",
        alt="A property of generated events against the value that was asked for",
    )
    words = {NAME: of_systems, CONTROL: of_control}
    pngs = [path for path in drawn if path.suffix == ".png"]
    reference = table.reference
    return (
        environment()
        .get_template("systems.html.j2")
        .render(
            title=f"Generators and translators: {table.task}",
            subtitle=f"{reference.n_events:,} held-out events of each domain",
            style=page_style(),
            tables=[
                Table(
                    "Nearness to the target. ± is half the 68 % interval.",
                    quality_columns(table),
                    quality_lines(table),
                ),
                Table("What it takes.", COST_COLUMNS, cost_lines(table)),
            ],
            figures=[picture_of(p.name, p.read_bytes(), words[p.stem]) for p in pngs],
            notes=notes_of(table),
        )
    )


def _speed_up(row: SystemRow, table: SystemTable) -> str:
    if table.simulation_ms is None or not row.batch_ms:
        return NONE
    return f"{table.simulation_ms / row.batch_ms:.2g}"
