"""Crossings made of single interactions beside crossings that were simulated whole.

python -m benchmarks.crossing_closure [--crossings 300] [--mu 60] [--interactions 3000]

Both are of the same pool of interactions and the same calorimeter. Single interactions are read
out with zero suppression, without it, and without noise (`simulate --readout`), and added by the
code of `overlay --interactions`; whole crossings are read out without zero suppression. Everything
is then cut at the same thresholds. Differences are relative, ± their standard errors; those do not
hold the fluctuation of the interactions that were drawn, of about 1 / √interactions.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pileupgen.calo.imaging import towers_to_images
from pileupgen.calo.presets import get_grid
from pileupgen.overlay.choice import PileupPool
from pileupgen.overlay.crossings import SingleInteractions, choose_crossings
from pileupgen.overlay.produce import suppress
from pileupgen.samples.mu_profile import MuProfile
from pileupgen.samples.readers import MuSource
from pileupgen.samples.readers.delphes import DelphesOptions, DelphesReader
from pileupgen.simulate.produce import default_cache, make_sample
from pileupgen.simulate.spec import SampleSpec

GRID = get_grid("atlas")
CUTS = (0.5, 1.0)
"""GeV, by layer: what everything is cut at."""
REUSE = 50


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--crossings", type=int, default=300)
    options.add_argument("--mu", type=float, default=60.0)
    options.add_argument("--interactions", type=int, default=3000)
    given = options.parse_args()
    pool = {"pool_size": given.interactions, "seed": 1}
    whole = images(n_events=given.crossings, mu=given.mu, readout="unsuppressed", **pool)
    print(
        f"{given.crossings:,} crossings of ⟨μ⟩ = {given.mu:g}, {given.interactions:,} interactions"
    )
    print("| interactions | " + " | ".join(numbers(whole)) + " |")
    print("|---|" + "---|" * len(numbers(whole)))
    for readout in ("card", "unsuppressed", "noiseless"):
        one = {"n_events": given.interactions, "mu": 1.0, "mu_spread": "fixed"}
        single = images(**one, readout=readout, **pool)
        made = crossings(single, given.crossings, given.mu)
        print(f"| {readout} | " + " | ".join(differences(made, whole)) + " |", flush=True)


def images(**values: object) -> NDArray[np.float32]:
    spec = SampleSpec.parse(values, "benchmark")
    with tempfile.TemporaryDirectory() as folder:
        path = make_sample(spec, Path(folder) / "sample.root", cache=default_cache()).path
        reader = DelphesReader([path], DelphesOptions(), MuSource.parse("unknown"))
        parts = [towers_to_images(towers, GRID)[0] for towers in reader.chunks()]
    return np.concatenate(parts)


def crossings(single: NDArray[np.float32], n: int, mu: float) -> NDArray[np.float32]:
    every = np.arange(len(single))
    pool = PileupPool(every, np.ones(len(single)), every, np.ones(len(single)))
    chosen = choose_crossings(pool, n, 3, MuProfile.poisson(mu), REUSE, 1, GRID.n_phi)
    hits = sparse.csr_array(single.reshape(len(single), -1).astype(np.float64))
    return SingleInteractions(hits, GRID).add_up(chosen)


def numbers(energy: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    """Numbers of each event after the thresholds."""
    cut = suppress(energy.copy(), CUTS, GRID.cell_shares, GRID.is_dead)
    et = (cut.sum(axis=1, dtype=np.float64) * GRID.transverse_shares[:, None]).sum(axis=(1, 2))
    found = {"ΣE_T": et}
    for layer, name in enumerate(GRID.layers):
        found[f"⟨E⟩ {name}"] = cut[:, layer].sum(axis=(1, 2), dtype=np.float64)
        hits = np.count_nonzero(cut[:, layer], axis=(1, 2)).astype(np.float64)
        found[f"occupancy {name}"] = hits
    return found


def differences(made: NDArray[np.float32], whole: NDArray[np.float32]) -> list[str]:
    """Relative difference of each mean, with its standard error."""
    texts = []
    for ours, theirs in zip(numbers(made).values(), numbers(whole).values(), strict=True):
        ratio = ours.mean() / theirs.mean()
        relative = [one.std() / one.mean() / np.sqrt(len(one)) for one in (ours, theirs)]
        texts.append(f"{100 * (ratio - 1):+.1f} ± {100 * ratio * np.hypot(*relative):.1f} %")
    return texts


if __name__ == "__main__":
    main()
