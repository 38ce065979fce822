"""CATHODE (2109.00546) on jets: a bump at the W's mass in QCD, found without labels.

    pileupgen simulate --process qcd -n 40000 -o qcd.h5
    pileupgen simulate --process w -n 6000 --seed 2 -o w.h5
    python -m benchmarks.cathode --signal w.h5 --background qcd.h5 --output cathode.json
    python -m benchmarks.cathode --made --seconds 6 --output cathode.json

In each repeat half of the background and `--injected` signal jets of the signal region are data.
The density of jet variables given the mass is learned from the side bands of data and sampled in
the signal region; a classifier then tells data from samples there. Beside it stand the same
classifier with true background in place of the samples (idealised), one that knows the labels
(supervised), and one that tells the signal region from the side bands (CWoLa). All are judged on
jets of their own, by the improvement of the significance. Repeats that the output file has already
are not made again.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.stats import gaussian_kde

from pileupgen.arrays import Flags, Floats
from pileupgen.compare.improvement import significance_improvement
from pileupgen.compare.two_sample import (
    MAX_BINS,
    boosted_log_odds,
    feature_test,
    quantile_codes,
)
from pileupgen.files import write_whole
from pileupgen.jets.jetnet_file import JETS, PARTICLES
from pileupgen.measure.jet_variables import JetArrays, jet_variables
from pileupgen.run import hash_file
from pileupgen.zoo.density import ConditionalDensity

N_CLASSIFIERS = 5
OVERSAMPLED = 4
"""Samples of the density for each jet of data in the signal region."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--signal", type=Path, help="jets in JetNet's layout")
    parser.add_argument("--background", type=Path)
    parser.add_argument("--made", action="store_true", help="take made events, see `made`")
    parser.add_argument("--features", default="tau21,tau32,c2,ptd")
    parser.add_argument("--window", type=float, nargs=2, default=(40.0, 200.0), help="GeV")
    parser.add_argument("--region", type=float, nargs=2, default=(65.0, 105.0), help="GeV")
    parser.add_argument("--injected", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60.0, help="CPU time of the density")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    names = ["mass", *given.features.split(",")]
    if given.made:
        signal, background = made(given.seed)
    else:
        if given.signal is None or given.background is None:
            parser.error("give --signal and --background, or --made")
        signal, background = (variables(path, names) for path in (given.signal, given.background))
    kept = json.loads(given.output.read_text()) if given.output.exists() else {}
    key = key_of(given)
    rows: list[dict[str, Any]] = kept.setdefault(key, [])
    for number in range(len(rows), given.repeats):
        begun = time.process_time()
        rows.append(repeat(signal, background, given, given.seed + 100 * number))
        write_whole(given.output, json.dumps(kept))
        print(
            f"repeat {number + 1}: {time.process_time() - begun:.0f} s of CPU, {rows[-1]['what']}"
        )
    show(rows[: given.repeats])


def key_of(given: argparse.Namespace) -> str:
    """All that the rows of a file depend on, of jets their files, too."""
    ends = *given.window, *given.region
    values = [given.made, given.features, given.injected, *(f"{x:g}" for x in ends)]
    values += [f"{given.seconds:g}", given.seed]
    if not given.made:
        values += [hash_file(path)[:16] for path in (given.signal, given.background)]
    return " ".join(map(str, values))


def variables(path: Path, names: list[str]) -> Floats:
    """Jet variables, (N, k), the mass first; of jets with a mass and three particles."""
    with h5py.File(path) as file:
        jets = JetArrays(file[PARTICLES][:].astype(float), file[JETS][:].astype(float))
    found = jet_variables(jets, names)
    return found[((jets.pt > 0).sum(axis=1) > 3) & np.isfinite(found).all(axis=1)]


def made(seed: int) -> tuple[Floats, Floats]:
    """A mass and four numbers of 1,500 signal and 12,000 background events of known densities.

    Masses of signal are normal, 83 ± 8, those of background fall by e in 60, from 40 on. Numbers of
    signal are normal, 1.5 ± 0.5; those of background are normal about m / 100 with the width 1.
    """
    rng = np.random.default_rng([seed, 7])
    mass = 40 + rng.exponential(60.0, 12_000)
    background = rng.normal(size=(12_000, 4)) + mass[:, None] / 100
    signal = rng.normal(1.5, 0.5, size=(1500, 4))
    peak = rng.normal(83.0, 8.0, size=(1500, 1))
    return np.hstack([peak, signal]), np.hstack([mass[:, None], background])


def repeat(
    signal: Floats, background: Floats, given: argparse.Namespace, seed: int
) -> dict[str, Any]:
    """Improvements of all classifiers with one choice of jets."""
    rng = np.random.default_rng(seed)
    signal, background = rng.permutation(signal), rng.permutation(background)
    signal = signal[within(signal, given.region)]
    n, n_injected = len(background), given.injected
    data_background, apart = background[: n // 2], background[n // 2 :]
    data = np.concatenate([data_background, signal[:n_injected]])
    data = data[within(data, given.window)]
    inside = within(data, given.region)
    apart = apart[within(apart, given.region)]
    true, tested = apart[: len(apart) // 2], apart[len(apart) // 2 :]
    learned, judged = np.array_split(signal[n_injected:], 2)
    test = np.concatenate([tested, judged])
    is_signal = np.arange(len(test)) >= len(tested)

    density = ConditionalDensity()
    density.fit(data[~inside, 1:], data[~inside, 0], seed=seed, seconds=given.seconds)
    region = data[inside]
    masses = region_masses(region[:, 0], OVERSAMPLED * len(region), given.region, rng)
    samples = density.sample(masses, seed)
    pairs = {
        "CATHODE": (samples, region[:, 1:]),
        "CWoLa": (data[~inside, 1:], region[:, 1:]),
        "idealised": (true[:, 1:], region[:, 1:]),
        "supervised": (true[:, 1:], learned[:, 1:]),
    }
    rows = {
        name: asdict(significance_improvement(scores(*pair, test[:, 1:], seed), is_signal, seed))
        for name, pair in pairs.items()
    }
    rows["no power"] = asdict(significance_improvement(rng.random(len(test)), is_signal, seed))
    told = feature_test(apart[:, 1:], samples[: len(apart)], n_seeds=2, seed=seed)
    n_background = int(within(data_background, given.region).sum())
    what = (
        f"{n_injected} signal in {n_background} background jets "
        f"({n_injected / n_background:.1%}, {n_injected / n_background**0.5:.1f} σ), "
        f"{int((~inside).sum())} in the side bands, {len(tested)} and {len(judged)} judged, "
        f"{density.steps} steps"
    )
    return {"rows": rows, "density": [told.auc, max(told.error, told.spread)], "what": what}


def within(jets: Floats, window: tuple[float, float]) -> Flags:
    """Whether the masses of jets lie in a window."""
    return (jets[:, 0] >= window[0]) & (jets[:, 0] < window[1])


def region_masses(
    masses: Floats, n: int, region: tuple[float, float], rng: np.random.Generator
) -> Floats:
    """Masses in the signal region, n of them, from a kernel density of those of data."""
    drawn = gaussian_kde(masses).resample(2 * n, seed=rng)[0]
    return drawn[(drawn >= region[0]) & (drawn < region[1])][:n]


def scores(first: Floats, second: Floats, test: Floats, seed: int) -> Floats:
    """Mean log-odds of being of the second sample, by boosted trees; both count alike."""
    x = np.concatenate([first, second])
    codes = quantile_codes(np.concatenate([x, test]), MAX_BINS)
    is_second = np.arange(len(x)) >= len(first)
    weight = np.where(is_second, len(x) / len(second), len(x) / len(first)) / 2
    return np.mean(
        [
            boosted_log_odds(codes[: len(x)], is_second, codes[len(x) :], seed + number, weight)
            for number in range(N_CLASSIFIERS)
        ],
        axis=0,
    )


def show(rows: list[dict[str, Any]]) -> None:
    """Print means over the repeats; ± is the larger of their scatter and of the mean interval.

    Repeats divide the same jets anew, so that their mean is not known better by their number.
    """
    for name in rows[0]["rows"]:
        texts = []
        for number in ("largest", "at_efficiency"):
            each = [row["rows"][name][number] for row in rows]
            values = np.array([one["value"] for one in each])
            inside = np.mean([(one["high"] - one["low"]) / 2 for one in each])
            scatter = values.std(ddof=1) if len(values) > 1 else 0.0
            error = max(scatter, inside)
            texts.append(
                f"{values.mean():.2f} ± {error:.2f} ({', '.join(f'{v:.2f}' for v in values)})"
            )
        auc = np.mean([row["rows"][name]["auc"] for row in rows])
        print(f"{name:>12}  max SIC {texts[0]}; at ε_B = 1 % {texts[1]}; AUC {auc:.3f}")
    told = np.array([row["density"] for row in rows])
    print(f"samples against true background: AUC {told[:, 0].mean():.3f} ± {told[:, 1].mean():.3f}")


if __name__ == "__main__":
    main()
