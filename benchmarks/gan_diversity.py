"""Whether SDI-GAN's diversity term makes events more diverse, over several trainings.

    python -m benchmarks.gan_diversity --run RUN --seeds 8

A GAN with and without the term is trained for as many steps from the same seed, on the central
rings of a run's training events, so that many trainings cost little. Of each, test events are made
twice at their μ; how far apart both are is averaged over them, over how far real events at
neighbouring μ are: by ln ΣE, by cells, and by the scores of cells before these are brought to their
marginals, which is what the term itself looks at. The difference with and without is taken seed by
seed; its error is that of the mean over seeds. The other additions can be switched on by
themselves, too.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from pileupgen.samples.store import Images, ImageStore
from pileupgen.zoo.contract import Budget, EventConditions, Symmetry, ZooSample
from pileupgen.zoo.gan import Gan
from pileupgen.zoo.image_system import TARGET, rows_of

N_RINGS = 12
WHAT = ("ΣE", "cells", "scores")
KINDS: dict[str, dict[str, float]] = {
    "without": {},
    "diversity 0.1": {"diversity": 0.1},
    "diversity 0.5": {"diversity": 0.5},
    "diversity 2": {"diversity": 2.0},
    "intensity 0.3": {"intensity": 0.3},
    "regressor 0.1": {"regressor": 0.1},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--kinds", default="without,diversity 0.1,diversity 0.5")
    given = parser.parse_args()
    data = ImageStore(given.run / "data" / "data.h5")
    train, test = (central(data.read(data.indices(part))) for part in ("train", "test"))
    begun, found = time.process_time(), dict[str, list[dict[str, float]]]()
    for kind in given.kinds.split(","):
        options = KINDS[kind]
        found[kind] = [
            apart(Gan(**options), train, test, Symmetry.of_stores(data), given.steps, seed)
            for seed in range(given.seeds)
        ]
        print(f"{kind}: {time.process_time() - begun:.0f} s of CPU time", flush=True)
    for what in WHAT:
        values = {kind: np.array([one[what] for one in rows]) for kind, rows in found.items()}
        for kind, mine in values.items():
            less = mine - values["without"]
            print(
                f"{what}, {kind}: {mine.mean():.4f} ± {error(mine):.4f} of real; with less without "
                f"{less.mean():+.4f} ± {error(less):.4f}, {(less > 0).sum()} of {len(less)} above 0"
            )


def central(images: Images) -> Images:
    """The central rings of images."""
    grid = images.grid
    first = (grid.n_eta - N_RINGS) // 2
    rings = slice(first, first + N_RINGS)
    small = replace(grid, eta_edges=grid.eta_edges[first : first + N_RINGS + 1])
    energy = np.ascontiguousarray(images.energy[:, :, rings])
    return Images(energy, small, images.columns)


def apart(
    system: Gan, train: Images, test: Images, symmetry: Symmetry, steps: int, seed: int
) -> dict[str, float]:
    """Mean |difference| of two events at the same μ, over that of real ones at the next μ."""
    budget = Budget(1e6, max_steps=steps)
    system.fit(ZooSample(train, symmetry=symmetry), EventConditions.of_pileup(train), budget, seed)
    ordered = rows_of(test, np.argsort(test.mu))
    conditions = EventConditions.of_pileup(ordered)
    both = [system.generate(conditions, s) for s in (1000 + seed, 2000 + seed)]
    real = ordered.energy[0::2], ordered.energy[1::2]
    found = {name: differ(*both, name) / differ(*real, name) for name in WHAT[:2]}
    scores = [system._drawn(conditions, s) for s in (1000 + seed, 2000 + seed)]
    of_real = system.space.encode(ordered, ordered.mu, TARGET, seed)
    pairs = (scores[0], scores[1]), (of_real[0::2], of_real[1::2])
    made, its = (float((one - other).abs().mean()) for one, other in pairs)
    return {**found, WHAT[2]: made / its}


def differ(one: np.ndarray, other: np.ndarray, what: str) -> float:
    """Mean |difference| of ln ΣE, or of ln(1 + E) of cells."""
    if what == "ΣE":
        logs = [np.log(x.sum(axis=(1, 2, 3), dtype=np.float64)) for x in (one, other)]
    else:
        logs = [np.log1p(x) for x in (one, other)]
    return float(np.abs(logs[0] - logs[1]).mean())


def error(values: np.ndarray) -> float:
    """Standard error of the mean."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


if __name__ == "__main__":
    main()
