"""Events by what a user calls them: a store, a library, a run, or a card that is drawn first."""

from __future__ import annotations

from pathlib import Path

from pileupgen.calo.geometry import Grid
from pileupgen.calo.presets import get_grid
from pileupgen.errors import ConfigError, MissingInputError
from pileupgen.overlay.library import Events, open_events
from pileupgen.progress import Listener
from pileupgen.resources import find_file
from pileupgen.run import RunDirectory, fingerprint, hash_file, versions
from pileupgen.samples.cards import DataCard, load_card
from pileupgen.samples.ingest import describe_inputs, ingest
from pileupgen.samples.store import SCHEMA_VERSION
from pileupgen.simulate.produce import default_cache
from pileupgen.workflow.generated import is_current, make, n_units, parse_spec, suffix


def find_events(
    name: str, role: str, output: Path, grid: Grid | None, listener: Listener
) -> Events:
    """Open events by a path or the name of a card.

    Parameters
    ----------
    name : str
        An HDF5 file; a run directory, for its translated events; or a card.
    role : str
        ``signal`` or ``pileup``.
    output : Path
        What is to be written; stores drawn from cards are kept in ``cache`` beside it.
    grid : Grid, optional
        Cells that a card's events are drawn on; those that the card names if not given.

    Raises
    ------
    InputError
        If there is no such file, or it cannot be read.
    CardError
        If a card is malformed.
    ConfigError
        If there is no such card.
    GeometryError
        If a card's events do not fit the grid.
    """
    path = Path(name)
    if path.is_dir():
        return open_events(RunDirectory(path).translated)
    if path.suffix in (".h5", ".hdf5"):
        return open_events(path)
    card = load_card(find_file(name, "data_cards"))
    return open_events(_drawn(card, role, output.parent / "cache", grid, listener))


def described_events(name: str) -> object:
    """Describe what :func:`find_events` would open: what changes if its events do.

    Raises
    ------
    MissingInputError
        If there is no such file.
    ConfigError
        If there is no such card.
    """
    path = Path(name)
    if path.is_dir():
        path = RunDirectory(path).translated
    if path.suffix in (".h5", ".hdf5"):
        if not path.is_file():
            raise MissingInputError(f"No image store at {path}.", "Give a store or a card.")
        return hash_file(path)
    card = load_card(find_file(name, "data_cards"))
    if card.generate is not None:
        return parse_spec(card.generate, f"{card.path}: generate", card.path.parent).fingerprint()
    return [card.to_dict(), describe_inputs(card, card.input_files())]


def _drawn(card: DataCard, role: str, cache: Path, grid: Grid | None, listener: Listener) -> Path:
    """Draw a card's events, nothing suppressed, unless the cache has them."""
    where = card.grid or grid
    if where is None:
        if card.detector.grid is None:
            raise ConfigError(
                f"Card '{card.name}' does not say on which grid its events are to be drawn.",
                "Name detector.grid in it, or give the store that 'pileupgen preprocess' makes.",
            )
        where = get_grid(card.detector.grid)
    if card.generate is None:
        files = card.input_files()
        inputs = describe_inputs(card, files)
    else:
        spec = parse_spec(card.generate, f"{card.path}: generate", folder=card.path.parent)
        made = cache / f"{spec.fingerprint()}{suffix(spec)}"
        if not is_current(spec, made):
            with listener.progress(f"simulate {card.name}", n_units(spec), "units") as advance:
                make(spec, made, advance, cache=default_cache())
        files = [made]
        inputs = [{"name": made.name, "generated": spec.fingerprint()}]
    key = [card.to_dict(), inputs, where.to_dict(), SCHEMA_VERSION, versions()]
    store = cache / f"{role}-{card.name}-{fingerprint(key)}.h5"
    if store.is_file():
        listener.current(f"images of '{card.name}'", store)
        return store
    reader = card.open(files)
    with listener.progress(f"{card.name}: towers to images", reader.estimate_events()) as advance:
        summary = ingest(
            reader,
            where,
            store,
            domain=card.domain,
            card=card,
            inputs=inputs,
            advance=advance,
        )
    listener.wrote(store, f"{summary.n_events:,} images of {where.shape}")
    return store
