"""Histograms of the features of a card's table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pileupgen.samples.check import CardCheck

if TYPE_CHECKING:
    from matplotlib.figure import Figure

N_EVENTS = 2000
"""Events that are read for the histograms."""
_N_BINS = 40
_N_COLUMNS = 4


def feature_label(name: str, unit: str) -> str:
    """Give a feature's axis label.

    >>> feature_label("pt", "GeV"), feature_label("tau21", "")
    ('pt [GeV]', 'tau21')
    """
    return f"{name} [{unit}]" if unit else name


def draw_features(check: CardCheck, title: str) -> Figure:
    """Draw the distribution of each feature of a check's events.

    Returns
    -------
    matplotlib.figure.Figure
        Every event is in a bin.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    grid, values = check.grid, check.images[:, :, 0, 0].astype(np.float64)
    n_columns = min(grid.n_layers, _N_COLUMNS)
    n_rows = -(-grid.n_layers // n_columns)
    figure = Figure(figsize=(3.4 * n_columns + 0.4, 2.6 * n_rows + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for name, unit, column, axis in zip(
        grid.layers, grid.units or (), values.T, axes, strict=False
    ):
        axis.hist(column, bins=_N_BINS, histtype="step", color="black")
        axis.set_xlabel(feature_label(name, unit))
    for axis in axes[grid.n_layers :]:
        axis.axis("off")
    for axis in axes[::n_columns]:
        axis.set_ylabel("events")
    figure.suptitle(f"{title}, {len(values):,} events")
    return figure
