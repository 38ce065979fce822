"""Single events, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Normalize, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.ticker import FixedLocator, NullLocator
from numpy.typing import NDArray

from pileupgen.calo.geometry import TWO_PI, Grid
from pileupgen.measure.observables import MEV
from pileupgen.measure.pileup_jets import RADIUS
from pileupgen.report.figures.style import new_figure, style

if TYPE_CHECKING:
    from pileupgen.diffusion.event_path import EventPath

EMPTY = "#f2f2f2"
"""Colour of cells without energy."""


def event_display_figure(
    images: list[NDArray[np.float32]],
    titles: list[str],
    grid: Grid,
    jets: Sequence[tuple[float, float]] = (),
) -> Figure:
    """Draw images side by side, one row a layer, in one colour scale of log10(E/MeV).

    Where an image has negative cells, the scale is one of E itself, symmetric about 0: logarithmic
    above the median size of negative cells, linear below.

    Parameters
    ----------
    images : list of float32 arrays, shape (L, n_eta, n_phi)
        GeV; cells at 0 are left pale.
    jets : sequence of (float, float)
        η and φ of jets that are circled in all images.
    """
    scale = _signed_scale if any((image < 0).any() for image in images) else _log_scale
    values, norm, colours, label = scale(images)
    with style():
        figure = new_figure(3.6 * len(images) + 1.0, 2.9 * grid.n_layers + 0.5)
        panes = figure.subplots(grid.n_layers, len(images), squeeze=False, sharex=True, sharey=True)
        for column, (value, title) in enumerate(zip(values, titles, strict=True)):
            for layer, name in enumerate(grid.layers):
                axes = panes[layer, column]
                mesh = draw_map(axes, value[layer], grid, norm, colours)
                _circle(axes, jets)
                label_axes(axes, grid, left=column == 0, bottom=layer == grid.n_layers - 1)
                if layer == 0:
                    axes.set_title(title)
                if column == 0:
                    axes.set_ylabel(f"layer {name}\n$\\phi$ [rad]")
        extend = "both" if isinstance(norm, SymLogNorm) else "max"
        bar = figure.colorbar(mesh, ax=panes, aspect=30, pad=0.01, extend=extend)
        bar.set_label(label)
    return figure


def event_path_figure(path: EventPath, translated: NDArray[np.float32], grid: Grid) -> Figure:
    """Draw one event noised up to the release, and denoised from there, a column a time.

    Parameters
    ----------
    translated : float32 array, shape (L, n_eta, n_phi)
        The event after translation and residual correction, in GeV.
    grid : Grid
        Axes of the images; layers are summed.
    """
    ways = np.stack([path.up, np.concatenate([translated[None], path.down[1:]])]).sum(axis=2)
    images = list(ways.reshape(-1, 1, *ways.shape[2:]))
    scale = _signed_scale if any((image < 0).any() for image in images) else _log_scale
    values, norm, colours, label = scale(images)
    n = len(path.t)
    verbs = ("noised" if path.mode == "partial" else "inverted", "denoised")
    rows = (path.direction.source, path.direction.target)
    with style():
        figure = new_figure(2.9 * n + 1.4, 6.6)
        panes = figure.subplots(2, n, squeeze=False, sharex=True, sharey=True)
        for place, value in enumerate(values):
            row, column = divmod(place, n)
            axes = panes[row, column]
            mesh = draw_map(axes, value[0], grid, norm, colours)
            label_axes(axes, grid, left=column == 0, bottom=row == 1)
            t = path.t[column]
            if column == 0:
                axes.set_ylabel(f"read as {rows[row]}\n$\\phi$ [rad]")
                before = "before, common scale mapped" if path.is_scale_mapped else "before"
                axes.set_title((before, "after")[row])
            elif column < n - 1:
                axes.set_title(f"{verbs[row]} to $t$ = {t}")
            else:
                axes.set_title(f"released at $t$ = {t}")
        extend = "both" if isinstance(norm, SymLogNorm) else "max"
        bar = figure.colorbar(mesh, ax=panes, aspect=30, pad=0.01, extend=extend)
        bar.set_label(label + (", layers summed" if grid.n_layers > 1 else ""))
        figure.suptitle(f"Event {path.event}")
    return figure


def draw_map(
    axes: Axes, values: NDArray[np.floating], grid: Grid, norm: Normalize, colours: str
) -> QuadMesh:
    """Draw values of shape ``(n_eta, n_phi)`` with η to the right and φ upwards."""
    axes.set_facecolor(EMPTY)
    return axes.pcolormesh(
        np.asarray(grid.eta_edges),
        grid.phi_edges,
        values.T,
        norm=norm,
        cmap=colours,
        rasterized=True,
    )


def _circle(axes: Axes, jets: Sequence[tuple[float, float]]) -> None:
    """Circle jets, those at the edge in φ on both sides."""
    limits = axes.axis()
    for eta, phi in jets:
        for turn in (-TWO_PI, 0.0, TWO_PI):
            axes.add_patch(Circle((eta, phi + turn), RADIUS, fill=False, color="crimson", lw=1.2))
    axes.axis(limits)


def label_axes(axes: Axes, grid: Grid, *, left: bool, bottom: bool) -> None:
    """Name the outer axes; φ is marked in parts of π where it is a full turn."""
    axes.tick_params(top=False, right=False, which="both", direction="out")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    if grid.is_periodic:
        ticks = grid.phi_min + np.arange(5) * np.pi / 2
        axes.yaxis.set_major_locator(FixedLocator(list(ticks)))
        axes.set_yticks(ticks, [_in_pi(tick) for tick in ticks])
    if left:
        axes.set_ylabel(r"$\phi$ [rad]")
    if bottom:
        axes.set_xlabel(r"$\eta$")


def _in_pi(angle: float) -> str:
    halves = round(2 * angle / np.pi)
    if abs(halves * np.pi / 2 - angle) > 1e-6:
        return f"{angle:.2g}"
    if halves == 0:
        return "0"
    sign = "−" if halves < 0 else ""
    whole, rest = divmod(abs(halves), 2)
    number = f"{abs(halves)}" if rest else (f"{whole}" if whole > 1 else "")
    number = "" if number == "1" else number
    return rf"{sign}{number}$\pi$" + ("/2" if rest else "")


_Masked = np.ma.MaskedArray[tuple[int, ...], np.dtype[np.float64]]
_Scale = tuple[list[_Masked], Normalize, str, str]


def _log_scale(images: list[NDArray[np.float32]]) -> _Scale:
    """Values to draw, their norm, colours and name: log10(E/MeV)."""
    logs = [_log_mev(image) for image in images]
    pooled = np.concatenate([log.compressed() for log in logs])
    low, high = np.quantile(pooled, [0.0, 0.999]) if len(pooled) else (0.0, 1.0)
    norm = Normalize(float(low), float(max(high, low + 1e-3)))
    return logs, norm, "viridis", r"$\mathrm{log_{10}}$($E$/MeV)"


def _signed_scale(images: list[NDArray[np.float32]]) -> _Scale:
    """The same of energies of either sign."""
    values = [np.ma.MaskedArray(image.astype(np.float64), mask=image == 0) for image in images]
    pooled = np.concatenate([value.compressed() for value in values])
    linear = float(np.median(-pooled[pooled < 0]))
    reach = max(float(np.quantile(np.abs(pooled), 0.999)), 2 * linear)
    norm = SymLogNorm(linear, vmin=-reach, vmax=reach, base=10)
    return values, norm, "RdBu_r", "$E$ [GeV]"


def _log_mev(image: NDArray[np.float32]) -> _Masked:
    hit = image > 0
    logs = np.zeros(image.shape)
    np.log10(image * MEV, out=logs, where=hit)
    return np.ma.MaskedArray(logs, mask=~hit)
