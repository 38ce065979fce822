"""How the features of a table depend on each other."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from pileupgen.arrays import Floats, quotient
from pileupgen.measure.features import correlations
from pileupgen.measure.sample import Sample
from pileupgen.report.figures.style import new_figure, style, with_count

CLEAR = 3.0
"""Significance in σ, of one difference by itself, above which it is printed bold."""
MAX_PRINTED = 12
"""Features up to which numbers are printed into the panes."""


def feature_correlation_figure(target: Sample, source: Sample, translated: Sample) -> Figure:
    """Draw the target's correlation matrix, and the differences of the others to it.

    Parameters
    ----------
    target, source, translated : Sample
        Tables with the same features.
    """
    names = target.grid.layers
    value, error = correlations(target.matrix(), target.weight)
    side = max(3.0, 0.5 * len(names) + 1.6)
    with style():
        figure = new_figure(3 * side + 1.6, side + 0.7)
        panes = figure.subplots(1, 3, sharey=True)
        mesh = _matrix(panes[0], value, np.zeros_like(value), names)
        panes[0].set_title(with_count(target.label, len(target)))
        figure.colorbar(mesh, ax=panes[0], label="correlation", pad=0.02)
        found = [correlations(sample.matrix(), sample.weight) for sample in (source, translated)]
        reach = max(float(np.abs(other - value).max()) for other, _ in found)
        for axes, sample, (other, own) in zip(panes[1:], (source, translated), found, strict=True):
            scale = np.hypot(error, own)
            sigma = quotient(np.abs(other - value), scale)
            mesh = _matrix(axes, other - value, sigma, names, max(reach, 0.01))
            axes.set_title(with_count(sample.label, len(sample)))
        figure.colorbar(mesh, ax=panes[1:], label=f"difference to {target.label}", pad=0.01)
    return figure


def _matrix(
    axes: Axes, values: Floats, sigma: Floats, names: tuple[str, ...], reach: float = 1.0
) -> QuadMesh:
    n = len(names)
    shown = np.where(np.eye(n, dtype=bool), np.nan, values)
    mesh = axes.pcolormesh(shown, cmap="RdBu_r", vmin=-reach, vmax=reach)
    places = np.arange(n) + 0.5
    axes.set_xticks(places, names, rotation=90)
    axes.set_yticks(places, names)
    axes.tick_params(which="both", length=0)
    axes.minorticks_off()
    axes.invert_yaxis()
    axes.set_aspect("equal")
    if n <= MAX_PRINTED:
        for (row, column), number in np.ndenumerate(shown):
            if np.isfinite(number):
                axes.text(
                    column + 0.5,
                    row + 0.5,
                    f"{number:.2f}".replace("-", "−"),
                    ha="center",
                    va="center",
                    fontsize=7.5,
                    fontweight="bold" if sigma[row, column] > CLEAR else "normal",
                    color="white" if abs(number) > 0.6 * reach else "black",
                )
    return mesh
