"""Significant differences between two samples, in units of σ.

Every test compares a sample with the target. Tests come in families (observables, blocks, cells,
spectrum, correlations); the chance p of the most extreme one is multiplied by the number of tests
in its family and by the number of families, so that one number in σ holds for the whole comparison
(a bound, Bonferroni's, since tests are correlated).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.special import kolmogorov, ndtr, ndtri

from pileupgen.arrays import Floats, quotient
from pileupgen.calo.geometry import Grid
from pileupgen.compare.records import CLEAR, SIGMA_LIMIT, StatisticalTest, Verdict
from pileupgen.measure.bootstrap import effective_size
from pileupgen.measure.features import correlations
from pileupgen.measure.regions import block_edges
from pileupgen.measure.sample import Sample
from pileupgen.measure.showers import data_set_of
from pileupgen.measure.spectrum import SPECTRUM_EDGES

MIN_ENTRIES = 25.0
"""Events with a hit in a cell, or hits in a bin, below which no Gaussian error is trusted."""
N_STEPS = 3
"""Distances in cells at which correlations are compared."""
N_SHOWN = 10
"""Findings that are kept."""


def judge(target: Sample, sample: Sample) -> Verdict:
    """Compare a sample with the target in every family of tests.

    Parameters
    ----------
    target, sample : Sample
        Independent samples on one grid.
    """
    families: list[tuple[str, list[str], Floats]] = [("observable", *_observables(target, sample))]
    if target.grid.is_feature_table:
        families.append(("correlation", *_feature_correlations(target, sample)))
    else:
        families += _image_families(target, sample)
    families = [family for family in families if len(family[2])]
    found = []
    for family, names, chances in families:
        for place in np.argsort(chances, kind="stable")[:N_SHOWN]:
            chance = float(chances[place])
            overall = min(1.0, chance * len(chances) * len(families))
            found.append(
                StatisticalTest(
                    family=family,
                    name=names[place],
                    local=in_sigma(chance),
                    significance=in_sigma(overall),
                )
            )
    found.sort(key=lambda finding: (-finding.significance, -finding.local))
    return Verdict(
        significance=found[0].significance if found else 0.0,
        n_tests=sum(len(chances) for _, _, chances in families),
        n_clear=sum(
            int(np.sum(chances * len(chances) * len(families) < ndtr(-CLEAR)))
            for _, _, chances in families
        ),
        findings=tuple(found[:N_SHOWN]),
    )


def _image_families(target: Sample, sample: Sample) -> list[tuple[str, list[str], Floats]]:
    return [
        ("block", *_blocks(target, sample)),
        ("cell", *_cells(target, sample)),
        ("spectrum", *_spectrum(target, sample)),
        ("correlation", *_correlations(target, sample)),
    ]


def in_sigma(chance: float) -> float:
    """Give the one-sided Gaussian significance of a chance, between 0 and ``SIGMA_LIMIT``.

    >>> round(in_sigma(0.00135), 2)
    3.0
    """
    return float(np.clip(-ndtri(max(chance, 1e-300)), 0.0, SIGMA_LIMIT))


def kolmogorov_smirnov(x: Floats, y: Floats, wx: Floats, wy: Floats) -> float:
    """Chance of the largest difference of two weighted distribution functions.

    Asymptotic, with Stephens' correction (J. R. Stat. Soc. B 32 (1970) 115) and effective sizes.

    Parameters
    ----------
    x, y : float64 arrays, shape (n,) and (m,)
        The samples.
    wx, wy : float64 arrays, shape (n,) and (m,)
        Weights ≥ 0.
    """
    pooled = np.concatenate([x, y])
    order = np.argsort(pooled, kind="stable")
    steps = np.concatenate([wx / wx.sum(), -wy / wy.sum()])[order]
    difference = np.abs(np.cumsum(steps))
    last_of_tie = np.append(np.diff(pooled[order]) > 0, True)
    largest = float(difference[last_of_tie].max())
    n, m = effective_size(wx), effective_size(wy)
    root = float(np.sqrt(n * m / (n + m)))
    return float(kolmogorov((root + 0.12 + 0.11 / root) * largest))


def difference_of_means(
    first: Floats, first_error: Floats, second: Floats, second_error: Floats
) -> Floats:
    """Two-sided chance of the difference of Gaussian means; 1 where neither has an error."""
    scale = np.hypot(first_error, second_error)
    return np.asarray(2.0 * ndtr(-quotient(np.abs(first - second), scale)))


def _observables(target: Sample, sample: Sample) -> tuple[list[str], Floats]:
    names, chances = [], []
    for name, x in target.observables.items():
        y = sample.observables[name]
        names += [f"{name}, distribution", f"{name}, mean"]
        chances.append(kolmogorov_smirnov(x, y, target.weight, sample.weight))
        first = _mean_and_error(x[:, None], target.weight)
        second = _mean_and_error(y[:, None], sample.weight)
        chances.append(float(difference_of_means(*first, *second)[0]))
    return names, np.array(chances)


def _blocks(target: Sample, sample: Sample) -> tuple[list[str], Floats]:
    first = _mean_and_error(target.blocks.astype(np.float64), target.weight)
    second = _mean_and_error(sample.blocks.astype(np.float64), sample.weight)
    chances = difference_of_means(*first, *second)
    eta, phi = (list(pairwise(edges)) for edges in block_edges(target.grid))
    first_axis, second_axis = _axes(target.grid)
    names = [
        f"energy of block {first_axis} = {a:.2f} … {b:.2f}, {second_axis} = {c:.2f} … {d:.2f}"
        for a, b in eta
        for c, d in phi
    ]
    return [name.replace("-", "−") for name in names], chances


def _cells(target: Sample, sample: Sample) -> tuple[list[str], Floats]:
    """Mean energy and occupancy of every cell that either sample hits often enough."""
    a, b = target.cells, sample.cells
    hits = a.occupancy * target.effective_size + b.occupancy * sample.effective_size
    trusted = hits >= 2 * MIN_ENTRIES
    names: list[str] = []
    chances: list[Floats] = []
    for what, first, second in (
        ("energy", (a.energy, a.energy_error), (b.energy, b.energy_error)),
        ("occupancy", (a.occupancy, a.occupancy_error), (b.occupancy, b.occupancy_error)),
    ):
        chances.append(difference_of_means(*first, *second)[trusted])
        names += [f"{what} of {cell_name(target.grid, *place)}" for place in np.argwhere(trusted)]
    return names, np.concatenate(chances)


def _spectrum(target: Sample, sample: Sample) -> tuple[list[str], Floats]:
    a, b = target.cells, sample.cells
    edges = np.concatenate([[-np.inf], SPECTRUM_EDGES, [np.inf]])
    names: list[str] = []
    chances: list[Floats] = []
    for what, first, second in (
        ("E", (a.spectrum, a.spectrum_error), (b.spectrum, b.spectrum_error)),
        ("−E", (a.negative, a.negative_error), (b.negative, b.negative_error)),
    ):
        entries = first[0] * target.effective_size + second[0] * sample.effective_size
        trusted = entries >= 2 * MIN_ENTRIES
        chances.append(difference_of_means(*first, *second)[trusted])
        names += [
            f"cells of {target.grid.layers[layer]} with log10({what}/MeV) in "
            f"[{edges[place]:.1f}, {edges[place + 1]:.1f})"
            for layer, place in np.argwhere(trusted)
        ]
    return names, np.concatenate(chances)


def _correlations(target: Sample, sample: Sample) -> tuple[list[str], Floats]:
    layers = target.grid.layers
    pairs = tuple(f"{first}-{second}" for first, second in pairwise(layers))
    names: list[str] = []
    chances: list[Floats] = []
    for what, rows, axis, first_step in (
        ("phi", layers, "φ", 1),
        ("eta", layers, "η", 1),
        ("layers", pairs, "φ", 0),
    ):
        steps = slice(first_step, first_step + N_STEPS)
        numbers = [
            getattr(part.correlation, name)[:, steps]
            for part in (target, sample)
            for name in (what, f"{what}_error")
        ]
        usable = np.isfinite(numbers[1]) & np.isfinite(numbers[3])
        chances.append(difference_of_means(*numbers)[usable])
        names += [
            f"correlation of cells, {rows[row]}, {step + first_step} apart in {axis}"
            for row, step in np.argwhere(usable)
        ]
    return names, np.concatenate(chances)


def _feature_correlations(target: Sample, sample: Sample) -> tuple[list[str], Floats]:
    """Correlation of every two features."""
    numbers = [
        number for part in (target, sample) for number in correlations(part.matrix(), part.weight)
    ]
    pairs = np.triu_indices(len(numbers[0]), 1)
    chances = difference_of_means(*(number[pairs] for number in numbers))
    names = target.grid.layers
    labels = [f"correlation of {names[i]} and {names[j]}" for i, j in zip(*pairs, strict=True)]
    return labels, chances


def _mean_and_error(x: Floats, weight: Floats) -> tuple[Floats, Floats]:
    share = weight / weight.sum()
    mean = share @ x
    return mean, np.sqrt(np.square(share) @ np.square(x - mean))


def cell_name(grid: Grid, layer: int, i_eta: int, i_phi: int) -> str:
    """Name a cell by its layer and centre."""
    eta, phi = grid.eta_centres[i_eta], grid.phi_centres[i_phi]
    first_axis, second_axis = _axes(grid)
    place = f"{first_axis} = {eta:.2f}, {second_axis} = {phi:.2f}".replace("-", "−")
    return f"cell {grid.layers[layer]} {place}"


def _axes(grid: Grid) -> tuple[str, str]:
    return ("η", "φ") if data_set_of(grid) is None else ("r", "α")
