"""Specification of a sample of particles in a zero-degree calorimeter, as a card has it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from pileupgen.calo.geometry import Grid
from pileupgen.calo.presets import PRESETS, ZDC_NEUTRON, ZDC_PROTON
from pileupgen.faults import StrictModel, parse_model
from pileupgen.run import fingerprint
from pileupgen.simulate.shower_profile import MEDIA, Medium
from pileupgen.simulate.shower_spec import PION_ENERGIES

ZDC = "zdc"
"""The process that asks for such a sample."""
ZDC_VERSION = 1
"""Counts changes of the code that change the events of one and the same spec."""
MASSES = {"neutron": 0.93956542, "proton": 0.93827209}
"""GeV."""
CHARGES = {"neutron": 0.0, "proton": 1.0}
_LOWEST = 5.0
"""GeV; far below, momentum and energy differ more than the shower knows of."""
_OF_PROTONS = {"divergence": 240.0}


class ZdcSpec(StrictModel):
    """Neutrons or protons in a quartz-fibre calorimeter far down the beam line, one an event.

    Dimensions and fibres are those of ALICE's calorimeters: of neutrons 44 × 44 fibres at 1.6 mm in
    100 cm of a tungsten alloy, of protons 56 × 30 at 4 mm in 150 cm of brass. There are no magnets:
    protons fly straight, too.
    """

    process: Literal["zdc"] = "zdc"
    particle: Literal["neutron", "proton"] = Field(
        default="neutron", description="what hits the calorimeter, and which one it is"
    )
    energy: tuple[float, float] = Field(
        default=(20.0, 300.0), description="GeV; uniform in the logarithm between them"
    )
    vertex: tuple[float, float, float] = Field(
        default=(0.05, 0.05, 53.0), description="mm; standard deviations of x, y and z"
    )
    distance: float = Field(default=112.5, gt=0, le=1e4, description="m, to the calorimeter's face")
    divergence: float = Field(
        default=80.0, gt=0, le=1e4, description="μrad; of the direction, in x and in y"
    )
    photons: float = Field(
        default=10.0, gt=0, le=1e4, description="mean photons a GeV of the short component"
    )
    h_over_e: float = Field(
        default=0.25, gt=0, le=1, description="light of the long component over that of the short"
    )
    sampling: float = Field(
        default=1.0, ge=0, le=5, description="√GeV: σ / E = sampling / √E, beside the photons' own"
    )
    upstream: float = Field(
        default=0.0, ge=0, le=5, description="dead material before the face, X_0"
    )
    n_events: int = Field(default=4000, ge=1)
    seed: int = Field(default=1, ge=0, lt=2**63)
    angle: ClassVar[float] = 0.0
    """Degrees to the axis: some 10⁻² at most."""

    @model_validator(mode="before")
    @classmethod
    def _wide_for_protons(cls, values: Any) -> Any:
        is_proton = isinstance(values, dict) and values.get("particle") == "proton"
        return {**_OF_PROTONS, **values} if is_proton else values

    @field_validator("process", mode="before")
    @classmethod
    def _plain_process(cls, value: object) -> object:
        return value.strip().lower() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _usable(self) -> ZdcSpec:
        low, high = self.energy
        if not _LOWEST <= low <= high <= PION_ENERGIES[1]:
            raise ValueError(
                f"energy: {low:g} to {high:g} GeV must ascend, within {_LOWEST:g} and "
                f"{PION_ENERGIES[1]:g}, where hadronic showers are parametrised"
            )
        if min(self.vertex) < 0:
            raise ValueError("vertex: standard deviations must not be negative")
        beyond = max(1000 * self.divergence * self.distance / 1e6, *self.vertex[:2])
        if beyond > self.half_width[1]:
            raise ValueError(
                f"divergence, vertex: particles are spread over ± {beyond:.3g} mm at the face, "
                f"which reaches ± {self.half_width[1]:.3g} mm"
            )
        return self

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str, folder: Path | None = None) -> ZdcSpec:
        """Check a mapping, such as a card's ``generate:``.

        Raises
        ------
        CardError
            Naming every fault and, for an unknown key, the nearest known one.
        """
        return parse_model(cls, dict(values), where)

    @property
    def grid(self) -> Grid:
        """Fibres."""
        return PRESETS[ZDC_NEUTRON if self.particle == "neutron" else ZDC_PROTON]

    @property
    def material(self) -> Medium:
        """What the shower develops in."""
        return MEDIA["w_quartz" if self.particle == "neutron" else "brass_quartz"]

    @property
    def pitch_mm(self) -> float:
        """Distance between fibres, mm."""
        return 1.6 if self.particle == "neutron" else 4.0

    @property
    def depth_mm(self) -> float:
        """Depth of the calorimeter, mm."""
        return 1000.0 if self.particle == "neutron" else 1500.0

    @property
    def layer_mm(self) -> float:
        """Depth in which all spots have one median radius, mm."""
        return 20.0

    @property
    def half_width(self) -> tuple[float, float]:
        """Half of the face in x and in y, mm."""
        _, n_x, n_y = self.grid.shape
        return 0.5 * n_x * self.pitch_mm, 0.5 * n_y * self.pitch_mm

    def fingerprint(self) -> str:
        """16 hex digits of all that the events depend on."""
        return fingerprint({**self.model_dump(mode="json"), "zdc_version": ZDC_VERSION})
