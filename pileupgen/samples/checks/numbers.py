"""Weights, μ, and numbers that stand for missing values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from pileupgen.samples.cards import DataCard
from pileupgen.samples.census import Census, Extreme
from pileupgen.samples.checks.finding import Finding
from pileupgen.samples.summary import IngestSummary

_REPEATED = 5
_CONTINUOUS = 0.5
"""Share of distinct energies above which a layer's are not a few repeated values."""
_MATTERS = 0.005
"""Share of a layer's energy above which a repeated value is told."""
_NINES = re.compile(r"9{2,}")
_FAR_MU = 3.0
"""The largest μ is reported if it is this many times any other."""
_FEW_EFFECTIVE = 0.1
_UNRELATED_SIGMA = 3.0
_UNRELATED_EVENTS = 100


def check_weights(
    summary: IngestSummary, census: Census, card: DataCard, where: str
) -> Iterator[Finding]:
    """Yield event weights that are not read, or by which no mean or only a rough one is defined."""
    if summary.unread_weights and card.weight is None:
        names = ", ".join(f"'{name}'" for name in summary.unread_weights[:3])
        yield Finding(
            "weights_unread",
            f"{where}: the files have {names}, which the card does not name: all events count "
            "alike",
            "Name the event weights in the card's weight, or say weight: none.",
        )
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
            "With so few events, everything that is learned and tested has large errors.",
        )


def check_sentinels(census: Census, card: DataCard, where: str) -> Iterator[Finding]:
    """Yield energies that are repeated bit for bit and stand for something else."""
    gev = {"GeV": 1.0, "MeV": 1e-3, "TeV": 1e3}[card.unit]
    towers = census.towers
    for layer, low, high, often, distinct, total in zip(
        towers.layers,
        towers.lowest,
        towers.highest,
        towers.frequent,
        towers.distinct,
        towers.size,
        strict=True,
    ):
        is_continuous = distinct > _CONTINUOUS
        for energy, count in dict([_spike(often), low, high]).items():
            value, is_repeated = energy / gev, count >= _REPEATED and is_continuous
            numbers = f"{count:,} number{'s' if count > 1 else ''} of '{layer}'"
            if _is_missing(value, count, is_continuous=is_continuous):
                yield Finding(
                    "sentinel",
                    f"{where}: {numbers} {'are' if count > 1 else 'is'} exactly {value:g}",
                    "That stands for a missing value: leave such cells or events out of the file.",
                    is_error=True,
                )
            elif is_repeated and abs(energy) * count > _MATTERS * total:
                end = ", its largest" if energy == high[0] else ""
                yield Finding(
                    "repeated_value",
                    f"{where}: {numbers} are exactly {value:g}{end}",
                    "If that stands for a missing value, leave it out; saturated cells, and values "
                    "that are clipped from below, stay so.",
                )


def _spike(often: Sequence[Extreme]) -> Extreme:
    """The most frequent value where it is far more frequent than any other."""
    if not often or (len(often) > 1 and often[0][1] < _REPEATED * often[1][1]):
        return 0.0, 0
    return often[0]


def _is_missing(value: float, count: int, *, is_continuous: bool) -> bool:
    if value > 0:
        return count > 1 and _is_nines(value)
    if not is_continuous:
        return count > 1 and _is_nines(value)
    is_whole = value == round(value) and count > 1
    return value < 0 and (_is_nines(value) or is_whole or count >= _REPEATED)


def _is_nines(value: float) -> bool:
    whole = round(abs(value))
    return abs(abs(value) - whole) < 1e-5 * whole and bool(_NINES.fullmatch(str(whole)))


def check_mu(summary: IngestSummary, census: Census, where: str) -> Iterator[Finding]:
    """Yield μ that is negative, unknown or without relation to the energy."""
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
    largest, count = census.highest_mu
    is_count = summary.units == () and summary.is_transverse
    if is_count and largest > _FAR_MU * census.next_mu > 0 and (count > 1 or _is_nines(largest)):
        yield Finding(
            "sentinel",
            f"{where}: μ is {largest:g} in {count:,} events, and at most {census.next_mu:g} in all "
            "others",
            "That stands for a missing value: write NaN there, or leave such events out.",
            is_error=True,
        )
    has_meaning = n_known >= _UNRELATED_EVENTS and summary.units == ()
    if has_meaning and abs(census.mu_correlation) < _UNRELATED_SIGMA / np.sqrt(n_known):
        yield Finding(
            "mu_unrelated",
            f"{where}: μ and ΣE_T are not correlated (ρ = {census.mu_correlation:.3f} over "
            f"{n_known:,} events)",
            "It may count something else than interactions: correct the card's mu, or mu: unknown.",
        )
