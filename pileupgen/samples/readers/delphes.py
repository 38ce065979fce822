"""Delphes ROOT files: the calorimeter towers, whatever else the file holds."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pileupgen.arrays import Floats, Ints
from pileupgen.calo.towers import Towers
from pileupgen.errors import UnreadableInputError
from pileupgen.faults import StrictModel
from pileupgen.samples.readers.base import Format, MuSource
from pileupgen.samples.readers.columns import (
    counts_of,
    event_names,
    event_numbers,
    native,
    one_per_tower,
    open_mu,
    read_mu,
)
from pileupgen.samples.readers.files import (
    EntryPlace,
    EventNumbers,
    FileReader,
    require_finite_places,
    require_sane_energies,
)
from pileupgen.samples.readers.flat import Column, Flat
from pileupgen.samples.readers.remote import InputFile
from pileupgen.samples.readers.root import RootTree

_log = logging.getLogger("pileupgen")


class DelphesOptions(StrictModel):
    """Options of a card for a Delphes file; the defaults are Delphes' own names."""

    tree: str = "Delphes"
    towers: str = Field("Tower", description="the branch that holds the towers")
    layers: dict[str, str] = Field(
        {"em": "Eem", "had": "Ehad"}, min_length=1, description="layer: leaf with its energy"
    )


class DelphesReader(FileReader[RootTree]):
    """Towers of Delphes files, binned by their edges.

    Where a file has no ``Edges``, and for towers with edges of zero width, the tower's centre
    stands for it. Only the leaves needed are read.

    Parameters
    ----------
    files : sequence of Path
        ROOT files, read in this order.
    gev : float
        What one unit of the file's energies is in GeV.
    """

    def __init__(
        self, files: Sequence[InputFile], options: DelphesOptions, mu: MuSource, gev: float = 1.0
    ) -> None:
        super().__init__(files, tuple(options.layers), mu, gev)
        self._options = options
        self._warned = False

    def _open(self, path: InputFile) -> RootTree:
        return RootTree(path, self._options.tree)

    def _event_bytes(self, file: RootTree) -> float:
        branches = [*self._leaves(file), *_Shape(file, self._options.towers).branches]
        return sum(branch.uncompressed_bytes for branch in branches) / max(file.n_entries, 1)

    def _event_numbers(self, file: RootTree, name: str) -> EventNumbers | None:
        return event_numbers(file, name)

    def _event_names(self, file: RootTree) -> list[str]:
        return event_names(file)

    def _read(
        self, file: RootTree, pieces: Sequence[tuple[int, int]], first_id: int
    ) -> Iterator[Towers]:
        leaves, shape = self._leaves(file), _Shape(file, self._options.towers)
        if not shape.has_edges and not self._warned:
            self._warned = True
            _log.warning(
                "%s has no %s.Edges: towers are placed by Eta and Phi, which is wrong where "
                "Delphes smeared them inside the tower (SmearTowerCenter)",
                file.path.name,
                self._options.towers,
            )
        mu = open_mu(file, self._mu)
        for begin, end in pieces:
            where = EntryPlace(file.path, begin, first_id)
            offsets, energy = self._energy(leaves, begin, end, where)
            yield Towers(
                offsets=offsets,
                edges=shape.edges(begin, end, offsets, where),
                energy=energy,
                layers=self.layers,
                mu=read_mu(self._mu, mu, begin, end, where),
                event_id=np.arange(first_id + begin, first_id + end, dtype=np.int64),
            )

    def _leaves(self, file: RootTree) -> list[Column]:
        return [
            file.column(f"{self._options.towers}.{leaf}") for leaf in self._options.layers.values()
        ]

    def _energy(
        self, leaves: list[Column], begin: int, end: int, where: EntryPlace
    ) -> tuple[Ints, NDArray[np.float32]]:
        """Offsets of the events, shape (n_events + 1,), and energies in GeV, (n_towers, L)."""
        counts: Ints | None = None
        offsets = np.zeros(end - begin + 1, dtype=np.int64)
        energy = np.empty((0, len(leaves)), dtype=np.float32)
        for layer, leaf in enumerate(leaves):
            flat = one_per_tower(leaf.read(begin, end), leaf, where, counts)
            if counts is None:
                counts = counts_of(flat)
                np.cumsum(counts, out=offsets[1:])
                energy = np.empty((len(leaves), len(flat.values)), dtype=np.float32).T
            energy[:, layer] = flat.values
            if self._gev != 1.0:
                energy[:, layer] *= self._gev
            require_sane_energies(energy[:, layer], leaf.name, offsets, where)
        return offsets, energy


class _Shape:
    """Positions of the towers of one file."""

    def __init__(self, tree: RootTree, towers: str) -> None:
        self.has_edges = tree.has(f"{towers}.Edges")
        names = [f"{towers}.Eta", f"{towers}.Phi"]
        if self.has_edges:
            self.branches = [tree.column(f"{towers}.Edges")]
            # Asked only where an edge has no width.
            self._centres = [tree.column(name) for name in names if tree.has(name)]
        else:
            self.branches = self._centres = [tree.column(name) for name in names]

    def edges(
        self, begin: int, end: int, offsets: Ints, where: EntryPlace
    ) -> NDArray[np.float32] | Floats:
        """``eta_min, eta_max, phi_min, phi_max``, shape ``(n_towers, 4)``."""
        counts = np.diff(offsets)
        if not self.has_edges:
            eta, phi = (
                native(one_per_tower(branch.read(begin, end), branch, where, counts).values)
                for branch in self._centres
            )
            edges: NDArray[Any] = np.stack([eta, eta, phi, phi], axis=1)
        else:
            branch = self.branches[0]
            edges = _four_per_tower(branch.read(begin, end), branch, where, counts)
            is_point = (edges[:, 0] == edges[:, 1]) | (edges[:, 2] == edges[:, 3])
            if len(self._centres) == 2 and np.any(is_point):
                edges = edges.copy()
                for column, centre in zip((0, 2), self._centres, strict=True):
                    flat = one_per_tower(centre.read_at(begin, end), centre, where, counts)
                    edges[is_point, column] = edges[is_point, column + 1] = flat.values[is_point]
        require_finite_places(edges, offsets, where)
        return edges


def _four_per_tower(
    flat: Flat, branch: Column, where: EntryPlace, counts: Ints
) -> NDArray[np.float32] | Floats:
    values, found = flat.values, counts_of(flat)
    if values.ndim == 1 and np.array_equal(found, 4 * counts):
        values, found = values.reshape(-1, 4), counts
    if values.ndim != 2 or values.shape[1] != 4 or not np.array_equal(found, counts):
        raise UnreadableInputError(
            f"{where.path}: {branch.word} '{branch.name}' is not four numbers a tower.",
            "Delphes writes eta_min, eta_max, phi_min, phi_max.",
        )
    return native(values)


FORMAT = Format(
    DelphesOptions,
    "Vertex_size - 1",
    DelphesReader,
    # Delphes' own, and what pileupgen export writes.
    weights=("Event.Weight", "Weight"),
    # What pileupgen simulate writes where pools are separate.
    groups=("Event.Pool",),
    unit="GeV",
    zero_suppression=0.5,
)
