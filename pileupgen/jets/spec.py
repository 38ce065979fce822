"""Specification of a sample of jets: a ``JetSpec``, as a data card's ``generate:`` holds it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from pileupgen.faults import StrictModel, parse_model
from pileupgen.run import fingerprint, versions
from pileupgen.simulate.spec import MONASH

JET_VERSION = 2
"""Counts changes of the code that change the jets of one and the same spec."""


class JetSpec(StrictModel):
    """Large-R jets of boosted top quarks, W bosons or light partons, as JetNet's (2106.11535).

    Hard processes at leading order (g g, q q̄ → t t̄; q q̄ → W⁺W⁻; all of QCD), each parton's p_T
    within a window, hadronic W decays, parton shower, underlying event, hadronisation: Pythia 8.
    """

    process: Literal["top", "w", "qcd"]
    generator: Literal["pythia8"] = "pythia8"
    tune: int = Field(default=MONASH, ge=0, description="Pythia 8's Tune:pp")
    sqrt_s: float = Field(default=13000.0, ge=1000, le=1e6, description="GeV, proton on proton")
    n_events: int = Field(default=10_000, ge=1, description="jets")
    pt: float = Field(default=1000.0, ge=200, description="GeV; p_T of what the jets come from")
    pt_window: float = Field(default=0.01, gt=0, le=0.5, description="half width of it, over pt")
    jet_pt: tuple[float, float] = Field(
        default=(0.8, 1.6), description="window of a jet's p_T, over pt"
    )
    radius: float = Field(default=0.8, gt=0.1, le=1.5, description="R of anti-k_t")
    n_constituents: int = Field(default=30, ge=3, le=150, description="kept, in order of p_T")
    seed: int = Field(default=1, ge=0, lt=2**63)

    @field_validator("process", mode="before")
    @classmethod
    def _plain_process(cls, value: object) -> object:
        return value.strip().lower() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _can_be_made(self) -> JetSpec:
        low, high = self.jet_pt
        if not 0 < low < high:
            raise ValueError("jet_pt must be two ascending numbers above 0")
        if self.pt * (1 + self.pt_window) > 0.45 * self.sqrt_s:
            raise ValueError(f"pt {self.pt:g} is out of reach at sqrt_s {self.sqrt_s:g}")
        return self

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str, folder: Path | None = None) -> JetSpec:
        """Check a mapping, such as a card's ``generate:``.

        Raises
        ------
        CardError
            Naming every fault and, for an unknown key, the nearest known one.
        """
        return parse_model(cls, dict(values), where)

    def fingerprint(self) -> str:
        """16 hex digits of all that the jets depend on: values and versions."""
        return fingerprint(
            {
                **self.model_dump(mode="json"),
                "jet_version": JET_VERSION,
                "versions": self.versions(),
            }
        )

    def versions(self) -> dict[str, str]:
        """Versions of the packages that make the jets."""
        return versions("pythia8mc", "fastjet", "awkward")

    def switches(self) -> dict[str, str]:
        """Pythia's settings of the hard process."""
        processes = {
            "top": ("Top:gg2ttbar", "Top:qqbar2ttbar"),
            "w": ("WeakDoubleBoson:ffbar2WW",),
            "qcd": ("HardQCD:all",),
        }
        return {
            **dict.fromkeys(processes[self.process], "on"),
            "PhaseSpace:pTHatMin": f"{self.pt * (1 - self.pt_window):.10g}",
            "PhaseSpace:pTHatMax": f"{self.pt * (1 + self.pt_window):.10g}",
            "24:onMode": "off",
            "24:onIfAny": "1 2 3 4 5",
        }

    @property
    def parent(self) -> int | None:
        """PDG code of what the jets come from; None for any parton of the hard process."""
        return {"top": 6, "w": 24, "qcd": None}[self.process]
