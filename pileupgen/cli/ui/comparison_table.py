"""A comparison as a table on the terminal."""

from __future__ import annotations

import math

from rich.markup import escape
from rich.table import Table

from pileupgen.cli.ui.console import console, terminal
from pileupgen.compare.records import CLEAR, ROWS, OverlayEffects
from pileupgen.compare.results import Comparison
from pileupgen.measure.bootstrap import Estimate
from pileupgen.report.ladder import ladder_cells
from pileupgen.report.overlay import HEADINGS, overlay_cells, overlay_words
from pileupgen.report.text import NONE, estimate_text, headline_text, sigma_text, standing

N_LADDER_COLUMNS = 7
"""Columns of the ladder's table that a terminal shows; the report has all."""
COLOURS = {"reference": "green", "nearer": "default", "farther": "red", "unknown": "dim"}
"""Styles of a translated sample's distance by where it lies."""


def comparison_table(comparison: Comparison) -> Table:
    """Lay out W1/σ of every observable, then the headline numbers, a column a sample."""
    target = comparison.target
    weights = "with" if comparison.settings.weighted else "without"
    columns = comparison.columns()
    table = Table(
        title=f"W1/σ to {target.n_events:,} events of {target.label}",
        caption=f"± is half the width of the 68 % interval; {weights} release weights",
        header_style="bold",
        title_style="bold",
    )
    table.add_column("observable")
    for column in columns:
        label = column.name if column.name in ROWS else column.label
        table.add_column(escape(label), justify="right")
    for name in comparison.observables:
        table.add_row(name, *_distances([one.row.observables[name].w1 for one in columns]))
    for found in comparison.mu_bins:
        label = f"mean W1/σ, μ {found.low:g} to {found.high:g}"
        cells = _distances([found.mean_distance[row] for row in ROWS])
        table.add_row(label, *cells, *(NONE for _ in columns[len(ROWS) :]))
    table.add_section()
    for headline, _ in comparison.shown():
        label = headline.term(comparison.kind).label
        if headline.name == "mean_w1":
            cells = _distances([column.row.mean_w1 for column in columns])
            table.add_row(label, *cells, style="bold")
        else:
            table.add_row(label, *(escape(headline_text(headline, one)) for one in columns))
    return table


def pileup_table(comparison: Comparison) -> Table:
    """Lay out what pileup does to an analysis: target, source and translated sample."""
    table = Table(title="Pileup in an analysis", header_style="bold", title_style="bold")
    table.add_column("quantity")
    for record in (comparison.target, comparison.source, comparison.translated):
        table.add_column(escape(record.label), justify="right")
    for name, quantity in comparison.pileup.items():
        unit = f" [{quantity.unit}]" if quantity.unit else ""
        values = [quantity.values[role] for role in ("target", "source", "translated")]
        table.add_row(escape(name + unit), *map(estimate_text, values))
    return table


def ladder_table(comparison: Comparison) -> Table:
    """Lay out the variants with one part left out each, as far as a terminal is wide."""
    headings, rows = ladder_cells(comparison)
    headings, rows = headings[:N_LADDER_COLUMNS], [row[:N_LADDER_COLUMNS] for row in rows]
    table = Table(
        title="What each part is worth",
        header_style="bold",
        title_style="bold",
        caption="rise: over the translation as asked, on the same events",
    )
    for place, heading in enumerate(headings):
        table.add_column(escape(heading), justify="right" if place else "left")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def overlay_table(effects: OverlayEffects) -> Table:
    """Lay out what an analysis sees of the same hard scatters with different pileup."""
    table = Table(
        title=f"{effects.n_events:,} hard scatters with pileup ({effects.signal})",
        header_style="bold",
        title_style="bold",
    )
    for place, heading in enumerate(HEADINGS):
        table.add_column(escape(heading), justify="right" if place else "left")
    for row in overlay_cells(effects):
        table.add_row(*map(escape, row))
    return table


def findings(comparison: Comparison, n: int = 3) -> list[str]:
    """Say in words where the translated sample differs most, or whether it is equivalent.

    Parameters
    ----------
    n : int
        Tests to name at most.
    """
    verdict = comparison.verdicts["translated"]
    clear = [found for found in verdict.findings if found.significance > CLEAR][:n]
    if not clear:
        none = f"no difference above {CLEAR:g} σ in {verdict.n_tests:,} tests"
        equivalent = comparison.equivalence
        if equivalent is None:
            return [none]
        word = "[bold green]equivalent[/]" if equivalent.holds else "[bold]not shown[/] equivalent"
        return [
            f"{word}: mean W1/σ above the reference's by at most {equivalent.limit:.3f} (95 % "
            f"confidence; margin {equivalent.margin:g}), {none}"
        ]
    told = [
        f"[bold]differs[/] by {sigma_text(found.significance)} in {escape(found.name)}"
        for found in clear
    ]
    more = verdict.n_clear - len(clear)
    return [*told, f"and in {more:,} more of {verdict.n_tests:,} tests"] if more > 0 else told


def _distances(found: list[Estimate]) -> list[str]:
    """Texts of reference, source, translated, coloured by where it lies, and controls."""
    texts = [estimate_text(one) if math.isfinite(one.value) else NONE for one in found]
    texts[2] = f"[{COLOURS[standing(*found[:3])]}]{texts[2]}[/]"
    return texts


def print_comparison(comparison: Comparison) -> None:
    """Print the tables of a comparison, its findings and its notes."""
    from pileupgen.report.ladder import sentences

    console.print(comparison_table(comparison))
    if comparison.pileup:
        console.print(pileup_table(comparison))
    if comparison.overlay is not None:
        console.print(overlay_table(comparison.overlay))
        terminal.tell("overlay", overlay_words(comparison.overlay))
    if comparison.ladder is not None:
        console.print(ladder_table(comparison))
        for text in sentences(comparison):
            terminal.tell("ladder", text)
    for text in findings(comparison):
        console.print(text, soft_wrap=True)
    for note in comparison.notes:
        terminal.warn(note)


def next_step(comparison: Comparison) -> str:
    """Say what to do after a comparison."""
    removed = comparison.headline.get("shift_removed")
    if removed is not None and removed < 0.5:
        return "pileupgen translate --t-release auto, then pileupgen validate"
    if comparison.kind != "features" and "auc_cells" not in comparison.headline:
        return "pileupgen validate --cells, for the test on cells; and look at the report"
    return "look at the report; pileupgen compare RUN… puts runs side by side"
