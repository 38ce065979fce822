"""Point clouds of showers in the HDF5 layout of the showerdata library."""

from __future__ import annotations

import h5py
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pileupgen.arrays import Floats
from pileupgen.errors import MissingFieldError, UnreadableInputError, did_you_mean
from pileupgen.faults import StrictModel
from pileupgen.samples.readers.base import Format
from pileupgen.samples.readers.cells import CellsReader
from pileupgen.samples.readers.collection import Collection, LayerRule
from pileupgen.samples.readers.file_kind import reading
from pileupgen.samples.readers.flat import Column, Flat
from pileupgen.samples.readers.hdf5 import H5Column, H5File
from pileupgen.samples.readers.remote import InputFile

_POINTS = "showers"
_COLUMNS = ("r", "alpha", "layer", "energy")
"""What a point is made of here; ``showers`` has x, y, z, energy and, if any, a time."""


class ShowerDataOptions(StrictModel):
    """Options of a card for point clouds of showers."""

    n_layers: int = Field(ge=1, description="layers; z / layer_depth is rounded to their number")
    layer_depth: float = Field(1.0, gt=0, description="what z grows by from layer to layer")
    ring_width: float = Field(1.0, gt=0, description="width of a ring, in the unit of x and y")
    axis: tuple[float, float] = Field((0.0, 0.0), description="x and y of the shower's axis")

    def parts(self) -> dict[str, Collection]:
        """Points as cells: rings where η is, the angle around the axis where φ is."""
        layers = {f"layer_{layer}": [layer] for layer in range(self.n_layers)}
        rule = LayerRule(column="layer")
        return {
            "": Collection(eta="r", phi="alpha", energy="energy", layers=layers, layer_index=rule)
        }


class ShowerDataFile(H5File):
    """A file of showerdata opened for reading.

    Raises
    ------
    UnreadableInputError
        If it is not HDF5, is truncated, or its points are not what showerdata writes.
    MissingFieldError
        If it has no points.
    """

    def __init__(self, path: InputFile, options: ShowerDataOptions) -> None:
        super().__init__(path, "num_points")
        self.options = options
        try:
            with reading(path, f"dataset '{_POINTS}'", "HDF5"):
                self._points = self._file.get(_POINTS)
                shape = np.asarray(self._file["shape"]) if "shape" in self._file else np.empty(0)
            if not isinstance(self._points, h5py.Dataset):
                raise MissingFieldError(
                    f"{path} has no dataset '{_POINTS}'.", did_you_mean(_POINTS, self.datasets())
                )
            is_list = h5py.check_vlen_dtype(self._points.dtype) is not None
            if shape.shape != (3,) or shape[2] not in (4, 5) or not is_list:
                raise UnreadableInputError(
                    f"{path} is not laid out as showerdata does it: 'showers' has to hold lists "
                    "of points, 'shape' the numbers of showers, points and values a point.",
                    "Arrays of images are read with format hdf5.",
                )
            if len(self._points) != self.data.size:
                raise UnreadableInputError(
                    f"{path}: 'showers' has {len(self._points)} showers, 'num_points' "
                    f"{self.data.size} numbers.",
                    "The file was not written to its end; make it again.",
                )
        except BaseException:
            self.close()
            raise
        self._width = int(shape[2])
        self._held: tuple[tuple[int, int], list[NDArray[np.float32]]] = ((0, 0), [])

    def has(self, name: str) -> bool:
        """Whether points have such a column, or there is a dataset of this name."""
        return name in _COLUMNS or super().has(name)

    def column(self, name: str) -> Column:
        """Open a column of the points, or a dataset with one number a shower."""
        return PointColumn(self, name) if name in _COLUMNS else H5Column(self, name)

    def points(self, begin: int, end: int) -> list[NDArray[np.float32]]:
        """Points of showers ``begin … end − 1``, each (n, 4 or 5); those read last are kept.

        Raises
        ------
        UnreadableInputError
            If the list of a shower does not have its number of points.
        """
        if self._held[0] != (begin, end) or begin == end:
            rows = [
                np.asarray(row, dtype=np.float32) for row in self.read(self._points, begin, end)
            ]
            counts = np.ravel(self.read(self.data, begin, end))
            for number, (row, count) in enumerate(zip(rows, counts, strict=True)):
                if row.size != count * self._width:
                    raise UnreadableInputError(
                        f"{self.path}, shower {begin + number}: {row.size} numbers are not the "
                        f"{count} points of {self._width} that 'num_points' tells.",
                        "The file is damaged, or num_points counts something else.",
                    )
            self._held = (begin, end), [row.reshape(-1, self._width) for row in rows]
        return self._held[1]


class PointColumn(Column):
    """A column of the points of showers."""

    def __init__(self, file: ShowerDataFile, name: str) -> None:
        super().__init__(file.path, name, file.word, file.n_entries, 0)
        self._file, self._options = file, file.options

    @property
    def event_bytes(self) -> float:
        """Size of one shower, by the first ones."""
        first = self._file.points(0, min(64, self.n_entries))
        return sum(points.nbytes for points in first) / max(len(first), 1) / len(_COLUMNS)

    def read(self, begin: int, end: int) -> Flat:
        """Entries ``begin … end − 1``."""
        showers = self._file.points(begin, end)
        counts = np.array([len(points) for points in showers], dtype=np.int64)
        points = np.concatenate([np.empty((0, 4)), *(one[:, :4] for one in showers)])
        return Flat(self._of(points), counts)

    read_at = read

    def _of(self, points: Floats) -> Floats:
        x, y = points[:, 0] - self._options.axis[0], points[:, 1] - self._options.axis[1]
        if self.name == "r":
            return np.hypot(x, y) / self._options.ring_width
        if self.name == "alpha":
            return np.arctan2(y, x)
        if self.name == "layer":
            return np.round(points[:, 2] / self._options.layer_depth)
        return points[:, 3]

    def _block(self, entry: int) -> tuple[int, int]:
        return entry, self.n_entries


class ShowerDataReader(CellsReader[ShowerDataFile]):
    """Points of showers, each a tower in its layer."""

    def _open(self, path: InputFile) -> ShowerDataFile:
        return ShowerDataFile(path, self._options)


FORMAT = Format(ShowerDataOptions, "energies", ShowerDataReader, ids=("shower_ids",))
