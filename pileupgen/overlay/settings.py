"""How to overlay: options of the command, and part of what an overlaid store says of itself."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from pileupgen.errors import ConfigError
from pileupgen.fields import option_name, setting, settings_of

Weights = Literal["event", "release", "none"]
NO_CUT = "none"


@dataclass(frozen=True)
class OverlaySettings:
    """How pileup is chosen for hard scatters and added to them."""

    mu_profile: str = setting(
        "library",
        "profile that μ is drawn from: library, the events as they are; flat:LOW,HIGH; "
        "poisson:MEAN; a text file with columns μ and probability; FILE.root:HISTOGRAM; or a "
        "sample's store or a run, for the profile that its events have",
        metavar="PROFILE",
    )
    interactions: bool = setting(
        False,
        "the library holds single interactions: as many as the μ profile gives are added to each "
        "hard scatter, each rotated in φ if its card says that the detector is symmetric in φ",
        option="--interactions",
    )
    keep: float = setting(
        1.0,
        "part of the interactions that stay, with --interactions: the others are left out at "
        "random, which lowers μ; a smaller part keeps some of those that a larger one keeps",
        metavar="PART",
    )
    max_reuse: int = setting(1, "largest number of uses of a source event of pileup", ge=1)
    copies: int = setting(1, "uses of each hard scatter, each time with other pileup", ge=1)
    mu_tolerance: float = setting(
        2.0,
        "largest distance of an event's μ from the μ that was drawn, once nearer ones are used up",
        ge=0.0,
    )
    weights: Weights = setting(
        "event",
        "weight of the pileup that the hard scatter's weight is multiplied by: its own (event), "
        "that of a translated event's release (release) or none",
    )
    zero_suppression: str = setting(
        NO_CUT,
        "threshold in GeV below which cells of the sum become 0: one number for all layers, or one "
        "for each with commas; none leaves the sum as it is",
        metavar="GeV,…",
    )
    pileup_part: str = setting(
        "1/1",
        "I-th of N parts of the library: overlays with other parts share no source event",
        metavar="I/N",
    )

    def __post_init__(self) -> None:
        for one in settings_of(type(self)):
            value, low = getattr(self, one.name), one.metadata.get("ge")
            if low is not None and not low <= value < math.inf:
                raise ConfigError(f"{option_name(one)} is {value}, but has to be ≥ {low}.")
        _ = self.part, self.cuts
        if not 0 < self.keep <= 1:
            raise ConfigError(f"--keep is {self.keep:g}, but has to be above 0 and at most 1.")
        if self.keep < 1 and not self.interactions:
            raise ConfigError(
                "--keep leaves out interactions of a library that has them one by one.",
                "Give --interactions, or choose events of lower μ with --mu-profile.",
            )
        if self.interactions and self.mu_profile == "library":
            raise ConfigError(
                "--interactions needs the profile of how many there are.",
                "Try --mu-profile poisson:60.",
            )

    @cached_property
    def part(self) -> tuple[int, int]:
        """Which part of the library, and of how many."""
        index, _, of = self.pileup_part.partition("/")
        if not (index.isdecimal() and of.isdecimal() and 1 <= int(index) <= int(of)):
            raise ConfigError(
                f"--pileup-part takes I/N with I from 1 to N, not '{self.pileup_part}'.",
                "Try --pileup-part 1/2.",
            )
        return int(index), int(of)

    @cached_property
    def cuts(self) -> tuple[float, ...]:
        """Thresholds of the sum in GeV: none, one for all layers, or one for each."""
        if self.zero_suppression == NO_CUT:
            return ()
        try:
            found = tuple(float(part) for part in self.zero_suppression.split(","))
        except ValueError:
            found = (math.nan,)
        if not all(0 <= cut < math.inf for cut in found):
            raise ConfigError(
                f"--zero-suppression takes numbers ≥ 0 in GeV, not '{self.zero_suppression}'.",
                "Try --zero-suppression 0.6, or 0.5,1.0 for two layers.",
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)
