"""Whether the ratio classifier's probabilities are probabilities."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from pileupgen.models.networks.ratio_calibration import Reliability
from pileupgen.report.figures.style import COLOURS, new_figure, style

_TIMES = (0, 150, 300, 600)


def reliability_figure(found: Reliability) -> Figure:
    """Draw observed against predicted shares of data at four times, and the cross-entropy over t.

    Parameters
    ----------
    found : Reliability
        Reliability on held-out events, cross-fitted.
    """
    with style():
        figure = new_figure(9.6, 4.2)
        left, right = figure.subplots(1, 2)
        times = np.asarray(found.t)
        shades = np.linspace(1.0, 0.35, len(_TIMES))
        left.plot([0, 1], [0, 1], color="0.4", linewidth=0.9, linestyle="--")
        for wanted, shade in zip(_TIMES, shades, strict=True):
            index = int(np.abs(times - wanted * times[-1] / 999).argmin())
            left.errorbar(
                found.predicted[index],
                found.observed[index],
                yerr=found.error[index],
                fmt="o-",
                markersize=4,
                color=COLOURS["translated"],
                alpha=float(shade),
                label=f"$t$ = {times[index]}",
            )
        left.set_xlabel("predicted probability of data")
        left.set_ylabel("observed share of data")
        left.set_xlim(-0.02, 1.02)
        left.set_ylim(-0.02, 1.02)
        left.legend()
        right.plot(times, found.before, color=COLOURS["source"], label="as trained")
        right.plot(times, found.after, color=COLOURS["translated"], label="calibrated")
        right.axhline(np.log(2), color="0.4", linewidth=0.9, linestyle="--")
        right.set_xlabel("diffusion time $t$")
        right.set_ylabel("cross-entropy, held-out events")
        right.set_xlim(float(times[0]), float(times[-1]))
        right.legend()
    return figure
