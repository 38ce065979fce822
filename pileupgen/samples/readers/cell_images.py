"""Collections whose cells are those of a grid: arrays of images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.calo.geometry import Grid
from pileupgen.calo.imaging import images_to_towers
from pileupgen.calo.presets import PRESETS
from pileupgen.errors import CardError, UnreadableInputError
from pileupgen.samples.readers.collection import Collection
from pileupgen.samples.readers.files import EntryPlace, require_sane_energies
from pileupgen.samples.readers.flat import Column, Flat
from pileupgen.samples.readers.part import Part, factor_of, scale_of
from pileupgen.samples.readers.places import read_once
from pileupgen.samples.readers.source import Source, whole_column


class CellImages:
    """A collection of a file whose cells are those of a grid: every cell with energy is one.

    Parameters
    ----------
    source : Source
        The file.
    collection : Collection
        What the card says of it.
    gev : float
        What one unit of the card's energies is in GeV.
    """

    def __init__(self, source: Source, collection: Collection, gev: float) -> None:
        self._source, self._collection, self._gev = source, collection, gev
        self._scale = scale_of(collection, gev)
        self._columns = {name: whole_column(source, name) for name in collection.energies}
        self._axes: tuple[tuple[int, ...], ImageAxes] | None = None

    @property
    def event_bytes(self) -> float:
        """Size of one event, uncompressed."""
        return sum(column.event_bytes for column in self._columns.values())

    def read(self, begin: int, end: int, where: EntryPlace) -> Part:
        """Read the images of events ``begin … end − 1``, every cell with energy a cell."""
        arrays = [
            _dense(column.read(begin, end), column, end - begin)
            for column in self._columns.values()
        ]
        if self._collection.energy is None:
            if len({array.shape for array in arrays}) > 1:
                shapes = " and ".join(str(array.shape[1:]) for array in arrays)
                raise CardError(
                    f"{self._source}: the images of the layers differ in shape: {shapes}.",
                    "List each under collections, with its own grid.",
                )
            arrays = [np.stack(arrays, axis=-1 if self._collection.channels == "last" else 1)]
        axes = self._axes_of(arrays[0].shape)
        energy = axes.arrange(arrays[0]).astype(np.float32)
        if self._gev * self._scale != 1.0:
            energy *= np.float32(self._gev * self._scale)
        if self._collection.quantity == "ET":
            energy = (energy * np.cosh(axes.grid.eta_centres)[:, None]).astype(np.float32)
        n_cells = int(np.prod(energy.shape[1:]))
        offsets = np.arange(end - begin + 1, dtype=np.int64) * n_cells
        name = self._collection.energy or ", ".join(self._columns)
        require_sane_energies(energy.reshape(-1), name, offsets, where)
        towers = images_to_towers(energy, axes.grid)
        eta = towers.edges[:, :2].mean(axis=1)
        factor = factor_of(self._collection, self._scale, eta)
        return Part(towers.offsets, towers.edges, towers.energy, factor)

    def _axes_of(self, shape: tuple[int, ...]) -> ImageAxes:
        if self._axes is None or self._axes[0] != shape[1:]:
            self._axes = (shape[1:], image_axes(self._collection, self._source, shape))
        return self._axes[1]


class ImageAxes:
    """The grid of an array, and how its axes become ``(N, L, n_eta, n_phi)``."""

    def __init__(self, grid: Grid, shape: tuple[int, ...], order: tuple[int, ...]) -> None:
        self.grid = grid
        self._shape = shape
        self._order = order

    def arrange(self, values: NDArray[Any]) -> NDArray[Any]:
        """Events, their axes in the grid's order."""
        return values.reshape(len(values), *self._shape).transpose(self._order)


def image_axes(collection: Collection, source: Source, shape: tuple[int, ...]) -> ImageAxes:
    """Find out what the axes of an array of images are.

    Parameters
    ----------
    collection : Collection
        Its grid, layers and the order of its axes.
    source : Source
        The file, for messages.
    shape : tuple of int
        Shape of the array, the first axis the event.

    Raises
    ------
    CardError
        If the array's shape is not that of the card.
    """
    preset = None if collection.grid is None else PRESETS[collection.grid]
    edges = _eta_edges(collection, source) if preset is None else preset.eta_edges
    is_last, n_layers = collection.channels == "last", len(collection.layer_names)
    whole, name = shape, collection.energy or collection.energies[0]
    shape = tuple(int(n) for n in shape[1:])
    if len(shape) in (1, 2) and edges is not None and (len(shape) == 1 or n_layers in shape):
        shape = _unfolded(shape, len(edges) - 1, collection)
    if len(shape) == 2:
        shape = (*shape, 1) if is_last else (1, *shape)
    found = shape[-1 if is_last else 0] if len(shape) == 3 else 0
    if found != n_layers:
        raise CardError(
            f"{source.path}: {source.word} '{name}' has shape {whole}; the card has "
            f"{n_layers} layers, channels {collection.channels}.",
            "It must be (N, H, W) or (N, H, W, C); correct the card's layers and channels.",
        )
    channel = 3 if is_last else 1
    height, width = (axis for axis in (1, 2, 3) if axis != channel)
    eta, phi = (height, width) if collection.axes == "eta_phi" else (width, height)
    n_eta, n_phi = shape[eta - 1], shape[phi - 1]
    if edges is None and collection.eta_range is not None:
        edges = tuple(float(edge) for edge in np.linspace(*collection.eta_range, n_eta + 1))
    if edges is None or len(edges) != n_eta + 1 or (preset and preset.n_phi != n_phi):
        wanted = f"{len(edges or ()) - 1} rings" + (f" × {preset.n_phi}" if preset else "")
        raise CardError(
            f"{source.path}: {source.word} '{name}' has {n_eta} rings × {n_phi}, the card's grid "
            f"{wanted}.",
            "Correct eta_edges, grid or axes in the card.",
        )
    if preset is not None:
        grid = replace(preset, layers=collection.layer_names)
    else:
        low, high = _phi_range(collection, source, n_phi)
        grid = Grid(edges, n_phi, collection.layer_names, low, high, name=source.path.name)
    return ImageAxes(grid, shape, (0, channel, eta, phi))


def _eta_edges(collection: Collection, source: Source) -> tuple[float, ...] | None:
    named = collection.eta_edges
    if not isinstance(named, str):
        return named
    edges = read_once(source, [named], ())[named].astype(np.float64)
    if len(edges) < 2 or not np.all(np.diff(edges) > 0):
        raise CardError(
            f"{source}: {source.word} '{named}' does not ascend: it is no list of edges.",
            "Correct eta_edges in the card.",
        )
    return tuple(float(edge) for edge in edges)


def _phi_range(collection: Collection, source: Source, n_phi: int) -> tuple[float, float]:
    named = collection.phi_edges
    if named is None:
        return collection.phi_range
    edges = read_once(source, [named], ())[named].astype(np.float64)
    even = np.linspace(edges[0], edges[-1], n_phi + 1) if len(edges) else edges
    if edges.shape != even.shape or not np.allclose(edges, even, rtol=0, atol=1e-4):
        raise CardError(
            f"{source}: {source.word} '{named}' is not the {n_phi + 1} edges of equal cells in φ.",
            "Correct phi_edges in the card, or give phi_range.",
        )
    return float(edges[0]), float(edges[-1])


def _unfolded(shape: tuple[int, ...], n_eta: int, collection: Collection) -> tuple[int, ...]:
    """Give an image that is kept as a row of cells its two axes, where it can be one."""
    n_layers, is_last = len(collection.layer_names), collection.channels == "last"
    if len(shape) == 2 and shape[-1 if is_last else 0] != n_layers:
        return shape
    n_cells = int(np.prod(shape)) // n_layers
    if n_cells % n_eta or (len(shape) == 2 and n_eta in shape):
        return shape
    plane = (n_eta, n_cells // n_eta)
    plane = plane if collection.axes == "eta_phi" else plane[::-1]
    return (*plane, n_layers) if is_last else (n_layers, *plane)


def _dense(flat: Flat, column: Column, n_events: int) -> NDArray[Any]:
    """An array of as many numbers in every event, its first axis the event."""
    shape: list[int] = []
    for level in (flat.counts, flat.inner):
        if level is None:
            continue
        if len(level) and np.any(level != level[0]):
            raise UnreadableInputError(
                f"{column.path}: {column.word} '{column.name}' has lists of {level.min()} to "
                f"{level.max()} numbers, which are no images.",
                "Images have as many numbers in every event; cells in lists have places of their "
                "own: name eta and phi, or x, y and z.",
            )
        shape.append(int(level[0]) if len(level) else 0)
    return flat.values.reshape(n_events, *shape, *flat.values.shape[1:])
