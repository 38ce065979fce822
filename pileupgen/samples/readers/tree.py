"""Any ROOT tree with cells in jagged or fixed-size arrays: ntuples, NanoAOD-like files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pileupgen.calo.towers import Towers
from pileupgen.faults import StrictModel
from pileupgen.samples.readers.base import Format, MuSource
from pileupgen.samples.readers.columns import (
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
from pileupgen.samples.readers.flat import Column
from pileupgen.samples.readers.remote import InputFile
from pileupgen.samples.readers.root import RootTree


class TreeOptions(StrictModel):
    """Names of the branches; each holds one number a cell."""

    tree: str = Field(min_length=1, description="the tree, with its folder where it is in one")
    eta: str = Field(description="branch with the cells' η")
    phi: str = Field(description="branch with the cells' φ in rad, in any convention")
    eta_width: str | float | None = Field(None, description="width in η: a number or a branch")
    phi_width: str | float | None = Field(None, description="width in φ: a number or a branch")
    layers: dict[str, str] | dict[str, list[int]] = Field(
        min_length=1, description="layer: branch with its energy, or values of layer_index"
    )
    energy: str | None = Field(None, description="branch with the energy, where layers are values")
    layer_index: str | None = Field(None, description="branch with the number of a cell's layer")
    quantity: Literal["E", "ET"] = Field("E", description="what the energies are")

    @model_validator(mode="after")
    def _layers_are_told_apart(self) -> TreeOptions:
        by_index = [values for values in self.layers.values() if isinstance(values, list)]
        if not by_index:
            if self.energy is not None or self.layer_index is not None:
                raise ValueError(
                    "energy and layer_index are for layers that are lists of layer_index values"
                )
            return self
        if self.energy is None or self.layer_index is None:
            raise ValueError("layers by layer_index take both energy and layer_index")
        numbers = [number for values in by_index for number in values]
        if len(set(numbers)) != len(numbers) or not all(by_index):
            raise ValueError("every value of layer_index belongs to one layer, every layer has one")
        return self

    @property
    def energies(self) -> list[str]:
        """Branches with energy, one a layer, or one for all."""
        if self.energy is not None:
            return [self.energy]
        return [branch for branch in self.layers.values() if isinstance(branch, str)]


class TreeReader(FileReader[RootTree]):
    """Cells of any ROOT tree, by a mapping of branches.

    Where the card gives no widths a cell is a point: it goes whole to the image's cell that holds
    its centre.

    Parameters
    ----------
    files : sequence of Path
        ROOT files, read in this order.
    options : TreeOptions
        Names of the tree and its branches.
    mu : MuSource
        Where μ comes from.
    gev : float
        What one unit of the file's energies is in GeV.
    """

    def __init__(
        self, files: Sequence[InputFile], options: TreeOptions, mu: MuSource, gev: float = 1.0
    ) -> None:
        super().__init__(files, tuple(options.layers), mu, gev)
        self._options = options

    def _open(self, path: InputFile) -> RootTree:
        return RootTree(path, self._options.tree)

    def _event_bytes(self, file: RootTree) -> float:
        options = self._options
        names = [options.eta, options.phi, *options.energies]
        names += [name for name in (options.eta_width, options.phi_width) if isinstance(name, str)]
        size = sum(file.column(name).uncompressed_bytes for name in names)
        return size / max(file.n_entries, 1)

    def _event_numbers(self, file: RootTree, name: str) -> EventNumbers | None:
        return event_numbers(file, name)

    def _event_names(self, file: RootTree) -> list[str]:
        return event_names(file)

    def _read(
        self, file: RootTree, pieces: Sequence[tuple[int, int]], first_id: int
    ) -> Iterator[Towers]:
        options = self._options
        cells = _Cells(file, options)
        mu = open_mu(file, self._mu)
        for begin, end in pieces:
            where = EntryPlace(file.path, begin, first_id)
            counts, columns = cells.read(begin, end, where)
            offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
            edges = _edges(options, columns)
            require_finite_places(edges, offsets, where)
            scale = np.full(len(edges), self._gev)
            if options.quantity == "ET":
                scale *= np.cosh(columns[options.eta].astype(np.float64))
            energy = np.empty((len(options.energies), len(edges)), dtype=np.float32).T
            for layer, name in enumerate(options.energies):
                with np.errstate(over="ignore", invalid="ignore"):
                    energy[:, layer] = columns[name] * scale
                require_sane_energies(energy[:, layer], name, offsets, where)
            left_out: dict[str, float] = {}
            if options.layer_index is not None:
                index = columns[options.layer_index]
                layer_of = self._layer_of(index)
                kept = layer_of >= 0
                size = np.abs(energy[:, 0], dtype=np.float64)
                for value in np.unique(index[~kept]):
                    left_out[f"{options.layer_index} {value:g}"] = float(size[index == value].sum())
                one = energy[kept, 0]
                energy = np.zeros((len(one), len(self.layers)), dtype=np.float32)
                energy[np.arange(len(one)), layer_of[kept]] = one
                edges = edges[kept]
                offsets = np.concatenate([[0], np.cumsum(kept)])[offsets].astype(np.int64)
            yield Towers(
                offsets=offsets,
                edges=edges,
                energy=energy,
                layers=self.layers,
                mu=read_mu(self._mu, mu, begin, end, where),
                event_id=np.arange(first_id + begin, first_id + end, dtype=np.int64),
                left_out=left_out,
            )

    def _layer_of(self, index: NDArray[Any]) -> NDArray[np.int64]:
        """Position of each cell's layer; −1 where the card does not name it."""
        layer_of = np.full(len(index), -1, dtype=np.int64)
        for position, values in enumerate(self._options.layers.values()):
            layer_of[np.isin(index, np.asarray(values))] = position
        return layer_of


class _Cells:
    """The branches of one file, read together."""

    def __init__(self, file: RootTree, options: TreeOptions) -> None:
        names = [options.eta, options.phi, *options.energies]
        optional = (options.layer_index, options.eta_width, options.phi_width)
        names += [name for name in optional if isinstance(name, str)]
        self._branches: dict[str, Column] = {name: file.column(name) for name in names}

    def read(
        self, begin: int, end: int, where: EntryPlace
    ) -> tuple[NDArray[np.int64], dict[str, NDArray[Any]]]:
        """Cells per event, shape (n,), and numbers per cell by branch."""
        counts: NDArray[np.int64] | None = None
        columns: dict[str, NDArray[Any]] = {}
        for name, branch in self._branches.items():
            flat = one_per_tower(branch.read(begin, end), branch, where, counts)
            counts = flat.counts if counts is None else counts
            columns[name] = flat.values
        return np.empty(0, dtype=np.int64) if counts is None else counts, columns


def _edges(
    options: TreeOptions, columns: dict[str, NDArray[Any]]
) -> NDArray[np.float32] | NDArray[np.float64]:
    """``eta_min, eta_max, phi_min, phi_max``, shape (n, 4)."""
    sides: list[NDArray[Any]] = []
    for name, width in ((options.eta, options.eta_width), (options.phi, options.phi_width)):
        centre = native(columns[name])
        half = (
            0.0 if width is None else 0.5 * columns[width] if isinstance(width, str) else width / 2
        )
        sides += [centre - half, centre + half]
    return native(np.stack(sides, axis=1))


FORMAT = Format(TreeOptions, "unknown", TreeReader)
