"""Simulated events in ROOT files with Delphes' own tree and branch names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.samples import delphes_file
from pileupgen.samples.delphes_file import EDGES, DelphesFile, offsets_of, read_record
from pileupgen.simulate.calorimeter import TowerGrid

__all__ = ["BRANCHES", "DelphesWriter", "create_delphes_file", "read_record"]

BRANCHES: dict[str, str] = {
    "Event.Number": "var * int64",
    "Tower.ET": "var * float32",
    "Tower.Eta": "var * float32",
    "Tower.Phi": "var * float32",
    "Tower.E": "var * float32",
    "Tower.Eem": "var * float32",
    "Tower.Ehad": "var * float32",
    EDGES: "var * 4 * float32",
    "Rho.Rho": "var * float32",
    "Vertex.Z": "var * float32",
}


class DelphesWriter:
    """Appends events to a file that is being written; made by :func:`create_delphes_file`."""

    def __init__(self, file: DelphesFile, grid: TowerGrid) -> None:
        self._file = file
        self._grid = grid

    @property
    def n_events(self) -> int:
        """Number of events so far."""
        return self._file.n_events

    def append(self, events: Mapping[str, NDArray[Any]]) -> None:
        """Add events as :meth:`pileupgen.simulate.overlay.Overlay.events` gives them."""
        n = len(events["n_towers"])
        grid, cell = self._grid, events["cell"]
        energy = events["em"] + events["had"]
        towers = offsets_of(events["n_towers"])
        one_each = np.arange(n + 1)
        n_rho = events["rho"].shape[1]
        self._file.append(
            n,
            {
                "Event.Number": (one_each, np.arange(self.n_events + 1, self.n_events + n + 1)),
                "Tower.ET": (towers, energy / np.cosh(grid.eta[cell])),
                "Tower.Eta": (towers, grid.eta[cell]),
                "Tower.Phi": (towers, grid.phi[cell]),
                "Tower.E": (towers, energy),
                "Tower.Eem": (towers, events["em"]),
                "Tower.Ehad": (towers, events["had"]),
                EDGES: (towers, grid.edges[cell]),
                "Rho.Rho": (n_rho * one_each, events["rho"].ravel()),
                "Vertex.Z": (offsets_of(events["n_vertices"]), 1000 * events["z"]),
            },
        )


@contextmanager
def create_delphes_file(
    path: Path, grid: TowerGrid, record: Mapping[str, Any]
) -> Iterator[DelphesWriter]:
    """Write a file aside and give it its name once it is whole.

    Parameters
    ----------
    path : Path
        Final name. A file that is there stays untouched until the new one is whole.
    grid : TowerGrid
        The detector's towers.
    record : mapping
        What the file is made from; anything JSON can hold.

    Raises
    ------
    OutputError
        If the disk is full or the folder cannot be written.
    """
    with delphes_file.create_delphes_file(path, BRANCHES, record) as file:
        yield DelphesWriter(file, grid)
