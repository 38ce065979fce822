"""The table as Markdown and as a figure."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from pileupgen.report.figures.style import new_figure, style

MARKERS = "osD^v<>P*X"
"""Colours come again after seven methods."""


def markdown(record: dict[str, Any]) -> str:
    """Two tables, quality and cost, under a line that tells where and when."""
    machine, rows = record["machine"], record["rows"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    load = " · ".join(f"{value:.0f}" for value in machine["load"])
    head = (
        f"{machine['processor']}, {machine['cores']} cores, load {load}; "
        f"Python {machine['python']}, {packages}.\n\n"
    )
    return head + _quality(rows) + "\n" + _cost([row for row in rows if "rates" in row])


def _quality(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| method | events | W1/σ | fraction of the shift removed | AUC | block | cell "
        "| W1/σ · AUC, not corrected |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        quality = row["quality"]
        values = [_estimate(quality[key]) for key in ("w1", "shift_removed")]
        auc = f"{quality['auc']:.3f} ± {quality['auc_error']:.3f}"
        kept = [_estimate(quality[key]) for key in ("block", "cell")]
        cells = [row["name"], str(quality["n_events"]), *values, auc, *kept]
        plain = row.get("not_corrected")
        cells.append("–" if plain is None else f"{_estimate(plain['w1'])} · {plain['auc']:.3f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cost(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    columns = [(rate["batch"], rate["threads"]) for rate in rows[0]["rates"]]
    names = [f"{batch:,} · {threads}" for batch, threads in columns]
    lines = [
        "| method | parameters | evaluations | fit s | memory GB | "
        + " | ".join(f"events/s, {name}" for name in names)
        + " |",
        "|---" * (5 + len(names)) + "|",
    ]
    for row in rows:
        fit = f"{row['fit_seconds']['wall']:.0f}"
        if row["trained_before"] is not None:
            fit = f"{row['trained_before']:.0f} + {fit}"
        speeds = [
            "–" if rate["events_per_s"] is None else f"{rate['events_per_s']:.3g}"
            for rate in row["rates"]
        ]
        cells = [
            row["name"],
            f"{row['n_parameters']:,}",
            str(row["n_evaluations"]),
            fit,
            f"{row['peak_memory_gb']:.2f}",
        ]
        lines.append("| " + " | ".join([*cells, *speeds]) + " |")
    return "\n".join(lines) + "\n"


def _estimate(value: dict[str, float] | None) -> str:
    if value is None:
        return "–"
    if value["low"] == value["high"]:
        return f"{value['value']:.3f}"
    return f"{value['value']:.3f} ± {0.5 * (value['high'] - value['low']):.3f}"


def table_figure(rows: list[dict[str, Any]]) -> Figure:
    """Quality against speed, with the reference as a band."""
    timed = [(row, speed) for row in rows if "rates" in row and (speed := _speed(row))]
    with style():
        figure = new_figure(9.0, 5.0)
        axes = figure.subplots()
        for number, (row, speed) in enumerate(timed):
            w1 = row["quality"]["w1"]
            if not row["n_parameters"]:
                axes.axhline(w1["value"], color="0.4", linestyle=":", label=row["name"])
                continue
            error = [[w1["value"] - w1["low"]], [w1["high"] - w1["value"]]]
            look = {"fmt": MARKERS[number % len(MARKERS)], "color": f"C{number}", "markersize": 6}
            axes.errorbar(speed, w1["value"], error, label=row["name"], **look)
        for row in rows:
            if "rates" not in row:
                w1 = row["quality"]["w1"]
                axes.axhspan(w1["low"], w1["high"], color="0.85", label="reference", zorder=0)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.margins(0.08)
        axes.set_xlabel("events/s, largest batch, all threads")
        axes.set_ylabel("mean W1/σ")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return figure


def _speed(row: dict[str, Any]) -> float | None:
    """Events per second at the largest batch that was timed, with the most threads."""
    rates = [rate for rate in row["rates"] if rate["events_per_s"] is not None]
    if not rates:
        return None
    most = max(rates, key=lambda rate: (rate["threads"], rate["batch"]))
    return float(most["events_per_s"])
