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
    for options in _collections(card.options):
        yield from _check_energies(options, card.format, where)


def _check_energies(options: dict[str, Any], kind: str, where: str) -> Iterator[Finding]:
    names = _energy_names(options)
    is_transverse = options.get("quantity", "E") == "ET"
    transverse = [name for name in names if _SOUNDS_TRANSVERSE.search(name)]
    if transverse and not is_transverse and kind not in ("features", "jetnet", "calochallenge"):
        yield Finding(
            "transverse_energy",
            f"{where}: '{transverse[0]}' sounds like transverse energy and is read as energy",
            "Name the branch or dataset with the energy, or say quantity: ET"
            + (", with format root." if kind == "delphes" else "."),
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        yield Finding(
            "layers_alike",
            f"{where}: '{twice[0]}' is read into several layers, so that its energy counts again",
            "Name another branch for each layer.",
        )


def _collections(options: dict[str, Any]) -> list[dict[str, Any]]:
    """Options of each collection, or of the only one."""
    several = options.get("collections")
    if not isinstance(several, dict):
        return [options]
    return [one for one in several.values() if isinstance(one, dict)]


def _energy_names(options: dict[str, Any]) -> list[str]:
    """Columns with energy, one a layer, or one for all."""
    for one in ("dataset", "energy"):
        if isinstance(options.get(one), str):
            return [options[one]]
    layers = options.get("layers")
    columns = layers.values() if isinstance(layers, dict) else ()
    return [name for name in columns if isinstance(name, str)]
