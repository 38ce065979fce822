"""Energies of one sample: where they go, and how large they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from pileupgen.calo.geometry import Grid
from pileupgen.samples.cards import DataCard
from pileupgen.samples.census import Census
from pileupgen.samples.checks.finding import Finding
from pileupgen.samples.checks.places import are_images, has_places
from pileupgen.samples.summary import IngestSummary

_MUCH_SUPPRESSED = 0.25
_MUCH_OUTSIDE = 0.98
_FEW_SHARED = 0.01
_IMAGE_OUTSIDE = 0.005
_MUCH_NEGATIVE = 0.2
_MANY_EMPTY = 0.05
_PER_INTERACTION = (0.05, 500.0)
"""GeV of E_T per interaction and unit of η; at 13 TeV it is about 5."""
_PILEUP = 10.0
_PER_PILEUP = 50.0
"""From so many interactions on, one hard scatter does not lift the mean above this."""
_PER_ETA = 2500.0
"""GeV of E_T per unit of η where μ is not known: 500 interactions, or central lead on lead."""
_LEFT_OUT = 0.01
_LAYERS_APART = 100.0
_HIT_ENERGY = (0.01, 300.0)
"""GeV, mean of the cells with energy."""


def check_layers(census: Census, grid: Grid, where: str) -> Iterator[Finding]:
    """Yield layers that the geometry lacks, and layers without energy."""
    towers = census.towers
    total = sum(towers.absolute)
    for layer, energy in zip(towers.layers, towers.absolute, strict=True):
        if layer not in grid.layers and energy > 0:
            yield Finding(
                "layer_dropped",
                f"{where}: the geometry has no layer '{layer}', which has {energy / total:.1%} of "
                "the towers' energy",
                "Add the layer to the geometry, or take it out of the card's layers.",
                is_error=True,
            )
    for layer, hits in zip(grid.layers, census.ring_hits, strict=True):
        if sum(hits) == 0 and np.sum(census.ring_hits) > 0:
            yield Finding(
                "layer_silent",
                f"{where}: layer '{layer}' has no energy in any event",
                "Correct the card's layers, unless the sample has none there.",
            )


def check_energies(
    summary: IngestSummary, census: Census, card: DataCard, grid: Grid, where: str
) -> Iterator[Finding]:
    """Yield empty events, energy that is lost, and energies of an unlikely size."""
    if census.n_empty == summary.n_events:
        yield Finding(
            "empty_events",
            f"{where}: none of its {summary.n_events:,} events has energy in the grid"
            + _all_left_out(census.towers.left_out),
            "Correct the card's branches, layers and unit, or the geometry.",
            is_error=True,
        )
        return
    if census.n_empty > _MANY_EMPTY * summary.n_events:
        yield Finding(
            "empty_events",
            f"{where}: {census.n_empty:,} of {summary.n_events:,} events have no energy",
            "If they were not read out, leave them out of the file.",
        )
    if not any(summary.occupancy):
        yield Finding(
            "empty_events",
            f"{where}: the zero suppression leaves no cell with energy in its "
            f"{summary.n_events:,} events",
            "Lower preprocess.zero_suppression, which is in GeV, or set it to 0.",
            is_error=True,
        )
        return
    after, suppressed = sum(summary.energy), sum(summary.energy_suppressed)
    outside = sum(summary.energy_outside)
    if after + suppressed > 0 and suppressed > _MUCH_SUPPRESSED * (after + suppressed):
        yield Finding(
            "suppressed",
            f"{where}: zero suppression took {suppressed / (after + suppressed):.1%} of the energy",
            "Lower preprocess.zero_suppression, or set it to 0.",
        )
    # Images are drawn on a grid of their own, which the card or the format says.
    bearable = _MUCH_OUTSIDE if has_places(card) else _IMAGE_OUTSIDE
    if after + suppressed + outside > 0 and outside > bearable * (after + suppressed + outside):
        yield Finding(
            "outside",
            f"{where}: {outside / (after + suppressed + outside):.1%} of the energy is outside the "
            "grid",
            "Correct the geometry, or the card's branches or edges of η and φ.",
        )
    if are_images(card) and summary.n_shared > _FEW_SHARED * summary.n_towers:
        yield Finding(
            "regridded",
            f"{where}: {summary.n_shared / summary.n_towers:.1%} of the images' cells are no cells "
            "of the geometry; their energy is shared by area",
            "Correct the card's axes and edges, or the geometry, unless another grid is meant.",
        )
    for name, energy in census.towers.collections.items():
        if energy == 0:
            yield Finding(
                "collection_silent",
                f"{where}: collection '{name}' has no energy in any event",
                "Correct its columns or scale in the card, or leave it out, unless it is empty.",
            )
    negative, absolute = sum(census.towers.negative), sum(census.towers.absolute)
    if negative > _MUCH_NEGATIVE * absolute:
        yield Finding(
            "negative_energy",
            f"{where}: {negative / absolute:.1%} of the towers' Σ|E| is below 0",
            "Noise is; if the sample has none, another branch was read as energy.",
        )
    left_out = census.towers.left_out
    if sum(left_out.values()) > _LEFT_OUT * (absolute + sum(left_out.values())):
        share = sum(left_out.values()) / (absolute + sum(left_out.values()))
        names = sorted(left_out, key=lambda name: -left_out[name])
        yield Finding(
            "layers_left_out",
            f"{where}: {share:.1%} of the cells' Σ|E| is in layers that the card does not name "
            f"({', '.join([*names[:3], '…'] if len(names) > 3 else names)})",
            "Add them to a layer of the card, unless they are meant to be left out.",
        )
    yield from _magnitude(summary, card, grid, where)


def _magnitude(summary: IngestSummary, card: DataCard, grid: Grid, where: str) -> Iterator[Finding]:
    if not summary.is_transverse:
        return
    hint = f"The card says units.energy: {card.unit}; correct it if the files are in another unit."
    density = summary.mean_sum_et / float(grid.eta_edges[-1] - grid.eta_edges[0])
    low, high = _PER_INTERACTION
    if summary.mean_mu >= 1:
        density /= summary.mean_mu
        if not low < density < (_PER_PILEUP if summary.mean_mu >= _PILEUP else high):
            yield Finding(
                "magnitude",
                f"{where}: ⟨ΣE_T⟩ is {density:.3g} GeV per interaction and unit of η; pileup at "
                "the LHC has about 5 GeV",
                hint,
            )
            return
    elif density > _PER_ETA:
        yield Finding(
            "magnitude",
            f"{where}: ⟨ΣE_T⟩ is {density:.4g} GeV per unit of η, that of {density / 5:,.0f} "
            "interactions at the LHC",
            hint,
        )
        return
    n_filled = np.array(summary.occupancy) * grid.n_eta * grid.n_phi
    mean = sum(summary.energy) / n_filled.sum()
    low, high = _HIT_ENERGY
    if not low < mean < high:
        yield Finding(
            "magnitude",
            f"{where}: cells with energy have {mean:.3g} GeV on average",
            f"{hint} Images normalised to 1 are taken as they are.",
        )
    has_hits = n_filled > 0
    hits = np.array(summary.energy)[has_hits] / n_filled[has_hits]
    names = np.array(grid.layers)[has_hits]
    if hits.min() > 0 and hits.max() > _LAYERS_APART * hits.min():
        least, most = int(hits.argmin()), int(hits.argmax())
        yield Finding(
            "layers_apart",
            f"{where}: cells with energy have {hits[least]:.3g} GeV on average in layer "
            f"'{names[least]}' and {hits[most]:.3g} GeV in layer '{names[most]}'",
            "One of the layers may be in another unit, or be another quantity.",
        )


def check_silent_cells(summary: IngestSummary, where: str) -> Iterator[Finding]:
    """Yield cells that never fire though others of their ring do."""
    if any(summary.n_silent):
        n, places = sum(summary.n_silent), list(summary.silent_places)
        shown = "; ".join([*places, "…"] if n > len(places) else places)
        yield Finding(
            "cells_silent",
            f"cells of {where} that never fire though others of their ring do: {n:,} ({shown})",
            "Where data's are dead, translation leaves them empty; dead_regions in the geometry "
            "takes them out in both domains.",
        )


def _all_left_out(left_out: Mapping[str, float]) -> str:
    """Name the cells that the card leaves out, those with the most energy first."""
    names = sorted((name for name in left_out if left_out[name] > 0), key=lambda n: -left_out[n])
    if not names:
        return ""
    return f"; the card leaves out all of its cells: {', '.join(names[:3])}" + ", …" * (
        len(names) > 3
    )
