"""Hard scatters with pileup: one event four ways, and every number beside that of data pileup."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from pileupgen.compare.records import OverlayEffects
from pileupgen.measure.bootstrap import Estimate
from pileupgen.report.figures.style import COLOURS, new_figure, style

_KINDS = {"mc": ("source", "s", 0.13), "translated": ("translated", "o", -0.13)}
"""Colour's name, marker and offset of each kind of pileup."""

_FORMULAS = {
    "ΣE_T": r"$\Sigma E_T$",
    "E_T^miss": r"$E_T^\mathrm{miss}$",
    "0.1 E_T": r"0.1 $E_T$",
    "p_T": "$p_T$",
}


def overlay_figure(effects: OverlayEffects) -> Figure:
    """Draw each number with mc and translated pileup over that with data pileup."""
    # A ratio to what is hardly known to differ from 0 says nothing.
    numbers = [one for one in effects.numbers if _is_sure(one.values["data"])]
    heights = np.arange(len(numbers), 0, -1, dtype=np.float64)
    with style():
        figure = new_figure(8.0, 0.27 * len(numbers) + 1.6)
        axes = figure.subplots()
        data = np.array([one.values["data"].value for one in numbers])
        error = np.array([one.values["data"].error for one in numbers]) / np.abs(data)
        axes.barh(heights, 2 * error, left=1 - error, height=0.6, color="0.85", label="data pileup")
        for kind, (colour, marker, offset) in _KINDS.items():
            ratio = np.array([one.values[kind].value for one in numbers]) / data
            spread = np.array([one.values[kind].error for one in numbers]) / np.abs(data)
            axes.errorbar(
                ratio,
                heights + offset,
                xerr=spread,
                fmt=marker,
                color=COLOURS[colour],
                markersize=5,
                linewidth=1.0,
                label=f"{kind} pileup",
            )
        axes.axvline(1.0, color="0.4", linewidth=0.8)
        axes.set_yticks(heights, [_plain(f"{one.family}: {one.name}") for one in numbers])
        axes.tick_params(axis="y", which="both", left=False, right=False)
        axes.set_ylim(0.3, len(numbers) + 0.7)
        axes.set_xlabel("over the same with data pileup")
        figure.legend(loc="outside upper center", ncols=3, fontsize="small")
    return figure


def _is_sure(found: Estimate) -> bool:
    return abs(found.value) > 5 * found.error


def _plain(name: str) -> str:
    for plain, formula in _FORMULAS.items():
        name = name.replace(plain, formula)
    return name
