"""HDF5 files with arrays of images: `(N, H, W[, C])`, and the CaloChallenge's showers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from pileupgen.calo.geometry import PRESETS, TWO_PI, Grid
from pileupgen.calo.imaging import images_to_towers
from pileupgen.calo.towers import Towers
from pileupgen.errors import (
    CardError,
    MissingFieldError,
    MissingInputError,
    UnreadableInputError,
    did_you_mean,
)
from pileupgen.faults import StrictModel
from pileupgen.samples.readers.base import Format, MuSource
from pileupgen.samples.readers.file_kind import reading, unreadable
from pileupgen.samples.readers.files import (
    EntryPlace,
    EventNumbers,
    FileReader,
    require_sane_energies,
)
from pileupgen.samples.readers.remote import InputFile, RemoteFile, for_library


class Hdf5Options(StrictModel):
    """Options of a card for an array of images."""

    dataset: str = Field(min_length=1, description="the array, with its group")
    axes: Literal["eta_phi", "phi_eta"] = Field("eta_phi", description="what H and W are")
    layers: tuple[str, ...] = Field(("em", "had"), min_length=1, description="the channels C")
    channels: Literal["last", "first"] = Field("last", description="(N, H, W, C) or (N, C, H, W)")
    eta_range: tuple[float, float] | None = Field(None, description="η of the rings, all alike")
    eta_edges: tuple[float, ...] | None = Field(None, description="η of the rings, one by one")
    phi_range: tuple[float, float] = Field((-np.pi, np.pi), description="φ in rad")

    @model_validator(mode="after")
    def _rings_are_known(self) -> Hdf5Options:
        if (self.eta_range is None) == (self.eta_edges is None):
            raise ValueError("give either eta_range or eta_edges")
        if len(set(self.layers)) != len(self.layers):
            raise ValueError("layers must be distinct")
        edges = np.asarray(self.eta_edges if self.eta_range is None else self.eta_range)
        if len(edges) < 2 or np.any(np.diff(edges) <= 0):
            raise ValueError("eta_range and eta_edges must ascend")
        if not 0 < self.phi_range[1] - self.phi_range[0] <= TWO_PI * (1 + 1e-6):
            raise ValueError("phi_range must ascend and be no wider than a turn")
        return self


class CaloChallengeOptions(StrictModel):
    """Options of a card for CaloChallenge showers (2410.21611); the defaults are data set 2."""

    dataset: str = "showers"
    n_layers: int = Field(45, ge=1)
    n_alpha: int = Field(16, ge=1, description="cells around the axis")
    n_r: int = Field(9, ge=1, description="rings around the axis")
    geometry: str | None = Field(None, description="preset, in place of the three numbers")

    @field_validator("geometry")
    @classmethod
    def _geometry_is_known(cls, name: str | None) -> str | None:
        if name is not None and name not in PRESETS:
            raise ValueError(did_you_mean(name, PRESETS) or "no such preset")
        return name

    @property
    def layers(self) -> tuple[str, ...]:
        """``layer_0`` … in depth."""
        if self.geometry is not None:
            return PRESETS[self.geometry].layers
        return tuple(f"layer_{index}" for index in range(self.n_layers))


class H5File:
    """An HDF5 file opened for reading.

    Parameters
    ----------
    path : Path
        The file.
    dataset : str
        The array with the events.

    Raises
    ------
    MissingInputError
        If there is no such file.
    UnreadableInputError
        If it is not HDF5, is truncated, or the array does not hold numbers.
    MissingFieldError
        If it has no such array; names the near ones.
    """

    def __init__(self, path: InputFile, dataset: str) -> None:
        if not path.exists():
            raise MissingInputError(f"No input file {path}.", "Check the card's files.")
        self.path = path
        try:
            self._file = h5py.File(for_library(path), "r")
        except OSError as error:
            raise unreadable(path, "HDF5", str(error).splitlines()[0]) from error
        try:
            self.data = self.find(dataset)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def n_entries(self) -> int:
        """Number of events."""
        return int(self.data.shape[0])

    def has(self, name: str) -> bool:
        """Whether there is a dataset of this name."""
        with reading(self.path, f"dataset '{name}'", "HDF5"):
            return isinstance(self._file.get(name), h5py.Dataset)

    def datasets(self) -> list[str]:
        """Names of all datasets."""
        known: list[str] = []

        def note(name: str, found: Any) -> None:
            if isinstance(found, h5py.Dataset):
                known.append(name)

        self._file.visititems(note)
        return known

    def event_datasets(self) -> list[str]:
        """Names of the datasets with one number an event."""
        n = self.n_entries
        return [
            name
            for name in self.datasets()
            if self._file[name].dtype.kind in "fiu" and self._file[name].shape in ((n,), (n, 1))
        ]

    def find(self, name: str) -> Any:
        """Find an array of numbers, its first axis the event."""
        with reading(self.path, f"dataset '{name}'", "HDF5"):
            found = self._file.get(name)
            if not isinstance(found, h5py.Dataset):
                link = self._file.get(name, getlink=True)
                if isinstance(link, h5py.ExternalLink):
                    raise MissingFieldError(
                        f"{self.path}: '{name}' is a link to '{link.path}' in {link.filename}, "
                        "which is not there.",
                        "Put that file beside it.",
                    )
                raise MissingFieldError(
                    f"{self.path} has no dataset '{name}'.", did_you_mean(name, self.datasets())
                )
            if found.dtype.kind not in "fiu" or not found.shape:
                raise UnreadableInputError(
                    f"{self.path}: dataset '{name}' holds {found.dtype} of shape {found.shape}, "
                    "not an array of numbers.",
                    "Name another in the card's options.",
                )
        return found

    def read(self, data: Any, begin: int, end: int) -> NDArray[Any]:
        """Rows ``begin … end − 1`` of an array that :meth:`find` found."""
        try:
            return np.asarray(data[begin:end])
        except (OSError, RuntimeError, ValueError) as error:
            if isinstance(self.path, RemoteFile) and (fault := self.path.fault(str(error))):
                raise fault from error
            raise UnreadableInputError(
                f"{self.path}: '{data.name}' cannot be read from event {begin}: {error}.",
                "The file is truncated or damaged, or takes a filter that is not installed.",
            ) from error


class ImageArrayReader(FileReader[H5File]):
    """Towers of an array of images: every cell with energy is one.

    Parameters
    ----------
    files : sequence of Path
        HDF5 files, read in this order.
    options : Hdf5Options or CaloChallengeOptions
        Name and axes of the array.
    mu : MuSource
        Where μ comes from: another dataset with one number an event, or a constant.
    gev : float
        What one unit of the file's energies is in GeV.
    """

    def __init__(
        self,
        files: Sequence[InputFile],
        options: Hdf5Options | CaloChallengeOptions,
        mu: MuSource,
        gev: float = 1.0,
    ) -> None:
        super().__init__(files, options.layers, mu, gev)
        self._options = options

    def _open(self, path: InputFile) -> H5File:
        return H5File(path, self._options.dataset)

    def _event_bytes(self, file: H5File) -> float:
        return float(np.prod(file.data.shape[1:])) * 4.0

    def _read(
        self, file: H5File, pieces: Sequence[tuple[int, int]], first_id: int
    ) -> Iterator[Towers]:
        axes: _Axes | _Voxels = (
            _showers(self._options, file)
            if isinstance(self._options, CaloChallengeOptions)
            else _images(self._options, file)
        )
        mu = None if self._mu.branch is None else file.find(self._mu.branch)
        for begin, end in pieces:
            where = EntryPlace(file.path, begin, first_id)
            energy = axes.arrange(file.read(file.data, begin, end)).astype(np.float32)
            if self._gev != 1.0:
                energy *= np.float32(self._gev)
            offsets = np.arange(end - begin + 1, dtype=np.int64) * int(np.prod(energy.shape[1:]))
            require_sane_energies(energy.reshape(-1), self._options.dataset, offsets, where)
            yield images_to_towers(
                energy,
                axes.grid,
                self._read_mu(file, mu, begin, end),
                np.arange(first_id + begin, first_id + end, dtype=np.int64),
            )

    def _read_mu(self, file: H5File, data: Any, begin: int, end: int) -> NDArray[np.float32]:
        if data is None:
            return np.full(end - begin, self._mu.offset, dtype=np.float32)
        hint = "It cannot be μ: name another in the card's mu, or a number."
        values = _one_per_event(file, data, begin, end, hint)
        return (values + self._mu.offset).astype(np.float32)

    def _event_numbers(self, file: H5File, name: str) -> EventNumbers | None:
        if not file.has(name):
            return None
        data = file.find(name)
        hint = "Event weights are one number an event: name another dataset in the card's weight."
        return lambda begin, end: _one_per_event(file, data, begin, end, hint)

    def _event_names(self, file: H5File) -> list[str]:
        return file.event_datasets()


def _one_per_event(file: H5File, data: Any, begin: int, end: int, hint: str) -> NDArray[Any]:
    values = file.read(data, begin, end)
    if values.size != end - begin or len(values) != end - begin:
        raise UnreadableInputError(
            f"{file.path}: dataset '{data.name.strip('/')}' is not one number an event.", hint
        )
    return values.reshape(-1)


class _Axes:
    """The grid of an array, and how its axes become ``(N, L, n_eta, n_phi)``."""

    def __init__(self, grid: Grid, shape: tuple[int, ...], order: tuple[int, ...]) -> None:
        self.grid = grid
        self._shape = shape
        self._order = order

    def arrange(self, values: NDArray[Any]) -> NDArray[Any]:
        """Events, their axes in the grid's order."""
        return values.reshape(len(values), *self._shape).transpose(self._order)


def _images(options: Hdf5Options, file: H5File) -> _Axes:
    shape = tuple(int(n) for n in file.data.shape[1:])
    n_layers = len(options.layers)
    if len(shape) == 2:
        shape = (*shape, 1) if options.channels == "last" else (1, *shape)
    found = shape[-1 if options.channels == "last" else 0] if len(shape) == 3 else 0
    if found != n_layers:
        raise CardError(
            f"{file.path}: dataset '{options.dataset}' has shape {file.data.shape}; the card has "
            f"{n_layers} layers, channels {options.channels}.",
            "It must be (N, H, W) or (N, H, W, C); correct the card's layers and channels.",
        )
    channel = 3 if options.channels == "last" else 1
    height, width = (axis for axis in (1, 2, 3) if axis != channel)
    eta, phi = (height, width) if options.axes == "eta_phi" else (width, height)
    n_eta, n_phi = shape[eta - 1], shape[phi - 1]
    edges = options.eta_edges
    if edges is None and options.eta_range is not None:
        edges = tuple(float(edge) for edge in np.linspace(*options.eta_range, n_eta + 1))
    if edges is None or len(edges) != n_eta + 1:
        raise CardError(
            f"{file.path}: dataset '{options.dataset}' has {n_eta} rings, the card's eta_edges "
            f"{len(edges or ()) - 1}.",
            "Correct eta_edges or axes in the card.",
        )
    low, high = options.phi_range
    grid = Grid(edges, n_phi, options.layers, low, high, name=file.path.name)
    return _Axes(grid, shape, (0, channel, eta, phi))


class _Voxels:
    """Voxels of layers that differ in binning: one layer after another, r fastest.

    A voxel's energy is spread over the image cells that it covers, by area.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        begin, column = 0, np.arange(grid.n_phi)
        # One more voxel than there are: that of cells that a layer does not have.
        self._voxel = np.empty(grid.shape, dtype=np.int64)
        for layer, ring in enumerate(grid.layer_rings):
            n_r, width = int(ring.max()) + 1, int(grid.layer_widths[layer, 0])
            self._voxel[layer] = begin + column // width * n_r + ring[:, None]
            begin += n_r * grid.n_phi // width
        self._voxel[grid.is_dead] = begin
        self.n_voxels = begin
        self._share = grid.cell_shares[..., None]

    def arrange(self, values: NDArray[Any]) -> NDArray[Any]:
        """Events as images, ``(N, L, n_eta, n_phi)``."""
        flat = values.reshape(len(values), -1)
        flat = np.concatenate([flat, np.zeros((len(flat), 1), dtype=flat.dtype)], axis=1)
        return np.asarray(flat[:, self._voxel] * self._share)


def _showers(options: CaloChallengeOptions, file: H5File) -> _Axes | _Voxels:
    if options.geometry is not None:
        voxels = _Voxels(PRESETS[options.geometry])
        n_found = int(np.prod(file.data.shape[1:]))
        if n_found != voxels.n_voxels:
            raise CardError(
                f"{file.path}: a shower has {n_found} voxels, the geometry '{options.geometry}' "
                f"{voxels.n_voxels}.",
                "Correct the card's options.geometry.",
            )
        return voxels
    shape = (options.n_layers, options.n_alpha, options.n_r)
    n_voxels = int(np.prod(file.data.shape[1:]))
    if n_voxels != np.prod(shape):
        raise CardError(
            f"{file.path}: a shower has {n_voxels} voxels, the card {shape[0]} layers × "
            f"{shape[1]} α × {shape[2]} r = {int(np.prod(shape))}.",
            "Correct n_layers, n_alpha and n_r, or name a geometry whose layers differ in binning.",
        )
    rings = tuple(float(edge) for edge in range(options.n_r + 1))
    grid = Grid(rings, options.n_alpha, options.layers, name=file.path.name)
    return _Axes(grid, shape, (0, 1, 3, 2))


FORMAT = Format(Hdf5Options, "unknown", ImageArrayReader)
CALOCHALLENGE = Format(CaloChallengeOptions, "unknown", ImageArrayReader, unit="MeV")
