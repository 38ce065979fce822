"""Generated events translated to recorded ones of CMS, and judged on recorded ones apart.

python -m benchmarks.real_closure [--generated 1000] [--refits 60]

The target are the event displays of 2010: the 25 minimum-bias events, and all 75 with those that an
electron or a muon triggered, which are no minimum bias. The source are inelastic interactions of
Pythia 8 (Monash, 7 TeV) in the response card `cms_like`, as many in an event as the recorded ones
have vertices, at least one. The calibration of `--mode calibrate` is fitted to one half of the
recorded events, drawn at random once, and judged on the other; half of the generated events are
translated that the fit did not see. ± is half of the 68 % interval of a bootstrap over recorded
events of both halves, the calibration fitted anew each time, and over generated ones.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.calibrations import as_images, calibrated, calibration, simulated, some
from benchmarks.real_towers import CARDS, THRESHOLDS, draw_barrel, vertices
from pileupgen.arrays import Floats, Ints
from pileupgen.calo.geometry import Grid
from pileupgen.calo.presets import get_grid
from pileupgen.measure.bootstrap import estimate
from pileupgen.resources import find_file
from pileupgen.samples.cards import load_card
from pileupgen.samples.store import Images

NAMES = (
    "ΣE_T / GeV",
    "towers",
    "occupancy em / %",
    "occupancy had / %",
    "⟨E⟩ of em hits / GeV",
    "⟨E⟩ of had hits / GeV",
    "E_T of the leading cell / GeV",
)
TELLING = 2.0
"""σ from which on a difference is called one."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--generated", type=int, default=1000)
    options.add_argument("--refits", type=int, default=60, help="to resampled recorded events")
    given = options.parse_args()
    recorded, counts = [], []
    for name in CARDS:
        card = load_card(find_file(name, "data_cards"))
        path = Path(str(card.input_files()[0]))
        recorded.append(draw_barrel(card, path))
        counts.append(vertices(path))
    grid = get_grid("cms_barrel")
    targets = {
        "25 minimum-bias events": (recorded[0], counts[0]),
        "all 75 events": (np.concatenate(recorded), np.concatenate(counts)),
    }
    for title, (energy, n_vertices) in targets.items():
        data = as_images(energy, grid, np.full(len(energy), np.nan))
        mc = generated(grid, n_vertices, given.generated)
        print(f"\n{title}, {given.generated:,} generated")
        show(judged(mc, data, given.refits))


def generated(grid: Grid, n_vertices: Ints, n: int) -> Images:
    """Events with as many interactions as recorded ones have vertices."""
    number, times = np.unique(np.maximum(n_vertices, 1), return_counts=True)
    profile = [(int(mu), float(count)) for mu, count in zip(number, times, strict=True)]
    card = load_card(find_file("cms_like_mc", "data_cards"))
    values = {**(card.generate or {}), "process": "inelastic", "pool_size": 4000, "seed": 100}
    del values["mu"]
    made = simulated(grid, **values | {"mu_profile": profile, "n_events": n})
    # μ of the recorded events is not known, so that it is hidden here, too.
    return as_images(suppressed(made.energy, grid), grid, np.full(n, np.nan))


def suppressed(energy: Floats, grid: Grid) -> Floats:
    """Energies below the thresholds taken away."""
    least = np.array([THRESHOLDS[layer] for layer in grid.layers])[:, None, None]
    return np.where(energy >= least, energy, 0.0)


def judged(mc: Images, data: Images, n_refits: int) -> list[Floats]:
    """Numbers of held-out recorded, source and translated events: as they are, then resampled.

    Returns
    -------
    list of float64 arrays, shape (1 + n_refits, 7)
        Of recorded, source and translated events.
    """
    rng = np.random.default_rng(5)
    fit, held = np.array_split(rng.permutation(len(data)), 2)
    ours, source = np.array_split(np.arange(len(mc)), 2)
    recorded, before = (sums(some(data, held)), sums(some(mc, source)))
    found: list[list[Floats]] = [[], [], []]
    for number in range(1 + n_refits):
        chosen = [np.arange(len(fit)), np.arange(len(held)), np.arange(len(source))]
        if number:
            chosen = [rng.integers(len(rows), size=len(rows)) for rows in chosen]
        # Few events: one bin in μ, three of the layer behind, few quantiles.
        fitted = calibration(some(mc, ours), some(data, fit[chosen[0]]), 64, 1, 3)
        moved = calibrated(fitted, some(mc, source), seed=number)
        for rows, one in zip(
            (recorded[chosen[1]], before[chosen[2]], sums(moved)), found, strict=True
        ):
            one.append(numbers(rows.mean(axis=0)))
    return [np.array(one) for one in found]


def sums(sample: Images) -> Floats:
    """What ``numbers`` needs of each event, shape (n, 9)."""
    energy, grid = sample.energy.astype(np.float64), sample.grid
    et = energy * grid.transverse_shares[:, None]
    hits = np.count_nonzero(energy, axis=(2, 3))
    towers = np.count_nonzero(energy.any(axis=1), axis=(1, 2))
    size = grid.n_eta * grid.n_phi
    leading = et.max(axis=(1, 2, 3))
    layers = energy.sum(axis=(2, 3))
    return np.column_stack(
        [et.sum(axis=(1, 2, 3)), towers, 100 * hits / size, layers, hits, leading]
    )


def numbers(found: Floats) -> Floats:
    """Numbers of ``NAMES`` of events, or of means of them: shape (…, 9) to (…, 7)."""
    per_hit = found[..., 4:6] / np.maximum(found[..., 6:8], 1e-9)
    return np.concatenate([found[..., :4], per_hit, found[..., 8:]], axis=-1)


def show(found: list[Floats]) -> None:
    """Print the table, and what can be told."""
    recorded, source, moved = found
    print("| | recorded | source | σ | translated | σ | gain | |")
    print("|" + "---|" * 8)
    for k, name in enumerate(NAMES):
        each = [estimate(float(one[0, k]), one[1:, k]) for one in found]
        off = [one[:, k] - recorded[:, k] for one in (source, moved)]
        pull = [float(one[0] / one[1:].std()) for one in off]
        gains = np.abs(off[0]) - np.abs(off[1])
        gain = float(gains[0] / gains[1:].std())
        texts = [f"{one.value:.3g} ± {one.error:.2g}" for one in each]
        print(
            f"| {name} | {texts[0]} | {texts[1]} | {pull[0]:+.1f} | {texts[2]} | {pull[1]:+.1f} | "
            f"{gain:+.1f} σ | {verdict(pull, gain)} |"
        )


def verdict(pull: list[float], gain: float) -> str:
    """What the pulls of source and translated events and the gain say."""
    if abs(pull[0]) < TELLING:
        return "cannot be told: no shift is seen"
    if gain < TELLING:
        return "cannot be told" if gain > -TELLING else "worse"
    return "nearer, and within errors" if abs(pull[1]) < TELLING else "nearer, not there"


if __name__ == "__main__":
    main()
