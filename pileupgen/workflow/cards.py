"""Data cards by name: which there are, and whether their files or samples are there."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pileupgen.errors import PileupgenError
from pileupgen.files import write_whole
from pileupgen.progress import SILENT, Listener
from pileupgen.resources import find_file, resource_folder
from pileupgen.samples.cards import DataCard, load_card
from pileupgen.samples.check import CardCheck, check_card
from pileupgen.samples.checks import check_sample, judge, require_known
from pileupgen.samples.ingest import describe_inputs, examine
from pileupgen.workflow.generated import is_current, parse_spec, suffix

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pileupgen.calo.geometry import Grid
    from pileupgen.samples.readers import InputFile

_WHERE = "data_cards"
CHECKED_EVENTS = 200
"""Events of the first file that the checks of preprocess see."""


def card_files() -> list[Path]:
    """Collect local cards, then shipped ones of other names."""
    found: dict[str, Path] = {}
    for folder in (Path(_WHERE), resource_folder(_WHERE)):
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return list(found.values())


def load_named(name: str) -> DataCard:
    """Load a card by its name or path.

    Raises
    ------
    ConfigError
        If there is none; names the nearest.
    CardError
        If it is malformed.
    """
    return load_card(find_file(name, _WHERE))


def state_of(card: DataCard) -> str:
    """Say whether a card's files are there, or its sample is generated."""
    if card.generate is not None:
        return "generated"
    try:
        return f"{len(card.input_files()):,} found"
    except PileupgenError:
        return "missing"


def made_sample(card: DataCard) -> Path | None:
    """Check the settings of a generated sample; its file, if the default cache has it."""
    spec = parse_spec(card.generate or {}, f"{card.path}: generate", folder=card.path.parent)
    path = Path("runs") / "cache" / f"{spec.fingerprint()}{suffix(spec)}"
    return path if is_current(spec, path) else None


def write_png(figure: Figure, path: Path) -> None:
    """Write a figure of a card's events.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write_whole(path, buffer.getvalue())


def check_files(
    card: DataCard,
    grid: Grid,
    n_events: int,
    allow: Sequence[str] = (),
    listener: Listener = SILENT,
) -> CardCheck | None:
    """Check the files of a card and read its first events.

    Returns
    -------
    CardCheck or None
        None where the card's sample is generated and not made yet; its settings are valid.

    Raises
    ------
    CardError
        If files contradict the card, or hold what cannot be physics.
    InputError
        If a file is missing or cannot be read.
    """
    require_known(allow)
    if card.generate is not None:
        made = made_sample(card)
        if made is None:
            listener.tell("valid", "the settings of the generated sample; it is not made yet")
            return None
        files: list[InputFile] = [made]
    else:
        files = card.input_files()
        inputs = describe_inputs(card, files)
        n_sums = sum(entry["name"] in card.checksum for entry in inputs)
        listener.tell("found", f"{len(files):,} files are there, {n_sums:,} fit their checksum")
    with listener.progress(f"read {card.name}", len(files), "files") as advance:
        found = check_card(card, files, grid, n_events, advance)
        first = examine(card.open(files[:1]), grid, CHECKED_EVENTS)
    for finding in judge(check_sample(first, card, grid), allow):
        listener.warn(str(finding))
    return found
