"""A fitted response card, as a table."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pileupgen.cli.ui.console import console, terminal

if TYPE_CHECKING:
    from pileupgen.workflow.response_fit import CardFit


def show_fit(found: CardFit) -> None:
    """Show the fitted numbers, χ², and what part of the shift the card explains."""
    from rich.table import Table

    fit = found.fit
    title = f"cells in |η| < {fit.abs_eta_max:g}; χ² {fit.chi2_start:.0f} before, {fit.chi2:.0f} "
    table = Table(title=f"{title}after, of {fit.n_statistics} numbers", title_justify="left")
    for column in ("number", "begun with", "fitted", "where χ² rises by 1"):
        table.add_column(column, justify="left" if column == "number" else "right")
    for name, number in fit.numbers.items():
        fitted = f"{number.value:.4f} ± {number.error:.4f}"
        known = math.isfinite(number.error)
        table.add_row(
            name,
            f"{number.start:.4f}",
            fitted if known else "not determined",
            "" if number.profile is None or not known else _ends(number.value, number.profile),
        )
    console.print(table)
    distances = ", ".join(f"{name} {value:.3f}" for name, value in found.distances.items())
    terminal.tell("W1/σ", distances)
    terminal.tell("shift", f"{found.explained:.2f} of it is explained by the card")


def _ends(value: float, profile: tuple[float, float]) -> str:
    """The interval of a number, open where χ² does not rise."""
    down, up = profile
    low = f"{value - down:.4f}" if math.isfinite(down) else "…"
    high = f"{value + up:.4f}" if math.isfinite(up) else "…"
    return f"{low} to {high}"
