"""The page of a benchmark of generators and translators."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pileupgen.compare.quality import Quality
from pileupgen.compare.shower_quality import TABLE_A, ShowerQuality
from pileupgen.compare.systems import AnyQuality, SystemRow, SystemTable
from pileupgen.compare.zdc_quality import ZdcQuality
from pileupgen.files import write_whole
from pileupgen.measure.bootstrap import Estimate
from pileupgen.measure.fibres import CHANNELS
from pileupgen.report.captions import Caption
from pileupgen.report.figures.control import control_figure
from pileupgen.report.figures.style import write_figure
from pileupgen.report.figures.systems import systems_figure
from pileupgen.report.page import environment, page_style, picture_of
from pileupgen.report.tables import Table
from pileupgen.report.text import NONE, estimate_text

NAME = "systems"
"""Name of the files that are written, without suffix."""
CONTROL = "systems_control"
"""Name of the figure of events that were asked for a property."""
QUALITY_COLUMNS = (
    "system",
    "W1/σ",
    "shift removed",
    "AUC, observables",
    "AUC, cells",
    "source correlation, blocks",
    "FPD × 1000",
    "KPD × 1000",
    "nats a cell",
)
SHOWER_COLUMNS = (
    *("system", "mean W1/σ", *TABLE_A.values(), "FPD × 1000", "KPD × 1000"),
    *("AUC, observables", "AUC, cells"),
)
ZDC_COLUMNS = (
    *("system", "mean W1, photons", *CHANNELS.values()),
    *("AUC, observables", "AUC, cells", "training, CPU min"),
)
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
    kinds = {ShowerQuality: SHOWER_COLUMNS, ZdcQuality: ZDC_COLUMNS}
    return kinds.get(type(table.reference), QUALITY_COLUMNS)


def quality_lines(table: SystemTable) -> list[list[str]]:
    """Rows of the table of quality: the reference, the source, every system."""
    if isinstance(table.reference, ShowerQuality):
        beside = (("reference", table.reference), ("source", table.source))
        judged = [*beside, *((row.label, row.quality) for row in table.rows)]
        return [
            [name, *_shower_quality(found)]
            for name, found in judged
            if isinstance(found, ShowerQuality)
        ]
    if isinstance(table.reference, ZdcQuality):
        lines = [["reference", *_light(table.reference), NONE]]
        lines.append(["source", *_light(table.source), NONE])
        return lines + [
            [row.label, *_light(row.quality), f"{row.training_seconds / 60:.2g}"]
            for row in table.rows
        ]
    lines = [
        ["reference", *_quality(table.reference), NONE],
        ["source", *_quality(table.source), NONE],
    ]
    return lines + [[row.label, *_quality(row.quality), _nats(row)] for row in table.rows]


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
    is_light = isinstance(table.reference, ZdcQuality)
    notes = [
        f"Systems learn from {table.n_train:,} events of the target with "
        f"{table.minutes:g} minutes of CPU time each. All work on Gaussian scores of cells given "
        f"{'place' if is_light else 'ring, layer'} and {_condition(table)}, and their output is "
        "brought to the target's marginals in the same way.",
        "Nats a cell: ln p of held-out target events above that of independent cells; "
        "≥ where it is a lower bound. Null cells stand at a random rank.",
        "What is translated is correlated with its source event; what is made from noise is not.",
    ]
    if isinstance(table.reference, ShowerQuality):
        notes.append(
            "Showers are made at the incident energies of the target's; the reference has other "
            "ones, and its distances in hits are larger for that. Distances are W1/σ; those of "
            "hits' energies, depths and radii are of all showers together. Times alone and of 100 "
            "are of one thread."
        )
    if is_light:
        notes.append(
            "Light is made for held-out particles of the same kind as the target's, not for the "
            "same ones. Fibres are a chequerboard: those of one colour are read in common, the "
            "others by quadrant. Distances are W1 of a channel's photons."
        )
    if table.simulation_ms is not None:
        notes.append(
            f"The built-in simulation takes {table.simulation_ms:.3g} ms of CPU time a shower; "
            "the speed-up is over it, in batches of 100. It is a parametrisation itself: over "
            "a full simulation it would be larger by orders of magnitude."
        )
    if isinstance(table.reference, Quality):
        notes.append(
            "What is made from noise has the μ of the target's own events; the reference and what "
            "is translated have other ones, and their distances are larger for that."
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
            f"Farther from the target by AUC than {table.yardstick}, independent cells: "
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


def _condition(table: SystemTable) -> str:
    kinds = {ShowerQuality: "incident energy", ZdcQuality: "energy of the particle"}
    return kinds.get(type(table.reference), "μ")


def _speed_up(row: SystemRow, table: SystemTable) -> str:
    if table.simulation_ms is None or not row.batch_ms:
        return NONE
    return f"{table.simulation_ms / row.batch_ms:.2g}"


def _cells(found: AnyQuality) -> str:
    if found.cell_auc is None:
        return NONE
    return f"{found.cell_auc:.3f} ± {found.cell_auc_error:.3f}"


def _physics(found: Quality | ShowerQuality) -> list[str]:
    """FPD and KPD × 1000."""
    return [
        NONE
        if one is None
        else estimate_text(Estimate(1000 * one.value, 1000 * one.low, 1000 * one.high))
        for one in (found.fpd, found.kpd)
    ]


def _shower_quality(found: ShowerQuality) -> list[str]:
    return [
        estimate_text(found.w1),
        *(estimate_text(found.distances[name]) for name in TABLE_A),
        *_physics(found),
        f"{found.auc:.3f} ± {found.auc_error:.3f}",
        _cells(found),
    ]


def _light(found: AnyQuality) -> list[str]:
    assert isinstance(found, ZdcQuality)
    return [
        estimate_text(found.w1),
        *(estimate_text(found.channels[name]) for name in CHANNELS),
        f"{found.auc:.3f} ± {found.auc_error:.3f}",
        _cells(found),
    ]


def _quality(found: AnyQuality) -> list[str]:
    assert isinstance(found, Quality)
    return [
        estimate_text(found.w1),
        estimate_text(found.shift_removed),
        f"{found.auc:.3f} ± {found.auc_error:.3f}",
        _cells(found),
        estimate_text(found.block),
        *_physics(found),
    ]


def _nats(row: SystemRow) -> str:
    if row.nats is None or row.nats_error is None:
        return NONE
    bound = "" if row.nats_are_exact else "≥ "
    # A flow may find single events of the test nearly impossible, and the mean is then theirs.
    form = ".4f" if max(abs(row.nats), row.nats_error) < 100 else ".2g"
    return f"{bound}{row.nats:{form}} ± {row.nats_error:{form}}"
