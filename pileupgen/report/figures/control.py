"""What generated events have of a property against what was asked for."""

from __future__ import annotations

from matplotlib.figure import Figure

from pileupgen.compare.systems import ControlCurve
from pileupgen.report.figures.style import COLOURS, new_figure, style


def control_figure(curves: list[tuple[str, ControlCurve]]) -> Figure:
    """Draw one panel a curve: median and central 68 % of the events at each asked value.

    Parameters
    ----------
    curves : list of (str, ControlCurve)
        With the name of the system.
    """
    with style():
        figure = new_figure(4.6 * len(curves), 4.4)
        panes = figure.subplots(1, len(curves), squeeze=False)[0]
        for axes, (system, curve) in zip(panes, curves, strict=True):
            error = [
                [m - low for m, low in zip(curve.median, curve.low, strict=True)],
                [high - m for m, high in zip(curve.median, curve.high, strict=True)],
            ]
            ends = curve.asked[0], curve.asked[-1]
            axes.axhspan(
                *curve.real[1:], color=COLOURS["reference"], alpha=0.35, lw=0, label="data, 68 %"
            )
            axes.plot(ends, ends, color="0.4", lw=1, ls="--", label="as asked")
            axes.errorbar(curve.asked, curve.median, error, fmt="o", color="#0072b2", label=system)
            axes.set_xlabel(f"asked: {curve.label}")
            axes.set_ylabel(f"measured: {curve.label}")
            axes.legend(loc="upper left", frameon=False)
    return figure
