"""Tables of the report: captions, columns and cells, laid out by the page's template."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from pileupgen.compare.records import CLEAR, ROWS, ShowerSeparation
from pileupgen.compare.results import Comparison
from pileupgen.report.ladder import caption_of, ladder_cells
from pileupgen.report.text import (
    NONE,
    estimate_html,
    headline_html,
    label_html,
    label_with_w1,
    number,
    percent,
    places,
    sigma_text,
    standings,
)

STANDING_WORDS = {
    "reference": "compatible with the reference",
    "nearer": "smaller than the source's",
    "farther": "larger than the source's",
    "unknown": NONE,
}
N_FINDINGS = {"translated": 10, "source": 5, "reference": 3}
"""Tests of each row that are shown at most."""
N_LADDER_COLUMNS = 8
"""Columns of the ladder that make its first table."""
N_SHIFTS = 3
"""Means of source events that are shown."""


@dataclass(frozen=True)
class Table:
    """A table; what is no markup is escaped by the template."""

    caption: str
    """What it shows."""
    columns: Sequence[str]
    """Headings."""
    rows: Sequence[Sequence[str]]
    """Cells; the first of each row is its heading."""
    kind: str = "numbers"
    """``"numbers"`` or ``"words"``: how the cells are aligned."""


def headline_table(comparison: Comparison) -> Table:
    """Reference, source, translated and controls side by side."""
    columns = comparison.columns()
    lines = []
    for headline, _ in comparison.shown():
        link = Markup('<a href="#term-{}">{}</a>')
        label = label_with_w1(headline.term(comparison.kind).label)
        values = [headline_html(headline, column) for column in columns]
        lines.append([link.format(headline.name, label), *values])
    target = comparison.target
    caption = (
        f"Each sample compared with {target.n_events:,} events of {target.label}. Small print: "
        f"{100 * comparison.settings.level:.0f} % interval."
    )
    if comparison.controls.rows:
        caption += " The last columns are controls: events translated within their own domain."
    return Table(caption, ["", *(column.label for column in columns)], lines)


def ladder_table(comparison: Comparison) -> Table | None:
    """Variants of the translation with one part left out each, where they were made."""
    return _ladder_columns(comparison, slice(1, N_LADDER_COLUMNS), caption_of(comparison))


def ladder_details_table(comparison: Comparison) -> Table | None:
    """The same variants by families of observables, and without the residual correction."""
    caption = (
        "The same variants: W1/σ and fraction of the shift removed by families of observables, "
        "quantities of pileup over the target's, and W1/σ · AUC without the residual correction."
    )
    return _ladder_columns(comparison, slice(N_LADDER_COLUMNS, None), caption)


def _ladder_columns(comparison: Comparison, columns: slice, caption: str) -> Table | None:
    headings, rows = ladder_cells(comparison)
    if not rows:
        return None
    shown = ["", *map(label_with_w1, headings[columns])]
    return Table(label_with_w1(caption), shown, [[row[0], *row[columns]] for row in rows])


def findings_table(comparison: Comparison) -> Table:
    """The most significant tests of each row."""
    lines = [
        [
            found.name,
            found.family,
            row,
            _sigma(found.local),
            _sigma(found.significance),
        ]
        for row, n_shown in N_FINDINGS.items()
        if row in comparison.verdicts
        for found in comparison.verdicts[row].findings[:n_shown]
    ]
    counts = "; ".join(
        f"{row} {verdict.n_clear:,} of {verdict.n_tests:,}"
        for row, verdict in comparison.verdicts.items()
    )
    caption = (
        "The most significant statistical tests against the target. Tests that exceed "
        f"{CLEAR:g} σ after correction for the number of tests: {counts}."
    )
    columns = ["quantity", "kind of test", "sample", "single test", "corrected"]
    return Table(caption, columns, lines, "words")


def observables_table(comparison: Comparison) -> Table:
    """W1/σ and separation power of every observable."""
    rows = [comparison.rows[row] for row in ROWS]
    found = standings(comparison)
    correlation = comparison.translated.source_correlation
    kept = correlation.features if correlation else {}
    lines = [
        [
            Markup("{}<br><code>{}</code>").format(label_html(record.label, record.unit), name),
            *(estimate_html(row.observables[name].w1) for row in rows),
            Markup('<span class="{}">{}</span>').format(found[name], STANDING_WORDS[found[name]]),
            *(number(row.observables[name].separation) for row in rows),
            *([estimate_html(kept[name])] if kept else []),
        ]
        for name, record in comparison.observables.items()
    ]
    columns = [
        "observable",
        *(label_with_w1(f"W1/σ, {row}") for row in ROWS),
        label_with_w1("translated W1/σ is"),
        *(f"separation power, {row}" for row in ROWS),
        *(["source correlation"] if kept else []),
    ]
    caption = (
        "Distances of each observable to the target. Compatible with the reference: the interval "
        "of the translated sample reaches down to that of the reference."
    )
    return Table(caption, columns, lines)


def mu_table(comparison: Comparison) -> Table | None:
    """The headline in bins of μ, where there are such."""
    if not comparison.mu_bins:
        return None
    lines = [
        [
            f"{found.low:g} to {found.high:g}",
            *(estimate_html(found.mean_distance[row]) for row in ROWS),
            estimate_html(found.shift_removed),
            estimate_html(found.source_correlation),
            f"{found.n_target:,} / {found.n_translated:,}",
        ]
        for found in comparison.mu_bins
    ]
    columns = [
        "μ",
        *(label_with_w1(f"mean W1/σ, {row}") for row in ROWS),
        "fraction of the shift removed",
        f"source correlation, {places(comparison)}",
        "events, target / translated",
    ]
    caption = (
        "Headline numbers in bins of μ, the number of pileup interactions of an event. Each bin "
        "has fewer events than the whole, so all its distances are larger."
    )
    return Table(caption, columns, lines)


def source_table(comparison: Comparison) -> Table | None:
    """Source events beside the training's, where the translated store tells."""
    found = comparison.source_check
    if found is None:
        return None

    def events(n: int) -> str:
        return f"{n:,} of {found.n_events:,}"

    lines = [
        ["events unlike the training's", events(found.n_unlike), "1 in 1,000 by chance"],
        [
            "events with cells above the training's largest of their ring",
            events(found.n_above),
            f"{found.cells_above:,} cells, up to {found.energy_ratio:.3g} times"
            * bool(found.n_above),
        ],
        [
            "events with hits below the training's threshold",
            events(found.n_below),
            f"{found.cells_below:,} cells, taken for empty" if found.n_below else "",
        ],
        [
            "events with μ outside the training's range",
            events(found.n_mu),
            f"by factors of {found.mu_low:.3g} to {found.mu_high:.3g}" if found.n_mu else "",
        ],
    ]
    if math.isfinite(found.significance):
        lines.append(
            ["means of the whole sample", _sigma(found.significance), "from the training's"]
        )
    lines += [
        [
            f"{name}, averaged",
            _sigma(abs(local)),
            f"{shift:+.3f} standard deviations of events".replace("-", "−"),
        ]
        for name, shift, local in found.shifts[:N_SHIFTS]
    ]
    caption = (
        "The translation's source events beside those of the training. What is made of events that "
        "the training never saw has not been tested. Of the means, those that differ most."
    )
    return Table(caption, ["", "found", "of that"], lines, "words")


def pileup_table(comparison: Comparison) -> Table | None:
    """Effects of pileup on an analysis, where they were measured."""
    if not comparison.pileup:
        return None
    lines = [
        [
            Markup("{}<br><code>{}</code>").format(label_html(found.label, found.unit), name),
            *(estimate_html(found.values[role]) for role in ("target", "source", "translated")),
        ]
        for name, found in comparison.pileup.items()
    ]
    labels = [comparison.target.label, comparison.source.label, comparison.translated.label]
    caption = (
        "What pileup does to an analysis: densities, offsets and resolutions. Translated events "
        f"should have the values of {comparison.target.label}."
    )
    return Table(caption, ["quantity", *labels], lines)


def shower_table(comparison: Comparison) -> Table | None:
    """Separation powers as the CaloChallenge defines them, by family; of showers only."""
    families: dict[str, list[ShowerSeparation]] = {}
    for found in comparison.showers.values():
        families.setdefault(found.family, []).append(found)
    if not families:
        return None
    lines = [
        [
            family,
            str(len(members)),
            *(_mean_and_largest([found.values[row] for found in members]) for row in ROWS),
            percent(max(share for found in members for share in found.outside.values())),
        ]
        for family, members in families.items()
    ]
    caption = Markup(
        "Separation powers in the CaloChallenge's own histograms (arXiv:2410.21611): mean over the "
        "histograms of a family and, in small print, the largest. <code>metrics.json</code> has "
        "each of them. As in the challenge, entries outside the edges are dropped; the last column "
        "is the largest fraction of them."
    )
    return Table(caption, ["family", "histograms", *ROWS, "outside the edges"], lines)


def settings_table(comparison: Comparison) -> Table:
    """How the events were translated and compared."""
    values = {
        **{f"translation: {key}": value for key, value in comparison.translation.items()},
        **{f"validation: {key}": value for key, value in comparison.settings},
        **{f"version: {key}": value for key, value in comparison.versions.items()},
    }
    lines = [[key, str(value)] for key, value in values.items()]
    return Table("Settings and versions.", ["setting", "value"], lines, "words")


def inputs_table(comparison: Comparison) -> Table | None:
    """Files that were read, where they are known."""
    code = Markup("<code>{}</code>")
    lines = [
        [role, code.format(found.path), f"{found.n_events:,}", code.format(found.sha256)]
        for role, found in comparison.inputs.items()
    ]
    if not lines:
        return None
    return Table("Files read.", ["role", "path", "events", "SHA-256"], lines, "words")


def _mean_and_largest(values: Sequence[float]) -> str:
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return NONE
    mean = f"{sum(known) / len(known):.5f}"
    if len(values) == 1:
        return mean
    return Markup("{} <small>≤ {}</small>").format(mean, f"{max(known):.5f}")


def _sigma(value: float) -> str:
    return sigma_text(value).replace(" ", "\u00a0")
