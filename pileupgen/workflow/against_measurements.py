"""What measurements ask of the source's generator, beside what target and translation do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pileupgen.arrays import Flags
from pileupgen.compare.records import AgainstMeasurements, EtaBin, PublishedTable
from pileupgen.errors import CardError
from pileupgen.measure.bootstrap import Estimate
from pileupgen.measure.sample import Sample
from pileupgen.simulate.generators import JET_PROCESSES
from pileupgen.simulate.measured.check import GeneratorCheck, TableCheck
from pileupgen.simulate.measured.record import nearest_check, where_checked
from pileupgen.simulate.spec import SampleSpec


def find_check(provenance: Mapping[str, Any], cache: Path) -> tuple[GeneratorCheck, str] | None:
    """Find the last check of the generator that a store's sample was made with.

    Parameters
    ----------
    provenance : mapping
        The store's; its card says how the sample was generated.

    Returns
    -------
    tuple of GeneratorCheck and str, or None
        The check, and what it is of in words; None where the sample was not generated here or its
        generator was not checked.
    """
    values = provenance.get("card", {}).get("generate")
    if not values or values.get("process") in JET_PROCESSES:
        return None
    names = ("generator", "process", "tune", "sqrt_s", "minimum_bias", "hard_scatter")
    try:
        # A store that another version made is none the worse for values unknown to this one.
        spec = SampleSpec.parse({k: values[k] for k in names if k in values}, "the card")
    except CardError:
        return None
    pileup = spec.pools().get("pileup")
    if pileup is None or pileup.files:
        return None
    check = nearest_check(pileup, cache)
    return None if check is None else (check, where_checked(check, spec))


def against_measurements(
    check: GeneratorCheck, words: str, source: Sample, target: Sample, translated: Sample
) -> AgainstMeasurements:
    """Put a check of the source's generator beside the samples.

    Single interactions of a generator can be compared with a measurement, images of many
    interactions in a calorimeter cannot. But where the E_T density of the generator is too low by
    some factor, so is its pileup; whether the target is higher by that factor, and whether the
    translated events are, is seen in the same bins of |η|.
    """
    published = tuple(
        PublishedTable(title=table.head.title, source=table.head.source, found=table.note)
        for table in check.tables
    )
    density = next((t for t in check.tables if t.head.quantity == "et_density"), None)
    bins: list[EtaBin] = []
    if density is not None:
        made = (_bin(density, i, source, target, translated) for i in range(density.n_bins))
        bins = [one for one in made if one is not None]
    return AgainstMeasurements(generator=words, published=published, bins=tuple(bins))


def _bin(
    density: TableCheck, i: int, source: Sample, target: Sample, translated: Sample
) -> EtaBin | None:
    """One bin of the E_T density; None where the samples do not reach over all of it."""
    low, high = float(density.low[i]), float(density.high[i])
    edges = np.asarray(source.grid.eta_edges)
    ends = np.sort(np.abs([edges[:-1], edges[1:]]), axis=0)
    inside = (ends[0] >= low - 1e-6) & (ends[1] <= high + 1e-6)
    if np.diff(edges)[inside].sum() < 1.9 * (high - low):
        return None
    ratio = float(density.ratio[i])
    side = density.up[i] if ratio > 1 else density.down[i]
    relative = np.hypot(side / density.measured[i], density.error[i] / density.generated[i])
    return EtaBin(
        low=low,
        high=high,
        asked=_around(1 / ratio, float(relative) / ratio),
        target=_over(target, source, inside),
        translated=_over(translated, source, inside),
    )


def _over(sample: Sample, source: Sample, inside: Flags) -> Estimate:
    """ΣE_T in some rings over that of the source, an interaction where μ is known."""
    (value, error), (base, base_error) = _mean_et(sample, inside), _mean_et(source, inside)
    if base <= 0 or value <= 0:
        return _around(float("nan"), float("nan"))
    return _around(value / base, value / base * np.hypot(error / value, base_error / base))


def _mean_et(sample: Sample, inside: Flags) -> tuple[float, float]:
    """Mean and error; those of rings are added up, as the number of interactions moves all."""
    mu = float(np.average(sample.mu, weights=sample.weight))
    each = mu if np.isfinite(mu) and mu > 0 else 1.0
    total = sample.cells.ring_et[:, inside].sum() / each
    return float(total), float(sample.cells.ring_et_error[:, inside].sum() / each)


def _around(value: float, error: float) -> Estimate:
    return Estimate(float(value), float(value - error), float(value + error))
