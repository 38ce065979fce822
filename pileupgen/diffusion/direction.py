"""Direction of a translation: mc → data, its reverse, and the controls that stay in one domain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pileupgen.errors import ConfigError, did_you_mean
from pileupgen.models.networks.denoiser import DATA, MC

Domain = Literal["mc", "data"]
DOMAINS: tuple[Domain, ...] = ("mc", "data")
_LABELS: dict[Domain, int] = {"mc": MC, "data": DATA}


@dataclass(frozen=True)
class Direction:
    """Domains of the events before and after.

    data → data and mc → mc are controls: events should come out as they went in, and the source
    correlation of a control is the largest that its release allows.
    """

    source: Domain = "mc"
    target: Domain = "data"
    """Both ``mc`` or ``data``."""

    @property
    def source_label(self) -> int:
        """Class y of the source."""
        return _LABELS[self.source]

    @property
    def target_label(self) -> int:
        """Class y of the target."""
        return _LABELS[self.target]

    @property
    def other_label(self) -> int:
        """The class other than the target, from which guidance leads away."""
        return MC if self.target == "data" else DATA

    @property
    def is_control(self) -> bool:
        """Whether source and target are one domain."""
        return self.source == self.target

    @property
    def is_usual(self) -> bool:
        """Whether it leads from mc to data."""
        return self.source == "mc" and self.target == "data"

    @property
    def name(self) -> str:
        """Name used in file names.

        >>> Direction("data", "data").name
        'data_to_data'
        """
        return f"{self.source}_to_{self.target}"

    @property
    def sign(self) -> int:
        """Factor of ln p_data / p_mc that makes it ln p_target / p_source; 0 of a control."""
        return self.target_label - self.source_label

    def check(self) -> None:
        """Refuse unknown domains.

        Raises
        ------
        ConfigError
            Naming the known ones.
        """
        for role, domain in self.to_dict().items():
            if domain not in DOMAINS:
                raise ConfigError(f"No {role} domain '{domain}'.", did_you_mean(domain, DOMAINS))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"source": self.source, "target": self.target}
