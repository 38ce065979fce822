"""Figures of the training: loss curves, and the denoiser's error over t."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pileupgen.report.figures.style import COLOURS, new_figure, style


def loss_figure(histories: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Draw training and held-out losses over the steps, a pane a network.

    Parameters
    ----------
    histories : mapping
        Rows with step, loss and, where it was taken, held_out, by network.
    """
    shown = {name: rows for name, rows in histories.items() if rows}
    with style():
        figure = new_figure(4.4 * max(len(shown), 1), 3.8)
        panes = figure.subplots(1, max(len(shown), 1), squeeze=False)[0]
        for axes, (name, rows) in zip(panes, shown.items(), strict=False):
            judged = [row for row in rows if "held_out" in row]
            best = min(judged, key=lambda row: row["held_out"])
            axes.plot(
                [row["step"] for row in rows],
                [row["loss"] for row in rows],
                color=COLOURS["translated"],
                label="training, smoothed",
            )
            axes.plot(
                [row["step"] for row in judged],
                [row["held_out"] for row in judged],
                "o-",
                color=COLOURS["source"],
                label="held-out, averaged weights",
            )
            axes.plot(
                best["step"],
                best["held_out"],
                "o",
                markersize=9,
                fillstyle="none",
                clip_on=False,
                color=COLOURS["target"],
                label=f"lowest, {best['held_out']:.4f}",
            )
            axes.set_title(name)
            axes.set_xlabel("step")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.margins(y=0.35)
            axes.legend(loc="best")
        panes[0].set_ylabel("loss")
    return figure


def denoising_figure(curve: Mapping[str, Any]) -> Figure:
    """Draw the denoiser's error over t with those of the closed form and the trivial predictor.

    Parameters
    ----------
    curve : mapping
        t, trivial, closed_form, network, first_estimate, gain, gain_error and n_events.
    """
    t = np.asarray(curve["t"], dtype=float)
    with style():
        figure = new_figure(6.4, 5.6)
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[1.6, 1])
        for name, colour, line, label in (
            ("trivial", COLOURS["reference"], ":", "channel means and variances"),
            ("closed_form", COLOURS["source"], "--", "closed form, Gaussian field"),
            ("network", COLOURS["translated"], "-", "network"),
        ):
            top.plot(t, curve[name], line, color=colour, label=label)
        top.set_ylabel(r"$\langle (v - \hat v)^2 \rangle$")
        top.margins(y=0.3)
        top.legend(title=f"{curve['n_events']} held-out events", loc="best")
        gain, error = 100 * np.asarray(curve["gain"]), 100 * np.asarray(curve["gain_error"])
        bottom.axhline(0.0, color="0.4", linewidth=0.9)
        bottom.fill_between(
            t, gain - error, gain + error, color=COLOURS["translated"], alpha=0.2, linewidth=0
        )
        bottom.plot(t, gain, color=COLOURS["translated"])
        bottom.set_ylabel("below closed form [%]")
        bottom.set_xlabel("diffusion time $t$")
        bottom.set_xlim(float(t[0]), float(t[-1]))
    return figure
