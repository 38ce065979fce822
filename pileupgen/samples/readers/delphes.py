"""Delphes ROOT files: the calorimeter towers, whatever else the file holds."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from pileupgen.calo.towers import Towers
from pileupgen.errors import UnreadableInputError
from pileupgen.samples.readers.base import CHUNK_BYTES, MAX_CHUNK_EVENTS, SANE_ENERGY, MuSource
from pileupgen.samples.readers.root import Flat, RootBranch, RootTree

_log = logging.getLogger("pileupgen")


class DelphesOptions(BaseModel):
    """What a card may say about a Delphes file; the defaults are Delphes' own names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tree: str = "Delphes"
    towers: str = Field("Tower", description="the branch that holds the towers")
    layers: dict[str, str] = Field(
        {"em": "Eem", "had": "Ehad"}, min_length=1, description="layer: leaf with its energy"
    )


class DelphesReader:
    """Towers of Delphes files, binned by their edges.

    Where a file has no ``Edges``, and for towers with edges of zero width, the tower's centre
    stands for it. Only the leaves needed are read.

    Parameters
    ----------
    files : sequence of Path
        ROOT files, read in this order.
    options : DelphesOptions
        Names of the tree and its branches.
    mu : MuSource
        Where μ comes from.
    gev : float
        What one unit of the file's energies is in GeV.
    """

    def __init__(
        self, files: Sequence[Path], options: DelphesOptions, mu: MuSource, gev: float = 1.0
    ) -> None:
        self.layers = tuple(options.layers)
        self._files = list(files)
        self._options = options
        self._mu = mu
        self._gev = gev
        self._first: RootTree | None = None
        self._warned = False

    def estimate_events(self) -> int:
        """Estimate the number of events, from the first file and the sizes of the others."""
        if self._first is None:
            self._first = RootTree(self._files[0], self._options.tree)
        sizes = [path.stat().st_size if path.exists() else 0 for path in self._files]
        return round(self._first.n_entries * sum(sizes) / sizes[0])

    def chunks(self, max_events: int | None = None) -> Iterator[Towers]:
        """Yield towers of consecutive events, in pieces of about ``CHUNK_BYTES``."""
        n_done = 0
        for path in self._files:
            if max_events is not None and n_done >= max_events:
                return
            tree = self._first if self._first is not None else RootTree(path, self._options.tree)
            self._first = None
            with closing(tree):
                rest = tree.n_entries if max_events is None else max_events - n_done
                for towers in self._read(tree, min(tree.n_entries, rest), n_done):
                    n_done += towers.n_events
                    yield towers

    def _read(self, tree: RootTree, n_events: int, first_id: int) -> Iterator[Towers]:
        leaves = [self._leaf(tree, leaf) for leaf in self._options.layers.values()]
        shape = _Shape(tree, self._options.towers)
        if not shape.has_edges and not self._warned:
            self._warned = True
            _log.warning(
                "%s has no %s.Edges: towers are placed by Eta and Phi, which is wrong where "
                "Delphes smeared them inside the tower (SmearTowerCenter)",
                tree.path.name,
                self._options.towers,
            )
        mu = None if self._mu.branch is None else tree.branch(self._mu.branch)
        if n_events == 0:
            return
        size = sum(branch.uncompressed_bytes for branch in (*leaves, *shape.branches))
        per_event = max(size / tree.n_entries, 1.0)
        step = int(np.clip(CHUNK_BYTES / per_event, 1, MAX_CHUNK_EVENTS))
        for begin in range(0, n_events, step):
            end = min(begin + step, n_events)
            where = _Place(tree.path, begin, first_id)
            counts, energy = self._energy(leaves, begin, end, where)
            offsets = np.zeros(end - begin + 1, dtype=np.int64)
            np.cumsum(counts, out=offsets[1:])
            yield Towers(
                offsets=offsets,
                edges=shape.edges(begin, end, offsets, where),
                energy=energy,
                layers=self.layers,
                mu=self._mu_of(mu, begin, end, where),
                event_id=np.arange(first_id + begin, first_id + end, dtype=np.int64),
            )

    def _leaf(self, tree: RootTree, leaf: str) -> RootBranch:
        return tree.branch(f"{self._options.towers}.{leaf}")

    def _energy(
        self, leaves: list[RootBranch], begin: int, end: int, where: _Place
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Towers per event, shape (n_events,), and energies in GeV, shape (n_towers, L)."""
        counts: NDArray[np.int64] | None = None
        energy = np.empty((0, len(leaves)), dtype=np.float32)
        for layer, leaf in enumerate(leaves):
            flat = _one_per_tower(leaf.read(begin, end), leaf, where, counts)
            if counts is None:
                counts = _counts(flat)
                energy = np.empty((len(leaves), len(flat.values)), dtype=np.float32).T
            energy[:, layer] = flat.values
            if self._gev != 1.0:
                energy[:, layer] *= self._gev
            if len(energy):
                low, high = float(energy[:, layer].min()), float(energy[:, layer].max())
                if not (low > -SANE_ENERGY and high < SANE_ENERGY):
                    _refuse_energy(energy[:, layer], leaf, counts, where)
        return np.empty(0, dtype=np.int64) if counts is None else counts, energy

    def _mu_of(
        self, branch: RootBranch | None, begin: int, end: int, where: _Place
    ) -> NDArray[np.float32]:
        if branch is None:
            return np.full(end - begin, self._mu.offset, dtype=np.float32)
        flat = branch.read(begin, end)
        if flat.values.shape != (end - begin,) or (
            flat.counts is not None and np.any(flat.counts != 1)
        ):
            raise UnreadableInputError(
                f"{where.path}: branch '{branch.name}' is not one number an event.",
                "It cannot be μ: name another in the card's mu, or set a constant.",
            )
        return (flat.values + self._mu.offset).astype(np.float32)


class _Place:
    """Where a chunk begins, for messages."""

    def __init__(self, path: Path, entry: int, first_id: int) -> None:
        self.path = path
        self._entry = entry
        self._first_id = first_id

    def event(self, tower: int, offsets: NDArray[np.int64]) -> str:
        """Name the event that owns a tower of the chunk."""
        entry = self._entry + int(np.searchsorted(offsets, tower, side="right")) - 1
        number = self._first_id + entry
        same = "" if number == entry else f" (event {number} of the sample)"
        return f"{self.path}, event {entry}{same}"


class _Shape:
    """Where the towers of one file lie."""

    def __init__(self, tree: RootTree, towers: str) -> None:
        self.has_edges = tree.has(f"{towers}.Edges")
        names = [f"{towers}.Eta", f"{towers}.Phi"]
        if self.has_edges:
            self.branches = [tree.branch(f"{towers}.Edges")]
            # Asked only where an edge has no width.
            self._centres = [tree.branch(name) for name in names if tree.has(name)]
        else:
            self.branches = self._centres = [tree.branch(name) for name in names]

    def edges(
        self, begin: int, end: int, offsets: NDArray[np.int64], where: _Place
    ) -> NDArray[np.float32] | NDArray[np.float64]:
        """``eta_min, eta_max, phi_min, phi_max``, shape ``(n_towers, 4)``."""
        counts = np.diff(offsets)
        if not self.has_edges:
            eta, phi = (
                _native(_one_per_tower(branch.read(begin, end), branch, where, counts).values)
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
                    flat = _one_per_tower(centre.read_at(begin, end), centre, where, counts)
                    edges[is_point, column] = edges[is_point, column + 1] = flat.values[is_point]
        with np.errstate(all="ignore"):
            is_finite = bool(np.isfinite(edges.sum()))
        if not is_finite and not np.all(np.isfinite(edges)):
            tower = int(np.flatnonzero(~np.isfinite(edges).all(axis=1))[0])
            raise UnreadableInputError(
                f"{where.event(tower, offsets)}: a tower at η, φ = {edges[tower].tolist()}.",
                "Remove the event, or make the file anew.",
            )
        return edges


def _counts(flat: Flat) -> NDArray[np.int64]:
    return np.ones(len(flat.values), dtype=np.int64) if flat.counts is None else flat.counts


def _one_per_tower(
    flat: Flat, branch: RootBranch, where: _Place, counts: NDArray[np.int64] | None
) -> Flat:
    if flat.counts is None or flat.values.ndim != 1:
        raise UnreadableInputError(
            f"{where.path}: branch '{branch.name}' is not one number a tower.",
            "Name the branch with the towers' energies in the card's options.",
        )
    if counts is not None and not np.array_equal(flat.counts, counts):
        raise UnreadableInputError(
            f"{where.path}: branch '{branch.name}' has another number of towers than its siblings.",
            "The file is damaged, or the card mixes branches of two collections.",
        )
    return flat


def _four_per_tower(
    flat: Flat, branch: RootBranch, where: _Place, counts: NDArray[np.int64]
) -> NDArray[np.float32] | NDArray[np.float64]:
    values, found = flat.values, _counts(flat)
    if values.ndim == 1 and np.array_equal(found, 4 * counts):
        values, found = values.reshape(-1, 4), counts
    if values.ndim != 2 or values.shape[1] != 4 or not np.array_equal(found, counts):
        raise UnreadableInputError(
            f"{where.path}: branch '{branch.name}' is not four numbers a tower.",
            "Delphes writes eta_min, eta_max, phi_min, phi_max.",
        )
    return _native(values)


def _native(values: NDArray[Any]) -> NDArray[np.float32] | NDArray[np.float64]:
    if values.dtype.kind == "f" and values.dtype.itemsize == 4:
        single: NDArray[np.float32] = np.ascontiguousarray(values, dtype=np.float32)
        return single
    double: NDArray[np.float64] = np.ascontiguousarray(values, dtype=np.float64)
    return double


def _refuse_energy(
    energy: NDArray[np.float32], leaf: RootBranch, counts: NDArray[np.int64], where: _Place
) -> None:
    """Name the first energy that no calorimeter can have."""
    tower = int(np.flatnonzero(~(np.abs(energy) < SANE_ENERGY))[0])
    offsets = np.concatenate([[0], np.cumsum(counts)])
    raise UnreadableInputError(
        f"{where.event(tower, offsets)}: {leaf.name} = {energy[tower]:g} GeV.",
        "Remove the event; if all are so, the card's units are wrong.",
    )
