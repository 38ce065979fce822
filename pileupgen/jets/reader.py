"""Jets in JetNet's HDF5 files, as tables of variables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from pydantic import Field, field_validator, model_validator

from pileupgen.arrays import Floats
from pileupgen.calo.constituents import constituent_names
from pileupgen.calo.geometry import Grid
from pileupgen.calo.towers import Towers
from pileupgen.errors import CardError, UnreadableInputError
from pileupgen.faults import StrictModel
from pileupgen.jets.jetnet_file import JETS, PARTICLES
from pileupgen.measure.jet_variables import JetArrays, jet_variables, unit_of
from pileupgen.samples.readers.base import Format, MuSource
from pileupgen.samples.readers.features import feature_towers
from pileupgen.samples.readers.files import EventNumbers, FileReader
from pileupgen.samples.readers.hdf5 import H5File
from pileupgen.samples.readers.remote import InputFile

DEFAULT_VARIABLES = ("mass", "pt", "tau21", "tau32", "d2", "c2", "girth", "ptd")
P_T = "pt"
"""What may stand for μ: the jet's p_T, in GeV."""
_LARGEST_SHARE = 10.0
"""p_T of a constituent over that of its jet that only p_T in GeV, or in other units, has."""
_FLOATS_PER_PARTICLE = 60
"""Room that the variables of a jet take while they are computed, per particle and particle."""


class JetNetOptions(StrictModel):
    """Options of a card for JetNet's files."""

    features: tuple[str, ...] = Field(
        DEFAULT_VARIABLES, min_length=1, description="variables; or etarel_1, phirel_1, ptrel_1, …"
    )
    constituents: int | None = Field(
        None, ge=1, description="in place of features: η, φ and p_T of so many leading constituents"
    )

    @field_validator("features")
    @classmethod
    def _features_are_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            try:
                unit_of(name)
            except CardError as error:
                raise ValueError(str(error)) from None
        if len(set(names)) != len(names):
            raise ValueError("features must be distinct")
        return names

    @model_validator(mode="after")
    def _is_one_of_both(self) -> JetNetOptions:
        if self.constituents is not None and "features" in self.model_fields_set:
            raise ValueError("give either features or constituents")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Features of the table."""
        return self.features if self.constituents is None else constituent_names(self.constituents)

    @property
    def grid(self) -> Grid:
        """Grid of the table."""
        return Grid.of_features(self.names, [unit_of(name) for name in self.names])


class JetNetReader(FileReader[H5File]):
    """Jets of JetNet's files (2106.11535): each is one tower, its variables the layers.

    Parameters
    ----------
    files : sequence of Path
        HDF5 files, read in this order.
    mu : MuSource
        A constant, or ``pt``: the jets' p_T in GeV, which generated jets are conditioned on.
    gev : float
        What one unit of the file's energies is in GeV.
    """

    def __init__(
        self, files: Sequence[InputFile], options: JetNetOptions, mu: MuSource, gev: float = 1.0
    ) -> None:
        if mu.branch not in (None, P_T):
            raise CardError(
                f"JetNet's files have no μ, and no '{mu.branch}' to stand for it.",
                f"Leave 'mu' out of the card, or give mu: {P_T}.",
            )
        super().__init__(files, options.names, mu, gev)
        self._is_of_leading = options.constituents is not None

    def _open(self, path: InputFile) -> H5File:
        file = H5File(path, PARTICLES)
        try:
            jets, particles = file.find(JETS), file.data
            if (
                particles.ndim != 3
                or particles.shape[2] != 4
                or jets.ndim != 2
                or jets.shape[1] < 4
                or len(jets) != len(particles)
            ):
                raise UnreadableInputError(
                    f"{path}: {PARTICLES} {particles.shape} and {JETS} {jets.shape} are not "
                    "(N, P, 4) and (N, 4).",
                    "Give a file in JetNet's layout, such as t.hdf5.",
                )
        except BaseException:
            file.close()
            raise
        return file

    def _event_bytes(self, file: H5File) -> float:
        return float(_FLOATS_PER_PARTICLE * file.data.shape[1])

    def _event_numbers(self, file: H5File, name: str) -> EventNumbers | None:
        n = file.n_entries
        if not file.has(name) or file.find(name).shape not in ((n,), (n, 1)):
            return None
        data = file.find(name)
        return lambda begin, end: np.asarray(file.read(data, begin, end)).reshape(end - begin)

    def _event_names(self, file: H5File) -> list[str]:
        return file.event_columns()

    def _read(
        self, file: H5File, pieces: Sequence[tuple[int, int]], first_id: int
    ) -> Iterator[Towers]:
        found = file.find(JETS)
        for begin, end in pieces:
            particles = _finite(file, file.data, begin, end)
            _require_shares(file, particles, begin)
            if self._is_of_leading:
                particles = _leading_first(particles)
            jets = _finite(file, found, begin, end)[:, :4]
            jets[:, [0, 2]] *= self._gev
            values = jet_variables(JetArrays(particles, jets), self.layers)
            mu = self._mu.offset + (jets[:, 0] if self._mu.branch else np.zeros(end - begin))
            yield feature_towers(values, self.layers, mu, file.path, begin, first_id)


def _finite(file: H5File, data: Any, begin: int, end: int) -> Floats:
    values = np.asarray(file.read(data, begin, end), dtype=np.float64)
    is_bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if is_bad.any():
        raise UnreadableInputError(
            f"{file.path}, jet {begin + int(np.argmax(is_bad))}: {data.name} is not finite.",
            "Remove such jets from the file.",
        )
    return values


def _require_shares(file: H5File, particles: Floats, begin: int) -> None:
    """Refuse constituents whose p_T cannot be relative to that of the jet."""
    share = np.where(particles[..., 3] > 0, particles[..., 2], 0.0)
    is_bad = (share < 0) | (share > _LARGEST_SHARE)
    if is_bad.any():
        jet, place = np.unravel_index(int(np.argmax(is_bad)), is_bad.shape)
        raise UnreadableInputError(
            f"{file.path}, jet {begin + jet}: {PARTICLES} has p_T,rel {share[jet, place]:g}, which "
            "is no p_T over that of the jet.",
            "Divide p_T by the jet's, or set the mask of what is no constituent to 0.",
        )


def _leading_first(particles: Floats) -> Floats:
    """Particles in order of p_T; what the mask leaves out, or has no p_T, comes last."""
    share = np.where(particles[..., 3] > 0, particles[..., 2], 0.0)
    order = np.argsort(-share, axis=1, kind="stable")
    return np.take_along_axis(particles, order[..., None], axis=1)


FORMAT = Format(JetNetOptions, "unknown", JetNetReader, sets_grid=True, unit="GeV")
