"""The Pareto front of fidelity and source correlation, and quality against cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from pileupgen.compare.pareto import ScanPoint, is_on_pareto_front
from pileupgen.measure.bootstrap import Estimate
from pileupgen.report.figures.style import COLOURS, new_figure, style

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = "osD^v<"


def pareto_figure(points: Sequence[ScanPoint], reference: Estimate, chosen: ScanPoint) -> Figure:
    """Draw mean W1/σ against block source correlation, a colour a mode, the choice ringed.

    Parameters
    ----------
    reference : Estimate
        Mean W1/σ of other target events.
    """
    with style():
        figure = new_figure(6.8, 5.0)
        axes = figure.subplots()
        _draw_reference(axes, reference)
        _draw_groups(axes, points, lambda point: str(point.settings["mode"]), _source_correlation)
        front = sorted(
            (point for point, on in zip(points, is_on_pareto_front(points), strict=True) if on),
            key=lambda point: point.block.value,
        )
        axes.plot(
            [point.block.value for point in front],
            [point.w1.value for point in front],
            color=COLOURS["target"],
            linestyle=(0, (5, 2)),
            linewidth=1.0,
            label="Pareto front",
            zorder=1,
        )
        axes.plot(
            chosen.block.value,
            chosen.w1.value,
            "o",
            markersize=13,
            markerfacecolor="none",
            markeredgecolor=COLOURS["target"],
            label="recommended",
        )
        low, high = axes.get_xlim()
        axes.set_xlim(low - 0.03 * (high - low), high + 0.03 * (high - low))
        axes.set_xlabel("source correlation, blocks")
        axes.set_ylabel(r"mean $W_1/\sigma$ to data")
        axes.set_ylim(bottom=0)
        axes.legend(loc="best")
    return figure


def cost_figure(points: Sequence[ScanPoint], reference: Estimate) -> Figure:
    """Draw mean W1/σ against network evaluations per event, a colour a sampler.

    A line joins the best point of each number of evaluations.
    """
    with style():
        figure = new_figure(6.8, 4.6)
        axes = figure.subplots()
        _draw_reference(axes, reference)
        paid = [point for point in points if point.n_evaluations]
        _draw_groups(axes, paid, _method, _cost, joined=True)
        axes.set_xscale("log")
        counts = sorted({point.n_evaluations for point in paid})
        if counts:
            axes.set_xlim(counts[0] / 1.2, counts[-1] * 1.2)
            ticks = _apart(counts)
            axes.set_xticks(ticks, [str(n) for n in ticks])
            axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("network evaluations per event")
        axes.set_ylabel(r"mean $W_1/\sigma$ to data")
        axes.set_ylim(bottom=0)
        axes.legend(loc="best")
    return figure


def _method(point: ScanPoint) -> str:
    mode = point.settings["mode"]
    return str(mode) if mode == "invert" else f"{mode}, {point.settings['sampler']}"


def _source_correlation(point: ScanPoint) -> Estimate:
    return point.block


def _cost(point: ScanPoint) -> Estimate:
    n = float(point.n_evaluations)
    return Estimate(n, n, n)


def _draw_reference(axes: Axes, reference: Estimate) -> None:
    axes.axhspan(reference.low, reference.high, color=COLOURS["reference"], alpha=0.25, linewidth=0)
    axes.axhline(reference.value, color=COLOURS["reference"], linewidth=1.0, label="reference")


def _draw_groups(
    axes: Axes,
    points: Sequence[ScanPoint],
    group_of: Callable[[ScanPoint], str],
    x_of: Callable[[ScanPoint], Estimate],
    *,
    joined: bool = False,
) -> None:
    for number, name in enumerate(dict.fromkeys(map(group_of, points))):
        members = sorted(
            (point for point in points if group_of(point) == name), key=lambda p: x_of(p).value
        )
        axes.errorbar(
            [x_of(point).value for point in members],
            [point.w1.value for point in members],
            xerr=_reach([x_of(point) for point in members]),
            yerr=_reach([point.w1 for point in members]),
            fmt=MARKERS[number % len(MARKERS)],
            linestyle="none",
            color=PALETTE[number % len(PALETTE)],
            linewidth=0.9,
            label=name,
        )
        if joined:
            best = {x_of(p).value: p.w1.value for p in sorted(members, key=lambda p: -p.w1.value)}
            x = sorted(best)
            axes.plot(x, [best[n] for n in x], color=PALETTE[number % len(PALETTE)], linewidth=0.9)


def _apart(counts: list[int]) -> list[int]:
    """Those whose labels do not touch on a logarithmic axis.

    >>> _apart([4, 15, 16, 30])
    [4, 15, 30]
    """
    kept = counts[:1]
    for n in counts[1:]:
        if n > 1.15 * kept[-1]:
            kept.append(n)
    return kept


def _reach(estimates: list[Estimate]) -> np.ndarray:
    below = [estimate.value - estimate.low for estimate in estimates]
    above = [estimate.high - estimate.value for estimate in estimates]
    return np.nan_to_num(np.array([below, above]))
