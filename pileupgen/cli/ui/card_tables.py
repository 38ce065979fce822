"""What the files of a data card hold, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from pileupgen.errors import PileupgenError

if TYPE_CHECKING:
    from pileupgen.samples.check import CardCheck


def card_table(found: CardCheck) -> Table:
    """Show the first events of a card's files."""
    import numpy as np
    from rich.markup import escape

    n = len(found.images)
    table = Table(title=f"the first {n} events", title_justify="left", show_header=False)
    table.add_row("events in all files, about", f"{found.n_events:,}")
    known = found.mu[np.isfinite(found.mu)]
    table.add_row("⟨μ⟩", f"{known.mean():.1f}" if len(known) else "unknown")
    total = "ΣE" if found.grid.is_shower else "ΣE_T"
    table.add_row(f"⟨{total}⟩ / GeV", f"{found.sum_et.mean():.1f}")
    table.add_row("towers an event", f"{found.n_towers / n:.0f}")
    table.add_row("towers shared by cells", f"{found.n_shared / max(found.n_towers, 1):.1%}")
    for name, size in found.collections.items():
        table.add_row(f"⟨ΣE⟩ of {escape(name)} / GeV", f"{size / n:.5g}")
    for layer, image in zip(found.grid.layers, found.images.swapaxes(0, 1), strict=True):
        table.add_row(f"occupancy {layer}", f"{np.count_nonzero(image) / image.size:.4f}")
    table.add_row("energy outside the grid", f"{found.energy_outside:.1%}")
    return table


def feature_table(found: CardCheck) -> Table:
    """Show the features of a card's table."""
    from rich.markup import escape

    from pileupgen.samples.check_features import feature_label

    grid, values = found.grid, found.images[:, :, 0, 0].astype("float64")
    table = Table(title=f"the first {len(values):,} events", title_justify="left")
    for column in ("feature", "mean", "sd", "min", "max"):
        table.add_column(column, justify="left" if column == "feature" else "right")
    for name, unit, column in zip(grid.layers, grid.units or (), values.T, strict=True):
        numbers = (column.mean(), column.std(), column.min(), column.max())
        table.add_row(escape(feature_label(name, unit)), *(f"{number:.4g}" for number in numbers))
    return table


def list_table() -> tuple[Table, list[PileupgenError]]:
    """List the cards that are found, and the faults of those that are malformed."""
    from rich.markup import escape

    from pileupgen.samples.cards import load_card
    from pileupgen.workflow.cards import card_files, state_of

    table = Table("card", "domain", "format", "files", "what")
    faults = []
    for path in card_files():
        try:
            card = load_card(path)
        except PileupgenError as error:
            faults.append(error)
            table.add_row(escape(path.stem), "", "", "[red]malformed[/]", "")
            continue
        state = state_of(card)
        table.add_row(
            escape(card.name if card.name == path.stem else path.stem),
            card.domain,
            card.format,
            f"[yellow]{state}[/]" if state == "missing" else state,
            escape(card.what),
        )
    return table, faults
