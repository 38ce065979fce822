"""A generator against measurements, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pileupgen.cli.ui.console import console, terminal

if TYPE_CHECKING:
    from pileupgen.simulate.measured.check import GeneratorCheck

MAX_ROWS = 12
"""A table with more bins is left to its figure and the JSON file."""


def show_checks(checks: Sequence[GeneratorCheck]) -> None:
    """Show the tables that are short bin by bin, and say what to do next."""
    from rich.markup import escape
    from rich.table import Table

    for check in checks:
        for found in check.tables:
            if found.n_bins > MAX_ROWS:
                continue
            unit = "" if found.head.unit == "1" else f" / {found.head.unit}"
            title = f"{check.label}: {found.head.title} ({found.n_selected:,} events count)"
            table = Table(title=escape(title), title_justify="left")
            for column in ("bin", f"measured{unit}", f"generated{unit}", "ratio"):
                table.add_column(column, justify="right")
            for i in range(found.n_bins):
                table.add_row(
                    f"{found.low[i]:.4g} … {found.high[i]:.4g}",
                    f"{found.measured[i]:.4g} −{found.down[i]:.2g} +{found.up[i]:.2g}",
                    f"{found.generated[i]:.4g} ± {found.error[i]:.2g}",
                    f"{found.ratio[i]:.3f} ± {found.ratio_error[i]:.3f}",
                )
            console.print(table)
    terminal.next("pileupgen simulate, whose summary names this check")
