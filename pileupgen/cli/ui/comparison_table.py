"""The comparison as a table on the terminal, from the values of ``metrics.json``."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from pileupgen.report.text import (
    CLEAR,
    auc_error,
    controls_of,
    number,
    physics_range,
    places,
    sigma_text,
    standing,
)

ROWS = ("reference", "source", "translated")
COLOURS = {"reference": "green", "nearer": "default", "farther": "red", "unknown": "dim"}
"""Styles of a translated sample's distance by where it lies."""


def comparison_table(metrics: dict[str, Any]) -> Table:
    """Reference, source and translated side by side: W1/σ per observable, then the headline.

    Parameters
    ----------
    metrics : dict
        What ``metrics.json`` holds.
    """
    rows = metrics["rows"]
    target = metrics["target"]
    settings = metrics["settings"]
    weights = "with" if settings["weighted"] else "without"
    table = Table(
        title=f"W1/σ to {target['n_events']:,} events of {target['label']}",
        caption=f"± is the 68 % interval's half width; {weights} release weights",
        header_style="bold",
        title_style="bold",
    )
    table.add_column("observable")
    controls = list(controls_of(metrics).values())
    extra = [control["row"] for control in controls]
    for name in ROWS:
        table.add_column(name, justify="right")
    for row in extra:
        table.add_column(row["label"], justify="right")
    for name in metrics["observables"]:
        distances = [rows[row]["observables"][name]["w1"] for row in ROWS]
        others = [row["observables"][name]["w1"] for row in extra]
        table.add_row(name, *_cells(distances), *map(_with_error, others))
    table.add_section()
    means = [rows[row]["mean_w1"] for row in ROWS]
    others = [row["mean_w1"] for row in extra]
    table.add_row("mean W1/σ", *_cells(means), *map(_with_error, others), style="bold")
    if controls:
        rises = [f"{_with_error(one['rise'], '+')} to {one['replaces']}" for one in controls]
        table.add_row("control's rise", "–", "–", "–", *rises)
    for mu_bin in metrics["mu_bins"]:
        label = f"mean W1/σ, μ {mu_bin['low']:g} to {mu_bin['high']:g}"
        distances = [mu_bin["mean_distance"][row] for row in ROWS]
        table.add_row(label, *_cells(distances), *("–" for _ in extra))
    closed = _with_error(rows["translated"]["shift_removed"])
    table.add_row(
        "fraction of the shift removed", "1", "0", closed, *("–" for _ in extra), style="bold"
    )
    columns = [*(rows[row] for row in ROWS), *extra]
    for key, label in (("features", "observables"), ("cells", "cells")):
        tests = [row["two_sample"][key] for row in columns]
        if any(tests):
            table.add_row(f"AUC {label}", *(_test(test, "auc", "error") for test in tests))
            table.add_row(f"JSD {label}", *(_test(test, "jsd", "jsd_spread") for test in tests))
    for key, label in (("fpd", "FPD"), ("kpd", "KPD")):
        distances = [row[key] for row in columns]
        if any(distances):
            table.add_row(f"{label} × 1000", *map(_in_thousandths, distances))
    for key, label in places(metrics):
        values = [row["source_correlation"] for row in columns]
        texts = ["–" if value is None else _with_error(value[key]) for value in values]
        table.add_row(f"source correlation, {label}", *texts)
    if metrics["truth"] is not None:
        for key, label in places(metrics):
            texts = [_with_error(metrics["truth"][row][key]) for row in ("source", "translated")]
            table.add_row(f"to the truth, {label}", "–", *texts, *("–" for _ in extra))
    verdicts = [metrics["verdicts"].get(row) for row in ROWS]
    verdicts += [control["verdict"] for control in controls]
    texts = [
        "–" if verdict is None else sigma_text(verdict["significance"]) for verdict in verdicts
    ]
    table.add_row("significance", *texts)
    ess = f"{metrics['headline']['ess']:.3f}"
    table.add_row("ESS of weights", "–", "–", ess, *("–" for _ in extra))
    table.add_row("events", *map(_count, columns))
    return table


def pileup_table(metrics: dict[str, Any]) -> Table:
    """Pileup's own physics: each number of the target, the source and the translated sample.

    Parameters
    ----------
    metrics : dict
        What ``metrics.json`` holds.
    """
    labels = [metrics["target"]["label"], *(metrics["rows"][row]["label"] for row in ROWS[1:])]
    table = Table(title="Pileup's own physics", header_style="bold", title_style="bold")
    table.add_column("quantity")
    for label in labels:
        table.add_column(label, justify="right")
    for name, quantity in metrics["pileup"].items():
        unit = f" [{quantity['unit']}]" if quantity["unit"] else ""
        values = [quantity["values"][role] for role in ("target", "source", "translated")]
        # A backslash keeps rich from taking the unit for a style.
        table.add_row(name + unit.replace("[", r"\["), *map(_with_error, values))
    return table


def findings(metrics: dict[str, Any], n: int = 3) -> list[str]:
    """Say in words where the translated sample differs most, or that it agrees.

    Parameters
    ----------
    metrics : dict
        What ``metrics.json`` holds.
    n : int
        Findings to name at most.
    """
    verdict = metrics["verdicts"]["translated"]
    clear = [found for found in verdict["findings"] if found["significance"] > CLEAR][:n]
    if not clear:
        return [f"[bold green]agrees[/] in all of {verdict['n_tests']:,} tests within {CLEAR:g} σ"]
    told = [
        f"[bold]differs[/] {sigma_text(found['significance'])} in {found['name']}"
        for found in clear
    ]
    more = verdict["n_clear"] - len(clear)
    return [*told, f"and in {more:,} more of {verdict['n_tests']:,} tests"] if more > 0 else told


def _cells(distances: list[dict[str, float | None]]) -> list[str]:
    reference, source, translated = (_with_error(distance) for distance in distances)
    return [reference, source, f"[{COLOURS[standing(*distances)]}]{translated}[/]"]


def _with_error(estimate: dict[str, float | None], sign: str = "") -> str:
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if value is None:
        return "–"
    if low is None or high is None or low == high:
        return f"{value:{sign}.3f}"
    return f"{value:{sign}.3f} ± {0.5 * (high - low):.3f}"


def _test(test: dict[str, float] | None, value: str, error: str) -> str:
    if test is None:
        return "–"
    spread = auc_error(test) if value == "auc" else test[error]
    return f"{test[value]:.3f} ± {spread:.3f}"


def _in_thousandths(distance: dict[str, float] | None) -> str:
    if distance is None:
        return "–"
    found = physics_range(distance, 2)
    return f"{number(distance['value'], 1000, 2)} {found if found[0] == '±' else f'({found})'}"


def _count(row: dict[str, Any]) -> str:
    return (
        f"{row['n_samples']} × {row['n_events']:,}"
        if row["n_samples"] > 1
        else f"{row['n_events']:,}"
    )
