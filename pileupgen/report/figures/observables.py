"""Distributions of observables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pileupgen.arrays import Floats
from pileupgen.measure.observables import Observable
from pileupgen.measure.sample import Sample
from pileupgen.report.figures.style import (
    Contents,
    draw_with_ratio,
    grid_of_panes,
    style,
    with_count,
)

N_BINS = 24
N_PER_PAGE = 12
N_COLUMNS = 4


def observable_figure(
    target: Sample, source: Sample, translated: Sample, records: Sequence[Observable]
) -> Figure:
    """Draw distributions of observables, each with a ratio pane.

    Histograms are in fractions of the events; the outermost bins hold what lies beyond them. The
    grey band is the target's statistical error.

    Parameters
    ----------
    target, source, translated : Sample
        On one grid.
    records : sequence of Observable
        Which, in this order; up to ``N_PER_PAGE`` look well.
    """
    with style():
        figure, panes = grid_of_panes(len(records), N_COLUMNS, between=0.22)
        for number, ((main, below), record) in enumerate(zip(panes, records, strict=True)):
            _panel(main, below, (target, source, translated), record)
            if number % N_COLUMNS == 0:
                main.set_ylabel("fraction of events")
        handles, labels = main.get_legend_handles_labels()
        figure.legend(handles, labels, loc="upper center", ncols=3, fontsize="large")
    return figure


def _panel(main: Axes, below: Axes, samples: Sequence[Sample], record: Observable) -> None:
    edges = common_edges([sample.observables[record.name] for sample in samples])
    contents = {
        sample.name: folded_histogram(sample.observables[record.name], edges, sample.weight)
        for sample in samples
    }
    labels = {sample.name: with_count(sample.label, len(sample)) for sample in samples}
    draw_with_ratio(main, below, edges, contents, labels)
    main.set_ylim(0.0, 1.12 * max(float((c.value + c.error).max()) for c in contents.values()))
    main.yaxis.set_major_locator(MaxNLocator(5, prune="lower"))
    below.xaxis.set_major_locator(MaxNLocator(4))
    main.xaxis.set_major_locator(MaxNLocator(4))
    for axes in (main, below):
        axes.minorticks_off()
    below.set_xlabel(record.axis_label)


def common_edges(samples: Sequence[Floats]) -> Floats:
    """Choose edges that hold 99 % of every sample, shape ``(N_BINS + 1,)``."""
    low = min(float(np.quantile(values, 0.005)) for values in samples)
    high = max(float(np.quantile(values, 0.995)) for values in samples)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        half = max(abs(low), 1.0) * 0.01
        low, high = low - half, high + half
    return np.linspace(low, high, N_BINS + 1)


def folded_histogram(values: Floats, edges: Floats, weight: Floats) -> Contents:
    """Histogram in fractions of the events, with errors √Σw²; nothing is dropped.

    Parameters
    ----------
    values, weight : float64 arrays, shape (n,)
        The sample and its weights.
    edges : float64 array, shape (k + 1,)
        Bin edges; what lies beyond goes to the outermost bins.
    """
    n_bins = len(edges) - 1
    bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, n_bins - 1)
    total = weight.sum()
    fraction = np.bincount(bins, weights=weight, minlength=n_bins) / total
    error = np.sqrt(np.bincount(bins, weights=weight**2, minlength=n_bins)) / total
    return Contents(fraction, error)
