"""Fit minimum-bias parameters of Pythia 8 to what ATLAS measured, and judge the result by CMS.

python -m benchmarks.tune_fit [--points 36] [--refine 10] [--events 3000] [--check-events 20000]
    [--workers 2] [--out runs/tune_fit]

In the manner of Professor (Buckley et al., 0907.2973): Pythia is run at points that fill the box
of ``PARAMETERS`` evenly, every bin of the measured tables becomes a polynomial of second order in
the parameters, and the polynomials are fitted to the measured values. Since a polynomial of the
whole box is some per cent wrong in its corners, more points are then run about the best one, and
the fit is repeated with what is linear in the parameters there. ATLAS' tables at 7 TeV enter the
fit, CMS' forward energy flow at 0.9 and 7 TeV does not. The best point is then run itself, and so
is Monash. Points that were run are kept in the folder.

The energy power of p_T0 cannot be told from one energy; it stays that of the tune begun with.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import qmc

from pileupgen.files import write_whole
from pileupgen.parallel.chunks import Work, run_chunks, save
from pileupgen.simulate.generators import Pythia8
from pileupgen.simulate.measured.check import TableCheck, judge
from pileupgen.simulate.measured.fill import Particles, Sums, fill, one_entry
from pileupgen.simulate.measured.table import MeasuredTable, shipped_tables
from pileupgen.simulate.pool import pool_chunks
from pileupgen.simulate.produce import scratch_folder
from pileupgen.simulate.spec import MONASH, SampleSpec

BASE = 8
"""``Tune:pp`` that the fit begins with: A2 (ATL-PHYS-PUB-2012-003), whose partons (MSTW2008LO) and
matter profile, narrower at small x, give more energy forward than Monash's."""

PARAMETERS: dict[str, tuple[tuple[str, ...], float, float]] = {
    "pT0Ref / GeV": (("MultipartonInteractions:pT0Ref",), 1.7, 2.2),
    "profile a1": (("MultipartonInteractions:a1",), 0.0, 0.15),
    "CR range": (("ColourReconnection:range",), 1.0, 7.0),
    "diffraction / mb": (
        (
            "SigmaDiffractive:maxXB",
            "SigmaDiffractive:maxAX",
            "SigmaDiffractive:maxXX",
        ),
        15.0,
        80.0,
    ),
}
"""Parameter: Pythia's settings that take its value, and the ends of its range."""

FITTED = ("atlas_2012_et_density", "atlas_2012_sum_et", "atlas_2010_charged_multiplicity")
"""Tables that enter the fit, each with its χ²/n."""

NEAR = 0.2
"""Half of a side of the box about the first result, in units of the whole box."""

Floats = NDArray[np.float64]
Terms = Callable[[Floats], Floats]
"""Terms of a polynomial at points (n, n_parameters), shape (n, n_terms)."""
Found = dict[str, Sums]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--points", type=int, default=36)
    options.add_argument("--refine", type=int, default=10, help="points about the first result")
    options.add_argument("--events", type=int, default=3000, help="at each point")
    options.add_argument("--check-events", type=int, default=20_000, help="of the result")
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--out", type=Path, default=Path("runs/tune_fit"))
    given = options.parse_args()
    tables = {table.head.name: table for table in shipped_tables()}
    points = design(given.points)
    best = fit_box(points, (0.0, 1.0), monomials, 100, tables, given)
    print(f"\nfitted in the whole box: {describe(best)}")
    low, high = np.clip(best - NEAR, 0, 1), np.clip(best + NEAR, 0, 1)
    near = low + design(given.refine) * (high - low)
    best = fit_box(near, (low, high), linear, 300, tables, given)
    print(f"\nfitted about that: {describe(best)}")
    results = {}
    for label, tune, changes in (("Monash", MONASH, {}), ("fitted", BASE, settings(best))):
        for energy in (900.0, 7000.0):
            found = run(tune, changes, energy, given.check_events, 1, tables, given)
            for name, sums in found.items():
                result = judge(tables[name], sums)
                results[f"{label} {name}"] = result
                seen = "fitted" if name in FITTED else "not fitted"
                print(f"{label}, {name} ({seen}): {result.note}; {numbers(result)}", flush=True)
    print("\n" + verdict(results))
    record = {"best": settings(best), "results": {k: v.to_dict() for k, v in results.items()}}
    write_whole(given.out / "tune_fit.json", json.dumps(record, indent=1, ensure_ascii=False))


def design(n: int) -> Floats:
    """Points that fill the box evenly, in units of its sides, shape (n, n_parameters)."""
    return np.asarray(
        qmc.LatinHypercube(len(PARAMETERS), rng=7, optimization="random-cd").random(n)
    )


def fit_box(
    points: Floats,
    bounds: tuple[Any, Any],
    terms: Terms,
    seed: int,
    tables: Mapping[str, MeasuredTable],
    given: argparse.Namespace,
) -> Floats:
    """Run the points of a box, and find the best point in it."""
    runs = []
    for number, point in enumerate(points):
        found = run(BASE, settings(point), 7000.0, given.events, seed + number, tables, given)
        runs.append(found)
        print(f"point {number + 1}/{len(points)} {describe(point)}", flush=True)
    surrogate = {
        name: Surrogate(points, [one[name] for one in runs], tables[name], terms) for name in FITTED
    }
    return fit(surrogate, tables, bounds)


def settings(point: Floats) -> dict[str, str]:
    """Pythia's settings at a point of the unit box."""
    found = {}
    for (names, low, high), part in zip(PARAMETERS.values(), point, strict=True):
        found |= dict.fromkeys(names, f"{low + part * (high - low):.4f}")
    return found


def describe(point: Floats) -> str:
    """The parameters in words."""
    pairs = zip(PARAMETERS.items(), point, strict=True)
    return ", ".join(f"{name} {low + x * (high - low):.3f}" for (name, (_, low, high)), x in pairs)


def run(
    tune: int,
    changes: Mapping[str, str],
    sqrt_s: float,
    n_events: int,
    seed: int,
    tables: Mapping[str, MeasuredTable],
    given: argparse.Namespace,
) -> Found:
    """Fill the tables of an energy with Pythia's events, unless the folder has it already."""
    names = [name for name, table in tables.items() if table.head.sqrt_s == sqrt_s]
    values = {"tune": tune, "sqrt_s": sqrt_s, "pool_size": n_events, "seed": seed}
    spec = SampleSpec.parse(values, "tune_fit")
    marks = "_".join(changes.values()) or "unchanged"
    path = given.out / f"{tune}_{sqrt_s:g}_{n_events}_{seed}_{marks}.npz"
    if not path.is_file():
        job = {"task": "benchmarks.tune_fit:prepare", "tune": tune, "changes": dict(changes)}
        job |= {"sqrt_s": sqrt_s, "tables": names}
        with scratch_folder(given.out) as scratch:
            parts = list(run_chunks(job, pool_chunks(spec), given.workers, scratch))
        save(path, {key: sum(part[key] for part in parts) for key in parts[0]})
    with np.load(path) as arrays:
        return {
            name: Sums(*arrays[f"{name} counts"].tolist(), *(arrays[f"{name} {k}"] for k in (1, 2)))
            for name in names
        }


def prepare(job: Mapping[str, Any]) -> Work:
    """Initialise Pythia with changed settings in a process of its own."""
    tables = [table for table in shipped_tables() if table.head.name in job["tables"]]
    generator = Pythia8("inelastic", job["tune"], job["sqrt_s"], job["changes"])

    def work(chunk: Mapping[str, Any]) -> Mapping[str, NDArray[Any]]:
        particles = Particles(generator.generate(chunk["n"], chunk["seed"]))
        found: dict[str, NDArray[Any]] = {}
        for table in tables:
            sums = fill(table, particles)
            found[f"{table.head.name} counts"] = np.array([sums.n_generated, sums.n_selected])
            found[f"{table.head.name} 1"] = sums.first
            found[f"{table.head.name} 2"] = sums.second
        return found

    return work


class Surrogate:
    """Every bin of a table as a polynomial in the parameters.

    Parameters
    ----------
    points : float64 array, shape (n, n_parameters)
    runs : list of Sums
        What was found there; their statistical errors are the weights.
    table : MeasuredTable
        Gives the Poisson error where a bin has no entry.
    terms : callable
        Terms of the polynomial.
    """

    def __init__(
        self, points: Floats, runs: list[Sums], table: MeasuredTable, terms: Terms
    ) -> None:
        self._terms = terms
        values = np.array([one.mean() for one in runs])
        errors = np.sqrt([np.diag(one.covariance()) for one in runs])
        expected = [np.sqrt(table.value * one_entry(table) / one.n_selected) for one in runs]
        errors = np.where(errors > 0, errors, expected)
        at_points = terms(points)
        self.coefficients = np.empty((at_points.shape[1], values.shape[1]))
        self.covariance = []
        for column in range(values.shape[1]):
            weighted = at_points / errors[:, column, None]
            target = values[:, column] / errors[:, column]
            self.coefficients[:, column] = np.linalg.lstsq(weighted, target, rcond=None)[0]
            self.covariance.append(np.linalg.pinv(weighted.T @ weighted))

    def __call__(self, point: Floats) -> tuple[Floats, Floats]:
        """Values of all bins at a point, and their errors."""
        terms = self._terms(point[None])[0]
        variance = [terms @ covariance @ terms for covariance in self.covariance]
        return terms @ self.coefficients, np.sqrt(variance)


def monomials(points: Floats) -> Floats:
    """1, x_i and x_i x_j of points, shape (n, n_terms)."""
    n = points.shape[1]
    pairs = combinations_with_replacement(range(n), 2)
    products = [points[:, i] * points[:, j] for i, j in pairs]
    return np.column_stack([np.ones(len(points)), points, *products])


def linear(points: Floats) -> Floats:
    """1 and x_i of points, shape (n, 1 + n_parameters)."""
    return np.column_stack([np.ones(len(points)), points])


def fit(
    surrogate: Mapping[str, Surrogate],
    tables: Mapping[str, MeasuredTable],
    bounds: tuple[Any, Any],
) -> Floats:
    """Point of a box with the least sum of χ²/n over the fitted tables."""

    def cost(point: Floats) -> float:
        total = 0.0
        for name, model in surrogate.items():
            table, (value, error) = tables[name], model(point)
            own = np.where(value > table.value, table.up, table.down)
            total += float(np.mean((value - table.value) ** 2 / (own**2 + error**2)))
        return total

    low, high = np.broadcast_arrays(*bounds, np.zeros(len(PARAMETERS)))[:2]
    sides = list(zip(low, high, strict=True))
    starts = low + design(20) * (high - low)
    found = [minimize(cost, start, bounds=sides, method="Powell") for start in starts]
    return np.asarray(min(found, key=lambda one: float(one.fun)).x)


def numbers(result: TableCheck) -> str:
    """Ratios of a short table."""
    if result.n_bins > 6:
        return ""
    pairs = zip(result.ratio, result.ratio_error, strict=True)
    return "ratios " + ", ".join(f"{ratio:.3f} ± {error:.3f}" for ratio, error in pairs)


def verdict(results: Mapping[str, TableCheck]) -> str:
    """Whether the fitted tune is fit to ship: six bins within errors, ΣE_T half of Monash's."""
    density = results["fitted atlas_2012_et_density"]
    side = np.where(density.generated > density.measured, density.up, density.down)
    within = np.abs(density.generated - density.measured) <= side
    fitted, monash = (results[f"{label} atlas_2012_sum_et"] for label in ("fitted", "Monash"))
    part = fitted.chi2 / monash.chi2
    reached = within.all() and part < 0.5
    return (
        f"{'reached' if reached else 'not reached'}: {within.sum()} of {len(within)} bins of the "
        f"E_T density within the measured error alone; χ² of ΣE_T {part:.2f} of Monash's"
    )


if __name__ == "__main__":
    main()
