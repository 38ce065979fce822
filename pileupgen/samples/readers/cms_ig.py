"""CMS event displays (`.ig`): a zip with one text of JSON-like collections an event."""

from __future__ import annotations

import json
import logging
import re
import zipfile
import zlib
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from pileupgen.arrays import Floats
from pileupgen.errors import (
    MissingFieldError,
    UnreadableInputError,
    did_you_mean,
)
from pileupgen.faults import StrictModel
from pileupgen.samples.readers.base import Format
from pileupgen.samples.readers.cells import CellsReader
from pileupgen.samples.readers.collection import Collection
from pileupgen.samples.readers.file_kind import unreadable
from pileupgen.samples.readers.flat import Column, Flat
from pileupgen.samples.readers.remote import InputFile, for_library, missing_file

_log = logging.getLogger("pileupgen")

_MAX_EVENT_BYTES = 1 << 30
_CORNERS = ("front_1", "front_2", "front_3", "front_4")
_TOKEN = re.compile(
    r"""(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<number>-?\b(?:nan|inf)\b)|(?P<round>[()])"""
)
_NUMBERS = {"nan": "NaN", "-nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


class IgCollection(StrictModel):
    """A collection of an event display; it lies where its cells' corners or directions are."""

    layers: dict[str, str] = Field(min_length=1, description="layer: column with its energy")
    quantity: Literal["E", "ET"] = Field("E", description="what the energies are")
    scale: float = Field(1.0, gt=0, allow_inf_nan=False, description="factor on the energies")


class CmsIgOptions(StrictModel):
    """Options of a card for an event display; the defaults are the CMS Open Data's own names."""

    collection: str = "CaloTowers_V2"
    layers: dict[str, str] = Field(
        {"em": "emEnergy", "had": "hadEnergy"}, min_length=1, description="layer: its energy"
    )
    quantity: Literal["E", "ET"] = Field("E", description="what the energies are")
    collections: dict[str, IgCollection] | None = Field(
        None, min_length=1, description="several collections by name, in place of all the above"
    )

    @model_validator(mode="after")
    def _is_one_or_several(self) -> CmsIgOptions:
        if self.collections is not None and len(self.model_fields_set) > 1:
            raise ValueError("collection, layers and quantity belong into each of the collections")
        return self

    def parts(self) -> dict[str, Collection]:
        """Collections by name, placed by their corners."""
        if self.collections is None:
            one = IgCollection(layers=self.layers, quantity=self.quantity)
            return {self.collection: _collection(self.collection, one)}
        return {name: _collection(name, part) for name, part in self.collections.items()}


def _collection(name: str, part: IgCollection) -> Collection:
    return Collection(
        corners=tuple(f"{name}/{corner}" for corner in _CORNERS),
        layers={layer: f"{name}/{column}" for layer, column in part.layers.items()},
        quantity=part.quantity,
        scale=part.scale,
    )


class IgFile:
    """An event display opened for reading.

    Raises
    ------
    MissingInputError
        If there is no such file.
    UnreadableInputError
        If it is no zip or is truncated.
    """

    def __init__(self, path: InputFile) -> None:
        if not path.exists():
            raise missing_file(path)
        self.path = path
        self._held: tuple[tuple[int, int], list[dict[str, Any]]] = ((0, 0), [])
        try:
            self._zip = zipfile.ZipFile(for_library(path))
        except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
            raise unreadable(path, "a zip", str(error), "as an event display") from error
        self._events = [
            info
            for info in self._zip.infolist()
            if info.filename.startswith("Events/") and not info.is_dir()
        ]

    word = "column"

    def __str__(self) -> str:
        return str(self.path)

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    @property
    def n_entries(self) -> int:
        """Number of events."""
        return len(self._events)

    @property
    def n_bytes(self) -> int:
        """Size of all events, unpacked."""
        return sum(info.file_size for info in self._events)

    def event(self, entry: int) -> dict[str, Any]:
        """Read one event's collections.

        Raises
        ------
        UnreadableInputError
            If it cannot be unpacked, or is not what an event display holds.
        """
        info = self._events[entry]
        try:
            if info.file_size > _MAX_EVENT_BYTES:
                raise ValueError(f"it would unpack to {info.file_size / 1e9:.1f} GB")
            found = json.loads(to_json(self._zip.read(info).decode("utf-8")))
            if not isinstance(found, dict):
                raise ValueError("it is not a mapping of collections")
        except (
            OSError,
            EOFError,
            ValueError,
            RuntimeError,
            RecursionError,
            NotImplementedError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            raise UnreadableInputError(
                f"{self.path}, event {entry} ({info.filename}) cannot be read: "
                f"{str(error).rstrip('.')}.",
                "It may be truncated or damaged: compare its size and checksum with the original.",
            ) from error
        return found

    def events(self, begin: int, end: int) -> list[dict[str, Any]]:
        """Read events ``begin … end − 1``; those asked for last are kept."""
        if self._held[0] != (begin, end) or begin == end:
            self._held = (begin, end), [self.event(entry) for entry in range(begin, end)]
        return self._held[1]

    def has(self, name: str) -> bool:
        """Whether the first event has a collection, or ``collection/column``."""
        collection, _, column = name.partition("/")
        if not self.n_entries:
            return True
        types = self._types(0)
        return collection in types and (not column or column in _names(types[collection]))

    def column(self, name: str) -> IgColumn:
        """Open ``collection/column``, or a collection to count its rows."""
        return IgColumn(self, name)

    def event_columns(self) -> list[str]:
        """Numbers of rows of the collections, as ``n(name)``."""
        return [f"n({name})" for name in (self._types(0) if self.n_entries else ())]

    def list_columns(self) -> list[str]:
        """Columns of all collections."""
        types = self._types(0) if self.n_entries else {}
        return [f"{name}/{column}" for name in types for column in _names(types[name])]

    def cell_encoding(self, name: str) -> str | None:  # noqa: ARG002 - as other sources have it
        """Nothing: displays do not say what their identifiers are made up of."""
        return None

    def _types(self, entry: int) -> dict[str, Any]:
        return self.table(self.events(entry, entry + 1)[0], entry)[0]

    def table(self, event: dict[str, Any], entry: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Columns and rows of an event's collections.

        Raises
        ------
        UnreadableInputError
            If the event has none.
        """
        types, collections = event.get("Types"), event.get("Collections")
        if not isinstance(types, dict) or not isinstance(collections, dict):
            raise UnreadableInputError(
                f"{self.path}, event {entry} has no Types and Collections.",
                "It is not an event display of CMS.",
            )
        return types, collections


class IgColumn(Column):
    """A column of a collection of event displays: numbers, or points of three.

    Parameters
    ----------
    name : str
        ``collection/column``, or a collection to count its rows.
    """

    def __init__(self, file: IgFile, name: str) -> None:
        super().__init__(file.path, name, file.word, file.n_entries, 0)
        self._file = file
        self._collection, _, self._column = name.partition("/")

    def read(self, begin: int, end: int) -> Flat:
        """Entries ``begin … end − 1``."""
        events = self._file.events(begin, end)
        rows = [self._rows(event, begin + place) for place, event in enumerate(events)]
        counts = np.array([len(one) for one in rows], dtype=np.int64)
        return Flat(np.concatenate([*rows, np.empty((0, *self._shape))]), counts)

    read_at = read

    @property
    def _shape(self) -> tuple[int, ...]:
        return (3,) if self._column in _CORNERS else ()

    def _block(self, entry: int) -> tuple[int, int]:
        return entry, self.n_entries

    def _rows(self, event: dict[str, Any], entry: int) -> Floats:
        """Numbers of one event, shape (n,) or (n, 3)."""
        where, name = f"{self.path}, event {entry}", self._collection
        types, collections = self._file.table(event, entry)
        if name not in types:
            raise MissingFieldError(
                f"{where} has no collection '{name}'.", did_you_mean(name, types)
            )
        try:
            rows, columns = [list(row) for row in collections.get(name, [])], _names(types[name])
            if not self._column:
                return np.zeros(len(rows))
            if self._column not in columns:
                raise MissingFieldError(
                    f"{where}: '{name}' has no '{self._column}'.",
                    did_you_mean(self._column, columns),
                )
            place = columns.index(self._column)
            numbers = np.array([row[place] for row in rows], dtype=np.float64)
            return numbers.reshape(len(rows), *self._shape)
        except (TypeError, ValueError, IndexError, OverflowError) as error:
            raise UnreadableInputError(
                f"{where}: '{name}' is not a table of towers: {error}.", "The file is damaged."
            ) from error


def _names(columns: Any) -> list[str]:
    return [str(column[0]) for column in columns]


def to_json(text: str) -> str:
    """Write what event displays hold as JSON: tuples as arrays, nan and inf as JavaScript has them.

    >>> to_json("{'pos': (1.5, nan, -inf), \\"note\\": \\"(nan)\\"}")
    '{"pos": [1.5, NaN, -Infinity], "note": "(nan)"}'
    """

    def write(match: re.Match[str]) -> str:
        if match["round"]:
            return "[" if match["round"] == "(" else "]"
        if match["number"]:
            return _NUMBERS[match["number"]]
        quoted = match["text"]
        return quoted if quoted[0] == '"' else json.dumps(quoted[1:-1])

    return _TOKEN.sub(write, text)


class CmsIgReader(CellsReader[IgFile]):
    """Calorimeter towers, or cells by subdetector, of CMS event displays.

    A tower lies where its four front corners are. Where a file has no corners, its direction
    stands for it; the log says so, since that is a mean weighted with energy.
    """

    _warned = False

    def _open(self, path: InputFile) -> IgFile:
        file = IgFile(path)
        self._parts = self._options.parts()
        for name, part in self._parts.items():
            if not file.has(f"{name}/{_CORNERS[-1]}") and file.has(f"{name}/eta"):
                self._warn(file)
                places = {"corners": None, "eta": f"{name}/eta", "phi": f"{name}/phi"}
                self._parts[name] = part.model_copy(update=places)
        return file

    def _event_bytes(self, file: IgFile) -> float:
        return file.n_bytes / max(file.n_entries, 1)

    def _warn(self, file: IgFile) -> None:
        if not self._warned:
            self._warned = True
            _log.warning(
                "%s has no corners of towers: they are placed by eta and phi, which are means "
                "weighted with energy",
                file.path.name,
            )


FORMAT = Format(CmsIgOptions, "unknown", CmsIgReader, unit="GeV", zero_suppression=0.5)
