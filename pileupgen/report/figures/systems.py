"""Quality of generators and translators against what an event costs."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from pileupgen.compare.systems import AnyQuality, SystemTable
from pileupgen.report.figures.style import COLOURS, new_figure, style
from pileupgen.report.shown_quality import shown_of

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c510a")
MARKERS = "osD^vP*X<>"
_FEW = 3.0


def systems_figure(table: SystemTable) -> Figure:
    """Draw AUC and mean W1/σ against the CPU time of an event.

    A colour a family, a marker a system; open markers are translations. The band is the reference.
    """
    families = list(dict.fromkeys(row.family for row in table.rows))
    names = list(dict.fromkeys(row.name for row in table.rows))
    with style():
        figure = new_figure(9.6, 4.6)
        w1_axes, auc_axes = figure.subplots(1, 2)
        for row in table.rows:
            colour = PALETTE[families.index(row.family) % len(PALETTE)]
            look = {
                "fmt": MARKERS[names.index(row.name) % len(MARKERS)],
                "color": colour,
                "markerfacecolor": "white" if row.use == "translate" else colour,
                "markersize": 7,
                "linestyle": "none",
            }
            w1 = row.quality.w1
            error = [[w1.value - w1.low], [w1.high - w1.value]]
            w1_axes.errorbar(row.event_ms, w1.value, error, label=row.label, **look)
            auc_axes.errorbar(row.event_ms, row.quality.auc, row.quality.auc_error, **look)
        _band(w1_axes, table.reference)
        low = table.reference.auc - table.reference.auc_error
        high = table.reference.auc + table.reference.auc_error
        auc_axes.axhspan(low, high, color=COLOURS["reference"], alpha=0.35, lw=0, zorder=0)
        found = [one.w1.value for one in (table.reference, *(row.quality for row in table.rows))]
        # A logarithmic axis of less than a few has hardly a number to read off.
        if max(found) > _FEW * min(found):
            w1_axes.set_yscale("log")
            _plain_ticks(w1_axes.yaxis)
        w1_axes.set_ylabel(shown_of(table).w1_label)
        auc_axes.set_ylabel("AUC on observables")
        for axes in (w1_axes, auc_axes):
            axes.set_xscale("log")
            _plain_ticks(axes.xaxis)
            axes.margins(0.08)
            axes.set_xlabel("CPU time of an event [ms]")
        handles, labels = w1_axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _plain_ticks(axis: Axis) -> None:
    """Label 1, 2 and 5 of each decade of a logarithmic axis, as numbers."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _band(axes: Axes, reference: AnyQuality) -> None:
    low, high = reference.w1.low, reference.w1.high
    grey = COLOURS["reference"]
    axes.axhspan(low, high, color=grey, alpha=0.35, lw=0, zorder=0, label="reference")
