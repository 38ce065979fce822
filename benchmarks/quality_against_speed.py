"""Quality against speed: teacher, students and baselines, beside the rate of Delphes.

python -m benchmarks.quality_against_speed runs/demo/benchmark/table.json [more.json …] -o FOLDER

The rate is events per second of CPU time of one core, so that it hardly depends on what else the
machine does. Rows of further files come beside those of the first; of two rows of one name the last
counts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pileupgen.report.figures import write_figure
from pileupgen.report.figures.style import new_figure, style

DELPHES_RATE = 10.0
"""Events/s that Delphes with its pileup merging makes on a core, at ⟨μ⟩ of 50 or so: an order of
magnitude, known, not measured here."""
MARKERS = "osD^v<>P*X"
"""Colours come again after seven methods."""
OUR_MARKER_SIZE, MARKER_SIZE = 9, 6


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "tables", type=Path, nargs="+", help="table.json of 'python -m benchmarks'"
    )
    options.add_argument("-o", "--output", type=Path, required=True, help="folder")
    options.add_argument("--name", default="quality_against_speed")
    given = options.parse_args()
    rows: dict[str, dict[str, Any]] = {}
    for path in given.tables:
        rows |= {row["name"]: row for row in json.loads(path.read_text(encoding="utf-8"))["rows"]}
    for path in write_figure(table_figure(list(rows.values())), given.output, given.name):
        print(path)


def table_figure(rows: Sequence[dict[str, Any]]) -> Figure:
    """W1/σ and AUC against events per second of a core, with the reference as a band.

    Parameters
    ----------
    rows : sequence of dict
        As :func:`benchmarks.table.measure_row` makes them.
    """
    with style():
        figure = new_figure(9.0, 7.0)
        panels = figure.subplots(2, 1, sharex=True)
        for axes, (key, label) in zip(
            panels, (("w1", "mean W1/σ"), ("auc", "AUC on observables")), strict=True
        ):
            _panel(axes, rows, key)
            axes.set_ylabel(label)
        panels[0].set_yscale("log")
        panels[1].set_xlabel("events/s of one core (CPU time)")
        panels[0].legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    return figure


def _panel(axes: Axes, rows: Sequence[dict[str, Any]], key: str) -> None:
    methods = [row for row in rows if "rates" in row]
    for number, row in enumerate(methods):
        value, low, high = _interval(row, key)
        # The method that does nothing has no rate of its own.
        if not row["n_parameters"]:
            axes.axhline(value, color="0.4", linestyle=":", label=row["name"])
            continue
        is_ours = row["name"].startswith("translate, ")
        look: dict[str, Any] = {
            "fmt": MARKERS[number % len(MARKERS)],
            "color": f"C{number}",
            "markersize": OUR_MARKER_SIZE if is_ours else MARKER_SIZE,
            "markeredgecolor": "black" if is_ours else f"C{number}",
        }
        n = row["n_evaluations"]
        axes.errorbar(
            1e3 / row["cpu_ms_per_event"],
            value,
            [[value - low], [high - value]],
            label=row["name"] if n == 0 else f"{row['name']} ({n} evaluation{'s' * (n != 1)})",
            **look,
        )
    for row in rows:
        if "rates" not in row:
            _, low, high = _interval(row, key)
            axes.axhspan(low, high, color="0.85", label="reference", zorder=0)
    axes.axvline(DELPHES_RATE, color="0.4", linestyle="--", label="Delphes with pileup, about")
    rates = [1e3 / row["cpu_ms_per_event"] for row in methods if row["n_parameters"]]
    axes.set_xscale("log")
    axes.set_xlim(min([DELPHES_RATE, *rates]) / 1.5, max([DELPHES_RATE, *rates]) * 1.5)


def _interval(row: dict[str, Any], key: str) -> tuple[float, float, float]:
    quality = row["quality"]
    if key == "auc":
        value, error = quality["auc"], quality["auc_error"]
        return value, value - error, value + error
    return quality[key]["value"], quality[key]["low"], quality[key]["high"]


if __name__ == "__main__":
    main()
