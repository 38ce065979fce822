"""Feature tables: N events × F named numbers, in HDF5, Parquet or ROOT."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, field_validator

from pileupgen.arrays import Floats
from pileupgen.calo.geometry import Grid
from pileupgen.calo.towers import Towers
from pileupgen.errors import CardError, MissingFieldError, PileupgenError, UnreadableInputError
from pileupgen.faults import StrictModel
from pileupgen.samples.readers.base import MAX_CHUNK_EVENTS, Format, MuSource
from pileupgen.samples.readers.feature_files import ColumnPlace, FeatureFile, open_feature_file
from pileupgen.samples.readers.files import EventNumbers, FileReader, require_finite_weights
from pileupgen.samples.readers.remote import InputFile

_NAME = re.compile(r"[A-Za-z]\w*")
_CELL = (0.0, 1.0, 0.0, 1.0)
"""The only cell of :meth:`Grid.of_features`: η from 0 to 1, φ from 0 to 1."""


class Feature(StrictModel):
    """Column of a feature in the files, and its unit."""

    column: str = Field(
        min_length=1, description="dataset, column or branch; [i], [i, j], [name] picks of an array"
    )
    unit: str = Field("", description="as on an axis; empty where there is none")

    @field_validator("column")
    @classmethod
    def _column_is_readable(cls, column: str) -> str:
        ColumnPlace.parse(column)
        return column


def _long_form(value: Any) -> Any:
    return {"column": value} if isinstance(value, str) else value


class FeatureOptions(StrictModel):
    """Options of a card for a feature table."""

    features: dict[str, Annotated[Feature, BeforeValidator(_long_form)]] = Field(
        min_length=1, description="feature: its column, or its column and unit"
    )
    tree: str | None = Field(None, description="the tree, in ROOT files")

    @field_validator("features")
    @classmethod
    def _names_are_words(cls, features: dict[str, Feature]) -> dict[str, Feature]:
        for name in features:
            if not _NAME.fullmatch(name):
                raise ValueError(f"'{name}' must be letters, digits and _, a letter first")
        return features

    @property
    def grid(self) -> Grid:
        """Grid of the table."""
        units = [feature.unit for feature in self.features.values()]
        return Grid.of_features(list(self.features), units)


class FeatureReader(FileReader[FeatureFile]):
    """Events of a feature table: each is one tower, its features the layers.

    Parameters
    ----------
    files : sequence of Path
        HDF5, Parquet or ROOT files, told apart by their names' ends, read in this order.
    mu : MuSource
        Where μ comes from: another column, or a constant.
    gev : float
        Must be 1: features have units of their own.

    Raises
    ------
    CardError
        If the card gives an energy unit.
    """

    def __init__(
        self, files: Sequence[InputFile], options: FeatureOptions, mu: MuSource, gev: float = 1.0
    ) -> None:
        if gev != 1.0:
            raise CardError(
                "units.energy does not apply to a table of features.",
                "Give each feature its unit under options.features.",
            )
        super().__init__(files, tuple(options.features), mu, gev)
        self._options = options
        self._beside: tuple[str, FeatureFile] | None = None

    def close(self) -> None:
        """Close the file that is open, and what is read beside its features."""
        if self._beside is not None:
            self._beside[1].close()
            self._beside = None
        super().close()

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files behind: another process opens its own."""
        return {**super().__getstate__(), "_beside": None}

    def _open(self, path: InputFile) -> FeatureFile:
        places = [ColumnPlace.parse(feature.column) for feature in self._options.features.values()]
        if self._mu.branch is not None:
            places.append(ColumnPlace.parse(self._mu.branch))
        read = {feature.column for feature in self._options.features.values()}
        for name in self._weight.branches:
            if name in read and not self._weight.is_required:
                continue
            with suppress(MissingFieldError):
                return open_feature_file(
                    path, [*places, ColumnPlace.parse(name)], self._options.tree
                )
        file = open_feature_file(path, places, self._options.tree)
        if self._weight.is_required:
            file.close()
            self._refuse_without_weights(path)
        return file

    def _event_bytes(self, file: FeatureFile) -> float:
        return 8.0 * file.n_columns

    def _read(
        self, file: FeatureFile, pieces: Sequence[tuple[int, int]], first_id: int
    ) -> Iterator[Towers]:
        n_features = len(self.layers)
        for begin, end in pieces:
            columns = file.read(begin, end)
            if any(column.shape != (end - begin,) for column in columns):
                raise UnreadableInputError(
                    f"{file.path}: events {begin} to {end - 1} are not whole: its columns differ "
                    "in length.",
                    "The file is damaged; get it again, or leave it out with --skip-bad.",
                )
            values = np.stack(columns[:n_features], axis=1)
            mu = columns[n_features] if self._mu.branch is not None else np.zeros(end - begin)
            mu = mu + self._mu.offset
            towers = feature_towers(values, self.layers, mu, file.path, begin, first_id)
            if self._has_weights(file):
                require_finite_weights(columns[-1], file.path, begin)
                towers = replace(towers, weight=columns[-1])
            yield towers

    def _event_numbers(self, file: FeatureFile, name: str) -> EventNumbers | None:
        # What is no column of numbers is none of weights or groups either.
        with suppress(PileupgenError):
            other = self._open_beside(file.path, name)
            other.read(0, min(other.n_entries, MAX_CHUNK_EVENTS))
            if other.n_entries == file.n_entries:
                return lambda begin, end: other.read(begin, end)[0]
        return None

    def _open_beside(self, path: InputFile, name: str) -> FeatureFile:
        """Open a column beside the features, in place of the one before."""
        if self._beside is None or (self._beside[0], self._beside[1].path) != (name, path):
            if self._beside is not None:
                self._beside[1].close()
                self._beside = None
            places = [ColumnPlace.parse(name)]
            self._beside = name, open_feature_file(path, places, self._options.tree)
        return self._beside[1]

    def _event_names(self, file: FeatureFile) -> list[str]:
        read = {place.name for place in file.places}
        return [name for name in file.names() if name not in read]

    def _has_weights(self, file: FeatureFile) -> bool:
        return file.n_columns > len(self.layers) + (self._mu.branch is not None)

    def _open_weights(self, file: FeatureFile, path: InputFile) -> None:
        """Do nothing: weights are a column, read with the others."""

    def unread_weights(self) -> tuple[str, ...]:
        """Name what the first file has that is called like event weights, varies, and is not read.

        Raises
        ------
        InputError
            If the file cannot be used.
        """
        return () if self._has_weights(self._file(0)) else super().unread_weights()


def feature_towers(
    values: Floats,
    names: tuple[str, ...],
    mu: Floats,
    path: InputFile,
    begin: int,
    first_id: int,
) -> Towers:
    """Make a table's rows into events of one tower.

    Parameters
    ----------
    values : float64 array, shape (n, F)
        Features.
    mu : float64 array, shape (n,)
        Number of pileup interactions.
    begin : int
        Entry of the first row in the file.
    first_id : int
        Position in the sample of the file's entry 0.

    Raises
    ------
    UnreadableInputError
        If a feature is not finite, or too large for single precision.
    """
    n = len(values)
    with np.errstate(over="ignore", invalid="ignore"):
        energy = values.astype(np.float32)
    _require_finite(energy, names, path, begin, first_id)
    return Towers(
        offsets=np.arange(n + 1, dtype=np.int64),
        edges=np.tile(np.array(_CELL), (n, 1)),
        energy=energy,
        layers=names,
        mu=mu.astype(np.float32),
        event_id=np.arange(first_id + begin, first_id + begin + n, dtype=np.int64),
    )


def _require_finite(
    values: NDArray[np.float32], names: Sequence[str], path: InputFile, begin: int, first_id: int
) -> None:
    if np.isfinite(values).all():
        return
    row, column = (int(place) for place in np.argwhere(~np.isfinite(values))[0])
    entry = begin + row
    same = "" if first_id == 0 else f" (event {first_id + entry} of the sample)"
    raise UnreadableInputError(
        f"{path}, event {entry}{same}: {names[column]} = {values[row, column]:g}.",
        "Remove such events from the table, or leave the feature out of the card.",
    )


FORMAT = Format(
    FeatureOptions,
    "unknown",
    FeatureReader,
    sets_grid=True,
    weights=("event_weight", "weight"),
    unit="GeV",
)
