"""Collections of cells become towers, whatever their columns come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from pileupgen.calo.towers import Towers
from pileupgen.samples.readers.base import MuSource
from pileupgen.samples.readers.cell_images import CellImages
from pileupgen.samples.readers.cell_lists import CellLists
from pileupgen.samples.readers.collection import Collection, Positions
from pileupgen.samples.readers.columns import event_names, event_numbers, open_mu, read_mu
from pileupgen.samples.readers.files import EntryPlace, EventNumbers, FileReader
from pileupgen.samples.readers.part import join_parts
from pileupgen.samples.readers.remote import InputFile
from pileupgen.samples.readers.source import Source

S = TypeVar("S", bound=Source)

Cells = CellImages | CellLists


class CellsReader(FileReader[S]):
    """Cells of one collection or several, whose energies add up.

    Where the card gives no widths a cell is a point: it goes whole to the image's cell that holds
    its centre.

    Parameters
    ----------
    files : sequence of Path
        Read in this order.
    options : CollectionOptions
        The collections.
    mu : MuSource
        Where μ comes from.
    gev : float
        What one unit of the file's energies is in GeV.
    """

    def __init__(
        self, files: Sequence[InputFile], options: Any, mu: MuSource, gev: float = 1.0
    ) -> None:
        self._options = options
        self._parts: dict[str, Collection] = options.parts()
        names = (layer for part in self._parts.values() for layer in part.layer_names)
        super().__init__(files, tuple(dict.fromkeys(names)), mu, gev)
        self._opened: tuple[S, list[Cells]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave what is open behind: another process opens its own."""
        return {**super().__getstate__(), "_opened": None}

    def close(self) -> None:
        """Close the file that is open."""
        self._opened = None
        super().close()

    def _open_positions(self, file: S, positions: Positions) -> Source:  # noqa: ARG002
        """Open what holds positions once; the file itself, where a format has nothing else."""
        return file

    def _event_bytes(self, file: S) -> float:
        return sum(cells.event_bytes for cells in self._cells(file))

    def _event_numbers(self, file: S, name: str) -> EventNumbers | None:
        return event_numbers(file, name)

    def _event_names(self, file: S) -> list[str]:
        return event_names(file)

    def _cells(self, file: S) -> list[Cells]:
        """Open the collections of a file, once: blocks that are unpacked are kept between spans."""
        if self._opened is not None and self._opened[0] is file:
            return self._opened[1]
        opened: list[Cells] = [
            CellImages(file, part, self._gev)
            if part.is_image
            else CellLists(file, part, self._gev, self._open_positions)
            for part in self._parts.values()
        ]
        self._opened = file, opened
        return opened

    def _read(self, file: S, pieces: Sequence[tuple[int, int]], first_id: int) -> Iterator[Towers]:
        opened = self._cells(file)
        mu = open_mu(file, self._mu)
        for begin, end in pieces:
            where = EntryPlace(file.path, begin, first_id)
            parts = [cells.read(begin, end, where) for cells in opened]
            whole, sums = parts[0], dict[str, float]()
            if len(parts) > 1:
                by_name = dict(zip(self._parts, parts, strict=True))
                layers_of = {name: part.layer_names for name, part in self._parts.items()}
                whole = join_parts(by_name, layers_of, self.layers)
                sums = {
                    name: float(part.energy.sum(dtype=np.float64)) for name, part in by_name.items()
                }
            yield Towers(
                offsets=whole.offsets,
                edges=whole.edges,
                energy=whole.energy,
                layers=self.layers,
                mu=read_mu(self._mu, mu, begin, end, where),
                event_id=np.arange(first_id + begin, first_id + end, dtype=np.int64),
                factor=whole.factor,
                left_out=whole.left_out,
                collections=sums,
            )
