"""What an analysis sees of hard scatters with pileup, as cells of a table and in words."""

from __future__ import annotations

import math

from pileupgen.compare.records import OverlayEffects
from pileupgen.compare.results import Comparison
from pileupgen.report.tables import Table
from pileupgen.report.text import NONE, label_with_w1, number

NEAR = 2.0
"""σ within which a number agrees with that of data pileup."""
HEADINGS = ("", "data pileup", "mc pileup", "σ from data", "translated pileup", "σ from data")


def overlay_cells(effects: OverlayEffects) -> list[list[str]]:
    """Rows of the table: name, data, mc, its σ, translated, its σ."""
    rows = []
    for one in effects.numbers:
        unit = f" [{one.unit}]" if one.unit else ""
        cells = [f"{one.family}: {one.name}{unit}", _text(one.values["data"])]
        for kind in ("mc", "translated"):
            cells += [_text(one.values[kind]), _signed(one.sigmas[kind])]
        rows.append(cells)
    return rows


def overlay_words(effects: OverlayEffects) -> str:
    """Say how many numbers agree with data pileup, and where translation helps and where not."""
    n = len(effects.numbers)
    if n == 0:
        return "too few jets and leptons to tell what an analysis sees"
    text = (
        f"of {n} numbers of hard scatters with pileup, {effects.n_near('translated', NEAR)} with "
        f"translated and {effects.n_near('mc', NEAR)} with mc pileup lie within {NEAR:g} σ of "
        "those with data pileup"
    )
    gains = {True: [], False: []}  # type: dict[bool, list[str]]
    for one in effects.numbers:
        gain = abs(one.sigmas["mc"]) - abs(one.sigmas["translated"])
        if abs(gain) > NEAR:
            gains[gain > 0].append(f"{one.family} {one.name}")
    if gains[True]:
        text += f"; nearer by more than {NEAR:g} σ: {', '.join(gains[True])}"
    if gains[False]:
        text += f"; farther: {', '.join(gains[False])}"
    return text


def overlay_table(comparison: Comparison) -> Table | None:
    """The same hard scatters with data, mc and translated pileup, where they were asked for."""
    effects = comparison.overlay
    if effects is None:
        return None
    caption = (
        f"The same {effects.n_events:,} hard scatters ({effects.signal}) with data, mc and "
        f"translated pileup: {overlay_words(effects)}. Jets are anti-k_t, R = 0.4, less ρ π R²; "
        "their response is p_T over that without pileup, its median and half its central 68 %. "
        "± is half the 68 % interval; σ are from a bootstrap over hard scatters."
    )
    return Table(
        caption,
        HEADINGS,
        [[label_with_w1(cell) for cell in row] for row in overlay_cells(effects)],
    )


def _text(found: object) -> str:
    value, error = getattr(found, "value", math.nan), getattr(found, "error", math.nan)
    if not math.isfinite(value):
        return NONE
    return f"{number(value)} ± {number(error)}" if math.isfinite(error) else number(value)


def _signed(sigma: float) -> str:
    return f"{sigma:+.1f}".replace("-", "−") if math.isfinite(sigma) else NONE
