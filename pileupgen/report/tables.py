"""Tables of the report, as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from pileupgen.report.text import (
    CLEAR,
    NONE,
    auc_error,
    controls_of,
    has_interval,
    label_html,
    number,
    percent,
    physics_range,
    places,
    sigma_text,
    standings,
)

ROWS = ("reference", "source", "translated")
STANDING_WORDS = {
    "reference": "at the reference",
    "nearer": "nearer than the source",
    "farther": "farther than the source",
    "unknown": NONE,
}
Estimate = Mapping[str, float | None]


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]], kind: str) -> str:
    """Lay out cells that are HTML already; the first of each row is its header.

    Parameters
    ----------
    caption : str
        HTML.
    columns : sequence of str
        HTML of the header row.
    rows : iterable of sequences of str
        HTML of the cells.
    kind : str
        ``"numbers"`` or ``"words"``: how the cells are aligned.
    """
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    body = "\n".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="Table">\n'
        f'<table class="{kind}">\n<caption>{caption}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>"
    )


def headline_table(metrics: Mapping[str, Any]) -> str:
    """Reference, source and translated side by side."""
    rows = metrics["rows"]
    level = 100 * metrics["settings"]["level"]
    controls = list(controls_of(metrics).values())
    none = [NONE] * len(controls)
    columns = [*(rows[row] for row in ROWS), *(control["row"] for control in controls)]
    lines = [["mean W<sub>1</sub>/σ", *(_estimate(row["mean_w1"]) for row in columns)]]
    if controls:
        rises = [f"{_estimate(one['rise'])} to {one['replaces']}" for one in controls]
        lines.append(["control's rise", NONE, NONE, NONE, *rises])
    closed = _estimate(rows["translated"]["shift_removed"])
    lines.append(["fraction of the shift removed", "1", "0", closed, *none])
    for key, what in (("features", "observables"), ("cells", "cells")):
        tests = [row["two_sample"][key] for row in columns]
        if any(tests):
            lines.append([f"AUC, {what}", *map(_auc, tests)])
            lines.append([f"JSD, {what}", *(_plus_minus(t, "jsd", "jsd_spread") for t in tests)])
    for key, what in (("fpd", "FPD"), ("kpd", "KPD")):
        distances = [row[key] for row in columns]
        if any(distances):
            cells = (_physics(found) for found in distances)
            lines.append([f"{what} × 1000", *cells])
    for key, what in places(metrics):
        found = [row["source_correlation"] for row in columns]
        cells = (NONE if one is None else _estimate(one[key]) for one in found)
        lines.append([f"source_correlation in {what}", *cells])
    if metrics["truth"] is not None:
        for key, what in places(metrics):
            cells = (_estimate(metrics["truth"][row][key]) for row in ROWS[1:])
            lines.append([f"correlation with the truth in {what}", NONE, *cells, *none])
    verdicts = [metrics["verdicts"].get(row) for row in ROWS]
    verdicts += [control["verdict"] for control in controls]
    lines.append(["significance", *(_significance(verdict) for verdict in verdicts)])
    ess = number(metrics["headline"]["ess"])
    lines.append(["effective size of the weights", NONE, NONE, ess, *none])
    lines.append(["events", *map(_count, columns)])
    caption = (
        f"Against {metrics['target']['n_events']:,} events of "
        f"{escape(metrics['target']['label'])}. Small print: {level:.0f} % interval, or error."
    )
    if controls:
        caption += (
            " Controls are translated within one domain; rise is what that adds to the mean of the "
            "row whose events they are."
        )
    headings = [*map(_heading(metrics), ROWS), *(escape(one["row"]["label"]) for one in controls)]
    return table(caption, ["", *headings], lines, "numbers")


def findings_table(metrics: Mapping[str, Any]) -> str:
    """The most extreme tests of the translated sample, then of its controls."""
    lines = [
        [
            escape(found["name"]),
            escape(found["family"]),
            escape(row),
            _sigma(found["local"]),
            _sigma(found["significance"]),
        ]
        for row, n_shown in (("translated", 10), ("source", 5), ("reference", 3))
        for found in metrics["verdicts"].get(row, {"findings": []})["findings"][:n_shown]
    ]
    columns = ["what differs", "family", "sample", "by itself", "after the number of tests"]
    counts = ", ".join(
        f"{verdict['n_clear']:,} of {verdict['n_tests']:,} for {escape(row)}"
        for row, verdict in metrics["verdicts"].items()
    )
    caption = (
        f"The most extreme tests against the target. Beyond {CLEAR:g} σ after the number of tests: "
        f"{counts}."
    )
    return table(caption, columns, lines, "words")


def observables_table(metrics: Mapping[str, Any]) -> str:
    """W1/σ and separation power of every observable."""
    rows = metrics["rows"]
    found = standings(metrics)
    kept = (rows["translated"]["source_correlation"] or {}).get("features") or {}
    lines = [
        [
            f"{label_html(record['label'], record['unit'])}<br><code>{escape(name)}</code>",
            *(_estimate(rows[row]["observables"][name]["w1"]) for row in ROWS),
            f'<span class="{found[name]}">{STANDING_WORDS[found[name]]}</span>',
            *(number(rows[row]["observables"][name]["separation"]) for row in ROWS),
            *([_estimate(kept[name])] if kept else []),
        ]
        for name, record in metrics["observables"].items()
    ]
    columns = [
        "observable",
        *(f"W<sub>1</sub>/σ, {row}" for row in ROWS),
        "translated is",
        *(f"separation, {row}" for row in ROWS),
        *(["source_correlation"] if kept else []),
    ]
    caption = "Distances of each observable to the target. At the reference: the intervals touch."
    return table(caption, columns, lines, "numbers")


def mu_table(metrics: Mapping[str, Any]) -> str:
    """The headline in bins of μ; empty where there are none."""
    if not metrics["mu_bins"]:
        return ""
    lines = [
        [
            f"{found['low']:g} to {found['high']:g}",
            *(_estimate(found["mean_distance"][row]) for row in ROWS),
            _estimate(found["shift_removed"]),
            _estimate(found["source_correlation"]),
            f"{found['n_target']:,} / {found['n_translated']:,}",
        ]
        for found in metrics["mu_bins"]
    ]
    columns = [
        "μ",
        *(f"mean W<sub>1</sub>/σ, {row}" for row in ROWS),
        "fraction of the shift removed",
        f"source_correlation in {places(metrics)[0][1]}",
        "events, target / translated",
    ]
    return table("The headline in bins of μ.", columns, lines, "numbers")


def pileup_table(metrics: Mapping[str, Any]) -> str:
    """Pileup's own physics; empty where there is none."""
    if not metrics["pileup"]:
        return ""
    lines = [
        [
            f"{label_html(found['label'], found['unit'])}<br><code>{escape(name)}</code>",
            *(_estimate(found["values"][role]) for role in ("target", "source", "translated")),
        ]
        for name, found in metrics["pileup"].items()
    ]
    labels = [metrics["target"]["label"], *(metrics["rows"][row]["label"] for row in ROWS[1:])]
    caption = "Pileup's own physics: translated events should have the first column's values."
    return table(caption, ["quantity", *map(escape, labels)], lines, "numbers")


def shower_table(metrics: Mapping[str, Any]) -> str:
    """Separation powers as the CaloChallenge defines them, by family; empty but for showers."""
    families: dict[str, list[Mapping[str, Any]]] = {}
    for found in metrics.get("showers", {}).values():
        families.setdefault(found["family"], []).append(found)
    if not families:
        return ""
    lines = [
        [
            escape(family),
            str(len(members)),
            *(_mean_and_largest([found["values"][row] for found in members]) for row in ROWS),
            percent(max(found["outside"][row] for found in members for row in found["outside"])),
        ]
        for family, members in families.items()
    ]
    caption = (
        "Separation powers in the CaloChallenge's own histograms (2410.21611), mean and, small, "
        "largest over the histograms; <code>metrics.json</code> has each. As there, what lies "
        "outside the edges is dropped: at most the fraction in the last column."
    )
    return table(caption, ["family", "histograms", *ROWS, "outside"], lines, "numbers")


def settings_table(metrics: Mapping[str, Any]) -> str:
    """How the events were translated and compared."""
    values = {
        **{f"translation: {key}": value for key, value in metrics.get("translation", {}).items()},
        **{f"validation: {key}": value for key, value in metrics["settings"].items()},
        **{f"version: {key}": value for key, value in metrics.get("versions", {}).items()},
    }
    lines = [[escape(key), escape(str(value))] for key, value in values.items()]
    return table("Settings and versions.", ["setting", "value"], lines, "words")


def inputs_table(metrics: Mapping[str, Any]) -> str:
    """Files that were read; empty where they are unknown."""
    lines = [
        [
            escape(role),
            f"<code>{escape(str(found['path']))}</code>",
            f"{found['n_events']:,}",
            f"<code>{escape(str(found['sha256']))}</code>",
        ]
        for role, found in metrics.get("inputs", {}).items()
    ]
    if not lines:
        return ""
    return table("Files read.", ["role", "path", "events", "SHA-256"], lines, "words")


def definitions_table(metrics: Mapping[str, Any]) -> str:
    """What the numbers mean."""
    lines = [[escape(key), escape(str(text))] for key, text in metrics["definitions"].items()]
    return table("Definitions.", ["number", "meaning"], lines, "words")


def _heading(metrics: Mapping[str, Any]) -> Any:
    def of(row: str) -> str:
        label = metrics["rows"][row]["label"]
        return escape(row if label == row else f"{row}: {label}")

    return of


def _estimate(found: Estimate) -> str:
    text = number(found["value"])
    if found["value"] is None or not has_interval(found):
        return text
    return f"{text} <small>{number(found['low'])} to {number(found['high'])}</small>"


def _auc(test: Mapping[str, float] | None) -> str:
    if test is None:
        return NONE
    return f"{number(test['auc'])} <small>± {number(auc_error(test))}</small>"


def _physics(found: Mapping[str, float | None] | None) -> str:
    if found is None:
        return NONE
    return f"{number(found['value'], 1000, 1)} <small>{physics_range(found, 1)}</small>"


def _plus_minus(
    found: Mapping[str, float | None] | None,
    value: str,
    error: str,
    scale: float = 1.0,
    decimals: int = 3,
) -> str:
    if found is None:
        return NONE
    error_text = number(found[error], scale, decimals)
    return f"{number(found[value], scale, decimals)} <small>± {error_text}</small>"


def _mean_and_largest(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return NONE
    mean = f"{sum(known) / len(known):.5f}"
    return mean if len(values) == 1 else f"{mean} <small>≤ {max(known):.5f}</small>"


def _sigma(value: float) -> str:
    return escape(sigma_text(value)).replace(" ", "&nbsp;")


def _significance(verdict: Mapping[str, Any] | None) -> str:
    if verdict is None:
        return NONE
    return f"{_sigma(verdict['significance'])} <small>{verdict['n_tests']:,} tests</small>"


def _count(row: Mapping[str, Any]) -> str:
    times = f"{row['n_samples']} × " if row["n_samples"] > 1 else ""
    return f"{times}{row['n_events']:,}"
