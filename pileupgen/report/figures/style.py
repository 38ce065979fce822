"""Style of all figures, and writing them to files."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import mplhep
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator
from numpy.typing import NDArray

from pileupgen.arrays import Floats
from pileupgen.files import write_whole

COLOURS = {
    "target": "#000000",
    "reference": "#8c8c8c",
    "source": "#d55e00",
    "translated": "#0072b2",
}
"""Colour of each role, from the colour-blind safe palette of Okabe and Ito."""

HALF_WIDTHS = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Reaches of a ratio pane around 1."""

_CHANGES = {
    "font.size": 11.0,
    "axes.titlesize": "medium",
    "axes.labelsize": "medium",
    "axes.labelpad": 4.0,
    "xtick.labelsize": "small",
    "ytick.labelsize": "small",
    "xtick.major.size": 5.0,
    "ytick.major.size": 5.0,
    "xtick.minor.size": 2.5,
    "ytick.minor.size": 2.5,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.0,
    "legend.fontsize": "small",
    "legend.borderpad": 0.4,
    "axes.formatter.limits": (-3, 5),
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True,
    "axes.autolimit_mode": "data",
    "savefig.dpi": 150,
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in the style of mplhep without leaving a trace in Matplotlib's settings."""
    with mpl.rc_context({**mplhep.style.ATLAS, **_CHANGES}):
        yield


def new_figure(width: float, height: float, *, arranged: bool = True) -> Figure:
    """Make an empty figure that is not registered with pyplot.

    Parameters
    ----------
    width, height : float
        Inches.
    arranged : bool
        Whether Matplotlib finds the layout; slow with many panes.
    """
    figure = Figure(figsize=(width, height), layout="constrained" if arranged else None)
    FigureCanvasAgg(figure)
    return figure


def paired_panes(n_columns: int) -> tuple[Figure, NDArray[np.object_]]:
    """Make a row of upper panes, each with a ratio pane below it.

    Returns
    -------
    figure : matplotlib.figure.Figure
    panes : array of matplotlib.axes.Axes, shape (2, n_columns)
    """
    width = 5.2 * n_columns + 0.6
    figure = new_figure(width, 5.4, arranged=False)
    panes = figure.subplots(
        2,
        n_columns,
        squeeze=False,
        height_ratios=[3, 1.1],
        gridspec_kw={
            "left": 0.8 / width,
            "right": 1 - 0.15 / width,
            "bottom": 0.105,
            "top": 0.94,
            "hspace": 0.03,
            "wspace": 0.18,
        },
    )
    return figure, panes


def grid_of_panes(
    n_panes: int, n_columns: int, between: float
) -> tuple[Figure, list[tuple[Axes, Axes]]]:
    """Make a grid of upper panes, each with a ratio pane below it, and room for a legend on top.

    Parameters
    ----------
    n_panes, n_columns : int
        Panes in all, and in a row.
    between : float
        Space between columns over the width of one.

    Returns
    -------
    figure : matplotlib.figure.Figure
    panes : list of (upper, lower) matplotlib.axes.Axes
        Row by row; the first of a row has the label of its ratios.
    """
    n_rows = -(-n_panes // n_columns)
    width, height = 3.7 * n_columns, 3.3 * n_rows + 0.6
    figure = new_figure(width, height, arranged=False)
    grid = figure.add_gridspec(
        n_rows,
        n_columns,
        left=0.75 / width,
        right=1 - 0.15 / width,
        bottom=0.6 / height,
        top=1 - 0.55 / height,
        hspace=0.3,
        wspace=between,
    )
    panes = []
    for number in range(n_panes):
        row, column = divmod(number, n_columns)
        inner = grid[row, column].subgridspec(2, 1, height_ratios=[2.5, 1], hspace=0.05)
        panes.append((figure.add_subplot(inner[0]), figure.add_subplot(inner[1])))
        if not column:
            panes[-1][1].set_ylabel("ratio")
    return figure, panes


def write_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure as PNG and PDF; the bytes depend on the figure alone.

    Parameters
    ----------
    folder : Path
        Where; made if it is not there.
    name : str
        File name without suffix.

    Raises
    ------
    OutputError
        If they cannot be written.
    """
    paths = []
    with style():
        if (engine := figure.get_layout_engine()) is not None:
            # The layout is the slow part: once is enough for both formats, and needs no drawing.
            engine.execute(figure)
            figure.set_layout_engine("none")
        for suffix, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=suffix, metadata=metadata)
            path = folder / f"{name}.{suffix}"
            write_whole(path, buffer.getvalue())
            paths.append(path)
    return paths


def with_count(label: str, n_events: int) -> str:
    """Give a legend entry with its number of events."""
    return f"{label} ({n_events:,} events)"


@dataclass(frozen=True)
class Contents:
    """Bin contents with their errors."""

    value: Floats
    error: Floats
    """Content of each bin and its error. Shape (k,)."""

    def over(self, reference: Contents) -> Contents:
        """Divide by the reference; NaN where that is less than 1.5 of its own errors."""
        known = np.abs(reference.value) > 1.5 * reference.error
        ratio, error = (
            np.divide(array, reference.value, out=np.full_like(array, np.nan), where=known)
            for array in (self.value, self.error)
        )
        return Contents(ratio, error)


def draw_with_ratio(
    main: Axes,
    below: Axes,
    edges: Floats,
    contents: Mapping[str, Contents],
    labels: Mapping[str, str],
) -> None:
    """Draw the target as points, the others as steps, and their ratios to the target below.

    Parameters
    ----------
    main, below : matplotlib.axes.Axes
        Upper and lower pane.
    edges : float64 array, shape (k + 1,)
        Bin edges.
    contents, labels : mappings
        Bin contents and legend entries by role; ``"target"`` is what the ratios are to.
    """
    target = contents["target"]
    ratios = {role: values.over(target) for role, values in contents.items()}
    for role, values in contents.items():
        if role != "target":
            draw_steps(main, edges, values, COLOURS[role], labels[role])
    draw_points(main, edges, target, labels["target"])
    band = ratios["target"].error
    draw_band(below, edges, 1.0 - band, 1.0 + band, COLOURS["target"])
    below.axhline(1.0, color=COLOURS["target"], linewidth=0.8)
    others = [ratio.value for role, ratio in ratios.items() if role != "target"]
    half = ratio_half_width(others)
    below.set_ylim(max(0.0, 1.0 - 1.25 * half), 1.0 + 1.25 * half)
    below.yaxis.set_major_locator(FixedLocator([1.0 - half, 1.0, 1.0 + half]))
    for role, ratio in ratios.items():
        if role != "target":
            draw_steps(below, edges, ratio, COLOURS[role])
            mark_outside(below, edges, ratio.value, COLOURS[role])
    main.set_xlim(edges[0], edges[-1])
    below.set_xlim(edges[0], edges[-1])
    main.tick_params(labelbottom=False)


def draw_steps(axes: Axes, edges: Floats, contents: Contents, colour: str, label: str = "") -> None:
    """Draw a histogram as a line with a band of its errors; NaN is left open."""
    axes.stairs(contents.value, edges, baseline=None, color=colour, label=label or None)
    draw_band(axes, edges, contents.value - contents.error, contents.value + contents.error, colour)


def draw_band(axes: Axes, edges: Floats, low: Floats, high: Floats, colour: str) -> None:
    """Fill between two histograms."""
    axes.stairs(high, edges, baseline=low, fill=True, color=colour, alpha=0.2, linewidth=0)


def draw_points(axes: Axes, edges: Floats, contents: Contents, label: str = "") -> None:
    """Draw the target: black points with error bars at the bin centres; empty bins are left out."""
    filled = contents.value != 0
    axes.errorbar(
        (0.5 * (edges[1:] + edges[:-1]))[filled],
        contents.value[filled],
        yerr=contents.error[filled],
        fmt="o",
        markersize=2.8,
        linewidth=0.9,
        color=COLOURS["target"],
        label=label or None,
        zorder=5,
    )


def mark_outside(axes: Axes, edges: Floats, ratio: Floats, colour: str) -> None:
    """Mark ratios beyond the pane by triangles at its border."""
    low, high = axes.get_ylim()
    centres = 0.5 * (edges[1:] + edges[:-1])
    inset = 0.04 * (high - low)
    with np.errstate(invalid="ignore"):
        for beyond, height, marker in (
            (ratio > high, high - inset, "^"),
            (ratio < low, low + inset, "v"),
        ):
            axes.plot(
                centres[beyond], np.full(beyond.sum(), height), marker, color=colour, markersize=3
            )


def ratio_half_width(ratios: Sequence[Floats], inside: float = 0.9) -> float:
    """Choose how far a ratio pane reaches around 1 so that such a part of the ratios is inside."""
    far = np.abs(np.concatenate(ratios) - 1.0)
    far = far[np.isfinite(far)]
    reach = float(np.quantile(far, inside)) if len(far) else 0.5
    return next((half for half in HALF_WIDTHS if 1.25 * half >= reach), HALF_WIDTHS[-1])
