"""Crossings made of single interactions beside the same interactions measured together.

python -m benchmarks.crossing_closure [--crossings 150] [--cards mc,data] [--mu 10,60]

A crossing's interactions are drawn, turned and spread along the beam as `simulate` does it. Each
goes through the calorimeter for itself, with zero suppression, without it, and without noise
(`simulate --readout`), and the measured energies are added; or all together go through it once.
"Noise once" adds interactions without noise and the noise of one empty event, as an overlay on a
noisy hard scatter does. Everything is then cut at the card's thresholds. Differences are relative
to the crossing measured whole; ± is half of the 68 % interval of a bootstrap over crossings, whose
two measurements are resampled together.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import cast

import numpy as np

from pileupgen.arrays import Floats
from pileupgen.measure.bootstrap import estimate, resample
from pileupgen.progress import silent
from pileupgen.simulate.calorimeter import Calorimeter
from pileupgen.simulate.overlay import Overlay
from pileupgen.simulate.pool import read_pool
from pileupgen.simulate.produce import default_cache, provide_pool, scratch_folder
from pileupgen.simulate.response import LAYERS, Readout, ResponseCard, load_response
from pileupgen.simulate.spec import SampleSpec

ETA_MAX = 2.5
READOUTS = {"suppressed each": "card", "unsuppressed": "unsuppressed", "noiseless": "noiseless"}
NOISE_ONCE = "noiseless, noise once"
WAYS = (*READOUTS, NOISE_ONCE)
NAMES = ("ΣE_T", "σ(ΣE_T)", *chain(*((f"⟨E⟩ {one}", f"occupancy {one}") for one in LAYERS)))
WHOLE = "whole"
N_DRAWS = 1000


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--crossings", type=int, default=150)
    options.add_argument("--cards", default="mc,data", help="response cards, with commas")
    options.add_argument("--mu", default="10,60", help="numbers of interactions, with commas")
    options.add_argument("--interactions", type=int, default=12_000, help="of the pool")
    given = options.parse_args()
    print("| card | μ | interactions | " + " | ".join(NAMES) + " |")
    print("|" + "---|" * (3 + len(NAMES)))
    for name in given.cards.split(","):
        for mu in map(float, given.mu.split(",")):
            values = {"mu": mu, "pool_size": given.interactions, "response": name}
            values |= {"sqrt_s": 13_000, "seed": 1}
            spec = SampleSpec.parse(values, "benchmark")
            found = measured(spec, load_response(name), given.crossings)
            for way in WAYS:
                texts = differences(found[way], found[WHOLE])
                print(f"| {name} | {mu:g} | {way} | " + " | ".join(texts) + " |", flush=True)


def measured(spec: SampleSpec, card: ResponseCard, n: int) -> dict[str, Floats]:
    """Energies after the thresholds of n crossings, made in each way and whole.

    Returns
    -------
    dict of float64 arrays
        Of shape (n, 4): ΣE_T in GeV, and of each layer ⟨E⟩ in GeV and occupancy, interleaved; the
        order of ``NAMES`` without the width.
    """
    cache = default_cache()
    with scratch_folder(cache) as scratch:
        path, _ = provide_pool(spec, cache, scratch, 1, silent)
        overlay = Overlay(spec, read_pool(Path(path)), card)
    readouts = {
        way: Calorimeter(card.read_out(cast("Readout", one))) for way, one in READOUTS.items()
    }
    found: dict[str, list[Floats]] = {way: [] for way in (*WAYS, WHOLE)}
    for event in range(n):
        rng = np.random.default_rng([spec.seed, 77, event])
        single = list(_apart(overlay, event))
        together = np.sum(single, axis=0)
        sums = {
            way: np.sum([one.measure(energy, rng) for energy in single], axis=0)
            for way, one in readouts.items()
        }
        empty = readouts["unsuppressed"].measure(np.zeros_like(together), rng)
        sums[NOISE_ONCE] = sums["noiseless"] + empty
        sums[WHOLE] = readouts["unsuppressed"].measure(together, rng)
        for way, energy in sums.items():
            found[way].append(_numbers(energy, overlay.calorimeter, card))
    return {way: np.array(rows) for way, rows in found.items()}


def _apart(overlay: Overlay, event: int) -> Iterator[Floats]:
    pileup = overlay.draw(event)
    for one in range(len(pileup.interaction)):
        yield overlay.deposit(event, pileup.some(np.arange(len(pileup.interaction)) == one))


def _numbers(energy: Floats, calorimeter: Calorimeter, card: ResponseCard) -> Floats:
    grid = calorimeter.grid
    cuts = np.array([[layer.energy_min] for layer in card.layers])
    cut = np.where((np.abs(energy) >= cuts) & (np.abs(grid.eta) < ETA_MAX), energy, 0.0)
    layers = [[cut[i].sum(), np.count_nonzero(cut[i])] for i in range(len(LAYERS))]
    return np.array([(cut / np.cosh(grid.eta)).sum(), *chain(*layers)], dtype=np.float64)


def differences(made: Floats, whole: Floats) -> list[str]:
    """Relative difference of each mean, and of the width of ΣE_T, with its error."""
    n = len(whole)
    draws = resample(n, N_DRAWS, np.random.default_rng(1))
    counts = np.concatenate([np.ones((n, 1)), draws], axis=1) / n
    means = [one.T @ counts for one in (made, whole)]
    squares = [np.square(one[:, 0]) @ counts for one in (made, whole)]
    widths = [np.sqrt(s - m[0] ** 2) for s, m in zip(squares, means, strict=True)]
    ratios = means[0] / means[1]
    rows = [ratios[0], widths[0] / widths[1], *ratios[1:]]
    found = [estimate(float(row[0] - 1), row[1:] - 1) for row in rows]
    return [f"{100 * one.value:+.1f} ± {100 * one.error:.1f} %" for one in found]


if __name__ == "__main__":
    main()
