"""The table as Markdown."""

from __future__ import annotations

from typing import Any


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
        "| method | parameters | evaluations | fit s | memory GB | CPU ms an event | "
        + " | ".join(f"events/s, {name}" for name in names)
        + " |",
        "|---" * (6 + len(names)) + "|",
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
            f"{row['cpu_ms_per_event']:.3g}",
        ]
        lines.append("| " + " | ".join([*cells, *speeds]) + " |")
    return "\n".join(lines) + "\n"


def _estimate(value: dict[str, float] | None) -> str:
    if value is None:
        return "–"
    if value["low"] == value["high"]:
        return f"{value['value']:.3f}"
    return f"{value['value']:.3f} ± {0.5 * (value['high'] - value['low']):.3f}"
