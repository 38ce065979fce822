"""Differences of known size planted in a sample, and how surely validation finds them.

python benchmarks/planted.py [FILE.h5] [--events N] [--tries N] [--seed N]

FILE is an image store, such as a run's data/data.h5; without one, images are drawn from a gamma
distribution per ring with an activity common to the event. Each try splits the events in two halves
that should agree; in one half each difference is then planted in turn.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from pileupgen.calo.geometry import Grid
from pileupgen.calo.presets import get_grid
from pileupgen.compare.records import Verdict
from pileupgen.compare.significance import judge
from pileupgen.measure.sample import Sample, measure_sample
from pileupgen.samples.store import Images, ImageStore

Energy = NDArray[np.float32]
Plant = Callable[[Energy, np.random.Generator], Energy]

THRESHOLD = 0.5
"""Energies below are not read out, in GeV; where planted differences meet it, cells fall out."""
SCALE, WIDER, RESOLUTION = 1.02, 1.05, 0.2
"""Scale of all energies; how much wider the resolution becomes, and what it is beforehand."""
SECTOR_ETA, SECTOR_PHI = 4, 3
COUPLING = 0.01
"""Correlation of a cell's normal score with another's that is added; energies of each cell stay."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("store", type=Path, nargs="?", help="image store")
    options.add_argument("--events", type=int, default=2000, help="in each half")
    options.add_argument("--tries", type=int, default=20)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    rng = np.random.default_rng([given.seed, 5])
    grid, energy = read(given.store) if given.store else drawn(2 * given.events, rng)
    n = min(given.events, len(energy) // 2)
    print(f"{given.store or 'drawn images'}, {n} against {n} events, {given.tries} tries")
    found: dict[str, list[Verdict]] = {name: [] for name in ("none", *PLANTS)}
    for number in range(given.tries):
        order = rng.permutation(len(energy))[: 2 * n]
        target, half = measured(energy[order[:n]], grid), energy[order[n:]]
        found["none"].append(judge(target, measured(half, grid)))
        if number < max(1, given.tries // 4):
            for name, plant in PLANTS.items():
                found[name].append(judge(target, measured(plant(half, rng), grid)))
        print(f"  try {number + 1}: {found['none'][-1].significance:.1f} σ", flush=True)
    print(
        f"{'planted':<28} {'tries':>5} {'flagged':>7} {'least σ':>8} {'median σ':>8}  first found"
    )
    for name, verdicts in found.items():
        values = [verdict.significance for verdict in verdicts]
        flagged = sum(value > 3.0 for value in values)
        first = verdicts[0].findings[0].name
        print(
            f"{name:<28} {len(values):5} {flagged:7} {min(values):8.1f} "
            f"{np.median(values):8.1f}  {first}"
        )


def read(path: Path) -> tuple[Grid, Energy]:
    """All images of a store."""
    store = ImageStore(path)
    return store.grid, store.read(np.arange(len(store))).energy


def drawn(n: int, rng: np.random.Generator) -> tuple[Grid, Energy]:
    """Images on the ATLAS grid with thresholds."""
    grid = get_grid("atlas")
    activity = rng.gamma(25.0, 1 / 25.0, size=(n, 1, 1, 1))
    profile = np.cosh(grid.eta_centres)[:, None] * np.array([0.7, 0.9])[:, None, None]
    energy = np.concatenate(
        [
            rng.gamma(0.4, 1.0, size=(len(part), *grid.shape)) * part * profile
            for part in np.array_split(activity, max(1, n // 200))
        ]
    ).astype(np.float32)
    return grid, np.where(energy > THRESHOLD, energy, np.float32(0.0))


def measured(energy: Energy, grid: Grid) -> Sample:
    """A sample of equal weights."""
    n = len(energy)
    columns = {
        "mu": np.full(n, 60.0, dtype=np.float32),
        "event_id": np.arange(n),
        "weight": np.ones(n),
        "split": np.zeros(n, dtype=np.uint8),
    }
    return measure_sample("sample", "sample", [Images(energy, grid, columns)], grid)


def scaled(energy: Energy, rng: np.random.Generator) -> Energy:
    """All energies 2 % higher."""
    del rng
    return energy * np.float32(SCALE)


def dead_sector(energy: Energy, rng: np.random.Generator) -> Energy:
    """No energy in 4 × 3 cells of the first layer, in the middle of the grid."""
    del rng
    eta, phi = energy.shape[2] // 2, energy.shape[3] // 2
    dead = energy.copy()
    dead[:, 0, eta : eta + SECTOR_ETA, phi : phi + SECTOR_PHI] = 0.0
    return dead


def wider(energy: Energy, rng: np.random.Generator) -> Energy:
    """Cells smeared so that a resolution of 20 % becomes one of 21 %."""
    extra = RESOLUTION * np.sqrt(WIDER**2 - 1.0)
    factor = rng.normal(1.0, extra, size=energy.shape).astype(np.float32)
    return np.maximum(energy * factor, np.float32(0.0))


def correlated(energy: Energy, rng: np.random.Generator, axis: int, step: int) -> Energy:
    """Cells reordered over the events to go with the cell a step away; no cell's spectrum moves."""
    # Null cells are ranked at random.
    order = np.where(energy > 0, energy, -rng.random(energy.shape, dtype=np.float32))
    score = ndtri((order.argsort(axis=0).argsort(axis=0) + 0.5) / len(energy)).astype(np.float32)
    wanted = (score + COUPLING * np.roll(score, step, axis=axis)).argsort(axis=0)
    moved = np.empty_like(energy)
    np.put_along_axis(moved, wanted, np.sort(energy, axis=0), axis=0)
    return moved


PLANTS: dict[str, Plant] = {
    "energy scale 2 %": scaled,
    "dead sector, 4 × 3 cells": dead_sector,
    "resolution 5 % wider": wider,
    "correlation of φ neighbours": partial(correlated, axis=3, step=1),
    "correlation of layers": partial(correlated, axis=1, step=1),
}

if __name__ == "__main__":
    main()
