"""Figure of the JetNet demonstration: a quantity over the diffusion time, class by class."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from pileupgen.arrays import Floats
from pileupgen.jets.emergence import (
    REACH,
    PathFigure,
    PathPane,
    bin_edges,
    score_density,
)
from pileupgen.report.figures.style import (
    COLOURS,
    Contents,
    draw_points,
    draw_steps,
    new_figure,
    style,
)

PATH_COLOUR = "#d62728"
_GAUSSIAN = "#8c8c8c"


def denoising_figure(contents: PathFigure) -> Figure:
    """Draw three panes a class: the noise, the path through the diffusion, the result.

    Top: real events noised to the last timestep against the Gaussian. Middle: the density of x_t at
    every timestep kept, time running downwards; between black lines lie tenths of the events, red
    lines are single events. Bottom: real events against emulated ones, and against events of the
    other class after the switch; the axis is marked with the quantity's values.
    """
    n = len(contents.panes)
    with style():
        figure = new_figure(5.4 * n + 1.2, 9.4)
        axes = figure.subplots(3, n, squeeze=False, height_ratios=[1, 2.6, 1.35])
        for column, pane in enumerate(contents.panes):
            _draw_noise(axes[0, column], pane)
            mesh = _draw_path(axes[1, column], pane, contents.t_release)
            _draw_end(axes[2, column], pane, contents)
        for row in axes:
            for pane_axes in row[1:]:
                pane_axes.set_ylabel("")
        bar = figure.colorbar(mesh, ax=axes[1, :], aspect=28, pad=0.015)
        bar.set_label(r"density of $x_t$")
    return figure


def _draw_noise(axes: Axes, pane: PathPane) -> None:
    edges = bin_edges()
    x = np.linspace(-REACH, REACH, 201)
    axes.plot(
        x, np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi), color=_GAUSSIAN, label=r"$\mathcal{N}(0, 1)$"
    )
    draw_points(axes, edges, _contents(pane.noised), f"real, noised to t = {pane.t[0]}")
    axes.set_title(f"{pane.title}\n$W_1$ to the Gaussian: {pane.noise_distance:.3f}")
    axes.set_ylabel("density")
    axes.set_xlim(-REACH, REACH)
    axes.set_ylim(0, 0.72)
    axes.set_xlabel(r"score $x_t$")
    axes.legend(loc="upper left", frameon=False, ncols=2)


def _draw_path(axes: Axes, pane: PathPane, t_release: int) -> QuadMesh:
    """Heat map of x_t over t, noise above."""
    edges_t = _edges_between(pane.t.astype(np.float64))
    mesh = axes.pcolormesh(
        bin_edges(),
        edges_t,
        pane.density,
        norm=PowerNorm(0.7, 0.0, float(np.quantile(pane.density, 0.995))),
        cmap="viridis",
        rasterized=True,
    )
    for contour in pane.contours.T:
        axes.plot(contour, pane.t, color="black", linewidth=0.7)
    for path in pane.paths.T:
        axes.plot(path, pane.t, color=PATH_COLOUR, linewidth=0.8)
    axes.axhline(t_release, color="white", linewidth=0.8, linestyle=":")
    axes.annotate(
        f"switch of class at t = {t_release}",
        (-REACH + 0.1, t_release),
        color="white",
        fontsize="x-small",
        va="bottom" if t_release < 0.9 * pane.t[0] else "top",
    )
    axes.set_xlim(-REACH, REACH)
    axes.set_ylim(edges_t[-1], edges_t[0])
    axes.tick_params(direction="out", top=False, right=False, which="both")
    axes.set_ylabel("timestep $t$")
    stride = int(pane.t[0] - pane.t[1])
    axes.set_title(rf"$p_\theta(x_{{t-{stride}}}\,|\,x_t, y)$, y = {pane.title}")
    return mesh


def _draw_end(axes: Axes, pane: PathPane, contents: PathFigure) -> None:
    edges = bin_edges()
    draw_points(axes, edges, _contents(pane.real), "real")
    draw_steps(axes, edges, _contents(pane.emulated), COLOURS["translated"], "emulated")
    draw_steps(axes, edges, _contents(pane.switched), COLOURS["source"], "class switched")
    unit = f" {contents.unit}" if contents.unit else ""
    axes.set_title(
        f"$W_1$ to real: emulated {pane.distance:.3g}{unit}, switched "
        f"{pane.switched_distance:.3g}{unit}; reference {pane.reference:.2g}{unit}",
        fontsize="small",
    )
    axes.set_xlim(-REACH, REACH)
    axes.set_ylim(0, 1.45 * axes.get_ylim()[1])
    axes.set_ylabel("density of the score")
    axes.set_xlabel(contents.label + (f" [{contents.unit}]" if contents.unit else ""))
    _mark_values(axes, contents.score_of)
    axes.legend(loc="upper right", frameon=False)


def _mark_values(axes: Axes, score_of: Floats) -> None:
    """Mark round values of the quantity where their scores are, as far apart as can be read."""
    values, scores = score_of.T
    low, high = np.interp([-0.95 * REACH, 0.95 * REACH], scores, values)
    places, labels, last = [], [], -np.inf
    for value in _round_values(float(low), float(high)):
        score = float(np.interp(value, values, scores))
        if score - last > 0.12 * 2 * REACH:
            places.append(score)
            labels.append(f"{value:g}")
            last = score
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.set_xticks(places, labels)
    axes.xaxis.set_minor_locator(NullLocator())


def _round_values(low: float, high: float) -> Floats:
    """Some dozens of round values between two."""
    step = 2 * 10 ** np.floor(np.log10(max(high - low, 1e-9) / 20))
    return np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step


def _contents(scores: Floats) -> Contents:
    density = score_density(scores)
    width = 2 * REACH / len(density)
    return Contents(density, np.sqrt(density / (len(scores) * width)))


def _edges_between(centres: Floats) -> Floats:
    """Edges halfway between neighbouring centres, shape (K + 1,)."""
    middle = 0.5 * (centres[1:] + centres[:-1])
    first, last = 2 * centres[0] - middle[0], 2 * centres[-1] - middle[-1]
    return np.concatenate([[first], middle, [last]])
