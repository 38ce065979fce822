"""ROOT files with Delphes' own tree and branch names, for other people's software."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from pileupgen.files import written_whole

TREE = "Delphes"
RECORD = "pileupgen"
"""Name of the JSON text beside the tree: what the file was made from."""

EDGES = "Tower.Edges[4]"
"""Four numbers a tower, under a counter of their own (four times Tower_size): uproot 5 writes a
jagged branch with an inner axis wrongly, and takes the "[4]" in the name for that axis when it
reads. Name and interpretation are then those of a file that Delphes wrote."""

Column = NDArray[Any] | tuple[NDArray[np.int64], NDArray[Any]]
"""One number an event, or offsets (n + 1,) and the numbers of all events."""


class DelphesFile:
    """Appends events to a file that is being written; made by :func:`create_delphes_file`."""

    def __init__(self, tree: Any, branches: Mapping[str, str]) -> None:
        self._tree = tree
        self._branches = branches
        self.n_events = 0

    def append(self, n: int, columns: Mapping[str, Column]) -> None:
        """Add ``n`` events.

        Parameters
        ----------
        n : int
            Number of events.
        columns : mapping
            Every branch, by its name: an array (n,), or offsets (n + 1,) with values.
        """
        self._tree.extend({name: self._array(name, column) for name, column in columns.items()})
        self.n_events += n

    def _array(self, name: str, column: Column) -> Any:
        dtype = self._branches[name].removeprefix("var * ")
        if not isinstance(column, tuple):
            return np.ascontiguousarray(column, dtype=dtype)
        offsets, values = column
        content = ak.contents.NumpyArray(np.ascontiguousarray(values, dtype=dtype))
        return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), content))


def offsets_of(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Offsets of lists of these lengths, shape (n + 1,)."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _counter(branch: str) -> str:
    return "Tower_Edges_size" if branch == EDGES else f"{branch.split('.')[0]}_size"


@contextmanager
def create_delphes_file(
    path: Path, branches: Mapping[str, str], record: Mapping[str, Any], *, tree: str = TREE
) -> Iterator[DelphesFile]:
    """Write a file aside and give it its name once it is whole.

    Parameters
    ----------
    path : Path
        Final name. A file that is there stays untouched until the new one is whole.
    branches : mapping
        Types by name: ``"var * float32"`` for lists, ``"float32"`` for one number an event.
    record : mapping
        What the file is made from; anything JSON can hold.
    tree : str
        Its name.

    Raises
    ------
    OutputError
        If the disk is full or the folder cannot be written.
    """
    with (
        written_whole(path) as aside,
        uproot.recreate(aside, compression=uproot.ZSTD(1)) as file,
    ):
        made = file.mktree(tree, dict(branches), title="Analysis tree", counter_name=_counter)
        yield DelphesFile(made, branches)
        file[RECORD] = json.dumps(record, sort_keys=True)


def read_record(path: Path) -> dict[str, Any]:
    """Read what :func:`create_delphes_file` recorded; empty for any other file."""
    # Whatever is wrong with the file, it is none that we wrote.
    with suppress(Exception), uproot.open(path) as file:
        return dict(json.loads(str(file[RECORD])))
    return {}
