"""Checks of two samples against each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.calo.geometry import Grid
from pileupgen.samples.census import Census
from pileupgen.samples.checks.finding import Finding
from pileupgen.samples.checks.places import FEW_HITS, named_rings
from pileupgen.samples.summary import IngestSummary

_SCALE_ERROR = 100.0
_FAR_APART = 2.0
_SUM_APART = 1.5
_SPREAD_APART = 2.5
_LAYER_APART = 0.3
_FEW_TIMES = 5.0
"""A ring or sector with this many times fewer hits than the layer counts as silent."""
_LOSS_APART = 0.1
_MU_APART = 0.1
_FEW_LEFT = 0.1
_FEW_EVENTS = 100
_MU_ALARM = 1e-3
"""Kolmogorov-Smirnov p-value below which two μ profiles are called different."""


def check_pair(mc: IngestSummary, data: IngestSummary, grid: Grid) -> list[Finding]:
    """Check two samples against each other."""
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
    mc_mu, data_mu : float arrays, shapes (N,) and (M,)
        μ of their events; NaN where unknown.
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
    # All that imports this package would wait for scipy.stats.
    from scipy.stats import ks_2samp

    p_value = float(ks_2samp(*known).pvalue)
    if p_value >= _MU_ALARM:
        return []
    differ = (
        f"the μ profiles differ (⟨μ⟩ = {mc.mean_mu:.4g} and {data.mean_mu:.4g}, "
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


def check_matching(
    before: IngestSummary, after: IngestSummary, data: IngestSummary, n_effective: float
) -> list[Finding]:
    """Check what is left of mc once it has the μ profile of data, and whether it fits data better.

    Parameters
    ----------
    before, after, data : IngestSummary
        Summaries of mc before and after, and of data.
    n_effective : float
        Events that mc is worth after it.

    Returns
    -------
    list of Finding
    """
    found = []
    if n_effective < max(_FEW_LEFT * before.n_events, min(_FEW_EVENTS, before.n_events)):
        found.append(
            Finding(
                "few_matched",
                f"matching the profiles of μ leaves {n_effective:,.0f} of {before.n_events:,} "
                "events of mc",
                "Everything learned from so few events has large errors: simulate with the "
                "pileup of data.",
            )
        )
    if _counts_something_else(before, data):
        found.append(
            Finding(
                "mu_counts_else",
                f"⟨ΣE_T⟩ was {before.mean_sum_et:.4g} GeV in mc and {data.mean_sum_et:.4g} GeV in "
                f"data while μ differed (⟨μ⟩ = {before.mean_mu:.4g} and {data.mean_mu:.4g}); with "
                f"the profile of data mc has {after.mean_sum_et:.4g} GeV",
                "One of the two counts something else than interactions: correct the card's mu, "
                "and leave out --match-mu.",
            )
        )
    return found


def _counts_something_else(mc: IngestSummary, data: IngestSummary) -> bool:
    """Whether μ differs between domains while neither ΣE_T nor the occupancy follows it."""
    others = [
        abs(float(np.log(a / b))) if a > 0 and b > 0 else np.inf
        for a, b in (
            (mc.mean_sum_et, data.mean_sum_et),
            (float(np.mean(mc.occupancy)), float(np.mean(data.occupancy))),
        )
    ]
    low, high = sorted((mc.mean_mu, data.mean_mu))
    of_mu = float(np.log(high / low)) if low > 0 else np.inf
    if not np.isfinite(of_mu):
        return high >= 1 and all(other < _MU_APART for other in others)
    return of_mu > _MU_APART and all(other < of_mu / 3 for other in others)


def _scales(mc: IngestSummary, data: IngestSummary, grid: Grid) -> Iterator[Finding]:
    pairs = [("⟨ΣE_T⟩", mc.mean_sum_et, data.mean_sum_et)]
    far, unit = _SUM_APART, " GeV"
    hint = (
        "So large a difference is more than a detector's response: compare selections, pileup, "
        "geometry and units of the two cards."
    )
    if grid.units is not None:
        pairs = [
            (f"the spread of {name}", first, second)
            for name, first, second in zip(grid.layers, mc.sd, data.sd, strict=True)
        ]
        far, unit = _SPREAD_APART, ""
        hint = "Compare selections and units, and which columns the two cards name."
    for what, first, second in pairs:
        low, high = sorted((first, second))
        if low == 0 < high:
            yield Finding(
                "far_apart",
                f"{what} is {first:.4g}{unit} in mc and {second:.4g}{unit} in data",
                "What does not vary in one domain cannot be translated: correct the card.",
            )
        elif low > 0 and high >= _SCALE_ERROR * low:
            yield Finding(
                "energy_scale",
                f"{what} is {first:.4g} in mc and {second:.4g} in data, a factor of "
                f"{high / low:.3g} apart",
                "One of the cards has another unit than its files: correct units.energy (or the "
                "features' units).",
                is_error=True,
            )
        elif low > 0 and high >= far * low:
            what = f"{what} is {first:.4g}{unit} in mc and {second:.4g}{unit} in data"
            yield Finding("far_apart", what, hint)


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
    if min(totals) > 0:
        shares = np.array([mc.energy, data.energy]) / np.array(totals)[:, None]
        # Where there are two layers, one says what the other does.
        apart = int(np.abs(shares[0] - shares[1]).argmax())
        first, second = (float(share) for share in shares[:, apart])
        if abs(first - second) > _LAYER_APART:
            yield Finding(
                "far_apart",
                f"layer '{mc.layers[apart]}' has {first:.1%} of the energy in mc and {second:.1%} "
                "in data",
                "Two layers may be exchanged in one of the cards, or one be in another unit.",
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
    """Yield layers, rings and sectors without hits in one domain, or with far fewer."""
    hint = (
        "Correct the card's layers or the geometry; what one detector lacks, dead_regions takes "
        "out of both."
    )
    for index, layer in enumerate(grid.layers):
        for kind, of_mc, of_data in (
            ("ring", mc.ring_hits[index], data.ring_hits[index]),
            ("φ sector", mc.sector_hits[index], data.sector_hits[index]),
        ):
            hits = np.array([of_mc, of_data], dtype=np.float64)
            for here, there in ((0, 1), (1, 0)):
                names = ("mc", "data")[here], ("mc", "data")[there]
                if not hits[here].any() or not hits[there].any():
                    if kind == "ring" and hits[there].sum() >= FEW_HITS:
                        what = f"layer '{layer}' has no energy in {names[0]}"
                        n_hits = f"{int(hits[there].sum()):,} hits in {names[1]}"
                        yield Finding("silent_in_one", f"{what}, but {n_hits}", hint)
                    continue
                expected = hits[there] * hits[here].sum() / hits[there].sum()
                lacks = (hits[there] >= FEW_HITS) & (expected >= FEW_HITS)
                lacks &= hits[here] * _FEW_TIMES < expected
                lacks |= (hits[here] == 0) & (hits[there] >= FEW_HITS)
                if not lacks.any():
                    continue
                found = np.flatnonzero(lacks)
                first = f"φ = {grid.phi_centres[found[0]]:.2f}{', …' if len(found) > 1 else ''}"
                place = named_rings(found, grid) if kind == "ring" else first
                n_here, n_there = (int(hits[domain][lacks].sum()) for domain in (here, there))
                yield Finding(
                    "silent_in_one",
                    f"{len(found)} {kind}{'s' if len(found) > 1 else ''} of '{layer}' with "
                    f"{f'{n_here:,}' if n_here else 'no'} hits in {names[0]} ({place}), but "
                    f"{n_there:,} in {names[1]}",
                    hint,
                )
