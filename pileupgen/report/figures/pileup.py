"""Pileup's own physics: growth with μ, offsets, resolutions and tails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pileupgen.arrays import Floats
from pileupgen.compare.pileup_physics import acceptance_area, cone_residual
from pileupgen.compare.records import MuBin, Quantity
from pileupgen.compare.results import Comparison
from pileupgen.measure.sample import Sample
from pileupgen.report.figures.observables import common_edges, folded_histogram
from pileupgen.report.figures.style import (
    COLOURS,
    draw_points,
    draw_steps,
    new_figure,
    style,
    with_count,
)

N_BINS = 7
MIN_EVENTS = 20
"""Events below which a point of a profile is left out."""
LINES = ("-", "--", ":", "-.")


def pileup_figure(
    target: Sample,
    source: Sample,
    translated: Sample,
    comparison: Comparison,
) -> Figure:
    """Draw the effects of pileup on an analysis, in six panes.

    E_T density against μ, ρ against μ, the random cone less ρA, the resolution of the missing E_T
    against √ΣE_T, the tail of the occupancy, and the mean W1/σ in bins of μ. Panes whose input is
    unknown stay empty and say so.

    Parameters
    ----------
    target, source, translated : Sample
        On one grid.
    comparison : Comparison
        Numbers for the legends, and the mean W1/σ in bins of μ.
    """
    samples = (target, source, translated)
    numbers = comparison.pileup
    area = acceptance_area(target.grid)
    with style():
        figure = new_figure(15.0, 8.4)
        panes = figure.subplots(2, 3)
        for axes, name, values, label in (
            (
                panes[0, 0],
                "et_density_slope",
                _density(area),
                r"$\langle\Sigma E_T\rangle/A$ [GeV]",
            ),
            (panes[0, 1], "rho_slope", _rho, r"$\langle\rho\rangle$ [GeV]"),
        ):
            if name in numbers:
                _against_mu(axes, samples, values, numbers[name])
            else:
                _say(axes, "μ is unknown or constant")
            axes.set_xlabel(r"$\mu$")
            axes.set_ylabel(label)
        _cone(panes[0, 2], samples, numbers)
        _missing_et(panes[1, 0], samples)
        _occupancy(panes[1, 1], samples)
        _headline(panes[1, 2], comparison.mu_bins)
        handles = [panes[0, 2].plot([], [], color=COLOURS[s.name], linewidth=3)[0] for s in samples]
        labels = [with_count(sample.label, len(sample)) for sample in samples]
        figure.legend(handles, labels, loc="outside upper center", ncols=3, fontsize="large")
    return figure


def profile(
    x: Floats, y: Floats, weight: Floats, edges: Floats, spread: bool = False
) -> tuple[Floats, Floats, Floats]:
    """Mean, or standard deviation, of y in bins of x, with standard errors.

    Parameters
    ----------
    x, y, weight : float64 arrays, shape (n,)
        Events.
    edges : float64 array, shape (k + 1,)
        Bin edges in x; what lies beyond is left out.
    spread : bool
        Whether to give the standard deviation about 0 instead of the mean.

    Returns
    -------
    centre, value, error : float64 arrays, shape (j,)
        Bins with at least ``MIN_EVENTS`` events; the centre is the mean of x.
    """
    points = []
    for low, high in pairwise(edges):
        inside = (x >= low) & (x < high)
        w = weight[inside]
        if inside.sum() < MIN_EVENTS or not w.sum() > 0:
            continue
        z = np.square(y[inside]) if spread else y[inside]
        share = w / w.sum()
        mean = float(share @ z)
        error = float(np.sqrt(np.square(share) @ np.square(z - mean)))
        if spread:
            mean = float(np.sqrt(mean))
            error = error / (2 * mean) if mean > 0 else 0.0
        points.append((float(share @ x[inside]), mean, error))
    columns = np.array(points).reshape(-1, 3).T
    return columns[0], columns[1], columns[2]


def _rho(sample: Sample) -> Floats:
    return sample.observables["rho"]


def _density(area: float) -> Callable[[Sample], Floats]:
    return lambda sample: sample.observables["sum_et"] / area


def _points(axes: Axes, x: Floats, y: Floats, error: Floats, role: str, label: str = "") -> None:
    axes.errorbar(
        x,
        y,
        yerr=error,
        fmt="o" if role == "target" else "s",
        markersize=4,
        linewidth=1.0,
        color=COLOURS[role],
        label=label or None,
    )


def _against_mu(
    axes: Axes, samples: Sequence[Sample], values: Callable[[Sample], Floats], slope: Quantity
) -> None:
    pooled = np.concatenate([sample.mu for sample in samples]).astype(np.float64)
    edges = np.quantile(pooled, np.linspace(0.0, 1.0, N_BINS + 1))
    edges[-1] = np.nextafter(edges[-1], np.inf)
    for sample in samples:
        mu = sample.mu.astype(np.float64)
        found = slope.values[sample.name]
        label = f"slope {found.value:.3f} ± {found.error:.3f} GeV"
        _points(axes, *profile(mu, values(sample), sample.weight, edges), sample.name, label)
    axes.legend(loc="upper left")
    axes.margins(x=0.06, y=0.18)


def _cone(axes: Axes, samples: Sequence[Sample], numbers: dict[str, Quantity]) -> None:
    residuals = [cone_residual(sample) for sample in samples]
    edges = common_edges(residuals)
    for sample, residual in zip(samples, residuals, strict=True):
        offset = numbers["cone_offset"].values[sample.name].value
        sigma = numbers["cone_sigma"].values[sample.name].value
        label = rf"{offset:.2f}, $\sigma$ = {sigma:.2f} GeV"
        contents = folded_histogram(residual, edges, sample.weight)
        if sample.name == "target":
            draw_points(axes, edges, contents, label)
        else:
            draw_steps(axes, edges, contents, COLOURS[sample.name], label)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel(r"random cone: $\Sigma E_T - \rho A$ [GeV]")
    axes.set_ylabel("fraction of events")
    axes.legend(loc="upper right", title="mean, spread")


def _missing_et(axes: Axes, samples: Sequence[Sample]) -> None:
    axes.set_xlabel(r"$(\Sigma E_T)^{\mathrm{1/2}}$ [GeV$^{\mathrm{1/2}}$]")
    axes.set_ylabel(r"$\sigma(E_{x,y}^\mathrm{miss})$ [GeV]")
    if "met_x" not in samples[0].observables:
        _say(axes, "φ is not periodic")
        return
    roots = [np.sqrt(np.maximum(sample.observables["sum_et"], 0.0)) for sample in samples]
    pooled = np.concatenate(roots)
    edges = np.quantile(pooled, np.linspace(0.0, 1.0, N_BINS + 1))
    edges[-1] = np.nextafter(edges[-1], np.inf)
    for sample, root in zip(samples, roots, strict=True):
        both = np.concatenate([sample.observables["met_x"], sample.observables["met_y"]])
        points = profile(np.tile(root, 2), both, np.tile(sample.weight, 2), edges, spread=True)
        _points(axes, *points, sample.name)
    axes.margins(x=0.06, y=0.12)


def _occupancy(axes: Axes, samples: Sequence[Sample]) -> None:
    least = 1.0
    for layer, line in zip(samples[0].grid.layers, LINES, strict=False):
        for sample in samples:
            values = sample.observables[f"occupancy_{layer}"]
            order = np.argsort(values, kind="stable")
            above = 1.0 - np.cumsum(sample.weight[order])[:-1] / sample.weight.sum()
            axes.plot(values[order][1:], above, line, color=COLOURS[sample.name], linewidth=1.2)
            least = min(least, 1.0 / len(sample))
        axes.plot([], [], line, color="0.3", label=layer)
    axes.set_yscale("log")
    axes.set_ylim(0.7 * least, 1.5)
    axes.set_xlabel("occupancy")
    axes.set_ylabel("fraction of events above")
    axes.legend(loc="lower left")


def _headline(axes: Axes, mu_bins: Sequence[MuBin]) -> None:
    axes.set_xlabel(r"$\mu$")
    axes.set_ylabel(r"mean $W_{\mathrm{1}}/\sigma$")
    if not mu_bins:
        _say(axes, "μ is unknown, constant,\nor there are too few events")
        return
    for number, role in enumerate(("reference", "source", "translated")):
        for mu_bin in mu_bins:
            found = mu_bin.mean_distance[role]
            at = mu_bin.low + (0.4 + 0.1 * number) * (mu_bin.high - mu_bin.low)
            axes.errorbar(
                at,
                found.value,
                xerr=[[at - mu_bin.low], [mu_bin.high - at]],
                yerr=[[found.value - found.low], [found.high - found.value]],
                fmt="o",
                markersize=4,
                linewidth=1.2,
                color=COLOURS[role],
                label=role if mu_bin is mu_bins[0] else None,
            )
    axes.margins(x=0.03, y=0.25)
    axes.set_ylim(bottom=0.0)
    axes.legend(loc="upper left", ncols=3)


def _say(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color="0.4")
    axes.set_xticks([])
    axes.set_yticks([])
