"""`pileupgen cards`: which samples there are, what they are, and whether they can be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pileupgen.cli.ui.console import console, progress, say_next, say_read, say_wrote, warn
from pileupgen.cli.ui.library_log import warnings_on_console

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pileupgen.samples.cards import DataCard
    from pileupgen.samples.check import CardCheck
    from pileupgen.samples.readers import InputFile

CardArgument = Annotated[str, typer.Argument(help="A card's name, or the path of its file.")]

_WHERE = "data_cards"
CHECKED_EVENTS = 200
"""Events of the first file that the checks of preprocess see."""


def list_cards() -> None:
    """List the data cards: those in ./data_cards and those that ship.

    \b
    Examples:
      pileupgen cards list
    """
    from rich.markup import escape
    from rich.table import Table

    from pileupgen.errors import PileupgenError
    from pileupgen.samples.cards import load_card

    table = Table("card", "domain", "format", "files", "what")
    faults = []
    for path in _card_files():
        try:
            card = load_card(path)
        except PileupgenError as error:
            faults.append(error)
            table.add_row(escape(path.stem), "", "", "[red]malformed[/]", "")
            continue
        table.add_row(
            escape(card.name if card.name == path.stem else path.stem),
            card.domain,
            card.format,
            _state(card),
            escape(card.what),
        )
    console.print(table)
    for fault in faults:
        warn(escape(str(fault)))
    say_next("pileupgen cards show NAME")


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

    card = _load(name)
    say_read(escape(str(card.path)))
    values = card.model_dump(mode="json", exclude_unset=True)
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=96)
    console.print(escape(text.rstrip()), soft_wrap=True)
    if card.generate is None:
        try:
            for path in card.input_files():
                console.print(f"{escape(str(path))}  [dim]{size_of(path) / 1e6:,.1f} MB[/]")
        except PileupgenError as error:
            warn(escape(str(error)))
    say_next(f"pileupgen cards check {name}")


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
            show_default=False,
        ),
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(
            "--figure", help="PNG to write. (default: runs/cards/<card>.png)", show_default=False
        ),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow", help="A check whose findings are no errors; may be repeated.", metavar="NAME"
        ),
    ] = None,
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
    from rich.markup import escape

    from pileupgen.calo.geometry import get_grid
    from pileupgen.samples import check, check_features
    from pileupgen.samples.checks import check_sample, judge, require_known
    from pileupgen.samples.ingest import describe_inputs, examine

    require_known(allow or ())
    card = _load(name)
    say_read(escape(str(card.path)))
    grid = card.grid or get_grid(geometry or card.detector.grid or "atlas")
    if card.generate is not None:
        made = _generated(card)
        if made is None:
            console.print("settings of the generated sample are valid; it is not made yet")
            say_next("pileupgen preprocess")
            return
        files: list[InputFile] = [made]
    else:
        files = card.input_files()
        inputs = describe_inputs(card, files)
        n_sums = sum(entry["name"] in card.checksum for entry in inputs)
        console.print(f"{len(files):,} files are there, {n_sums:,} fit their checksum")
    with warnings_on_console(), progress(f"read {card.name}", len(files), "files") as advance:
        n_read = check_features.N_EVENTS if grid.is_feature_table else n_events
        found = check.check_card(card, files, grid, n_read, advance)
        first = examine(card.open(files[:1]), grid, CHECKED_EVENTS)
    for finding in judge(check_sample(first, card, grid), allow or ()):
        warn(escape(str(finding)))
    path = figure or Path("runs") / "cards" / f"{card.name}.png"
    if grid.is_feature_table:
        _report_features(found)
        _write_figure(check_features.draw_features(found, card.name), path)
    else:
        _report(found)
        _write_figure(check.draw_events(found, f"{card.name} on {grid.name}"), path)
    say_wrote(path, f"{len(found.images)} events")
    say_next(f"pileupgen preprocess, with samples.{card.domain}: {card.name} in the config")


COMMANDS: dict[str, Callable[..., None]] = {
    "list": list_cards,
    "show": show_card,
    "check": check_card,
}


def _card_files() -> list[Path]:
    """Collect local cards, then shipped ones of other names."""
    from pileupgen.resources import resource_folder

    found: dict[str, Path] = {}
    for folder in (Path(_WHERE), resource_folder(_WHERE)):
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return list(found.values())


def _load(name: str) -> DataCard:
    from pileupgen.resources import find_file
    from pileupgen.samples.cards import load_card

    return load_card(find_file(name, _WHERE))


def _state(card: DataCard) -> str:
    from pileupgen.errors import PileupgenError

    if card.generate is not None:
        return "generated"
    try:
        return f"{len(card.input_files()):,} found"
    except PileupgenError:
        return "[yellow]missing[/]"


def _generated(card: DataCard) -> Path | None:
    """Check the settings of a generated sample; its file, if the default cache has it."""
    from pileupgen.workflow.generated import is_current, parse_spec, suffix

    spec = parse_spec(card.generate or {}, f"{card.path}: generate", folder=card.path.parent)
    path = Path("runs") / "cache" / f"{spec.fingerprint()}{suffix(spec)}"
    return path if is_current(spec, path) else None


def _report(found: CardCheck) -> None:
    import numpy as np
    from rich.table import Table

    n = len(found.images)
    table = Table(title=f"the first {n} events", title_justify="left", show_header=False)
    table.add_row("events in all files, about", f"{found.n_events:,}")
    known = found.mu[np.isfinite(found.mu)]
    table.add_row("⟨μ⟩", f"{known.mean():.1f}" if len(known) else "unknown")
    total = "ΣE" if found.grid.is_shower else "ΣE_T"
    table.add_row(f"⟨{total}⟩ / GeV", f"{found.sum_et.mean():.1f}")
    table.add_row("towers an event", f"{found.n_towers / n:.0f}")
    table.add_row("towers shared by cells", f"{found.n_shared / max(found.n_towers, 1):.1%}")
    for layer, image in zip(found.grid.layers, found.images.swapaxes(0, 1), strict=True):
        table.add_row(f"occupancy {layer}", f"{np.count_nonzero(image) / image.size:.4f}")
    table.add_row("energy outside the grid", f"{found.energy_outside:.1%}")
    console.print(table)


def _report_features(found: CardCheck) -> None:
    from rich.markup import escape
    from rich.table import Table

    from pileupgen.samples.check_features import feature_label

    grid, values = found.grid, found.images[:, :, 0, 0].astype("float64")
    table = Table(title=f"the first {len(values):,} events", title_justify="left")
    for column in ("feature", "mean", "sd", "min", "max"):
        table.add_column(column, justify="left" if column == "feature" else "right")
    for name, unit, column in zip(grid.layers, grid.units or (), values.T, strict=True):
        numbers = (column.mean(), column.std(), column.min(), column.max())
        table.add_row(escape(feature_label(name, unit)), *(f"{number:.4g}" for number in numbers))
    console.print(f"{found.n_events:,} events in all files, about")
    console.print(table)


def _write_figure(figure: Figure, path: Path) -> None:
    import io

    from pileupgen.files import write_whole

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write_whole(path, buffer.getvalue())
