"""Checks between reading and training: what cannot be physics, and what may be a mistake.

Each check has a name. A finding that cannot be physics is an error unless its name is allowed
(``preprocess.allow`` in the config, ``--allow``); all others are warnings with their numbers.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from pileupgen.calo.geometry import TWO_PI, Grid
from pileupgen.errors import ConfigError, ImplausibleInputError, did_you_mean
from pileupgen.samples.cards import DataCard
from pileupgen.samples.census import Census, Extreme
from pileupgen.samples.readers import FORMATS
from pileupgen.samples.summary import IngestSummary

ERRORS = (
    "phi_beyond_turn",
    "phi_whole",
    "eta_beyond",
    "empty_events",
    "layer_dropped",
    "energy_scale",
    "sentinel",
    "mu_negative",
    "weights",
    "unit_of_format",
)
"""Checks whose findings may be errors, and which may be allowed by name."""
PLACELESS = ("hdf5", "calochallenge", "features", "jetnet")
"""Formats whose files say nothing of places in η and φ: the card or the format does."""

_ETA_LIMIT = 10.0
_FEW_HITS = 20
"""Hits that a ring or sector would have to have by chance, for none to say anything."""
_REPEATED = 5
_CONTINUOUS = 0.5
"""Share of distinct energies above which a layer's are not a few values over and over."""
_NINES = re.compile(r"9{2,}")
_SCALE_ERROR = 100.0
_FAR_APART = 2.0
_EM_APART = 0.3
_LOSS_APART = 0.1
_MUCH_SUPPRESSED = 0.25
_MUCH_OUTSIDE = 0.98
_FEW_SHARED = 0.01
_IMAGE_OUTSIDE = 0.005
_MUCH_NEGATIVE = 0.2
_MANY_EMPTY = 0.05
_SILENT_PHI = 1 / 8
_PER_INTERACTION = (0.05, 500.0)
"""GeV of E_T per interaction and unit of η; at 13 TeV it is about 5."""
_HIT_ENERGY = (0.01, 300.0)
"""GeV, mean of the cells with energy."""
_FEW_EFFECTIVE = 0.1
_UNRELATED_SIGMA = 3.0
_UNRELATED_EVENTS = 100
_MU_APART = 0.1
_MU_ALARM = 1e-3
"""Kolmogorov-Smirnov p-value below which two μ profiles are called different."""
_COUNT_OF = re.compile(r"(?P<what>\w+)_size\b")
_INTERACTIONS = re.compile(r"(?i)vert|pile_?up|interact|(^|_)n?pu($|_)")
_SOUNDS_TRANSVERSE = re.compile(r"(^|[._/])(et|pt|e_t|p_t)$", re.IGNORECASE)


@dataclass(frozen=True)
class Finding:
    """What a check found."""

    name: str
    """Name of the check, by which it is allowed."""
    message: str
    hint: str
    """What and where, with numbers; how to correct it."""
    is_error: bool = False
    """Whether it cannot be physics; else it is a warning."""

    def __str__(self) -> str:
        return f"{self.name}: {self.message}. {self.hint}"


def require_known(allow: Collection[str]) -> None:
    """Refuse names that no check has.

    Raises
    ------
    ConfigError
        Naming the near ones.
    """
    for name in allow:
        if name not in ERRORS:
            raise ConfigError(f"No check '{name}' can be allowed.", did_you_mean(name, ERRORS))


def judge(findings: Sequence[Finding], allow: Collection[str] = ()) -> list[Finding]:
    """Refuse what cannot be physics, unless it is allowed.

    Parameters
    ----------
    allow : collection of str
        Names of checks that are no errors.

    Returns
    -------
    list of Finding
        Warnings, and errors that are allowed.

    Raises
    ------
    ImplausibleInputError
        Names all errors that are not allowed.
    """
    errors = [found for found in findings if found.is_error and found.name not in allow]
    if errors:
        message = "; ".join(f"{found.name}: {found.message}" for found in errors)
        hints = " ".join(found.hint for found in errors)
        names = " ".join(f"--allow {name}" for name in dict.fromkeys(e.name for e in errors))
        raise ImplausibleInputError(f"{message}.", f"{hints} If it is meant so: {names}.")
    return list(findings)


def check_sample(
    summary: IngestSummary, card: DataCard, grid: Grid, where: str = ""
) -> list[Finding]:
    """Check one sample by itself.

    Parameters
    ----------
    summary : IngestSummary
        Summary of the sample; without a census nothing is found.
    card : DataCard
        How it was read.
    grid : Grid
        What it was drawn on.
    where : str
        What the sample is called in messages; its card's name if not given.

    Returns
    -------
    list of Finding
    """
    if summary.census is None:
        return []
    where = where or f"card '{card.name}'"
    found = [*_card(card, where), *_weights(summary, summary.census, where)]
    found += _sentinels(summary.census, card, where)
    found += _pileup(summary, summary.census, where)
    if grid.units is None:
        found += _places(summary.census, card, where)
        found += _layers(summary.census, grid, where)
        found += _energies(summary, summary.census, card, grid, where)
        found += _silence(summary.census, grid, where)
        found += _silent_cells(summary, where)
    if summary.census.n_duplicates:
        found.append(
            Finding(
                "duplicates",
                f"{where}: {summary.census.n_duplicates:,} of {summary.n_events:,} events repeat "
                "another one in every ring",
                "If a file was given twice or events were copied, leave the copies out: intervals "
                "would come out too narrow.",
            )
        )
    return found


def check_pair(mc: IngestSummary, data: IngestSummary, grid: Grid) -> list[Finding]:
    """Check two samples against each other.

    Parameters
    ----------
    mc, data : IngestSummary
        Summaries of the two domains.
    grid : Grid
        What both were drawn on.

    Returns
    -------
    list of Finding
    """
    if mc.census is None or data.census is None:
        return []
    found: list[Finding] = []
    if mc.n_events == data.n_events and (mc.mean_sum_et, mc.sd_sum_et, mc.energy) == (
        data.mean_sum_et,
        data.sd_sum_et,
        data.energy,
    ):
        found.append(
            Finding(
                "same_events",
                "mc and data have the same events",
                "There is nothing to translate: correct 'samples' in the config or the cards.",
            )
        )
    found += _scales(mc, data, grid)
    if grid.units is None:
        found += _apart(mc, data)
        found += _silent_in_one(mc.census, data.census, grid)
    return found


def check_profiles(
    mc: IngestSummary,
    data: IngestSummary,
    mc_mu: NDArray[np.floating[Any]],
    data_mu: NDArray[np.floating[Any]],
) -> list[Finding]:
    """Check whether two samples have the same pileup.

    Parameters
    ----------
    mc, data : IngestSummary
        Summaries of the two domains.
    mc_mu, data_mu : float arrays, shapes (N,) and (M,)
        μ of their events; NaN where unknown.

    Returns
    -------
    list of Finding
    """
    known = [mu[np.isfinite(mu)] for mu in (mc_mu, data_mu)]
    if not (len(known[0]) and len(known[1])):
        return [
            Finding(
                "mu_unknown",
                "μ is not known in both domains, so their pileup cannot be compared",
                "Name it in the cards' mu if the files have it.",
            )
        ]
    p_value = float(ks_2samp(*known).pvalue)
    if p_value >= _MU_ALARM:
        return []
    differ = (
        f"the μ profiles differ (⟨μ⟩ = {mc.mean_mu:.2f} and {data.mean_mu:.2f}, "
        f"Kolmogorov-Smirnov p = {p_value:.1e})"
    )
    if _counts_something_else(mc, data):
        found = Finding(
            "mu_counts_else",
            f"{differ}, but ⟨ΣE_T⟩ ({mc.mean_sum_et:.4g} and {data.mean_sum_et:.4g} GeV) and the "
            "occupancy do not follow",
            "One of the two counts something else than interactions (vertices, jets, an average): "
            "correct the card's mu, or set it to unknown; matching the profiles would spoil them.",
        )
    else:
        found = Finding(
            "mu_apart",
            differ,
            "This is no effect of the detector, yet it would be learned; --match-mu resample gives "
            "mc the profile of data.",
        )
    return [found]


def _counts_something_else(mc: IngestSummary, data: IngestSummary) -> bool:
    """Whether μ differs between domains while neither ΣE_T nor the occupancy follows it."""
    pairs = (
        (mc.mean_mu, data.mean_mu),
        (mc.mean_sum_et, data.mean_sum_et),
        (float(np.mean(mc.occupancy)), float(np.mean(data.occupancy))),
    )
    if any(not (a > 0 and b > 0) for a, b in pairs):
        return False
    of_mu, *others = (abs(float(np.log(a / b))) for a, b in pairs)
    return of_mu > _MU_APART and all(other < of_mu / 3 for other in others)


# -- one sample ----------------------------------------------------------------------------------


def _card(card: DataCard, where: str) -> Iterator[Finding]:
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


def _weights(summary: IngestSummary, census: Census, where: str) -> Iterator[Finding]:
    if census.weight_sum <= 0:
        yield Finding(
            "weights",
            f"{where}: the event weights add up to {census.weight_sum:g}",
            "No mean is defined: name another branch in the card's weight, or set weight: none.",
            is_error=True,
        )
    elif census.n_effective < _FEW_EFFECTIVE * summary.n_events:
        yield Finding(
            "weights",
            f"{where}: {summary.n_events:,} weighted events are worth {census.n_effective:,.0f}"
            + (
                f", {census.n_negative_weights:,} have a weight below 0"
                * bool(census.n_negative_weights)
            ),
            "Everything learned and tested will be as rough as so many events make it.",
        )


def _sentinels(census: Census, card: DataCard, where: str) -> Iterator[Finding]:
    gev = {"GeV": 1.0, "MeV": 1e-3, "TeV": 1e3}[card.unit]
    towers = census.towers
    for layer, low, high, distinct in zip(
        towers.layers, towers.lowest, towers.highest, towers.distinct, strict=True
    ):
        for extreme in (low, high):
            value, count = extreme[0] / gev, extreme[1]
            if count < 2:
                continue
            is_nines = _is_nines(value)
            is_repeated = count >= _REPEATED and distinct > _CONTINUOUS
            if is_nines or (is_repeated and value < 0):
                yield Finding(
                    "sentinel",
                    f"{where}: {count:,} numbers of '{layer}' are exactly {value:g}",
                    "That stands for a missing value: leave such cells or events out of the file.",
                    is_error=True,
                )
            elif is_repeated and _is_far_out(extreme, towers.absolute, towers.layers, layer):
                yield Finding(
                    "repeated_maximum",
                    f"{where}: {count:,} numbers of '{layer}' are exactly {value:g}, its largest",
                    "If that stands for a missing value, leave it out; saturated cells stay so.",
                )


def _is_nines(value: float) -> bool:
    whole = round(abs(value))
    return abs(abs(value) - whole) < 1e-5 * whole and bool(_NINES.fullmatch(str(whole)))


def _is_far_out(
    extreme: Extreme, absolute: Sequence[float], layers: Sequence[str], layer: str
) -> bool:
    """Whether what is repeated makes up a part of the layer's energy that matters."""
    total = absolute[layers.index(layer)]
    return total > 0 and abs(extreme[0]) * extreme[1] > 0.005 * total


def _pileup(summary: IngestSummary, census: Census, where: str) -> Iterator[Finding]:
    if census.n_mu_negative:
        yield Finding(
            "mu_negative",
            f"{where}: μ is below 0 in {census.n_mu_negative:,} of {summary.n_events:,} events",
            "Correct the card's mu (Delphes counts the hard scatter's vertex: Vertex_size - 1). If "
            "allowed, it is taken as unknown there.",
            is_error=True,
        )
    n_known = summary.n_events - census.n_mu_unknown - census.n_mu_negative
    if n_known > 0 and census.n_mu_unknown:
        yield Finding(
            "mu_unknown",
            f"{where}: μ is unknown (NaN or infinite) in {census.n_mu_unknown:,} of "
            f"{summary.n_events:,} events",
            "They are kept, marked NaN, and left out where profiles of μ are compared or matched.",
        )
    has_meaning = n_known >= _UNRELATED_EVENTS and summary.units == ()
    if has_meaning and abs(census.mu_correlation) < _UNRELATED_SIGMA / np.sqrt(n_known):
        yield Finding(
            "mu_unrelated",
            f"{where}: μ and ΣE_T are not correlated (ρ = {census.mu_correlation:.3f} over "
            f"{n_known:,} events)",
            "It may count something else than interactions: correct the card's mu, or mu: unknown.",
        )


def _places(census: Census, card: DataCard, where: str) -> Iterator[Finding]:
    if card.format in PLACELESS:
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


def _layers(census: Census, grid: Grid, where: str) -> Iterator[Finding]:
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


def _energies(
    summary: IngestSummary, census: Census, card: DataCard, grid: Grid, where: str
) -> Iterator[Finding]:
    if census.n_empty == summary.n_events:
        yield Finding(
            "empty_events",
            f"{where}: none of its {summary.n_events:,} events has energy in the grid",
            "Correct the card's branches and unit, or the geometry.",
            is_error=True,
        )
        return
    if census.n_empty > _MANY_EMPTY * summary.n_events:
        yield Finding(
            "empty_events",
            f"{where}: {census.n_empty:,} of {summary.n_events:,} events have no energy",
            "If they were not read out, leave them out of the file.",
        )
    after, suppressed = sum(summary.energy), sum(summary.energy_suppressed)
    outside = sum(summary.energy_outside)
    if suppressed > _MUCH_SUPPRESSED * (after + suppressed):
        yield Finding(
            "suppressed",
            f"{where}: zero suppression took {suppressed / (after + suppressed):.1%} of the energy",
            "Lower preprocess.zero_suppression, or set it to 0.",
        )
    # Images are drawn on a grid of their own, which the card or the format says.
    bearable = _IMAGE_OUTSIDE if card.format in PLACELESS else _MUCH_OUTSIDE
    if outside > bearable * (after + suppressed + outside):
        yield Finding(
            "outside",
            f"{where}: {outside / (after + suppressed + outside):.1%} of the energy is outside the "
            "grid",
            "Correct the geometry, or the card's branches or edges of η and φ.",
        )
    if card.format == "hdf5" and summary.n_shared > _FEW_SHARED * summary.n_towers:
        yield Finding(
            "regridded",
            f"{where}: {summary.n_shared / summary.n_towers:.1%} of the images' cells are no cells "
            "of the geometry; their energy is shared by area",
            "Correct the card's axes and edges, or the geometry, unless another grid is meant.",
        )
    negative, absolute = sum(census.towers.negative), sum(census.towers.absolute)
    if negative > _MUCH_NEGATIVE * absolute:
        yield Finding(
            "negative_energy",
            f"{where}: {negative / absolute:.1%} of the towers' Σ|E| is below 0",
            "Noise is; if the sample has none, another branch was read as energy.",
        )
    yield from _magnitude(summary, card, grid, where)


def _magnitude(summary: IngestSummary, card: DataCard, grid: Grid, where: str) -> Iterator[Finding]:
    hint = f"The card says units.energy: {card.unit}; correct it if the files are in another unit."
    if card.format == "calochallenge":
        return
    width = float(grid.eta_edges[-1] - grid.eta_edges[0])
    low, high = _PER_INTERACTION
    per_interaction = summary.mean_sum_et / max(summary.mean_mu, 1.0) / width
    if summary.mean_mu >= 1 and not low < per_interaction < high:
        yield Finding(
            "magnitude",
            f"{where}: ⟨ΣE_T⟩ is {per_interaction:.3g} GeV per interaction and unit of η; pileup "
            "at the LHC has about 5 GeV",
            hint,
        )
        return
    n_cells = grid.n_eta * grid.n_phi
    n_filled = sum(summary.occupancy) * n_cells
    mean = sum(summary.energy) / n_filled if n_filled > 0 else 0.0
    low, high = _HIT_ENERGY
    if n_filled > 0 and not low < mean < high:
        yield Finding(
            "magnitude",
            f"{where}: cells with energy have {mean:.3g} GeV on average",
            f"{hint} Images normalised to 1 are taken as they are.",
        )


def _silence(census: Census, grid: Grid, where: str) -> Iterator[Finding]:
    """Yield whole rings or a large part of the turn without a hit in any layer."""
    rings = np.sum(census.ring_hits, axis=0)
    is_there = ~np.all(grid.is_dead, axis=(0, 2))
    silent = np.flatnonzero((rings == 0) & is_there)
    if len(silent) and rings[is_there].mean() >= _FEW_HITS:
        yield Finding(
            "rings_silent",
            f"{where}: {len(silent)} of {grid.n_eta} rings have no energy in any event "
            f"({_named_rings(silent, grid)})",
            "The sample may end before the grid does, or η is another quantity.",
        )
    sectors = np.sum(census.sector_hits, axis=0)
    run = _longest_silent_run(sectors, is_turn=grid.phi_edges[-1] - grid.phi_edges[0] > 6.2)
    if run >= _SILENT_PHI * grid.n_phi and sectors.mean() >= _FEW_HITS:
        yield Finding(
            "phi_silent",
            f"{where}: {run} adjacent of {grid.n_phi} φ sectors have no energy in any event",
            "φ may be in another unit (turns, π), or be another quantity such as η.",
        )


def _silent_cells(summary: IngestSummary, where: str) -> Iterator[Finding]:
    if any(summary.n_silent):
        n, places = sum(summary.n_silent), list(summary.silent_places)
        shown = "; ".join([*places, "…"] if n > len(places) else places)
        yield Finding(
            "cells_silent",
            f"cells of {where} that never fire though others of their ring do: {n:,} ({shown})",
            "Where data's are dead, translation leaves them empty; dead_regions in the geometry "
            "takes them out in both domains.",
        )


def _longest_silent_run(sectors: NDArray[np.int64], *, is_turn: bool) -> int:
    best = run = 0
    for hits in (*sectors, *sectors) if is_turn else sectors:
        run = run + 1 if hits == 0 else 0
        best = max(best, run)
    return min(best, len(sectors))


def _named_rings(silent: NDArray[np.int64], grid: Grid) -> str:
    names = [f"η = {grid.eta_centres[ring]:.2f}" for ring in silent[:3]]
    return ", ".join([*names, "…"] if len(silent) > 3 else names)


# -- two samples ---------------------------------------------------------------------------------


def _scales(mc: IngestSummary, data: IngestSummary, grid: Grid) -> Iterator[Finding]:
    if grid.units is not None:
        pairs = [
            (f"the spread of {name}", first, second)
            for name, first, second in zip(grid.layers, mc.sd, data.sd, strict=True)
        ]
    else:
        pairs = [("⟨ΣE_T⟩", mc.mean_sum_et, data.mean_sum_et)]
    for what, first, second in pairs:
        if not (first > 0 and second > 0):
            continue
        ratio = max(first, second) / min(first, second)
        if ratio >= _SCALE_ERROR:
            yield Finding(
                "energy_scale",
                f"{what} is {first:.4g} in mc and {second:.4g} in data, a factor of {ratio:.3g} "
                "apart",
                "One of the cards has another unit than its files: correct units.energy (or the "
                "features' units).",
                is_error=True,
            )
        elif ratio >= _FAR_APART and grid.units is None:
            yield Finding(
                "far_apart",
                f"{what} is {first:.4g} GeV in mc and {second:.4g} GeV in data",
                "So large a difference is more than a detector's response: compare selections, "
                "pileup, geometry and units of the two cards.",
            )


def _apart(mc: IngestSummary, data: IngestSummary) -> Iterator[Finding]:
    for layer, first, second in zip(mc.layers, mc.occupancy, data.occupancy, strict=True):
        low, high = sorted((first, second))
        if low > 0 and high > 0.005 and high / low > _FAR_APART:
            yield Finding(
                "far_apart",
                f"occupancy of {layer} is {first:.4f} in mc and {second:.4f} in data",
                "Compare the thresholds of the two samples; zero suppression may lie between them.",
            )
    totals = [sum(summary.energy) for summary in (mc, data)]
    if "em" in mc.layers and len(mc.layers) > 1 and min(totals) > 0:
        place = mc.layers.index("em")
        first, second = mc.energy[place] / totals[0], data.energy[place] / totals[1]
        if abs(first - second) > _EM_APART:
            yield Finding(
                "far_apart",
                f"the EM fraction is {first:.3f} in mc and {second:.3f} in data",
                "Two layers may be exchanged in one of the cards.",
            )
    for name, what in (
        ("energy_suppressed", "zero suppression took"),
        ("energy_outside", "outside the grid is"),
    ):
        lost = [_share(summary, name) for summary in (mc, data)]
        if abs(lost[0] - lost[1]) > _LOSS_APART:
            yield Finding(
                "losses_apart",
                f"{what} {lost[0]:.1%} of the energy in mc and {lost[1]:.1%} in data",
                "Both domains should lose alike: compare thresholds and acceptance.",
            )


def _share(summary: IngestSummary, name: str) -> float:
    parts = {
        key: sum(getattr(summary, key)) for key in ("energy", "energy_suppressed", "energy_outside")
    }
    total = sum(parts.values())
    return parts[name] / total if total > 0 else 0.0


def _silent_in_one(mc: Census, data: Census, grid: Grid) -> Iterator[Finding]:
    for index, layer in enumerate(grid.layers):
        rings = np.array([mc.ring_hits[index], data.ring_hits[index]])
        sectors = np.array([mc.sector_hits[index], data.sector_hits[index]])
        for kind, hits in (("ring", rings), ("sector", sectors)):
            for domain, other in ((0, 1), (1, 0)):
                lacks = np.flatnonzero((hits[domain] == 0) & (hits[other] >= _FEW_HITS))
                if not len(lacks):
                    continue
                here, there = ("mc", "data")[domain], ("mc", "data")[other]
                if len(lacks) == hits.shape[1]:
                    what = f"layer '{layer}' has no energy in {here}"
                elif kind == "ring":
                    what = (
                        f"{len(lacks)} rings of '{layer}' have no energy in {here} "
                        f"({_named_rings(lacks, grid)})"
                    )
                else:
                    what = (
                        f"{len(lacks)} φ sectors of '{layer}' have no energy in {here} (φ = "
                        f"{grid.phi_centres[lacks[0]]:.2f}{', …' if len(lacks) > 1 else ''})"
                    )
                if kind == "ring" or len(lacks) < hits.shape[1]:
                    yield Finding(
                        "silent_in_one",
                        f"{what}, but {int(hits[other][lacks].sum()):,} hits in {there}",
                        "Correct the card's layers or the geometry; what one detector lacks, "
                        "dead_regions takes out of both.",
                    )
