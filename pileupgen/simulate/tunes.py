"""Tunes of Pythia 8 that come with the package, beside Pythia's own numbered ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pileupgen.errors import did_you_mean

Tune = int | str
"""Pythia's ``Tune:pp``, or a name of ``TUNES``."""


@dataclass(frozen=True)
class NamedTune:
    """A numbered tune with other values of some settings."""

    base: int
    """``Tune:pp`` that it begins with."""
    settings: Mapping[str, str]
    """What differs from it, by Pythia's names."""
    source: str
    """How the values were found."""

    def to_dict(self) -> dict[str, object]:
        """Plain values, for fingerprints."""
        return {"base": self.base, "settings": dict(self.settings)}


TUNES: Mapping[str, NamedTune] = {
    "ET7": NamedTune(
        base=8,
        settings={
            "MultipartonInteractions:pT0Ref": "1.7745",
            "MultipartonInteractions:a1": "0.03",
            "ColourReconnection:range": "5.8",
            "SigmaDiffractive:maxXB": "15",
            "SigmaDiffractive:maxAX": "15",
            "SigmaDiffractive:maxXX": "15",
        },
        source="benchmarks/tune_fit.py: ATLAS' E_T density and spectra (1208.6256) and charged "
        "multiplicity (1012.5104) at 7 TeV, beginning with A2 (ATL-PHYS-PUB-2012-003)",
    ),
}
"""Name → tune."""


def parse_tune(value: object) -> object:
    """A number for digits, a name of ``TUNES`` as it is spelt there; other things as they are.

    Raises
    ------
    ValueError
        If no tune has this name.
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.isdigit():
        return int(text)
    known = {name.lower(): name for name in TUNES}
    if text.lower() not in known:
        near = did_you_mean(text, TUNES)
        raise ValueError(f"no tune '{value}' beside Pythia's numbers. {near}")
    return known[text.lower()]


def tune_settings(tune: Tune | None) -> dict[str, str]:
    """Settings of Pythia 8 that make up a tune, in the order in which they are read."""
    if tune is None:
        return {}
    if isinstance(tune, int):
        return {"Tune:pp": str(tune)}
    named = TUNES[tune]
    return {"Tune:pp": str(named.base), **named.settings}
