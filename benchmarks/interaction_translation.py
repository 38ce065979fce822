"""Crossings of translated interactions beside translated crossings.

python -m benchmarks.interaction_translation [--singles 3000] [--crossings 800] [--mu 60]

The domains are the same interactions in the calorimeters `mc` and `data`. Either single
interactions are translated, with `--mode calibrate`, and as many as a Poisson number says are added
(`overlay --interactions`), or whole crossings are translated. Crossings are judged by the same ones
of data; sums by sums of the same interactions of data, read out without noise and with the noise of
one empty event added. Three quarters of each sample are fitted, the rest is judged. Everything is
cut at the thresholds of `data`. Differences are relative; ± is the standard error over crossings,
paired.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy import sparse

from benchmarks.calibrations import as_images, calibrated, calibration, simulated, some
from benchmarks.mu_closure import NAMES, values
from pileupgen.calo.geometry import Grid
from pileupgen.calo.presets import get_grid
from pileupgen.overlay.choice import PileupPool
from pileupgen.overlay.crossings import SingleInteractions, choose_crossings
from pileupgen.overlay.produce import suppress
from pileupgen.samples.mu_profile import MuProfile
from pileupgen.samples.store import Images
from pileupgen.simulate.response import load_response

FITTED = 0.75


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--singles", type=int, default=3000)
    options.add_argument("--crossings", type=int, default=800)
    options.add_argument("--sums", type=int, default=200, help="crossings of interactions")
    options.add_argument("--mu", type=float, default=60.0)
    given = options.parse_args()
    grid = get_grid("atlas")
    cuts = tuple(layer.energy_min for layer in load_response("data").layers)
    shared = {"sqrt_s": 13_000, "seed": 1}
    crossings = {**shared, "n_events": given.crossings, "mu": given.mu, "readout": "unsuppressed"}
    mc, data = (cut(simulated(grid, **crossings, response=name), cuts) for name in ("mc", "data"))
    fit, rest = parts(given.crossings)
    target, source = some(data, rest), some(mc, rest)
    print("| | " + " | ".join(NAMES) + " |")
    print("|" + "---|" * (1 + len(NAMES)))
    show("crossings of mc", source, target)
    moved = calibrated(calibration(some(mc, fit), some(data, fit)), source)
    show("crossings, translated", moved, target)
    fit, rest = parts(given.singles)
    empty = {
        **shared,
        "n_events": given.sums,
        "mu": 0,
        "mu_spread": "fixed",
        "readout": "unsuppressed",
    }
    noise = simulated(grid, **empty, response="data").energy
    truth: Images | None = None
    for readout, once, words in (
        ("noiseless", noise, "noise once"),
        ("unsuppressed", np.zeros_like(noise), "noise in each"),
    ):
        ones = {
            **shared,
            "n_events": given.singles,
            "mu": 1,
            "mu_spread": "fixed",
            "readout": readout,
        }
        single = {name: simulated(grid, **ones, response=name) for name in ("mc", "data")}
        model = calibration(some(single["mc"], fit), some(single["data"], fit), n_mu_bins=1)
        held = {name: some(single[name], rest) for name in ("data", "mc")}
        held["translated"] = calibrated(model, held["mc"])
        for name, part in held.items():
            made = added(part, given.sums, given.mu) + once
            made_images = cut(as_images(made, grid, np.zeros(given.sums)), cuts)
            truth = truth or made_images
            if made_images is not truth:
                show(f"interactions, {name}, {words}", made_images, truth)


def parts(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows that are fitted, and those that are judged."""
    return np.split(np.arange(n), [int(FITTED * n)])


def cut(sample: Images, cuts: tuple[float, ...]) -> Images:
    """Cells below the thresholds emptied."""
    grid: Grid = sample.grid
    energy = suppress(sample.energy.copy(), cuts, grid.cell_shares, grid.is_dead)
    return Images(energy, grid, sample.columns)


def added(single: Images, n: int, mu: float) -> np.ndarray:
    """Energies of n crossings of single interactions, before any threshold."""
    size = len(single)
    every, ones = np.arange(size), np.ones(size)
    pool = PileupPool(every, ones, every, ones)
    reuse = int(np.ceil(1.2 * n * mu / size)) + 1
    profile, grid = MuProfile.poisson(mu), single.grid
    chosen = choose_crossings(pool, n, 3, profile, reuse, 1, grid.n_phi)
    hits = sparse.csr_array(single.energy.reshape(size, -1).astype(np.float64))
    return SingleInteractions(hits, grid).add_up(chosen)


def show(name: str, made: Images, target: Images) -> None:
    """Print relative differences of means."""
    ours, theirs = values(made), values(target)
    scale = theirs.mean(axis=0)
    ratio = ours.mean(axis=0) / scale
    error = (ours - ratio * theirs).std(axis=0) / scale / len(theirs) ** 0.5
    texts = [f"{100 * (r - 1):+.1f} ± {100 * e:.1f} %" for r, e in zip(ratio, error, strict=True)]
    print(f"| {name} | " + " | ".join(texts) + " |", flush=True)


if __name__ == "__main__":
    main()
