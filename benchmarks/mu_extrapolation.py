"""What a calibration fitted at 40 ≤ μ ≤ 80 does to events of far lower and far higher μ.

python -m benchmarks.mu_extrapolation [--events 2000] [--points 10,20,100,200,300]

The domains are the same interactions in the calorimeters `mc` and `data`: events of flat μ from 40
to 80, which are fitted but for a quarter, and events at single points of μ. So the table shows what
the translation does wrong, and not what tunes or pools differ by. Ratios of means to those of data,
source → translated; ± is the standard error over events, those of mc and data paired.
"""

from __future__ import annotations

import argparse

import numpy as np

from benchmarks.calibrations import calibrated, calibration, simulated, some
from benchmarks.mu_closure import NAMES, values
from pileupgen.calo.geometry import Grid
from pileupgen.calo.presets import get_grid
from pileupgen.samples.store import Images

LOW, HIGH = 40, 80
AT_POINT = 0.15
"""Events at a point of μ, for each one in the range."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--events", type=int, default=2000, help="of each domain, in the range")
    options.add_argument("--points", default="10,20,100,200,300", help="values of μ, with commas")
    given = options.parse_args()
    points = [int(point) for point in given.points.split(",")]
    grid = get_grid("atlas")
    mc, data = (sample(grid, given.events, points, name) for name in ("mc", "data"))
    inside = np.flatnonzero((mc.mu >= LOW) & (mc.mu <= HIGH))
    n = len(inside) * 3 // 4
    model = calibration(some(mc, inside[:n]), some(data, inside[:n]))
    print("| μ | events | " + " | ".join(f"{name}, source → translated" for name in NAMES) + " |")
    print("|" + "---|" * (2 + len(NAMES)))
    wanted = {f"{LOW} … {HIGH}": inside[n:]}
    wanted |= {str(point): np.flatnonzero(mc.mu == point) for point in points}
    for label, rows in wanted.items():
        source, target = some(mc, rows), some(data, rows)
        cells = ratios(source, calibrated(model, source), target)
        print(f"| {label} | {len(source)} | " + " | ".join(cells) + " |", flush=True)


def sample(grid: Grid, n: int, points: list[int], response: str) -> Images:
    """Events of one domain in the range and at the points."""
    n_at = round(AT_POINT * n)
    inside = n / (HIGH - LOW + 1)
    profile = [*((mu, inside) for mu in range(LOW, HIGH + 1)), *((mu, n_at) for mu in points)]
    return simulated(
        grid,
        n_events=n + n_at * len(points),
        mu_profile=profile,
        mu_spread="fixed",
        response=response,
        sqrt_s=13_000,
        seed=1,
    )


def ratios(source: Images, translated: Images, target: Images) -> list[str]:
    """Means of source and translated events over data's, with the error of the latter."""
    before, after, wanted = map(values, (source, translated, target))
    scale = wanted.mean(axis=0)
    ratio = after.mean(axis=0) / scale
    error = (after - ratio * wanted).std(axis=0) / scale / len(wanted) ** 0.5
    return [
        f"{b:.3f} → {r:.3f} ± {e:.3f}"
        for b, r, e in zip(before.mean(axis=0) / scale, ratio, error, strict=True)
    ]


if __name__ == "__main__":
    main()
