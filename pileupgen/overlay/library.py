"""Where events come from: an image store or an overlay library, opened alike."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pileupgen.arrays import Ints
from pileupgen.errors import MissingInputError, StoreError
from pileupgen.overlay.choice import PileupPool
from pileupgen.overlay.settings import Weights
from pileupgen.samples.overlay_library import SCHEMA, OverlayLibrary, source_numbers
from pileupgen.samples.store import ImageStore, usable_weights

Events = ImageStore | OverlayLibrary


def open_events(path: Path) -> Events:
    """Open an overlay library or an image store, whichever it is.

    Raises
    ------
    MissingInputError
        If there is no such file.
    UnreadableInputError
        If it is not HDF5 or is truncated.
    StoreError
        If it is HDF5 of another kind.
    """
    if not path.is_file():
        raise MissingInputError(
            f"No image store or overlay library at {path}.",
            "'pileupgen preprocess' and 'translate' make stores, 'export --format overlay' "
            "libraries.",
        )
    schema = None
    # What cannot be opened is told by the store.
    with suppress(OSError), h5py.File(path, "r") as file:
        schema = file.attrs.get("schema")
    return OverlayLibrary(path) if schema == SCHEMA else ImageStore(path)


def pool_of(events: Events, rows: Ints, weights: Weights) -> PileupPool:
    """Collect what the choice of pileup needs to know of some events of a library.

    Raises
    ------
    StoreError
        If weights are missing or below 0.
    """
    columns = {name: values[rows] for name, values in events.columns.items()}
    if weights == "none":
        weight = np.ones(len(rows))
    elif weights == "event":
        weight = np.asarray(usable_weights(columns), dtype=np.float64)
    elif "release_weight" in columns:
        weight = np.asarray(columns["release_weight"], dtype=np.float64)
    else:
        raise StoreError(
            f"{events.path} has no release weights.", "Take --weights event, or translated events."
        )
    if np.any(weight < 0) or not np.any(weight > 0):
        raise StoreError(
            f"The weights of {events.path} are below 0, or all 0.", "Take --weights none."
        )
    mu = np.asarray(columns["mu"], dtype=np.float64)
    return PileupPool(rows, mu, source_numbers(columns), weight)


@dataclass(frozen=True)
class FileState:
    """What tells whether a file is still the one that was looked at."""

    path: Path
    size: int
    modified: int
    """Bytes, and time of the last change in ns."""

    @classmethod
    def of(cls, path: Path) -> FileState:
        """Look at a file."""
        found = path.stat()
        return cls(path, found.st_size, found.st_mtime_ns)

    def require_unchanged(self) -> None:
        """Check that the file is as it was.

        Raises
        ------
        StoreError
            If it was changed or removed since.
        """
        try:
            is_same = FileState.of(self.path) == self
        except OSError:
            is_same = False
        if not is_same:
            raise StoreError(
                f"{self.path} was changed while events were taken from it.",
                "Do not change the file, and give the command again, which then starts over.",
            )


def slim(events: Events) -> Events:
    """Give the same events without their columns: what a process that reads images needs."""
    from copy import copy

    found = copy(events)
    found.path = found.path.absolute()
    found.columns = {}
    if isinstance(found, OverlayLibrary):
        found.order = found.source = np.zeros(0, dtype=np.int64)
    return found


def seed_of(provenance: dict[str, Any]) -> int:
    """Seed that a generated sample was made with; −1 where it was not generated."""
    made = provenance.get("source", provenance)
    generate = (made.get("card") or {}).get("generate") or {}
    return int(generate.get("seed", 1)) if generate else -1
