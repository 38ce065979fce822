"""Distances of the JetNet demonstration to real jets, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from pileupgen.jets.emergence import PathFigure


def distance_rows(figures: dict[str, PathFigure]) -> list[dict[str, str | float]]:
    """Collect the distances of each variable and class."""
    return [
        {
            "variable": figure.label,
            "unit": figure.unit,
            "class": pane.title,
            "noise": pane.noise_distance,
            "emulated": pane.distance,
            "switched": pane.switched_distance,
            "unchanged": pane.source_distance,
            "reference": pane.reference,
        }
        for figure in figures.values()
        for pane in figure.panes
    ]


def distance_table(rows: list[dict[str, str | float]]) -> Table:
    """Show the distances to real jets."""
    table = Table(title="1D Wasserstein distances to real jets", title_justify="left")
    columns = {
        "variable": "",
        "class": "",
        "noise": "noised real to Gaussian",
        "unchanged": "other class as it is",
        "switched": "other class, switched",
        "emulated": "emulated from noise",
        "reference": "reference",
    }
    for key, heading in columns.items():
        table.add_column(heading or key, justify="left" if not heading else "right")
    for row in rows:
        unit = f" {row['unit']}" if row["unit"] else ""
        cells = [
            f"{row[key]:.3g}{unit if key != 'noise' else ''}" if columns[key] else str(row[key])
            for key in columns
        ]
        table.add_row(*cells)
    return table
