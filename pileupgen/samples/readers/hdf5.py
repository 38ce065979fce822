"""HDF5 files with arrays of images: `(N, H, W[, C])`, and the CaloChallenge's showers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, field_validator, model_validator

from pileupgen.calo.geometry import Grid
from pileupgen.calo.imaging import images_to_towers
from pileupgen.calo.presets import PRESETS
from pileupgen.calo.towers import Towers
from pileupgen.errors import (
    CardError,
    MissingFieldError,
    UnreadableInputError,
    did_you_mean,
    first_line,
)
from pileupgen.faults import StrictModel
from pileupgen.samples.readers.base import Format, MuSource
from pileupgen.samples.readers.cell_images import ImageAxes
from pileupgen.samples.readers.cells import CellsReader
from pileupgen.samples.readers.collection import CollectionOptions, Positions
from pileupgen.samples.readers.columns import event_names, event_numbers, open_mu, read_mu
from pileupgen.samples.readers.file_kind import reading, unreadable
from pileupgen.samples.readers.files import (
    EntryPlace,
    EventNumbers,
    FileReader,
    require_sane_energies,
)
from pileupgen.samples.readers.flat import Column, Flat
from pileupgen.samples.readers.places import place_columns
from pileupgen.samples.readers.remote import (
    BLOCKS,
    InputFile,
    RemoteFile,
    for_library,
    missing_file,
)


class Hdf5Options(CollectionOptions):
    """Options of a card for arrays of images or of cells; ``dataset`` has channels."""

    model_config = ConfigDict(populate_by_name=True)

    energy: str | None = Field(
        None, alias="dataset", min_length=1, description="the array, with its group"
    )

    @model_validator(mode="before")
    @classmethod
    def _channels_have_names(cls, values: Any) -> Any:
        is_array = isinstance(values, dict) and ("dataset" in values or "energy" in values)
        return {"layers": ["em", "had"], **values} if is_array else values

    @property
    def dataset(self) -> str:
        """First array with energies; the file has as many events as it."""
        return next(iter(self.parts().values())).energies[0]


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
            raise missing_file(path)
        self.path = path
        try:
            self._file = h5py.File(for_library(path, BLOCKS), "r")
        except OSError as error:
            raise unreadable(path, "HDF5", first_line(error)) from error
        try:
            self.data = self.find(dataset)
        except BaseException:
            self.close()
            raise

    word = "dataset"

    def __str__(self) -> str:
        return str(self.path)

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

    def event_columns(self) -> list[str]:
        """Names of the datasets with one number an event."""
        one = ((self.n_entries,), (self.n_entries, 1))
        return [name for name in self._numeric() if self._file[name].shape in one]

    def list_columns(self) -> list[str]:
        """Names of the datasets with several numbers an event."""
        return [
            name
            for name in self._numeric()
            if self._file[name].ndim > 1 and len(self._file[name]) == self.n_entries
        ]

    def _numeric(self) -> list[str]:
        return [name for name in self.datasets() if self._file[name].dtype.kind in "fiu"]

    def column(self, name: str) -> Column:
        """Open a dataset, its first axis the event."""
        return H5Column(self, name)

    def cell_encoding(self, name: str) -> str | None:
        """What a dataset of cell identifiers is made up of, by its attribute ``encoding``."""
        found = self.find(name).attrs.get("encoding")
        return None if found is None else str(found)

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


class H5Column(Column):
    """A dataset whose first axis is the event; only the entries asked for are read."""

    def __init__(self, file: H5File, name: str) -> None:
        self._file, self._data = file, file.find(name)
        n = int(self._data.shape[0])
        super().__init__(file.path, name, file.word, n, int(self._data.nbytes))

    def read(self, begin: int, end: int) -> Flat:
        """Entries ``begin … end − 1``."""
        return Flat(self._file.read(self._data, begin, end), None)

    read_at = read

    def _block(self, entry: int) -> tuple[int, int]:
        return entry, self.n_entries


class Hdf5Reader(CellsReader[H5File]):
    """Cells of datasets: images, or arrays with as many cells in every event."""

    def _open(self, path: InputFile) -> H5File:
        return H5File(path, self._options.dataset)

    def _open_positions(self, file: H5File, positions: Positions) -> H5File:
        if positions.file is None:
            return file
        collection = next(part for part in self._parts.values() if part.positions == positions)
        return H5File(Path(positions.file), place_columns(collection)[0])


class ShowerReader(FileReader[H5File]):
    """Showers of the CaloChallenge: every voxel with energy is a tower.

    Parameters
    ----------
    files : sequence of Path
        HDF5 files, read in this order.
    mu : MuSource
        Where the number that showers are conditioned on comes from: another dataset with one
        number an event, or a constant.
    gev : float
        What one unit of the file's energies is in GeV.
    """

    def __init__(
        self,
        files: Sequence[InputFile],
        options: CaloChallengeOptions,
        mu: MuSource,
        gev: float = 1.0,
    ) -> None:
        super().__init__(files, options.layers, mu, gev)
        self._options = options

    def _open(self, path: InputFile) -> H5File:
        return H5File(path, self._options.dataset)

    def _event_bytes(self, file: H5File) -> float:
        return float(np.prod(file.data.shape[1:])) * 4.0

    def _event_numbers(self, file: H5File, name: str) -> EventNumbers | None:
        return event_numbers(file, name)

    def _event_names(self, file: H5File) -> list[str]:
        return event_names(file)

    def _read(
        self, file: H5File, pieces: Sequence[tuple[int, int]], first_id: int
    ) -> Iterator[Towers]:
        axes = _showers(self._options, file)
        mu = open_mu(file, self._mu)
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
                read_mu(self._mu, mu, begin, end, where),
                np.arange(first_id + begin, first_id + end, dtype=np.int64),
            )


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


def _showers(options: CaloChallengeOptions, file: H5File) -> ImageAxes | _Voxels:
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
    return ImageAxes(grid, shape, (0, 1, 3, 2))


FORMAT = Format(Hdf5Options, "unknown", Hdf5Reader)
CALOCHALLENGE = Format(CaloChallengeOptions, "unknown", ShowerReader, unit="MeV")
