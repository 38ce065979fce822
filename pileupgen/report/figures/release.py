"""Separability of the samples over the noise level, and the release chosen by it."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from pileupgen.diffusion.release import NAMES, ReleaseChoice, ReleaseScan
from pileupgen.report.figures.style import COLOURS, new_figure, style


def release_figure(
    curve: ReleaseScan, t_release: int | None = None, word: str = "release"
) -> Figure:
    """Draw the held-out AUC and the effective sample size of the ratio classifier over t.

    Parameters
    ----------
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
            # The curve falls to the right: there is room below its high end and above its low one.
            height = 0.56 if auc > 0.8 else auc + 0.02 if right else 1.0
            top.annotate(
                f"{word} at $t$ = {t_release}\nAUC {auc:.2f}",
                (t_release, height),
                xytext=(8 if right else -8, 0),
                textcoords="offset points",
                ha="left" if right else "right",
                va="bottom" if right or auc > 0.8 else "top",
            )
    return figure


def choice_figure(scan: ReleaseScan, choice: ReleaseChoice) -> Figure:
    """Draw the criterion of an automatic release over t, its tolerance, and the choice.

    Parameters
    ----------
    choice : ReleaseChoice
        Marked; its interval in t is shaded.
    """
    value, low, high = scan.curve(choice.by)
    with style():
        figure = new_figure(6.4, 4.2)
        axes = figure.subplots()
        colour = COLOURS["translated"]
        end = scan.t[-1] if choice.t_high is None else choice.t_high
        axes.axvspan(choice.t_low, end, color=COLOURS["target"], alpha=0.1, linewidth=0)
        axes.fill_between(scan.t, low, high, color=colour, alpha=0.2, linewidth=0)
        label = f"held-out {NAMES[choice.by]}, {scan.n_mc:,} mc and {scan.n_data:,} data events"
        axes.plot(scan.t, value, color=colour, label=label)
        axes.axhline(
            choice.tolerance, color="0.4", linestyle="--", label=f"tolerance {choice.tolerance:g}"
        )
        axes.axvline(choice.t, color=COLOURS["target"], label=f"release at $t$ = {choice.t}")
        axes.set_xlim(scan.t[0], scan.t[-1])
        axes.set_xlabel("diffusion time $t$")
        axes.set_ylabel({"auc": "AUC", "ess": "ESS / N", "spread": r"std(ln $r$)"}[choice.by])
        place = "lower right" if choice.by == "ess" else "upper right"
        # The line of the release may run through it.
        axes.legend(loc=place, frameon=True, framealpha=1.0, edgecolor="none")
    return figure
