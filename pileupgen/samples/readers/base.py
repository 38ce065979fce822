"""Classes that all readers share."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

CHUNK_BYTES = 1 << 22
"""Aim for the size of a chunk of towers, in bytes as stored uncompressed."""
MAX_CHUNK_EVENTS = 1024
SANE_ENERGY = 1e6
"""GeV; a cell with more is a damaged number or another unit."""

GEV = {"GeV": 1.0, "MeV": 1e-3, "TeV": 1e3}
"""What a unit of energy is in GeV."""

_TERM = re.compile(r"\s*(?P<branch>\S+?)(?:\s*(?P<sign>[+-])\s*(?P<number>\d+(?:\.\d*)?))?\s*")


@dataclass(frozen=True)
class MuSource:
    """Source of the number of pileup interactions: a branch, or one number for all."""

    branch: str | None
    """Branch with one number an event; None where μ is constant."""
    offset: float
    """Added to the branch; the constant itself (NaN: unknown) where there is no branch."""

    @classmethod
    def parse(cls, text: str | float) -> MuSource:
        """Read a card's ``mu``: a number, ``unknown``, or ``<branch> [+|- <number>]``.

        Raises
        ------
        ValueError
            If it is none of these.

        Examples
        --------
        >>> MuSource.parse("Vertex_size - 1")
        MuSource(branch='Vertex_size', offset=-1.0)
        >>> MuSource.parse(60)
        MuSource(branch=None, offset=60.0)
        """
        if not isinstance(text, str):
            return cls(None, float(text))
        if text.strip().lower() == "unknown":
            return cls(None, float("nan"))
        match = _TERM.fullmatch(text)
        if match is None:
            raise ValueError("must be a number, 'unknown', a branch, or '<branch> - <number>'")
        size = float(match["number"] or 0)
        return cls(match["branch"], -size if match["sign"] == "-" else size)


@dataclass(frozen=True)
class EventColumn:
    """Source of one number an event, such as the event weights."""

    branches: tuple[str, ...] = ()
    """Branches with one number an event; the first that a file has is read."""
    is_required: bool = False
    """Whether a file without any of them is an error."""

    @classmethod
    def parse(cls, text: str | None, defaults: tuple[str, ...]) -> EventColumn:
        """Read a card's ``weight`` or ``group``: a branch, ``none``, or None for the format's own.

        Examples
        --------
        >>> EventColumn.parse("mcEventWeight", ())
        EventColumn(branches=('mcEventWeight',), is_required=True)
        >>> EventColumn.parse("none", ("Event.Weight",))
        EventColumn(branches=(), is_required=False)
        """
        if text is None:
            return cls(defaults)
        if text.strip().lower() == "none":
            return cls()
        return cls((text.strip(),), is_required=True)


@dataclass(frozen=True)
class Format:
    """A file format that cards may name; each reader's module has one, called ``FORMAT``."""

    options: type[BaseModel]
    """What a card may say in ``options``."""
    mu: str
    """Default source of μ, where the card names none; see :meth:`MuSource.parse`."""
    open: Callable[..., Any]
    """``(files, options, mu, gev) -> Reader``; opens nothing yet."""
    sets_grid: bool = False
    """Whether the options have a ``grid`` of their own, as tables of features do."""
    weights: tuple[str, ...] = ()
    """Branches that hold event weights in this format, where a file has one of them."""
    groups: tuple[str, ...] = ()
    """Branches that say which events belong together, where a file has one of them."""
    ids: tuple[str, ...] = ()
    """Columns that hold the events' numbers, where a file has one of them."""
    unit: Literal["GeV", "MeV", "TeV"] | None = None
    """Unit of the energies, where the format itself says it; else a card has to."""
    zero_suppression: float = 0.0
    """Threshold in GeV that a config without one takes."""
