"""Collections of cells become towers, whatever their columns come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Floats, Ints
from pileupgen.calo.geometry import Grid
from pileupgen.calo.imaging import images_to_towers
from pileupgen.calo.presets import PRESETS
from pileupgen.calo.towers import Towers
from pileupgen.errors import CardError, UnreadableInputError
from pileupgen.samples.readers.base import GEV, MuSource
from pileupgen.samples.readers.collection import (
    DEPTHS,
    Collection,
    LayerRule,
    Positions,
    find_bits,
)
from pileupgen.samples.readers.columns import (
    event_names,
    event_numbers,
    native,
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
from pileupgen.samples.readers.source import Source, whole_column

S = TypeVar("S", bound=Source)

_INNER = ""
"""Column with the positions of cells in inner lists; no file has a column without a name."""


@dataclass(frozen=True)
class Part:
    """Cells of one collection in some events."""

    offsets: Ints
    """Event i owns cells ``offsets[i]:offsets[i + 1]``. Shape (n_events + 1,)."""
    edges: NDArray[np.float32] | Floats
    """``eta_min, eta_max, phi_min, phi_max``. Shape (n, 4)."""
    energy: NDArray[np.float32]
    """GeV by the collection's layers. Shape (n, L)."""
    factor: Floats | None = None
    """What energies are over the file's numbers in the card's unit; None for 1. Shape (n,)."""
    left_out: Mapping[str, float] = field(default_factory=dict)
    """Σ|E| in GeV of cells that the card leaves out, by what they are called in the file."""


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
        self._opened: tuple[S, list[_Cells]] | None = None

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

    def _cells(self, file: S) -> list[_Cells]:
        """Open the collections of a file, once: blocks that are unpacked are kept between spans."""
        if self._opened is not None and self._opened[0] is file:
            return self._opened[1]
        opened = []
        for part in self._parts.values():
            kind = _Images if part.is_image else _Cells
            opened.append(kind(file, part, self._gev, self._open_positions))
        self._opened = file, opened
        return opened

    def _read(self, file: S, pieces: Sequence[tuple[int, int]], first_id: int) -> Iterator[Towers]:
        opened = self._cells(file)
        mu = open_mu(file, self._mu)
        for begin, end in pieces:
            where = EntryPlace(file.path, begin, first_id)
            parts = [cells.read(begin, end, where) for cells in opened]
            whole = parts[0] if len(parts) == 1 else self._joined(parts)
            sums = [float(part.energy.sum(dtype=np.float64)) for part in parts]
            yield Towers(
                offsets=whole.offsets,
                edges=whole.edges,
                energy=whole.energy,
                layers=self.layers,
                mu=read_mu(self._mu, mu, begin, end, where),
                event_id=np.arange(first_id + begin, first_id + end, dtype=np.int64),
                factor=whole.factor,
                left_out=whole.left_out,
                collections=dict(zip(self._parts, sums, strict=True)) if len(parts) > 1 else {},
            )

    def _joined(self, parts: Sequence[Part]) -> Part:
        """One collection after the other in each event; layers that one lacks are 0 there."""
        counts = np.array([np.diff(part.offsets) for part in parts])
        offsets = np.zeros(counts.shape[1] + 1, dtype=np.int64)
        np.cumsum(counts.sum(axis=0), out=offsets[1:])
        begins = offsets[:-1] + np.cumsum(counts, axis=0) - counts
        edges = np.empty((offsets[-1], 4))
        energy = np.zeros((offsets[-1], len(self.layers)), dtype=np.float32)
        factor = np.ones(offsets[-1])
        left_out: dict[str, float] = {}
        for (name, collection), part, n, begin in zip(
            self._parts.items(), parts, counts, begins, strict=True
        ):
            rows = np.arange(len(part.edges)) + np.repeat(begin - part.offsets[:-1], n)
            edges[rows] = part.edges
            factor[rows] = 1.0 if part.factor is None else part.factor
            for column, layer in enumerate(collection.layer_names):
                energy[rows, self.layers.index(layer)] = part.energy[:, column]
            left_out |= {f"{name} {what}": size for what, size in part.left_out.items()}
        is_as_read = all(part.factor is None for part in parts)
        return Part(offsets, edges, energy, None if is_as_read else factor, left_out)


class _Cells:
    """A collection of a file: lists of cells, or as many cells in every event.

    Parameters
    ----------
    source : Source
        The file.
    collection : Collection
        What the card says of it.
    gev : float
        What one unit of the card's energies is in GeV.
    open_positions : callable
        Opens what holds positions once.
    """

    def __init__(
        self,
        source: Source,
        collection: Collection,
        gev: float,
        open_positions: Callable[[Any, Positions], Source],
    ) -> None:
        self._source, self._collection, self._gev = source, collection, gev
        self._scale = _scale(collection, gev)
        self._columns: dict[str, Column] = {}
        self._once: dict[str, NDArray[Any]] | None = None
        places = _place_columns(collection)
        rule = collection.layer_index
        wanted = list(collection.energies)
        self._bits = None if rule is None or rule.field is None else self._find_bits(rule)
        of_layer = [] if rule is None else [_layer_column(rule)]
        of_layer = [name for name in of_layer if name not in DEPTHS]
        if collection.positions is None:
            wanted = [*places, *wanted, *of_layer]
        else:
            positions = open_positions(source, collection.positions)
            try:
                kept = [*places, *(name for name in of_layer if positions.has(name))]
                self._once = _read_once(positions, kept, collection.corners or ())
            finally:
                if positions is not source:
                    positions.close()
            wanted += [name for name in of_layer if name not in self._once]
            if collection.positions.index is not None:
                wanted.append(collection.positions.index)
        for name in dict.fromkeys(wanted):
            self._columns[name] = whole_column(source, name)

    @property
    def event_bytes(self) -> float:
        """Size of one event, uncompressed."""
        return sum(column.event_bytes for column in self._columns.values())

    def read(self, begin: int, end: int, where: EntryPlace) -> Part:
        """Read the cells of events ``begin … end − 1``.

        Raises
        ------
        UnreadableInputError
            If columns are not one number a cell, or hold what no calorimeter has.
        """
        flats = {name: column.read(begin, end) for name, column in self._columns.items()}
        counts, columns = self._aligned(flats, where)
        if self._once is not None:
            counts, columns, cell = self._placed(counts, columns, where)
            columns = {**columns, **{name: once[cell] for name, once in self._once.items()}}
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        edges, eta = _edges(self._collection, columns)
        require_finite_places(edges, offsets, where)
        factor = _factor(self._collection, self._scale, eta)
        gev = np.float64(self._gev) if factor is None else self._gev * factor
        energy = self._energy(columns, gev)
        for layer, name in enumerate(self._collection.energies):
            require_sane_energies(energy[:, layer], name, offsets, where)
        part = Part(offsets, edges, energy, factor)
        if self._collection.layer_values is None:
            return part
        return self._by_layer(part, self._layer_numbers(columns))

    def _aligned(
        self, flats: Mapping[str, Flat], where: EntryPlace
    ) -> tuple[Ints, dict[str, NDArray[Any]]]:
        """Cells per event, and numbers per cell by column.

        Where some lists are nested, numbers of the others belong to all cells of an inner list, and
        a column ``_INNER`` has the cells' positions in theirs.
        """
        corners = self._collection.corners or ()
        points: dict[str, tuple[int, ...]] = dict.fromkeys(corners, (3,))
        lists = {name: _list_levels(flat, points.get(name, ())) for name, flat in flats.items()}
        outer: Ints | None = None
        inner: Ints | None = None
        for name, flat in lists.items():
            point = points.get(name, ())
            if flat.counts is None or flat.values.shape[1:] != point:
                what = "three numbers a corner" if point else "one number a tower"
                raise UnreadableInputError(
                    f"{where.path}: {self._source.word} '{name}' is not {what}.",
                    "Name the branch with the towers' energies in the card's options.",
                )
            outer = flat.counts if outer is None else outer
            inner = flat.inner if inner is None else inner
            is_alike = np.array_equal(flat.counts, outer)
            if flat.inner is not None and inner is not None:
                is_alike &= np.array_equal(flat.inner, inner)
            if not is_alike:
                raise UnreadableInputError(
                    f"{where.path}: {self._source.word} '{name}' has another number of towers than "
                    "its siblings.",
                    "The card mixes columns of two collections: list each under collections.",
                )
        counts = np.empty(0, dtype=np.int64) if outer is None else outer
        if inner is None:
            return counts, {name: flat.values for name, flat in lists.items()}
        outer_only = [name for name in self._collection.energies if lists[name].inner is None]
        if outer_only:
            raise UnreadableInputError(
                f"{where.path}: {self._source.word} '{outer_only[0]}' has one energy for a whole "
                "inner list of its siblings, which would count again in each of its cells.",
                "Name columns of one depth: the energies of the cells, or the places of the outer "
                "lists.",
            )
        ends = np.concatenate([[0], np.cumsum(inner)]).astype(np.int64)
        columns = {
            name: np.repeat(flat.values, inner, axis=0) if flat.inner is None else flat.values
            for name, flat in lists.items()
        }
        columns[_INNER] = np.arange(ends[-1]) - np.repeat(ends[:-1], inner)
        events = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return np.diff(ends[events]), columns

    def _placed(
        self, counts: Ints, columns: dict[str, NDArray[Any]], where: EntryPlace
    ) -> tuple[Ints, dict[str, NDArray[Any]], Ints]:
        """Cells with energy, and the row of each in the positions that are kept once."""
        n_rows = len(next(iter((self._once or {}).values())))
        index = None if self._collection.positions is None else self._collection.positions.index
        if index is not None:
            rows = columns[index]
            if rows.dtype.kind not in "iu" or (
                len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < n_rows
            ):
                raise UnreadableInputError(
                    f"{where.path}: {self._source.word} '{index}' is not the row of a cell among "
                    f"the {n_rows} positions.",
                    "Correct positions.index in the card.",
                )
            return counts, columns, rows.astype(np.int64)
        if np.any(counts != n_rows):
            found = int(counts[counts != n_rows][0])
            raise UnreadableInputError(
                f"{where.path}: an event has {found} cells, the positions {n_rows}.",
                "Positions that are kept once fit arrays with all cells; name positions.index if "
                "each cell says its row.",
            )
        energies = [columns[name] for name in dict.fromkeys(self._collection.energies)]
        keep = np.flatnonzero(np.any([values != 0 for values in energies], axis=0))
        n_kept = np.bincount(keep // n_rows, minlength=len(counts)).astype(np.int64)
        return n_kept, {name: values[keep] for name, values in columns.items()}, keep % n_rows

    def _energy(
        self, columns: Mapping[str, NDArray[Any]], gev: np.float64 | Floats
    ) -> NDArray[np.float32]:
        """Energies in GeV of columns in units of ``gev``, shape (n, columns with energy)."""
        read = [columns[name] for name in self._collection.energies]
        energy = np.empty((len(read), len(read[0])), dtype=np.float32).T
        for layer, values in enumerate(read):
            with np.errstate(over="ignore", invalid="ignore"):
                energy[:, layer] = values * gev
        return energy

    def _layer_numbers(self, columns: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Number of each cell's layer by the card's rule; −1 outside the bins of a depth."""
        rule = self._collection.layer_index
        if rule is None:
            if _INNER not in columns:
                raise CardError(
                    f"{self._source.path}: inner lists are to be layers, and no column has lists "
                    "of lists.",
                    "Name a column with nested lists, or leave inner out of the card.",
                )
            return columns[_INNER]
        if rule.column is not None:
            return columns[rule.column]
        if self._bits is not None:
            return _bits_of(columns[_layer_column(rule)], *self._bits)
        depth = self._depth(str(rule.bins_of), columns)
        edges = np.asarray(rule.edges)
        number = np.searchsorted(edges, depth, side="right") - 1
        return np.where(number == len(edges) - 1, -1, number)

    def _depth(self, name: str, columns: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        if name not in DEPTHS:
            return columns[name]
        at = [columns[str(getattr(self._collection, axis))].astype(np.float64) for axis in "xyz"]
        radius = np.hypot(at[0], at[1])
        return {"radius": radius, "abs_z": np.abs(at[2]), "distance": np.hypot(radius, at[2])}[name]

    def _find_bits(self, rule: LayerRule) -> tuple[int, int, bool]:
        column = _layer_column(rule)
        encoding = rule.encoding or self._source.cell_encoding(column)
        if encoding is None:
            raise CardError(
                f"{self._source}: the file does not say what '{column}' is made up of.",
                "Give layer_index.encoding, such as 'system:5,side:-2,layer:8'; the detector's "
                "compact description has it as the read-out's id.",
            )
        try:
            return find_bits(encoding, str(rule.field))
        except ValueError as error:
            raise CardError(f"{self._source}: {error}", "Correct layer_index.field.") from error

    def _by_layer(self, part: Part, numbers: NDArray[Any]) -> Part:
        """Move the one energy of each cell to its layer; cells of no layer are left out."""
        layer_of = np.full(len(numbers), -1, dtype=np.int64)
        for position, values in enumerate(self._collection.layer_values or ()):
            layer_of[np.isin(numbers, np.asarray(values))] = position
        kept = layer_of >= 0
        size = np.abs(part.energy[:, 0], dtype=np.float64)
        what = self._collection.layer_index or "inner"
        left_out = {
            f"{what} {value:g}": float(size[numbers == value].sum())
            for value in np.unique(numbers[~kept])
        }
        one = part.energy[kept, 0]
        energy = np.zeros((len(one), len(self._collection.layer_names)), dtype=np.float32)
        energy[np.arange(len(one)), layer_of[kept]] = one
        offsets = np.concatenate([[0], np.cumsum(kept)])[part.offsets].astype(np.int64)
        factor = None if part.factor is None else part.factor[kept]
        return Part(offsets, part.edges[kept], energy, factor, left_out)


class _Images(_Cells):
    """A collection whose cells are those of a grid: every cell with energy is one."""

    def __init__(
        self,
        source: Source,
        collection: Collection,
        gev: float,
        open_positions: Callable[[Any, Positions], Source],  # noqa: ARG002
    ) -> None:
        self._source, self._collection, self._gev = source, collection, gev
        self._scale = _scale(collection, gev)
        self._once = None
        self._columns = {name: whole_column(source, name) for name in collection.energies}
        self._axes: tuple[tuple[int, ...], ImageAxes] | None = None

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
        factor = _factor(self._collection, self._scale, eta)
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
    edges = _read_once(source, [named], ())[named].astype(np.float64)
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
    edges = _read_once(source, [named], ())[named].astype(np.float64)
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


def _scale(collection: Collection, gev: float) -> float:
    """What a collection's energies are multiplied by beyond the card's unit of ``gev``."""
    return collection.scale * (1.0 if collection.unit is None else GEV[collection.unit] / gev)


def _factor(collection: Collection, scale: float, eta: NDArray[np.floating[Any]]) -> Floats | None:
    """Scale of each cell, times cosh η where the file has E_T; None where that is 1. Shape (n,)."""
    if collection.quantity == "ET":
        return scale * np.cosh(eta.astype(np.float64))
    return None if scale == 1.0 else np.full(len(eta), scale)


def _read_once(
    source: Source, names: Sequence[str], points: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """Read columns as one number a cell, whatever their axes are."""
    once = {}
    for name in dict.fromkeys(names):
        column = source.column(name)
        flat = column.read_at(0, column.n_entries)
        once[name] = flat.values.reshape(-1, 3) if name in points else flat.values.reshape(-1)
    sizes = {name: len(values) for name, values in once.items()}
    if len(set(sizes.values())) > 1:
        raise UnreadableInputError(
            f"{source}: the positions differ in number: "
            + ", ".join(f"'{name}' has {size}" for name, size in sizes.items())
            + ".",
            "Name columns of one table of cells.",
        )
    return once


def _place_columns(collection: Collection) -> list[str]:
    names = [collection.eta, collection.phi, collection.x, collection.y, collection.z]
    names += collection.corners or ()
    widths = (collection.eta_width, collection.phi_width)
    return [name for name in (*names, *widths) if isinstance(name, str)]


def _layer_column(rule: LayerRule) -> str:
    return str(rule.column or rule.bins_of or rule.cell_id or "cellID")


def _list_levels(flat: Flat, point: tuple[int, ...]) -> Flat:
    """Lists of numbers, or lists of lists: axes of fixed length become lists.

    ``point`` is the shape of what belongs to one cell: none for a number, (3,) for a corner.
    """
    values, counts, inner = flat.values, flat.counts, flat.inner
    if counts is None and values.ndim > 1 + len(point):
        counts = np.full(len(values), values.shape[1], dtype=np.int64)
        values = values.reshape(-1, *values.shape[2:])
    if values.ndim > 1 + len(point) and inner is None and counts is not None:
        axes = values.shape[1 : values.ndim - len(point)]
        inner = np.full(len(values), int(np.prod(axes)), dtype=np.int64)
        values = values.reshape(-1, *values.shape[values.ndim - len(point) :])
    return Flat(values, counts, inner)


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


def _edges(
    collection: Collection, columns: Mapping[str, NDArray[Any]]
) -> tuple[NDArray[np.float32] | Floats, Floats]:
    """``eta_min, eta_max, phi_min, phi_max``, shape (n, 4), and η of the centres, (n,)."""
    if collection.corners is not None:
        edges = corner_edges(np.stack([columns[name] for name in collection.corners], axis=1))
        return edges, edges[:, :2].mean(axis=1)
    if collection.x is not None:
        x, y, z = (columns[str(getattr(collection, axis))].astype(np.float64) for axis in "xyz")
        with np.errstate(divide="ignore", invalid="ignore"):
            eta, phi = np.arcsinh(z / np.hypot(x, y)), np.arctan2(y, x)
    else:
        eta, phi = (native(columns[str(name)]) for name in (collection.eta, collection.phi))
    sides: list[NDArray[Any]] = []
    for centre, width in ((eta, collection.eta_width), (phi, collection.phi_width)):
        half = (
            0.0 if width is None else 0.5 * columns[width] if isinstance(width, str) else width / 2
        )
        sides += [centre - half, centre + half]
    return native(np.stack(sides, axis=1)), eta.astype(np.float64)


def corner_edges(corners: Floats) -> Floats:
    """``eta_min, eta_max, phi_min, phi_max`` of points (n, k, 3); φ may pass π."""
    x, y, z = np.moveaxis(corners, -1, 0)
    rho = np.hypot(x, y)
    with np.errstate(divide="ignore", invalid="ignore"):
        eta = np.arcsinh(z / rho)
    phi = np.arctan2(y, x)
    first = phi[:, :1]
    phi = first + (phi - first + np.pi) % (2 * np.pi) - np.pi
    return np.stack([eta.min(axis=1), eta.max(axis=1), phi.min(axis=1), phi.max(axis=1)], axis=1)


def _bits_of(identifiers: NDArray[Any], offset: int, width: int, is_signed: bool) -> Ints:
    """A part of 64-bit identifiers."""
    raw = identifiers.astype(np.uint64) >> np.uint64(offset)
    value = (raw & np.uint64((1 << width) - 1)).astype(np.int64)
    if is_signed:
        value -= (value >> (width - 1)) << width
    return value
