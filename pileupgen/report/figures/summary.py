"""All distances at a glance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from pileupgen.compare.records import ROWS
from pileupgen.compare.results import Comparison
from pileupgen.measure.observables import Observable
from pileupgen.report.figures.style import COLOURS, new_figure, style, with_count

MARKERS = {"reference": "|", "source": "s", "translated": "o"}
OFFSETS = {"reference": 0.0, "source": 0.13, "translated": -0.13}
"""Offset of the markers from their line, so that equal distances stay visible."""


def distance_figure(comparison: Comparison, records: Sequence[Observable]) -> Figure:
    """Draw W1/σ of every observable and their mean: reference, source and translated."""
    drawn = [one.w1.value for row in comparison.rows.values() for one in row.observables.values()]
    heights = np.append(np.arange(len(records), 0, -1) + 1.0, 0.3)
    with style():
        figure = new_figure(7.5, 0.27 * len(records) + 2.0)
        axes = figure.subplots()
        for name in ROWS:
            row = comparison.rows[name]
            estimates = [row.observables[record.name].w1 for record in records] + [row.mean_w1]
            value = np.array([e.value for e in estimates])
            low = np.array([e.low for e in estimates])
            high = np.array([e.high for e in estimates])
            count = f"{row.n_events:,} events"
            if row.n_samples > 1:
                count = f"{row.n_samples} × {count}"
            axes.errorbar(
                value,
                heights + OFFSETS[name],
                xerr=np.abs([value - low, high - value]),
                fmt=MARKERS[name],
                color=COLOURS[name],
                markersize=9 if name == "reference" else 5,
                markeredgewidth=2.0 if name == "reference" else 1.0,
                linewidth=1.0,
                label=f"{row.label} ({count})",
            )
        axes.axhline(1.15, color="0.6", linewidth=0.8)
        axes.hlines(
            heights,
            0,
            1,
            transform=axes.get_yaxis_transform(),
            color="0.92",
            linewidth=0.8,
            zorder=0,
        )
        axes.set_yticks(heights, [record.label for record in records] + ["mean"])
        axes.get_yticklabels()[-1].set_fontweight("bold")
        axes.tick_params(axis="y", which="both", left=False, right=False)
        axes.set_ylim(-0.4, len(records) + 1.7)
        if np.nan_to_num(drawn).max(initial=0.0) > 0:
            axes.set_xscale("log")
            axes.margins(x=0.03)
            axes.xaxis.set_major_formatter("{x:g}")
        target = with_count(comparison.target.label, comparison.target.n_events)
        axes.set_xlabel(rf"$W_{{\mathrm{{1}}}}/\sigma$ to {target}")
        figure.legend(loc="outside upper center", ncols=3, fontsize="small")
    return figure
