"""What a card says against what its format is."""

from __future__ import annotations

import re
from collections.abc import Iterator

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
    yield from _check_energies(card, where)


def _check_energies(card: DataCard, where: str) -> Iterator[Finding]:
    named = [(part.energies, part.quantity) for part in card.collections()]
    whole = [name for p in card.collections() if p.layer_values is None for name in p.energies]
    if card.format == "delphes":
        whole = list(card.options.get("layers", {}).values())
        named = [(tuple(whole), "E")]
    transverse = [
        name
        for names, quantity in named
        for name in names
        if quantity == "E" and _SOUNDS_TRANSVERSE.search(name)
    ]
    if transverse:
        yield Finding(
            "transverse_energy",
            f"{where}: '{transverse[0]}' sounds like transverse energy and is read as energy",
            "Name the branch or dataset with the energy, or say quantity: ET"
            + (", with format root." if card.format == "delphes" else "."),
        )
    twice = sorted({name for name in whole if whole.count(name) > 1})
    twice = twice or _sorted_twice(card)
    if twice:
        yield Finding(
            "layers_alike",
            f"{where}: '{twice[0]}' is read into several layers or collections, so that its energy "
            "counts again",
            "Name another branch for each.",
        )


def _sorted_twice(card: DataCard) -> list[str]:
    """Columns with energy of which several collections take cells of the same layer number."""
    seen, twice = set[tuple[str, str, int]](), list[str]()
    for part in card.collections():
        rule = part.layer_index
        numbers = [number for values in part.layer_values or () for number in values]
        keys = {(part.energies[0], repr(rule), number) for number in numbers}
        if keys & seen:
            twice.append(part.energies[0])
        seen |= keys
    return twice
