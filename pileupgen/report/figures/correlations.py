"""Correlations between cells by their distance."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pileupgen.arrays import Floats
from pileupgen.measure.sample import Sample
from pileupgen.report.figures.style import COLOURS, new_figure, style, with_count

MAX_STEPS = 8
"""Distance in cells that is shown at most."""
OFFSETS = {"target": 0.0, "source": -0.08, "translated": 0.08}


def correlation_figure(target: Sample, source: Sample, translated: Sample) -> Figure:
    """Draw correlations of cells with their neighbours in φ and η, and between layers.

    One row a layer, and one for each pair of adjacent layers. Bars are jackknife errors.

    Parameters
    ----------
    target, source, translated : Sample
        On one grid.
    """
    samples = (target, source, translated)
    layers = target.grid.layers
    n_rows = len(layers)
    n_columns = 3 if len(layers) > 1 else 2
    with style():
        figure = new_figure(4.4 * n_columns, 3.0 * n_rows + 0.6)
        panes = figure.subplots(n_rows, n_columns, squeeze=False)
        for row, layer in enumerate(layers):
            for column, (what, axis) in enumerate((("phi", r"\phi"), ("eta", r"\eta"))):
                axes = panes[row, column]
                _draw(axes, samples, what, row, first=1)
                axes.set_ylabel(f"correlation, {layer}")
                axes.set_xlabel(rf"cells apart in ${axis}$")
            if n_columns == 3 and row + 1 < len(layers):
                axes = panes[row, 2]
                _draw(axes, samples, "layers", row, first=0)
                axes.set_ylabel(f"correlation, {layer} with {layers[row + 1]}")
                axes.set_xlabel(r"cells apart in $\phi$")
            elif n_columns == 3:
                panes[row, 2].axis("off")
        handles, labels = panes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize="medium")
    return figure


def _draw(axes: Axes, samples: tuple[Sample, ...], what: str, row: int, first: int) -> None:
    for sample in samples:
        value: Floats = getattr(sample.correlation, what)[row]
        error: Floats = getattr(sample.correlation, f"{what}_error")[row]
        steps = np.arange(first, min(len(value), MAX_STEPS + 1))
        axes.errorbar(
            steps + OFFSETS[sample.name],
            value[steps],
            yerr=np.nan_to_num(error[steps]),
            fmt="o-" if sample.name == "target" else "s-",
            linewidth=1.0,
            markersize=4,
            color=COLOURS[sample.name],
            label=with_count(sample.label, len(sample)),
        )
    axes.margins(x=0.06)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.axhline(0.0, color="0.6", linewidth=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.minorticks_off()
