"""`pileupgen cards`: list data cards, show one, check one against its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from pileupgen.cli.card_fit import fit_card
from pileupgen.cli.ui.card_tables import card_table, feature_table
from pileupgen.cli.ui.common import AllowOption
from pileupgen.cli.ui.console import console, terminal
from pileupgen.cli.ui.library_log import warnings_on_console

CardArgument = Annotated[str, typer.Argument(help="A card's name, or the path of its file.")]


def list_cards() -> None:
    """List the data cards: those in ./data_cards and those that ship.

    \b
    Examples:
      pileupgen cards list
    """
    from pileupgen.cli.ui.card_tables import list_table

    table, faults = list_table()
    console.print(table)
    for fault in faults:
        terminal.warn(str(fault))
    terminal.next("pileupgen cards show NAME")


def show_card(name: CardArgument) -> None:
    """Show one data card, with its files as they are found.

    \b
    Examples:
      pileupgen cards show demo_mc
      pileupgen cards show my_cards/run_3.yaml
    """
    import yaml
    from rich.markup import escape

    from pileupgen.errors import PileupgenError
    from pileupgen.samples.readers.remote import size_of
    from pileupgen.workflow.cards import load_named

    card = load_named(name)
    terminal.read(str(card.path))
    values = card.model_dump(mode="json", exclude_unset=True)
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=96)
    console.print(escape(text.rstrip()), soft_wrap=True)
    if card.generate is None:
        try:
            for path in card.input_files():
                console.print(f"{escape(str(path))}  [dim]{size_of(path) / 1e6:,.1f} MB[/]")
        except PileupgenError as error:
            terminal.warn(str(error))
    terminal.next(f"pileupgen cards check {name}")


def check_card(
    name: CardArgument,
    n_events: Annotated[
        int, typer.Option("--events", "-n", min=1, max=20, help="Events to draw.")
    ] = 3,
    geometry: Annotated[
        str | None,
        typer.Option(
            "--geometry",
            "-g",
            help="Geometry preset to draw on. (default: the card's grid, else atlas)",
        ),
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option("--figure", help="PNG to write. (default: runs/cards/<card>.png)"),
    ] = None,
    allow: AllowOption = None,
) -> None:
    """Check one data card against its files, and draw a few events.

    The files exist and fit their checksums, every file opens and has the
    branches the card names, and the first events are read. A generated sample
    is drawn if it was made before; else its settings are checked. Of a table of
    features 2,000 events are read and a histogram of each feature is drawn. The
    first 200 events go through the checks of [bold]preprocess[/]: what cannot be
    physics is an error, unless it is allowed by name.

    \b
    Examples:
      pileupgen cards check delphes_mc
      pileupgen cards check my_card.yaml --events 5 --geometry atlas_barrel
    """
    from pileupgen.calo.presets import get_grid
    from pileupgen.samples.check import draw_events
    from pileupgen.samples.check_features import N_EVENTS, draw_features
    from pileupgen.workflow.cards import check_files, load_named, write_png

    card = load_named(name)
    terminal.read(str(card.path))
    grid = card.grid or get_grid(geometry or card.detector.grid or "atlas")
    n_read = N_EVENTS if grid.is_feature_table else n_events
    with warnings_on_console():
        found = check_files(card, grid, n_read, allow or (), terminal)
    if found is None:
        terminal.next("pileupgen preprocess")
        return
    path = figure or Path("runs") / "cards" / f"{card.name}.png"
    if grid.is_feature_table:
        console.print(f"{found.n_events:,} events in all files, about")
        console.print(feature_table(found))
        write_png(draw_features(found, card.name), path)
    else:
        console.print(card_table(found))
        write_png(draw_events(found, f"{card.name} on {grid.name}"), path)
    terminal.wrote(path, f"{len(found.images)} events")
    terminal.next(f"pileupgen preprocess, with samples.{card.domain}: {card.name} in the config")


COMMANDS: dict[str, Callable[..., None]] = {
    "list": list_cards,
    "show": show_card,
    "check": check_card,
    "fit": fit_card,
}
