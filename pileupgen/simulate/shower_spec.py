"""Specification of a sample of single showers, as a data card's ``generate:`` holds it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from pileupgen.calo.geometry import Grid
from pileupgen.calo.presets import PRESETS
from pileupgen.errors import did_you_mean
from pileupgen.faults import StrictModel, parse_model
from pileupgen.run import fingerprint
from pileupgen.simulate.shower_profile import MEDIA, Medium

SHOWER = "shower"
"""The process that asks for such a sample."""
SHOWER_VERSION = 1
"""Counts changes of the code that change the showers of one and the same spec."""
ELECTRON_ENERGIES = 0.5, 1e4
"""GeV; far below, the parametrisation's ln (E / E_c) leaves its range."""
PION_ENERGIES = 1.0, 300.0
"""GeV; where the constants of pions are from Geant4 and from test beams."""


_HADRONIC = {"medium": "iron", "ring_mm": 40.0, "layer_mm": 20.0}
_HADRONIC |= {"sampling": 0.5, "threshold": 0.5}
"""Defaults of pions, which need a deeper calorimeter: 5.3 λ."""


class ShowerSpec(StrictModel):
    """Electrons or pions that hit a calorimeter in its middle, one an event.

    Showers are parametrised in a homogeneous medium: hep-ex/0001020, and for pions
    :mod:`~pileupgen.simulate.hadron_profile`. Voxels are rings around the axis of the detector,
    sectors and layers, as in data sets 2 and 3 of the CaloChallenge, or squares.
    """

    process: Literal["shower"] = "shower"
    particle: Literal["electron", "pion"] = Field(
        default="electron", description="what hits the calorimeter"
    )
    medium: str = Field(default="w_si", description="w_si, pbwo4, iron, w_quartz or brass_quartz")
    geometry: Literal["calochallenge_2", "calochallenge_3", "cube_30"] = Field(
        default="calochallenge_2", description="voxels"
    )
    ring_mm: float = Field(default=4.65, gt=0, description="width of a ring or square, mm")
    layer_mm: float = Field(default=3.4, gt=0, description="depth of a layer, mm")
    upstream: float = Field(
        default=0.0, ge=0, le=5, description="dead material before the first layer, X_0"
    )
    energy: tuple[float, float] = Field(
        default=(1.0, 100.0), description="GeV; uniform in the logarithm between them"
    )
    angle: float = Field(
        default=0.0, ge=0, le=60, description="degrees between particle and axis, towards α = 0"
    )
    sampling: float = Field(
        default=0.1, ge=0, le=1, description="√GeV: σ / E = sampling / √E for the whole shower"
    )
    h_over_e: float = Field(
        default=1.0, gt=0, le=1, description="part of a pion's long component that is measured"
    )
    threshold: float = Field(default=0.015, ge=0, description="MeV; voxels below are empty")
    n_events: int = Field(default=4000, ge=1)
    seed: int = Field(default=1, ge=0, lt=2**63)

    @model_validator(mode="before")
    @classmethod
    def _calorimeter_of_hadrons(cls, values: Any) -> Any:
        is_hadron = isinstance(values, dict) and values.get("particle") == "pion"
        return {**_HADRONIC, **values} if is_hadron else values

    @field_validator("process", mode="before")
    @classmethod
    def _plain_process(cls, value: object) -> object:
        return value.strip().lower() if isinstance(value, str) else value

    @field_validator("medium")
    @classmethod
    def _known_medium(cls, value: str) -> str:
        if value not in MEDIA:
            raise ValueError(f"no medium '{value}'. {did_you_mean(value, MEDIA)}")
        return value

    @model_validator(mode="after")
    def _usable_energies(self) -> ShowerSpec:
        low, high = self.energy
        least, most = PION_ENERGIES if self.is_hadronic else ELECTRON_ENERGIES
        if not least <= low <= high <= most:
            raise ValueError(
                f"energy: {low:g} to {high:g} GeV must ascend, within {least:g} and {most:g} GeV, "
                f"where {self.particle}s are parametrised"
            )
        if not self.is_hadronic and self.h_over_e != 1:
            raise ValueError("h_over_e is for pions: electrons have no hadronic component")
        return self

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str, folder: Path | None = None) -> ShowerSpec:
        """Check a mapping, such as a card's ``generate:``.

        Raises
        ------
        CardError
            Naming every fault and, for an unknown key, the nearest known one.
        """
        return parse_model(cls, dict(values), where)

    @property
    def is_hadronic(self) -> bool:
        """Whether pions are the particles."""
        return self.particle == "pion"

    @property
    def grid(self) -> Grid:
        """Voxels: rings where η is, sectors where φ is; of squares x and y."""
        return PRESETS[self.geometry]

    @property
    def material(self) -> Medium:
        """What the shower develops in."""
        return MEDIA[self.medium]

    def fingerprint(self) -> str:
        """16 hex digits of all that the showers depend on."""
        return fingerprint({**self.model_dump(mode="json"), "shower_version": SHOWER_VERSION})
