"""CMS event displays (`.ig`): a zip with one text of JSON-like collections an event."""

from __future__ import annotations

import json
import logging
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pileupgen.calo.towers import Towers
from pileupgen.errors import (
    MissingFieldError,
    MissingInputError,
    UnreadableInputError,
    did_you_mean,
)
from pileupgen.faults import StrictModel
from pileupgen.samples.readers.base import Format, MuSource
from pileupgen.samples.readers.file_kind import unreadable
from pileupgen.samples.readers.files import (
    EntryPlace,
    FileReader,
    require_finite_places,
    require_sane_energies,
)
from pileupgen.samples.readers.remote import InputFile, for_library

_log = logging.getLogger("pileupgen")

_MAX_EVENT_BYTES = 1 << 30
_CORNERS = ("front_1", "front_2", "front_3", "front_4")
_TOKEN = re.compile(
    r"""(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<number>-?\b(?:nan|inf)\b)|(?P<round>[()])"""
)
_NUMBERS = {"nan": "NaN", "-nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


class CmsIgOptions(StrictModel):
    """Options of a card for an event display; the defaults are the CMS Open Data's own names."""

    collection: str = "CaloTowers_V2"
    layers: dict[str, str] = Field(
        {"em": "emEnergy", "had": "hadEnergy"}, min_length=1, description="layer: its energy"
    )


class IgFile:
    """An event display opened for reading.

    Parameters
    ----------
    path : Path
        The zip.

    Raises
    ------
    MissingInputError
        If there is no such file.
    UnreadableInputError
        If it is no zip or is truncated.
    """

    def __init__(self, path: InputFile) -> None:
        if not path.exists():
            raise MissingInputError(f"No input file {path}.", "Check the card's files.")
        self.path = path
        try:
            self._zip = zipfile.ZipFile(for_library(path))
        except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
            raise unreadable(path, "a zip", str(error), "as an event display") from error
        self._events = [
            info
            for info in self._zip.infolist()
            if info.filename.startswith("Events/") and not info.is_dir()
        ]

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


class CmsIgReader(FileReader[IgFile]):
    """Calorimeter towers of CMS event displays.

    A tower lies where its four front corners are. Where a file has no corners, its direction
    stands for it; the log says so, since that is a mean weighted with energy.

    Parameters
    ----------
    files : sequence of Path
        Event displays, read in this order.
    options : CmsIgOptions
        Names of the collection and its columns.
    mu : MuSource
        Where μ comes from; an event display has no branches, so a constant.
    gev : float
        What one unit of the file's energies is in GeV.
    """

    def __init__(
        self, files: Sequence[InputFile], options: CmsIgOptions, mu: MuSource, gev: float = 1.0
    ) -> None:
        super().__init__(files, tuple(options.layers), mu, gev)
        self._options = options
        self._warned = False

    def _open(self, path: InputFile) -> IgFile:
        if self._mu.branch is not None:
            raise MissingFieldError(
                f"{path}: an event display has no branch '{self._mu.branch}'.",
                "Set the card's mu to a number or to unknown.",
            )
        return IgFile(path)

    def _event_bytes(self, file: IgFile) -> float:
        return file.n_bytes / max(file.n_entries, 1)

    def _read(
        self, file: IgFile, pieces: Sequence[tuple[int, int]], first_id: int
    ) -> Iterator[Towers]:
        for begin, end in pieces:
            where = EntryPlace(file.path, begin, first_id)
            events = [self._event(file, entry) for entry in range(begin, end)]
            edges = np.concatenate([event[0] for event in events])
            wide = np.concatenate([event[1] for event in events])
            offsets = np.cumsum([0, *(len(event[0]) for event in events)]).astype(np.int64)
            with np.errstate(over="ignore"):
                energy = (wide * self._gev).astype(np.float32)
            for layer, name in enumerate(self._options.layers.values()):
                require_sane_energies(energy[:, layer], name, offsets, where)
            require_finite_places(edges, offsets, where)
            yield Towers(
                offsets=offsets,
                edges=edges,
                energy=energy,
                layers=self.layers,
                mu=np.full(end - begin, self._mu.offset, dtype=np.float32),
                event_id=np.arange(first_id + begin, first_id + end, dtype=np.int64),
            )

    def _event(self, file: IgFile, entry: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Edges, shape (n, 4), and energies, shape (n, L), of one event's towers."""
        event, name = file.event(entry), self._options.collection
        where = f"{file.path}, event {entry}"
        types, collections = event.get("Types"), event.get("Collections")
        if not isinstance(types, dict) or not isinstance(collections, dict):
            raise UnreadableInputError(f"{where} has no Types and Collections.")
        if name not in types:
            raise MissingFieldError(
                f"{where} has no collection '{name}'.", did_you_mean(name, types)
            )
        try:
            columns = [str(column[0]) for column in types[name]]
            rows = [list(row) for row in collections.get(name, [])]
            wanted = [*self._options.layers.values()]
            missing = [column for column in wanted if column not in columns]
            if missing:
                raise MissingFieldError(
                    f"{where}: '{name}' has no '{missing[0]}'.", did_you_mean(missing[0], columns)
                )
            energy = _numbers(rows, columns, wanted, ())
            if all(corner in columns for corner in _CORNERS):
                return _from_corners(_numbers(rows, columns, _CORNERS, (3,))), energy
            self._warn(file)
            eta, phi = _numbers(rows, columns, ("eta", "phi"), ()).T
        except (TypeError, ValueError, IndexError, OverflowError) as error:
            raise UnreadableInputError(
                f"{where}: '{name}' is not a table of towers: {error}.", "The file is damaged."
            ) from error
        return np.stack([eta, eta, phi, phi], axis=1), energy

    def _warn(self, file: IgFile) -> None:
        if not self._warned:
            self._warned = True
            _log.warning(
                "%s has no corners of towers: they are placed by eta and phi, which are means "
                "weighted with energy",
                file.path.name,
            )


def _numbers(
    rows: list[list[Any]], columns: list[str], wanted: Sequence[str], shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Numbers of the wanted columns, shape (n, len(wanted), *shape)."""
    index = [columns.index(name) for name in wanted]
    table = np.array([[row[column] for column in index] for row in rows], dtype=np.float64)
    return table.reshape(len(rows), len(index), *shape)


def _from_corners(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """``eta_min, eta_max, phi_min, phi_max`` of points (n, 4, 3); φ may pass π."""
    x, y, z = np.moveaxis(corners, -1, 0)
    rho = np.hypot(x, y)
    with np.errstate(divide="ignore", invalid="ignore"):
        eta = np.arcsinh(z / rho)
    phi = np.arctan2(y, x)
    first = phi[:, :1]
    phi = first + (phi - first + np.pi) % (2 * np.pi) - np.pi
    return np.stack([eta.min(axis=1), eta.max(axis=1), phi.min(axis=1), phi.max(axis=1)], axis=1)


FORMAT = Format(CmsIgOptions, "unknown", CmsIgReader, unit="GeV", zero_suppression=0.5)
