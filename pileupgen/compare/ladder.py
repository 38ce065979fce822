"""What each part of a translation is worth: variants with one part left out, on the same events.

A translation is a chain: calibration, class switch, guidance, network, correction. Whether a part
does anything is not seen from the result, only from the result without it. The variants share
source and target events and every bootstrap draw of them, so that their differences have the
errors of paired comparisons, which are far smaller than those of the distances themselves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pileupgen.arrays import Floats
from pileupgen.compare.distance_table import resampled_distances, shift_removed
from pileupgen.compare.pileup_physics import measured, varies_in_mu
from pileupgen.compare.records import CLEAR, Difference, Ladder, Rung
from pileupgen.compare.resampling import Draws, Samples
from pileupgen.compare.significance import judge
from pileupgen.compare.source_correlation import block_source_correlation
from pileupgen.compare.two_sample import resampled_auc
from pileupgen.measure.bootstrap import Estimate, estimate
from pileupgen.measure.sample import Sample
from pileupgen.parallel.threads import Map

AS_ASKED = "asked"
"""The variant with nothing left out, which the others are compared with."""
FAMILIES = {
    "spectra": "cell spectra and energy sums",
    "correlations": "correlations between cells",
    "physics": "pileup physics",
}
PHYSICS = ("rho", "rho_resolution", "met_sigma")
"""Quantities of pileup that a rung tells over those of the target."""
_PREFIXES = {"correlations": ("corr_",), "physics": ("met", "rho", "cone_")}


def family_of(observable: str) -> str:
    """The family of an observable of images.

    >>> family_of("corr_phi_em"), family_of("rho_sigma"), family_of("sum_et_had")
    ('correlations', 'physics', 'spectra')
    """
    for family, prefixes in _PREFIXES.items():
        if observable.startswith(prefixes):
            return family
    return "spectra"


@dataclass(frozen=True)
class Variant:
    """A translation with a part left out, measured."""

    name: str
    label: str
    """Key, and what tables call it."""
    corrected: Sample
    """Events with the residual correction, which all variants have alike."""
    plain: Sample | None = None
    """Events without it; None where there is no correction to leave out."""

    def with_negatives(self) -> Variant:
        """Count cells below 0 among the observables, as the other samples' are then."""
        plain = None if self.plain is None else self.plain.with_negatives()
        return replace(self, corrected=self.corrected.with_negatives(), plain=plain)


def compare_variants(
    samples: Samples,
    variants: Sequence[Variant],
    *,
    settings: Mapping[str, Any],
    n_bootstrap: int = 100,
    n_seeds: int = 1,
    seed: int = 0,
    over: Map = map,
) -> Ladder:
    """Compare variants with the target and with the one as asked.

    Parameters
    ----------
    samples : Samples
        Target, reference and source; its translated sample is not looked at.
    variants : sequence of Variant
        Samples in the order of the source's events, one event each; one is named ``AS_ASKED``.
    n_bootstrap, n_seeds, seed : int
        Draws, and seeds of the two-sample test; without the correction one seed is taken.
    over : Map
        Over observables and variants.
    """
    if samples.have_negatives:
        variants = [variant.with_negatives() for variant in variants]
    # How often each source event is drawn, whatever its weight, for each variant has its own.
    alike, n = [np.ones(len(samples.source))], len(samples.source)
    weights = {"reference": [part.weight for part in samples.reference], "source": alike}
    draws = Draws.from_weights(
        samples.target.weight, {**weights, "translated": alike}, np.arange(n), n_bootstrap, seed
    )
    (drawn,) = draws.rows["source"]
    found = {
        **{variant.name: variant.corrected for variant in variants},
        **{_of_plain(v.name): v.plain for v in variants if v.plain is not None},
    }
    counts = {name: drawn * sample.weight[:, None] for name, sample in found.items()}
    distances = resampled_distances(
        samples.target,
        draws.target,
        {"reference": samples.reference, **{name: (part,) for name, part in found.items()}},
        {"reference": draws.rows["reference"], **{n: (c,) for n, c in counts.items()}},
        over,
    )
    means = {name: _family_means(of) for name, of in distances.items()}
    target_matrix = samples.target.matrix()

    compared = {variant.name for variant in variants}

    def auc_of(name: str) -> Floats:
        return resampled_auc(
            target_matrix,
            found[name].matrix(),
            draws.target,
            counts[name],
            # Of what is not corrected no difference is taken: one seed is enough.
            n_seeds=n_seeds if name in compared else min(n_seeds, 1),
            seed=seed,
        )

    aucs = dict(zip(found, over(auc_of, found), strict=True))
    source = means[variants[0].name]
    has_mu = varies_in_mu(samples.target) and all(
        varies_in_mu(variant.corrected) for variant in variants
    )
    in_target = _physics(samples.target, draws.target, samples.target, has_mu)

    def rung(variant: Variant) -> Rung:
        name, plain = variant.name, _of_plain(variant.name)
        verdict = judge(samples.target, variant.corrected)
        is_compared = name != AS_ASKED
        return Rung(
            name=name,
            label=variant.label,
            mean_w1=_estimate(means[name]["all"]),
            auc=_estimate(aucs[name]),
            block=block_source_correlation(
                samples.source.blocks, variant.corrected.blocks, counts[name]
            ),
            significance=verdict.significance,
            finding=verdict.findings[0].name if verdict.findings else "",
            families={k: _estimate(v) for k, v in means[name].items() if k != "all"},
            removed={
                key: shift_removed(source[key], value, means["reference"][key], CLEAR)
                for key, value in means[name].items()
            },
            physics={
                key: _estimate(values / in_target[key])
                for key, values in _physics(
                    variant.corrected, counts[name], samples.target, has_mu
                ).items()
            },
            w1_rise=_rise(means[name]["all"], means[AS_ASKED]["all"]) if is_compared else None,
            auc_rise=_rise(aucs[name], aucs[AS_ASKED]) if is_compared else None,
            plain_w1=_estimate(means[plain]["all"]) if plain in means else None,
            plain_auc=_estimate(aucs[plain]) if plain in aucs else None,
        )

    return Ladder(
        reference=_estimate(means["reference"]["all"]),
        reference_families={k: _estimate(v) for k, v in means["reference"].items() if k != "all"},
        rungs=tuple(over(rung, variants)),
        n_events=len(samples.source),
        settings=dict(settings),
    )


def _of_plain(name: str) -> str:
    return f"{name}, not corrected"


def _family_means(distances: Mapping[str, Floats]) -> dict[str, Floats]:
    """Mean W1/σ over all observables and over each family, (1 + B,)."""
    means = {"all": np.mean(list(distances.values()), axis=0)}
    for family in FAMILIES:
        own = [values for name, values in distances.items() if family_of(name) == family]
        if own and len(own) < len(distances):
            means[family] = np.mean(own, axis=0)
    return means


def _physics(sample: Sample, counts: Floats, target: Sample, has_mu: bool) -> dict[str, Floats]:
    """Quantities of ``PHYSICS``, (1 + B,); none of samples without a density ρ."""
    if "rho" not in sample.observables:
        return {}
    found = {name: values for name, _, _, values in measured(sample, counts, target, has_mu)}
    return {name: found[name] for name in PHYSICS if name in found}


def _estimate(values: Floats) -> Estimate:
    return estimate(float(values[0]), values[1:], 0.0)


def _rise(values: Floats, asked: Floats) -> Difference:
    """Difference of paired draws, (1 + B,)."""
    rise = values - asked
    spread = float(np.std(rise[1:], ddof=1))
    sigma = float(rise[0]) / spread if spread > 0 else math.nan
    return Difference(value=estimate(float(rise[0]), rise[1:]), sigma=sigma)
