"""What is lost by adding energies that were zero-suppressed before, instead of after, the sum."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Floats
from pileupgen.calo.geometry import Grid
from pileupgen.errors import DependencyError
from pileupgen.measure.bootstrap import Estimate, estimate, resample
from pileupgen.measure.hard_objects import ObjectFinder
from pileupgen.overlay.produce import suppress

Energies = NDArray[np.float32]

N_BOOTSTRAP = 200
JET_EDGES = (20.0, 40.0, np.inf)
"""GeV, p_T of jets without pileup."""
MIN_JETS = 10


@dataclass(frozen=True)
class SuppressionBias:
    """Relative differences of sums of suppressed energies from the suppressed sum."""

    n_events: int
    energy: dict[str, Estimate]
    """Difference of ⟨E⟩, by layer."""
    occupancy: dict[str, Estimate]
    """Difference of the mean number of hits, by layer."""
    jets: dict[str, Estimate]
    """Difference of the mean p_T − ρ π R² of jets, by their p_T without pileup; empty without
    FastJet."""

    def lines(self) -> list[str]:
        """Say it in words, a line each."""
        told = [
            f"⟨E⟩ in {layer} {_percent(self.energy[layer])}, occupancy "
            f"{_percent(self.occupancy[layer])}"
            for layer in self.energy
        ]
        return told + [f"jets of {where}: p_T {_percent(one)}" for where, one in self.jets.items()]

    def to_dict(self) -> dict[str, object]:
        """Plain numbers: value and ends of the interval."""
        return {
            name: {key: [one.value, one.low, one.high] for key, one in getattr(self, name).items()}
            for name in ("energy", "occupancy", "jets")
        } | {"n_events": self.n_events}


def _percent(found: Estimate) -> str:
    return f"{100 * found.value:+.1f} ± {100 * found.error:.1f} %".replace("-", "−")


def suppression_bias(
    hard: Energies, pileup: Energies, cuts: tuple[float, ...], grid: Grid, seed: int = 1
) -> SuppressionBias:
    """Compare both orders of adding and suppressing on energies that are not suppressed.

    Parameters
    ----------
    hard, pileup : float32 arrays, shape (N, L, n_eta, n_phi)
        Hard scatters and pileup, GeV.
    cuts : tuple of float
        Threshold of each layer, GeV.
    seed : int
        Of the bootstrap over events.
    """
    dead, shares = grid.is_dead, grid.cell_shares
    right = suppress(hard + pileup, cuts, shares, dead)
    parts = [suppress(one.copy(), cuts, shares, dead) for one in (hard, pileup)]
    wrong = parts[0] + parts[1]
    once = np.ones((len(hard), 1))
    draws = resample(len(hard), N_BOOTSTRAP, np.random.default_rng([seed, 29]))
    counts = np.concatenate([once, draws], axis=1)
    energy, occupancy = {}, {}
    for layer, name in enumerate(grid.layers):
        sums = [image[:, layer].sum(axis=(1, 2), dtype=np.float64) for image in (wrong, right)]
        hits = [np.count_nonzero(image[:, layer], axis=(1, 2)) for image in (wrong, right)]
        energy[name] = _relative(sums[0], sums[1], counts)
        occupancy[name] = _relative(hits[0], hits[1], counts)
    return SuppressionBias(
        len(hard), energy, occupancy, _jet_bias(hard, wrong, right, counts, grid)
    )


def _relative(wrong: NDArray[np.floating], right: NDArray[np.floating], counts: Floats) -> Estimate:
    ratio = (wrong @ counts) / (right @ counts) - 1
    return estimate(float(ratio[0]), ratio[1:])


def _jet_bias(
    hard: Energies, wrong: Energies, right: Energies, counts: Floats, grid: Grid
) -> dict[str, Estimate]:
    try:
        finder = ObjectFinder(grid)
    except DependencyError:
        return {}
    objects = finder.hard(hard)
    pt = [finder.overlaid(image, objects).jet_pt for image in (wrong, right)]
    found = {}
    for low, high in pairwise(JET_EDGES):
        chosen = (objects.jet_pt >= low) & (objects.jet_pt < high) & np.isfinite(pt[0] + pt[1])
        if chosen.sum() >= MIN_JETS:
            where = f"p_T > {low:g} GeV" if np.isinf(high) else f"p_T {low:g} … {high:g} GeV"
            weight = counts[objects.jet_event[chosen]]
            found[where] = _relative(pt[0][chosen], pt[1][chosen], weight)
    return found
