"""What a store's provenance says of the detector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def has_symmetry(provenance: Mapping[str, Any], name: str) -> bool:
    """Whether the card of a store's provenance says that the detector has a symmetry.

    Parameters
    ----------
    provenance : mapping
        Of a store; one without a card says no.
    name : str
        ``phi_symmetric`` or ``eta_symmetric``.
    """
    return bool(provenance.get("card", {}).get("detector", {}).get(name, False))


def period_of(provenance: Mapping[str, Any]) -> str | None:
    """Period of data taking whose conditions events have; None where nothing names one.

    That of the card's detector, else of what is generated for the card; of translated events that
    of their target, and of overlaid ones that of their pileup.

    Parameters
    ----------
    provenance : mapping
        Of a store or an overlay library.
    """
    if provenance.get("stage") == "overlay":
        return period_of(provenance["pileup"]["provenance"])
    if "source" in provenance:
        named = provenance.get("period")
    else:
        card = provenance.get("card") or {}
        generated = (card.get("generate") or {}).get("period")
        named = (card.get("detector") or {}).get("period", generated)
    return None if named is None else str(named)
