"""Checks of two samples against each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from pileupgen.calo.geometry import Grid
from pileupgen.samples.census import Census
from pileupgen.samples.checks.finding import Finding
from pileupgen.samples.checks.places import FEW_HITS, named_rings
from pileupgen.samples.summary import IngestSummary

_SCALE_ERROR = 100.0
_FAR_APART = 2.0
_EM_APART = 0.3
_LOSS_APART = 0.1
_MU_APART = 0.1
_MU_ALARM = 1e-3
"""Kolmogorov-Smirnov p-value below which two μ profiles are called different."""


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
                lacks = np.flatnonzero((hits[domain] == 0) & (hits[other] >= FEW_HITS))
                if not len(lacks):
                    continue
                here, there = ("mc", "data")[domain], ("mc", "data")[other]
                if len(lacks) == hits.shape[1]:
                    what = f"layer '{layer}' has no energy in {here}"
                elif kind == "ring":
                    what = (
                        f"{len(lacks)} rings of '{layer}' have no energy in {here} "
                        f"({named_rings(lacks, grid)})"
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
