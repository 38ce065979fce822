"""Checks of where towers lie in η and φ, and where there are none."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pileupgen.arrays import Ints
from pileupgen.calo.geometry import TWO_PI, Grid
from pileupgen.samples.cards import DataCard
from pileupgen.samples.census import Census
from pileupgen.samples.checks.finding import Finding

_PLACELESS = ("calochallenge", "showerdata", "features", "jetnet")
"""Formats whose files say nothing of places in η and φ."""
_ETA_LIMIT = 8.0
_FEW_TWICE = 0.05
FEW_HITS = 20
"""Hits that a ring or sector would have to have by chance, for none to say anything."""
_SILENT_PHI = 1 / 8


def are_images(card: DataCard) -> bool:
    """Whether all of a card's cells are those of grids that the card itself describes."""
    collections = card.collections()
    return bool(collections) and all(one.is_image for one in collections)


def has_places(card: DataCard) -> bool:
    """Whether the files say where cells are, and not the card or the format."""
    return card.format not in _PLACELESS and not are_images(card)


def check_places(census: Census, card: DataCard, where: str) -> Iterator[Finding]:
    """Yield φ and η that no tower has."""
    if not has_places(card):
        return
    low, high = census.towers.phi
    turn = TWO_PI * (1 + 1e-3)
    if low < -turn or high > turn or census.towers.phi_span > turn:
        yield Finding(
            "phi_beyond_turn",
            f"{where}: φ of towers goes from {low:.4g} to {high:.4g}, beyond a turn of 2π rad",
            "φ is taken in rad: degrees and indices have to be converted in the file, and φ must "
            "not be exchanged with another branch.",
            is_error=True,
        )
    elif census.towers.is_phi_whole and high > low:
        yield Finding(
            "phi_whole",
            f"{where}: every φ is a whole number, from {low:g} to {high:g}",
            "An index is no angle: φ is taken in rad.",
            is_error=True,
        )
    low, high = census.towers.eta
    if low < -_ETA_LIMIT or high > _ETA_LIMIT:
        yield Finding(
            "eta_beyond",
            f"{where}: η of towers with energy goes from {low:.4g} to {high:.4g}",
            "No calorimeter reaches there: an index, an angle in degrees or a missing value is no "
            "pseudorapidity.",
            is_error=True,
        )
    elif census.towers.is_eta_whole and high > low:
        yield Finding(
            "eta_whole",
            f"{where}: every η is a whole number, from {low:g} to {high:g}",
            "An index is no pseudorapidity, unless the towers are that wide.",
        )
    n_looked_at, n_twice = census.towers.n_looked_at, census.towers.n_twice
    if n_twice > _FEW_TWICE * n_looked_at:
        yield Finding(
            "towers_twice",
            f"{where}: {n_twice / n_looked_at:.1%} of the {n_looked_at:,} towers looked at are in "
            "place and energy another tower of their event",
            "Their energy counts twice: leave the copies out of the file.",
        )


def check_silence(census: Census, grid: Grid, where: str) -> Iterator[Finding]:
    """Yield whole rings or a large part of the turn without a hit in any layer."""
    rings = np.sum(census.ring_hits, axis=0)
    is_there = ~np.all(grid.is_dead, axis=(0, 2))
    silent = np.flatnonzero((rings == 0) & is_there)
    if len(silent) and rings[is_there].mean() >= FEW_HITS:
        yield Finding(
            "rings_silent",
            f"{where}: {len(silent)} of {grid.n_eta} rings have no energy in any event "
            f"({named_rings(silent, grid)})",
            "The sample may end before the grid does, or η is another quantity.",
        )
    sectors = np.sum(census.sector_hits, axis=0)
    run = _longest_silent_run(sectors, is_turn=grid.phi_edges[-1] - grid.phi_edges[0] > 6.2)
    if run >= _SILENT_PHI * grid.n_phi and sectors.mean() >= FEW_HITS:
        yield Finding(
            "phi_silent",
            f"{where}: {run} adjacent of {grid.n_phi} φ sectors have no energy in any event",
            "φ may be in another unit (turns, π), or be another quantity such as η.",
        )


def _longest_silent_run(sectors: Ints, *, is_turn: bool) -> int:
    best = run = 0
    for hits in (*sectors, *sectors) if is_turn else sectors:
        run = run + 1 if hits == 0 else 0
        best = max(best, run)
    return min(best, len(sectors))


def named_rings(silent: Ints, grid: Grid) -> str:
    """Name up to three rings by their η."""
    names = [f"η = {grid.eta_centres[ring]:.2f}" for ring in silent[:3]]
    return ", ".join([*names, "…"] if len(silent) > 3 else names)
