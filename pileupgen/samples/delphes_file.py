"""ROOT files with Delphes' own tree and branch names, for other people's software.

Every branch is a plain one, ``Tower.Eta`` beside ``Tower_size``. ROOT's ``TTree::Draw``,
``TTreeReader`` and ``RDataFrame``, and uproot read them by the names that they have in a file of
Delphes, ``Tower.Edges`` with four numbers a tower. What needs Delphes' own classes does not: uproot
cannot write a ``TClonesArray``, which ``ExRootTreeReader`` and coffea's ``DelphesSchema`` ask for.
In an RNTuple, whose names may not have dots, ``Tower.Eta`` is the field ``Tower_Eta``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from pileupgen.arrays import Ints
from pileupgen.files import written_whole

TREE = "Delphes"
RECORD = "pileupgen"
"""Name of the JSON text beside the tree: what the file was made from."""

EDGES = "Tower.Edges"
"""Branch with four numbers a tower: η and φ, lower and upper."""

Container = Literal["ttree", "rntuple"]
"""What holds the events in a ROOT file."""

Column = NDArray[Any] | tuple[Ints, NDArray[Any]]
"""One number an event, or offsets (n + 1,) and what all events' lists hold, (m,) or (m, k)."""


class DelphesFile:
    """Appends events to a file that is being written; made by :func:`create_delphes_file`."""

    def __init__(self, tree: Any, branches: Mapping[str, str], container: Container) -> None:
        self._tree = tree
        self._branches = branches
        self._container = container
        self.n_events = 0

    def append(self, n: int, columns: Mapping[str, Column]) -> None:
        """Add ``n`` events.

        Parameters
        ----------
        columns : mapping
            Every branch, by its name: an array (n,), or offsets (n + 1,) with values (m,) or,
            where the type is ``var * k * …``, (m, k).
        """
        self._tree.extend(
            {
                name_in(self._container, name): self._array(name, column)
                for name, column in columns.items()
            }
        )
        self.n_events += n

    def _array(self, name: str, column: Column) -> Any:
        dtype = self._branches[name].split(" * ")[-1]
        if not isinstance(column, tuple):
            return np.ascontiguousarray(column, dtype=dtype)
        offsets, values = column
        numbers = np.ascontiguousarray(values, dtype=dtype)
        content: Any = ak.contents.NumpyArray(numbers.ravel())
        if numbers.ndim == 2:
            content = ak.contents.RegularArray(content, numbers.shape[1])
        return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), content))


def offsets_of(counts: Ints) -> Ints:
    """Offsets of lists of these lengths, shape (n + 1,)."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def name_in(container: Container, branch: str) -> str:
    """What a branch is called in a container: ROOT allows no dots in the names of an RNTuple."""
    return branch.replace(".", "_") if container == "rntuple" else branch


def _counter(branch: str) -> str:
    return f"{branch.split('.')[0]}_size"


def _with_inner_axes(tree: Any, branches: Mapping[str, str]) -> Any:
    """Have a tree write lists of k numbers under a counter of lists.

    uproot 5.7 describes such a branch as ROOT does, but flattens it before it works out where an
    event begins, and is k times too near; given its axis back it works that out rightly.
    """
    cascade = tree._cascading
    write = cascade.write_jagged_basket

    def write_basket(sink: Any, name: str, compression: Any, array: Any, offsets: Any) -> Any:
        parts = branches[name].split(" * ")
        if len(parts) == 3:
            array = array.reshape(-1, int(parts[1]))
        return write(sink, name, compression, array, offsets)

    cascade.write_jagged_basket = write_basket
    return tree


@contextmanager
def create_delphes_file(
    path: Path,
    branches: Mapping[str, str],
    record: Mapping[str, Any],
    *,
    tree: str = TREE,
    container: Container = "ttree",
) -> Iterator[DelphesFile]:
    """Write a file aside and give it its name once it is whole.

    Parameters
    ----------
    path : Path
        Final name. A file that is there stays untouched until the new one is whole.
    branches : mapping
        Types by name: ``"var * float32"`` for lists, ``"var * 4 * float32"`` for lists of four,
        ``"float32"`` for one number an event.
    record : mapping
        What the file is made from; anything JSON can hold.
    container : str
        ``ttree`` or ``rntuple``.

    Raises
    ------
    OutputError
        If the disk is full or the folder cannot be written.
    """
    with (
        written_whole(path) as aside,
        uproot.recreate(aside, compression=uproot.ZSTD(1)) as file,
    ):
        if container == "rntuple":
            types = {name_in(container, name): kind for name, kind in branches.items()}
            made = file.mkrntuple(tree, types, description="Analysis tree")
        else:
            made = _with_inner_axes(
                file.mktree(tree, dict(branches), title="Analysis tree", counter_name=_counter),
                branches,
            )
        yield DelphesFile(made, branches, container)
        file[RECORD] = json.dumps(record, sort_keys=True)


def read_record(path: Path) -> dict[str, Any]:
    """Read what :func:`create_delphes_file` recorded; empty for any other file."""
    # Whatever is wrong with the file, it is none that we wrote.
    with suppress(Exception), uproot.open(path) as file:
        return dict(json.loads(str(file[RECORD])))
    return {}
