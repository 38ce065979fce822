"""Any ROOT tree or RNTuple with cells: ntuples, NanoAOD, PHYSLITE."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from pileupgen.samples.readers.base import Format
from pileupgen.samples.readers.cells import CellsReader
from pileupgen.samples.readers.collection import CollectionOptions, Positions
from pileupgen.samples.readers.remote import InputFile
from pileupgen.samples.readers.root import RootTree


class TreeOptions(CollectionOptions):
    """Names of the tree and of its branches."""

    tree: str = Field(
        min_length=1, description="the tree or RNTuple, with its folder where it is in one"
    )


class TreeReader(CellsReader[RootTree]):
    """Cells of any ROOT tree, by a mapping of branches."""

    def _open(self, path: InputFile) -> RootTree:
        return RootTree(path, self._options.tree)

    def _open_positions(self, file: RootTree, positions: Positions) -> RootTree:
        path = file.path if positions.file is None else Path(positions.file)
        return RootTree(path, positions.tree or self._options.tree)


FORMAT = Format(TreeOptions, "unknown", TreeReader)
