"""What a card says against what its format is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pileupgen.samples.cards import DataCard
from pileupgen.samples.checks.finding import Finding
from pileupgen.samples.readers import FORMATS

_COUNT_OF = re.compile(r"(?P<what>\w+)_size\b")
_INTERACTIONS = re.compile(r"(?i)vert|pile_?up|interact|(^|_)n?pu($|_)")
_SOUNDS_TRANSVERSE = re.compile(r"(^|[._/])(et|pt|e_t|p_t)$", re.IGNORECASE)


def check_card(card: DataCard, where: str) -> Iterator[Finding]:
    """Yield what the card says against its format."""
    own = FORMATS[card.format].unit
    if card.format == "calochallenge" and card.unit != own:
        yield Finding(
            "unit_of_format",
            f"{where}: units.energy is {card.unit}; the CaloChallenge's files are in {own} by "
            "definition",
            f"Write units: {{energy: {own}}}.",
            is_error=True,
        )
    counted = _COUNT_OF.match(str(card.mu or ""))
    if card.format == "delphes" and counted and not _INTERACTIONS.search(counted["what"]):
        yield Finding(
            "mu_counts_else",
            f"{where}: μ is taken from '{counted[0]}', which counts '{counted['what']}'",
            "Vertices count interactions, other objects do not: correct the card's mu, or set it "
            "to unknown or a number.",
        )
    names = _energy_names(card.options, card.format)
    is_transverse = card.options.get("quantity", "E") == "ET"
    transverse = [name for name in names if _SOUNDS_TRANSVERSE.search(name)]
    if transverse and not is_transverse and card.format in ("delphes", "root", "hdf5", "cms_ig"):
        yield Finding(
            "transverse_energy",
            f"{where}: '{transverse[0]}' sounds like transverse energy and is read as energy",
            "With format root say quantity: ET; else name the branch or dataset with the energy.",
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        yield Finding(
            "layers_alike",
            f"{where}: '{twice[0]}' is read into several layers, so that its energy counts again",
            "Name another branch for each layer.",
        )


def _energy_names(options: dict[str, Any], kind: str) -> list[str]:
    if kind == "hdf5":
        return [str(options.get("dataset", ""))]
    layers = options.get("layers", {})
    names = [name for name in layers.values() if isinstance(name, str)] if layers else []
    if kind != "cms_ig" and isinstance(options.get("energy"), str):
        names.append(options["energy"])
    return names if isinstance(layers, dict) else []
