"""Generators against what detectors measured."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from pileupgen.arrays import Floats, Ints
from pileupgen.report.figures.style import (
    COLOURS,
    Contents,
    draw_band,
    draw_steps,
    mark_outside,
    new_figure,
    ratio_half_width,
    style,
)
from pileupgen.simulate.measured.check import GeneratorCheck, TableCheck

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Colours of generators; told apart by the colour-blind too (Okabe & Ito)."""

_AXES = {
    "et_density": (r"$|\eta|$", r"$\mathrm{d}^2\Sigma E_T/\mathrm{d}\eta\,\mathrm{d}\phi$ (GeV)"),
    "energy_flow": (r"$|\eta|$", r"$\mathrm{d}E/\mathrm{d}|\eta|$ (GeV)"),
    "charged_density": (r"$\eta$", r"$\mathrm{d}N_\mathrm{ch}/\mathrm{d}\eta$"),
    "charged_pt": (
        r"$p_T$ (GeV)",
        r"$1/(2\pi p_T)\;\mathrm{d}^2N_\mathrm{ch}/\mathrm{d}\eta\,\mathrm{d}p_T$ (GeV$^{-2}$)",
    ),
    "charged_spectrum": (r"$N_\mathrm{ch}$", r"$1/N\;\mathrm{d}N/\mathrm{d}N_\mathrm{ch}$"),
    "sum_et_spectrum": (
        r"$\Sigma E_T$ (GeV)",
        r"$1/N\;\mathrm{d}N/\mathrm{d}\Sigma E_T$ (GeV$^{-1}$)",
    ),
}
"""Labels of the axes by quantity."""

_LOGARITHMIC = ("charged_pt", "charged_spectrum", "sum_et_spectrum")
_MAX_COLUMNS = 3


def measured_figure(checks: Sequence[GeneratorCheck], name: str) -> Figure:
    """Draw a measured table with predictions and, below, their ratios to it.

    Parameters
    ----------
    name : str
        The table's name. Of a table in windows of |η| each has a pane of its own.
    """
    tables = [next(t for t in check.tables if t.head.name == name) for check in checks]
    labels = [check.label for check in checks]
    head = tables[0].head
    windows = np.unique(tables[0].window, axis=0) if head.is_windowed else [None]
    n_columns = min(len(windows), _MAX_COLUMNS)
    n_rows = -(-len(windows) // n_columns)
    with style():
        width, height = 4.9 * n_columns + 0.2, 4.6 * n_rows + 0.5
        figure = new_figure(width, height, arranged=False)
        title = re.sub(r"([Ep]_T)", r"$\1$", head.title)
        figure.suptitle(f"{title}\n{head.source.partition(', HEPData')[0]}", fontsize="small")
        cells = figure.add_gridspec(
            n_rows,
            n_columns,
            left=0.85 / width,
            right=1 - 0.12 / width,
            bottom=0.5 / height,
            top=1 - 0.7 / height,
            wspace=0.22,
            hspace=0.2,
        )
        for place, window in enumerate(windows):
            pair = cells[divmod(place, n_columns)].subgridspec(
                2, 1, height_ratios=[3, 1.2], hspace=0.04
            )
            main = figure.add_subplot(pair[0])
            below = figure.add_subplot(pair[1], sharex=main)
            _draw(main, below, tables, labels, window)
            if window is not None and len(windows) > 1:
                text = rf"{window[0]:g} $<|\eta|<$ {window[1]:g}"
                main.set_title(text, loc="right", fontsize="small")
    return figure


def _draw(
    main: Axes,
    below: Axes,
    tables: Sequence[TableCheck],
    labels: Sequence[str],
    window: Floats | None,
) -> None:
    first = tables[0]
    rows = np.ones(first.n_bins, dtype=bool)
    if window is not None:
        rows = np.all(first.window == window, axis=1)
    low, high, measured = first.low[rows], first.high[rows], first.measured[rows]
    errors = np.array([first.down[rows], first.up[rows]])
    edges = np.unique(np.concatenate([low, high]))
    middle = 0.5 * (low + high)
    main.errorbar(
        middle,
        measured,
        yerr=errors,
        xerr=0.5 * (high - low),
        fmt="o",
        markersize=2.8,
        linewidth=0.9,
        color=COLOURS["target"],
        label="measured",
        zorder=5,
    )
    at_bins = np.searchsorted(edges, low)
    down, up = (_spread(error / measured, at_bins, len(edges) - 1) for error in errors)
    draw_band(below, edges, 1 - down, 1 + up, COLOURS["target"])
    below.axhline(1.0, color=COLOURS["target"], linewidth=0.8)
    ratios = [table.ratio[rows] for table in tables]
    logarithmic = first.head.quantity in _LOGARITHMIC
    half = ratio_half_width([*ratios, 1 + errors[1] / measured], 0.9 if logarithmic else 1.0)
    below.set_ylim(max(0.0, 1.0 - 1.25 * half), 1.0 + 1.25 * half)
    below.yaxis.set_major_locator(FixedLocator([1.0 - half, 1.0, 1.0 + half]))
    for number, (table, label) in enumerate(zip(tables, labels, strict=True)):
        colour = PALETTE[number % len(PALETTE)]
        generated, error = (
            _spread(values[rows], at_bins, len(edges) - 1)
            for values in (table.generated, table.error)
        )
        draw_steps(main, edges, Contents(generated, error), colour, label)
        ratio = Contents(
            _spread(table.ratio[rows], at_bins, len(edges) - 1),
            _spread(table.ratio_error[rows], at_bins, len(edges) - 1),
        )
        draw_steps(below, edges, ratio, colour)
        mark_outside(below, edges, ratio.value, colour)
    across, up_axis = _AXES[first.head.quantity]
    if logarithmic:
        main.set_yscale("log")
        main.set_ylim(0.3 * measured.min(), 3 * measured.max())
    else:
        main.set_ylim(0, 1.15 * np.max(measured + errors[1]))
    if first.head.quantity == "charged_pt":
        main.set_xscale("log")
    main.set_xlim(edges[0], edges[-1])
    main.set_ylabel(up_axis)
    main.tick_params(labelbottom=False)
    below.set_xlabel(across)
    below.set_ylabel("MC / data", loc="center")
    main.legend(loc="upper right" if logarithmic else "lower center")


def _spread(values: Floats, places: Ints, n: int) -> Floats:
    """Values at their places among ``n`` bins, NaN where the table has none."""
    spread = np.full(n, np.nan)
    spread[places] = values
    return spread
