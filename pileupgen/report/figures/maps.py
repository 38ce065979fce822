"""Mean energy of each cell and ring."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import LogNorm, Normalize, SymLogNorm, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from pileupgen.arrays import quotient
from pileupgen.measure.sample import Sample
from pileupgen.report.figures.displays import draw_map, label_axes
from pileupgen.report.figures.style import (
    Contents,
    draw_with_ratio,
    new_figure,
    paired_panes,
    style,
    with_count,
)


def mean_map_figure(target: Sample, source: Sample, translated: Sample) -> Figure:
    """Draw mean η-φ maps of the samples and the ratios of the simulated to the real one.

    Parameters
    ----------
    target, source, translated : Sample
        On one grid. One row a layer; the maps of a row share a colour scale, all ratios another.
        Where the target's mean is not above 0 there is no ratio.
    """
    grid = target.grid
    samples = [target, source, translated]
    maps = np.stack([sample.cells.energy for sample in samples])
    reference = maps[0]
    ratios = [quotient(values, reference, np.nan) for values in maps[1:]]
    far = np.abs(np.concatenate([ratio[np.isfinite(ratio)] for ratio in ratios]) - 1.0)
    half = float(np.clip(np.quantile(far, 0.98), 0.05, 1.0)) if len(far) else 0.5
    around_one = TwoSlopeNorm(1.0, 1.0 - half, 1.0 + half)
    with style():
        figure = new_figure(16.0, 2.7 * grid.n_layers + 0.6)
        panes = figure.subplots(grid.n_layers, 5, squeeze=False, sharex=True, sharey=True)
        for layer, name in enumerate(grid.layers):
            norm = _mean_norm(maps[:, layer])
            for column, sample in enumerate(samples):
                axes = panes[layer, column]
                mesh = draw_map(axes, sample.cells.energy[layer], grid, norm, "viridis")
                if layer == 0:
                    axes.set_title(with_count(sample.label, len(sample)))
            bar = figure.colorbar(mesh, ax=list(panes[layer, :3]), aspect=18, pad=0.01)
            bar.set_label(r"mean $E$ per cell [GeV]")
            if isinstance(norm, LogNorm):
                bar.ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
                bar.ax.yaxis.set_major_formatter("{x:g}")
                bar.ax.yaxis.set_minor_formatter(NullFormatter())
            for column, (sample, ratio) in enumerate(zip(samples[1:], ratios, strict=True)):
                axes = panes[layer, 3 + column]
                mesh = draw_map(axes, ratio[layer], grid, around_one, "RdBu_r")
                if layer == 0:
                    axes.set_title(f"{sample.label} / {target.label}")
            for column in range(5):
                bottom = layer == grid.n_layers - 1
                label_axes(panes[layer, column], grid, left=column == 0, bottom=bottom)
            panes[layer, 0].set_ylabel(f"layer {name}\n$\\phi$ [rad]")
        bar = figure.colorbar(
            mesh, ax=list(panes[:, 3:].ravel()), aspect=30, pad=0.01, extend="both"
        )
        bar.set_label("ratio of means")
    return figure


def eta_profile_figure(target: Sample, source: Sample, translated: Sample) -> Figure:
    """Draw mean dE_T/dη, one column a layer, with a ratio pane; bands are standard errors.

    Parameters
    ----------
    target, source, translated : Sample
        On one grid.
    """
    samples = (target, source, translated)
    labels = {sample.name: with_count(sample.label, len(sample)) for sample in samples}
    grid = target.grid
    edges = np.asarray(grid.eta_edges)
    widths = np.diff(edges)
    with style():
        figure, panes = paired_panes(grid.n_layers)
        for layer, name in enumerate(grid.layers):
            main, below = panes[:, layer]
            contents = {
                sample.name: Contents(
                    sample.cells.ring_et[layer] / widths, sample.cells.ring_et_error[layer] / widths
                )
                for sample in samples
            }
            draw_with_ratio(main, below, edges, contents, labels)
            top = max(float(c.value.max()) for c in contents.values())
            bottom = min(float(c.value.min()) for c in contents.values())
            main.set_ylim(min(0.0, 1.35 * bottom), 1.35 * top if top > 0 else 1.0)
            main.set_title(f"layer {name}", loc="left")
            below.set_xlabel(r"$\eta$")
        panes[0, 0].set_ylabel(r"$\langle dE_T/d\eta \rangle$ [GeV]")
        panes[1, 0].set_ylabel(f"ratio to {target.label}")
        panes[0, -1].legend(loc="upper center")
    return figure


def _mean_norm(maps: np.ndarray) -> Normalize:
    if maps.min() < 0:
        linear = max(float(-maps.min()), 1e-3 * float(maps.max()))
        return SymLogNorm(linear, vmin=float(maps.min()), vmax=max(float(maps.max()), linear))
    positive = maps[maps > 0]
    if not len(positive):
        return Normalize(0.0, 1.0)
    low, high = float(positive.min()), float(positive.max())
    if high <= low:
        return Normalize(0.0, high)
    return LogNorm(low, high) if high > 10 * low else Normalize(0.0, high)
