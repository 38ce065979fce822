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
"""Share of distinct energies above which a layer's are not a few values over and over."""
_NINES = re.compile(r"9{2,}")
_FEW_EFFECTIVE = 0.1
_UNRELATED_SIGMA = 3.0
_UNRELATED_EVENTS = 100


def check_weights(summary: IngestSummary, census: Census, where: str) -> Iterator[Finding]:
    """Yield event weights by which no mean, or only a rough one, is defined."""
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


def check_sentinels(census: Census, card: DataCard, where: str) -> Iterator[Finding]:
    """Yield energies that are repeated bit for bit and stand for something else."""
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
    has_meaning = n_known >= _UNRELATED_EVENTS and summary.units == ()
    if has_meaning and abs(census.mu_correlation) < _UNRELATED_SIGMA / np.sqrt(n_known):
        yield Finding(
            "mu_unrelated",
            f"{where}: μ and ΣE_T are not correlated (ρ = {census.mu_correlation:.3f} over "
            f"{n_known:,} events)",
            "It may count something else than interactions: correct the card's mu, or mu: unknown.",
        )
