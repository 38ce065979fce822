"""ROOT files with Delphes' own tree and branch names."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from pileupgen.errors import OutputError
from pileupgen.simulate.calorimeter import TowerGrid

TREE = "Delphes"
RECORD = "pileupgen"
"""Name of the JSON text beside the tree: what the file was made from."""

EDGES = "Tower.Edges[4]"

BRANCHES: dict[str, str] = {
    "Event.Number": "var * int64",
    "Tower.ET": "var * float32",
    "Tower.Eta": "var * float32",
    "Tower.Phi": "var * float32",
    "Tower.E": "var * float32",
    "Tower.Eem": "var * float32",
    "Tower.Ehad": "var * float32",
    # Four numbers a tower, under a counter of their own (four times Tower_size): uproot 5 writes a
    # jagged branch with an inner axis wrongly, and takes the "[4]" in the name for that axis when
    # it reads. Name and interpretation are then those of a file that Delphes wrote.
    EDGES: "var * float32",
    "Rho.Rho": "var * float32",
    "Vertex.Z": "var * float32",
}


class DelphesWriter:
    """Appends events to a file that is being written; made by :func:`create_delphes_file`."""

    def __init__(self, tree: Any, grid: TowerGrid) -> None:
        self._tree = tree
        self._grid = grid
        self.n_events = 0

    def append(self, events: Mapping[str, NDArray[Any]]) -> None:
        """Add events as :meth:`pileupgen.simulate.overlay.Overlay.events` gives them."""
        n = len(events["n_towers"])
        grid, cell = self._grid, events["cell"]
        energy = events["em"] + events["had"]
        towers = _offsets(events["n_towers"])
        one_each = np.arange(n + 1)
        n_rho = events["rho"].shape[1]
        columns = {
            "Event.Number": (one_each, np.arange(self.n_events + 1, self.n_events + n + 1)),
            "Tower.ET": (towers, energy / np.cosh(grid.eta[cell])),
            "Tower.Eta": (towers, grid.eta[cell]),
            "Tower.Phi": (towers, grid.phi[cell]),
            "Tower.E": (towers, energy),
            "Tower.Eem": (towers, events["em"]),
            "Tower.Ehad": (towers, events["had"]),
            EDGES: (4 * towers, grid.edges[cell].ravel()),
            "Rho.Rho": (n_rho * one_each, events["rho"].ravel()),
            "Vertex.Z": (_offsets(events["n_vertices"]), 1000 * events["z"]),
        }
        self._tree.extend(
            {name: _jagged(name, offsets, values) for name, (offsets, values) in columns.items()}
        )
        self.n_events += n


def _offsets(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)])


def _jagged(name: str, offsets: NDArray[np.int64], values: NDArray[Any]) -> ak.Array:
    dtype = BRANCHES[name].removeprefix("var * ")
    content = ak.contents.NumpyArray(np.ascontiguousarray(values, dtype=dtype))
    return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), content))


def _counter(branch: str) -> str:
    return "Tower_Edges_size" if branch == EDGES else f"{branch.split('.')[0]}_size"


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
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with uproot.recreate(aside, compression=uproot.ZSTD(1)) as file:
            tree = file.mktree(TREE, BRANCHES, title="Analysis tree", counter_name=_counter)
            yield DelphesWriter(tree, grid)
            file[RECORD] = json.dumps(record, sort_keys=True)
        os.replace(aside, path)
    except OSError as error:
        raise OutputError(
            f"Cannot write {path}: {error.strerror or error}.",
            "Check space and permission; nothing was put under the final name.",
        ) from error
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def read_record(path: Path) -> dict[str, Any]:
    """Read what :func:`create_delphes_file` recorded; empty for any other file."""
    # Whatever is wrong with the file, it is none that we wrote.
    with suppress(Exception), uproot.open(path) as file:
        return dict(json.loads(str(file[RECORD])))
    return {}
