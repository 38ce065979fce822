"""What pileup does to hard scatters: the same ones with simulated, translated and real pileup."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pileupgen.arrays import Flags, Floats, quotient
from pileupgen.compare.records import AnalysisNumber, OverlayEffects
from pileupgen.measure.bootstrap import estimate, resample
from pileupgen.measure.hard_objects import ISOLATED, HardObjects, OverlaidObjects

SAMPLES = ("data", "mc", "translated")
"""Pileup of the overlays; the others are compared with the first."""
JET_EDGES = (20.0, 30.0, 45.0, 70.0, np.inf)
"""GeV, p_T of jets without pileup."""
N_BINS = 3
"""Bins of μ and of ΣE_T, of about equally many events."""
MIN_OBJECTS = 25
"""Objects that a number is given for at least."""
_CENTRAL = (0.15865, 0.5, 0.84135)


@dataclass(frozen=True)
class OverlaidSample:
    """Overlaid events of one kind of pileup."""

    objects: OverlaidObjects
    mu: Floats
    """Number of pileup interactions of each event; NaN where unknown. Shape (N,)."""
    weight: Floats
    """Event weights. Shape (N,)."""


def overlay_effects(
    hard: HardObjects, samples: Mapping[str, OverlaidSample], n_bootstrap: int, seed: int
) -> OverlayEffects:
    """Compare what an analysis measures of the same hard scatters with different pileup.

    Intervals and differences are from a bootstrap over hard scatters, the same draws for all
    samples: what the hard scatters have in common does not enter the differences.

    Parameters
    ----------
    hard : HardObjects
        The hard scatters without pileup.
    samples : mapping
        Those of ``SAMPLES`` with pileup, event by event the same hard scatters.
    """
    rng = np.random.default_rng([seed, 23])
    once = np.ones((hard.n_events, 1))
    counts = np.concatenate([once, resample(hard.n_events, n_bootstrap, rng)], axis=1)
    numbers = []
    for family, name, unit, measure in _quantities(hard, samples):
        found = {kind: measure(sample, counts) for kind, sample in samples.items()}
        if all(np.isfinite(values[0]) for values in found.values()):
            numbers.append(_number(family, name, unit, found))
    return OverlayEffects(n_events=hard.n_events, numbers=tuple(numbers))


def _number(family: str, name: str, unit: str, found: Mapping[str, Floats]) -> AnalysisNumber:
    sigmas = {}
    for kind in SAMPLES[1:]:
        shift = found[kind] - found[SAMPLES[0]]
        spread = float(np.nanstd(shift[1:]))
        nothing = 0.0 if shift[0] == 0 else float("nan")
        sigmas[kind] = float(shift[0]) / spread if spread > 0 else nothing
    return AnalysisNumber(
        family=family,
        name=name,
        unit=unit,
        values={kind: estimate(values[0], values[1:]) for kind, values in found.items()},
        sigmas=sigmas,
    )


Measure = Callable[[OverlaidSample, Floats], Floats]
_Quantity = tuple[str, str, str, Measure]


def _quantities(hard: HardObjects, samples: Mapping[str, OverlaidSample]) -> Iterator[_Quantity]:
    """Family, name, unit and measure of each number; a measure gives NaN where there is too little.

    A measure takes a sample and how often each event counts in each draw, (N, 1 + B), and gives
    the number of each draw, (1 + B,).
    """
    for low, high in pairwise(JET_EDGES):
        chosen = (hard.jet_pt >= low) & (hard.jet_pt < high)
        where = f"p_T > {low:g} GeV" if np.isinf(high) else f"p_T {low:g} … {high:g} GeV"
        yield "jets", f"response, {where}", "", _jets(hard, chosen, _median)
        yield "jets", f"resolution, {where}", "", _jets(hard, chosen, _relative_width)
    yield "jets", "found again", "", _jets(hard, hard.jet_pt > 0, None)
    mu = np.concatenate([sample.mu for sample in samples.values()])
    if np.all(np.isfinite(mu)):
        for where, choose in _bins("μ", "", mu, lambda sample: sample.mu):
            yield "pileup jets", f"per event, {where}", "", _mean_jets(choose)
            yield "E_T^miss", f"resolution, {where}", "GeV", _met(choose)
    sums = np.concatenate([sample.objects.sum_et for sample in samples.values()])
    for where, choose in _bins("ΣE_T", " GeV", sums, lambda sample: sample.objects.sum_et):
        yield "E_T^miss", f"resolution, {where}", "GeV", _met(choose)
    yield "isolation", "mean in the cone less ρA", "GeV", _isolation(hard, _mean)
    yield "isolation", "width", "GeV", _isolation(hard, _half_width)
    yield "isolation", f"isolated (below {ISOLATED:g} E_T)", "", _isolated(hard)


def _bins(
    symbol: str, unit: str, pooled: Floats, values: Callable[[OverlaidSample], Floats]
) -> Iterator[tuple[str, Callable[[OverlaidSample], Flags]]]:
    """Name bins of a variable, with what chooses the events of a sample that lie in them."""
    inner = np.quantile(pooled, np.linspace(0, 1, N_BINS + 1)[1:-1])
    edges = np.unique(np.concatenate([[-np.inf], np.round(inner), [np.inf]]))
    for low, high in pairwise(edges.tolist()):
        where = f"{symbol} {low:g} … {high:g}{unit}"
        if np.isinf(low):
            where = f"all {symbol}" if np.isinf(high) else f"{symbol} < {high:g}{unit}"
        elif np.isinf(high):
            where = f"{symbol} ≥ {low:g}{unit}"

        def choose(sample: OverlaidSample, low: float = low, high: float = high) -> Flags:
            found = values(sample)
            return np.asarray((found >= low) & (found < high))

        yield where, choose


def _jets(
    hard: HardObjects,
    chosen: Flags,
    summarise: Callable[[Floats, Floats], Floats] | None,
) -> Measure:
    """Make a measure of the p_T with pileup over that without, or of the part of jets found."""

    def measure(sample: OverlaidSample, counts: Floats) -> Floats:
        ratio = sample.objects.jet_pt / hard.jet_pt
        weight = (sample.weight[:, None] * counts)[hard.jet_event]
        if summarise is None:
            return _mean(np.isfinite(ratio[chosen]).astype(np.float64), weight[chosen])
        kept = chosen & np.isfinite(ratio)
        return summarise(ratio[kept], weight[kept])

    return measure


def _mean_jets(choose: Callable[[OverlaidSample], Flags]) -> Measure:
    def measure(sample: OverlaidSample, counts: Floats) -> Floats:
        kept = choose(sample)
        weight = (sample.weight[:, None] * counts)[kept]
        return _mean(sample.objects.n_pileup_jets[kept], weight)

    return measure


def _met(choose: Callable[[OverlaidSample], Flags]) -> Measure:
    """Root mean square of a component of E_T^miss about that of the hard scatter."""

    def measure(sample: OverlaidSample, counts: Floats) -> Floats:
        kept = choose(sample)
        weight = (sample.weight[:, None] * counts)[kept]
        squares = np.square(sample.objects.met[kept]).mean(axis=1)
        return np.sqrt(_mean(squares, weight))

    return measure


def _isolation(hard: HardObjects, summarise: Callable[[Floats, Floats], Floats]) -> Measure:
    def measure(sample: OverlaidSample, counts: Floats) -> Floats:
        weight = (sample.weight[:, None] * counts)[hard.lepton_event]
        return summarise(sample.objects.isolation - hard.lepton_isolation, weight)

    return measure


def _isolated(hard: HardObjects) -> Measure:
    def measure(sample: OverlaidSample, counts: Floats) -> Floats:
        weight = (sample.weight[:, None] * counts)[hard.lepton_event]
        is_isolated = sample.objects.isolation < ISOLATED * hard.lepton_et
        return _mean(is_isolated.astype(np.float64), weight)

    return measure


def _mean(values: Floats, weight: Floats) -> Floats:
    total = weight.sum(axis=0)
    if len(values) < MIN_OBJECTS:
        return np.full(weight.shape[1], np.nan)
    return quotient(values @ weight, total, np.nan)


def _quantiles(values: Floats, weight: Floats) -> Floats:
    """Weighted quantiles at ``_CENTRAL`` of each draw, shape (3, 1 + B)."""
    if len(values) < MIN_OBJECTS:
        return np.full((len(_CENTRAL), weight.shape[1]), np.nan)
    order = np.argsort(values)
    cumulative = np.cumsum(weight[order], axis=0)
    places = [(cumulative < q * cumulative[-1]).sum(axis=0) for q in _CENTRAL]
    return values[order][np.minimum(places, len(values) - 1)]


def _median(values: Floats, weight: Floats) -> Floats:
    found: Floats = _quantiles(values, weight)[1]
    return found


def _half_width(values: Floats, weight: Floats) -> Floats:
    low, _, high = _quantiles(values, weight)
    return 0.5 * (high - low)


def _relative_width(values: Floats, weight: Floats) -> Floats:
    low, middle, high = _quantiles(values, weight)
    found: Floats = 0.5 * (high - low) / middle
    return found
