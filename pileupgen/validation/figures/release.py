"""Where on the way into the noise the samples cease to differ."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from pileupgen.validation.figures.style import COLOURS, new_figure, style
from pileupgen.validation.release_curve import ReleaseCurve


def release_figure(curve: ReleaseCurve, t_release: int | None = None) -> Figure:
    """Draw the held-out AUC and the effective sample size of the ratio classifier over t.

    Parameters
    ----------
    curve : ReleaseCurve
        What the ratio's training recorded.
    t_release : int, optional
        Where the translated events were released; marked.
    """
    with style():
        figure = new_figure(6.4, 5.6)
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[1.6, 1])
        colour = COLOURS["translated"]
        top.fill_between(
            curve.t, curve.auc_low, curve.auc_high, color=colour, alpha=0.2, linewidth=0
        )
        top.plot(curve.t, curve.auc, color=colour, label="AUC, held-out events")
        top.axhline(0.5, color="0.4", linewidth=0.9, linestyle="--")
        top.set_ylim(min(0.45, float(np.min(curve.auc_low)) - 0.02), 1.02)
        top.set_ylabel("AUC of MC against data")
        bottom.plot(curve.t, curve.ess, color=COLOURS["source"])
        bottom.set_ylim(0.0, 1.05)
        bottom.set_ylabel("ESS / N")
        bottom.set_xlabel("diffusion time $t$")
        bottom.set_xlim(float(curve.t[0]), float(curve.t[-1]))
        if t_release is not None:
            for axes in (top, bottom):
                axes.axvline(t_release, color=COLOURS["target"], linewidth=1.2)
            auc = float(np.interp(t_release, curve.t, curve.auc))
            top.plot(t_release, auc, "o", color=COLOURS["target"])
            right = t_release < 0.6 * curve.t[-1]
            # The curve falls to the right, so that there is room below its high end.
            height = auc + 0.02 if auc < 0.8 else 0.56
            top.annotate(
                f"release at $t$ = {t_release}\nAUC {auc:.2f}",
                (t_release, height),
                xytext=(8 if right else -8, 0),
                textcoords="offset points",
                ha="left" if right else "right",
                va="bottom",
            )
    return figure
