"""Response cards: a calorimeter as a readable YAML.

The model follows Delphes' ``Calorimeter`` module (de Favereau et al., 1307.6346): particles are
carried to a cylinder, share their energy between the electromagnetic (``em``) and the hadronic
(``had``) layer by particle type, towers are smeared and zero-suppressed. Leakage, electronic
noise, dead and hot regions come on top and are off unless named.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import Field, field_validator, model_validator

from pileupgen.errors import CardError, did_you_mean
from pileupgen.faults import StrictModel, parse_model, read_yaml
from pileupgen.run import fingerprint

LAYERS = ("em", "had")
ETA_ACCEPTANCE = 5.5
"""Towers must lie within this |η|; the pool holds particles somewhat beyond."""

RESPONSES = Path(__file__).parent / "responses"

Readout = Literal["card", "unsuppressed", "noiseless"]
"""Energies that are kept: as the card says; before its zero suppression, energies below 0 included;
or before its noise, for hard scatters that pileup with noise is added to."""

Fraction = Annotated[float, Field(ge=0, le=1)]
Layer = Literal["em", "had"]


class Field3D(StrictModel):
    """The solenoid: a cylinder of uniform field along the beam, with the calorimeter around it."""

    bz: float = Field(description="T")
    radius: float = Field(gt=0, description="m")
    half_length: float = Field(gt=0, description="m")


class BeamSpot(StrictModel):
    """Distribution of interactions along the beam."""

    sigma_z: float = Field(default=0.0, ge=0, description="m, Gaussian")
    max_z: float = Field(default=0.25, gt=0, description="m, beyond which there is none")


class TowerBlock(StrictModel):
    """Rings of equal towers in an interval of |η|; mirrored to negative η."""

    eta: tuple[float, float] = Field(description="from, to, in |η|")
    width: float = Field(gt=0, description="in η")
    n_phi: int = Field(ge=1, description="towers in a ring, the first begins at φ = −π")

    @model_validator(mode="after")
    def _whole_rings(self) -> TowerBlock:
        n = (self.eta[1] - self.eta[0]) / self.width
        if self.eta[0] < 0 or n < 0.5 or abs(n - round(n)) > 1e-6 * max(1.0, n):
            raise ValueError(f"{self.eta} does not hold a whole number of rings of {self.width}")
        return self


class ResolutionTerm(StrictModel):
    """σ(E)² = (c E)² + s² E + n² up to an |η|; constant, stochastic and noise term."""

    abs_eta_max: float = Field(gt=0)
    c: float = Field(default=0.0, ge=0, description="constant term, 1")
    s: float = Field(default=0.0, ge=0, description="stochastic term, √GeV")
    n: float = Field(default=0.0, ge=0, description="noise term, GeV")


class ElectronicNoise(StrictModel):
    """Gaussian noise on every cell, hit or not, before zero suppression."""

    sigma: float = Field(default=0.0, ge=0, description="GeV, each cell for itself")
    common_sigma: float = Field(
        default=0.0, ge=0, description="GeV, the same for all cells of a φ sector"
    )
    n_sectors: int = Field(default=18, ge=1, description="φ sectors of the common noise")


class Leakage(StrictModel):
    """A part of each cell's energy goes to the cells it shares a side with, in equal parts."""

    fraction: Fraction = Field(default=0.0, description="mean part that leaves the cell")
    spread: float = Field(
        default=0.0, ge=0, description="relative spread of that part (log-normal)"
    )


class PulseShape(StrictModel):
    """Part of the energy of earlier and later crossings that a layer's readout sees in this one.

    The shaped signal of a cell is sampled where that of the triggered crossing has its maximum. A
    bipolar shape, whose weights add up to about 0, has pileup pull as much down as up on average.
    """

    first: int = Field(default=0, le=0, description="crossing of the first weight; 0 is this one")
    weights: tuple[float, ...] = Field(
        min_length=1, description="of this crossing and its neighbours, in their order; here 1"
    )

    @model_validator(mode="after")
    def _is_sampled_at_its_maximum(self) -> PulseShape:
        if -self.first >= len(self.weights) or self.weights[-self.first] != 1:
            raise ValueError("the weight of crossing 0 has to be there, and 1")
        return self

    def of(self, crossing: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, Any]:
        """Weights of crossings by their distance from this one, 0 beyond the shape."""
        place = crossing - self.first
        inside = (place >= 0) & (place < len(self.weights))
        return np.where(inside, np.asarray(self.weights)[np.where(inside, place, 0)], 0.0)


class LayerResponse(StrictModel):
    """One layer: resolution, zero suppression, noise, leakage, pulse shape."""

    resolution: tuple[ResolutionTerm, ...] = Field(description="ascending in |η|; beyond: none")
    energy_min: float = Field(default=0.0, ge=0, description="GeV; a cell below becomes 0")
    significance_min: float = Field(
        default=0.0, ge=0, description="in σ(E); a cell below becomes 0"
    )
    electronic_noise: ElectronicNoise = ElectronicNoise()
    leakage: Leakage = Leakage()
    pulse: PulseShape | None = Field(
        default=None, description="of other crossings; none sees this one alone"
    )

    @field_validator("resolution")
    @classmethod
    def _ascending(cls, terms: tuple[ResolutionTerm, ...]) -> tuple[ResolutionTerm, ...]:
        if any(a.abs_eta_max >= b.abs_eta_max for a, b in pairwise(terms)):
            raise ValueError("abs_eta_max must ascend")
        return terms


class Region(StrictModel):
    """Cells whose centre lies in a window; a φ window may pass through ±180°."""

    eta: tuple[float, float]
    phi_degrees: tuple[float, float] = (-180.0, 180.0)
    layers: tuple[Layer, ...] = ("em", "had")

    @model_validator(mode="after")
    def _ordered(self) -> Region:
        if self.eta[0] >= self.eta[1]:
            raise ValueError(f"eta {self.eta} must ascend")
        return self


class HotRegion(Region):
    """Cells that now and then show energy that was not there."""

    probability: Fraction = Field(description="per cell and event")
    energy: float = Field(gt=0, description="GeV, mean of an exponential")


class Gain(Region):
    """Cells whose energies come out too high or too low."""

    factor: float = Field(gt=0, le=10, description="of the energy of particles, not of the noise")


class Period(StrictModel):
    """A time of data taking with conditions of its own, beside those of the card."""

    name: str = Field(min_length=1)
    part: float = Field(default=1.0, gt=0, description="of the events, relative to other periods")
    dead: tuple[Region, ...] = Field(default=(), description="cells that only this period has not")
    gains: tuple[Gain, ...] = Field(default=(), description="where two overlap, both count")


class ResponseCard(StrictModel):
    """A calorimeter."""

    description: str = ""
    field: Field3D
    beam_spot: BeamSpot = BeamSpot()
    towers: tuple[TowerBlock, ...] = Field(min_length=1)
    energy_fractions: dict[int, tuple[Fraction, Fraction]] = Field(
        description="|PDG code|: [em, had]; 0 stands for all others"
    )
    em: LayerResponse
    had: LayerResponse
    dead: tuple[Region, ...] = ()
    hot: tuple[HotRegion, ...] = ()
    signed: bool = Field(default=False, description="keep energies below 0")
    periods: tuple[Period, ...] = Field(default=(), description="none: conditions never change")

    @field_validator("periods")
    @classmethod
    def _each_once(cls, periods: tuple[Period, ...]) -> tuple[Period, ...]:
        names = [period.name for period in periods]
        if len(set(names)) < len(names):
            raise ValueError(f"two periods have the same name: {', '.join(names)}")
        return periods

    @field_validator("energy_fractions")
    @classmethod
    def _usable_fractions(
        cls, fractions: dict[int, tuple[float, float]]
    ) -> dict[int, tuple[float, float]]:
        if 0 not in fractions:
            raise ValueError("key 0, the fractions of all particles not named, is missing")
        for code, pair in fractions.items():
            if code < 0:
                raise ValueError(f"{code}: give the absolute value of the PDG code")
            if sum(pair) > 1 + 1e-9:
                raise ValueError(f"{code}: em and had sum to {sum(pair):g}, more than 1")
        return fractions

    @field_validator("towers")
    @classmethod
    def _seamless(cls, blocks: tuple[TowerBlock, ...]) -> tuple[TowerBlock, ...]:
        edge = 0.0
        for block in blocks:
            if abs(block.eta[0] - edge) > 1e-6:
                raise ValueError(
                    f"blocks must begin at η = 0 and join: {block.eta} follows {edge:g}"
                )
            edge = block.eta[1]
        if edge > ETA_ACCEPTANCE:
            raise ValueError(f"towers reach |η| = {edge:g}, at most {ETA_ACCEPTANCE} is simulated")
        return blocks

    @property
    def layers(self) -> tuple[LayerResponse, LayerResponse]:
        """``em`` and ``had``."""
        return (self.em, self.had)

    def fingerprint(self) -> str:
        """16 hex digits of the card's values."""
        values = self.model_dump(mode="json")
        # Cards as they were before there were signed energies, pulses and periods keep theirs.
        for name in ("signed", "periods"):
            if not values[name]:
                del values[name]
        for name in LAYERS:
            if values[name]["pulse"] is None:
                del values[name]["pulse"]
        return fingerprint(values)

    @property
    def crossings(self) -> tuple[int, int]:
        """First and last crossing that any layer sees; 0, 0 is this one alone."""
        pulses = [layer.pulse for layer in self.layers if layer.pulse is not None]
        ends = [(pulse.first, pulse.first + len(pulse.weights) - 1) for pulse in pulses]
        return min([0, *(low for low, _ in ends)]), max([0, *(high for _, high in ends)])

    def read_out(self, readout: Readout) -> ResponseCard:
        """Give the same calorimeter without zero suppression, or without noise as well."""
        if readout == "card":
            return self
        changes: dict[str, Any] = {"signed": True}
        for name, layer in zip(LAYERS, self.layers, strict=True):
            other: dict[str, Any] = {"energy_min": 0.0, "significance_min": 0.0}
            if readout == "noiseless":
                terms = [term.model_copy(update={"n": 0.0}) for term in layer.resolution]
                other |= {"electronic_noise": ElectronicNoise(), "resolution": tuple(terms)}
            changes[name] = layer.model_copy(update=other)
        if readout == "noiseless":
            changes["hot"] = ()
        return self.model_copy(update=changes)

    def in_period(self, name: str) -> ResponseCard:
        """Give the same calorimeter in one of its periods alone.

        Raises
        ------
        CardError
            If it has no such period.
        """
        chosen = tuple(period for period in self.periods if period.name == name)
        if not chosen:
            names = [period.name for period in self.periods]
            hint = did_you_mean(name, names) if names else "Give it 'periods', or leave period out."
            raise CardError(f"The response card has no period '{name}'.", hint)
        return self.model_copy(update={"periods": chosen})

    def ring_edges(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """η edges of all rings, ascending, shape ``(n_rings + 1,)``."""
        positive = [0.0]
        for block in self.towers:
            n = round((block.eta[1] - block.eta[0]) / block.width)
            positive += list(np.round(np.linspace(*block.eta, n + 1), 9)[1:])
        half = np.array(positive)
        return np.concatenate([-half[:0:-1], half])

    def ring_n_phi(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Towers in each ring, shape ``(n_rings,)``."""
        half = np.concatenate(
            [
                np.full(round((block.eta[1] - block.eta[0]) / block.width), block.n_phi)
                for block in self.towers
            ]
        ).astype(np.int64)
        return np.concatenate([half[::-1], half])


def response_names() -> list[str]:
    """Names of the shipped response cards."""
    return sorted(path.stem for path in RESPONSES.glob("*.yaml"))


def find_response(name: str, folder: Path | None = None) -> str:
    """Find a shipped card by its name, or a file by its path.

    Parameters
    ----------
    name : str
        A shipped card's name, or a path; a relative one is looked for in the working directory
        and in ``folder``.

    Raises
    ------
    CardError
        If there is none; names the nearest shipped ones.
    """
    if name in response_names():
        return name
    for candidate in (Path(name), *([folder / name] if folder is not None else [])):
        if candidate.is_file():
            return str(candidate)
    raise CardError(
        f"No response card '{name}'.",
        f"{did_you_mean(name, response_names())} Or give the path of a YAML file.",
    )


def load_response(name: str) -> ResponseCard:
    """Read and check a response card.

    Raises
    ------
    CardError
        If there is none, it is not YAML or has a key twice, or a value does not fit; all faults are
        named.
    """
    found = find_response(name)
    path = RESPONSES / f"{found}.yaml" if found in response_names() else Path(found)
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise CardError(f"Response card {path} cannot be read: {error}.") from error
    return parse_model(ResponseCard, values, f"response card {path}")
