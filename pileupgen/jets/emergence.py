"""Data of the figure of the JetNet demonstration: one quantity over the diffusion time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pileupgen.arrays import Floats, Ints
from pileupgen.compare.distances import wasserstein

REACH = 3.5
"""The axis of scores goes from −REACH to REACH."""
N_BINS = 56
LEVELS = np.arange(1, 10) / 10
"""Between neighbouring contours lie equal shares of the events."""
N_PATHS = 5


@dataclass(frozen=True)
class PathPane:
    """One class: a quantity's score at every timestep kept, and at both ends."""

    title: str
    """Names the class."""
    t: Ints
    """Timesteps, descending to −1. Shape (K,)."""
    density: Floats
    """Probability density of x_t at each timestep; what lies outside the axis is in the outer bins.
    Shape (K, N_BINS)."""
    contours: Floats
    """Quantiles of x_t at ``LEVELS``. Shape (K, n_levels)."""
    paths: Floats
    """x_t of some events. Shape (K, N_PATHS)."""
    noised: Floats
    """Scores of real events noised to the last timestep. Shape (N,)."""
    real: Floats
    emulated: Floats
    """Clean scores. Shape (N,)."""
    switched: Floats
    """Clean scores of events of the other class after the switch. Shape (N,)."""
    noise_distance: float
    """W1 of ``noised`` to the Gaussian."""
    distance: float
    switched_distance: float
    source_distance: float
    reference: float
    """W1 in the quantity's unit to real events: of the emulated, of the switched, of the other
    class as it is, and of other real events."""


@dataclass(frozen=True)
class PathFigure:
    """All panes of one quantity."""

    label: str
    unit: str
    """What the quantity is called on an axis; its unit, empty where it has none."""
    panes: Sequence[PathPane]
    """One a class."""
    score_of: Floats
    """Value and score of the quantity, both ascending: marks its values on the axis of scores.
    Shape (n, 2)."""
    t_release: int
    """Timestep at which the classes were switched."""


def bin_edges() -> Floats:
    """Edges of the bins of scores, shape (N_BINS + 1,)."""
    return np.linspace(-REACH, REACH, N_BINS + 1)


def score_density(scores: Floats) -> Floats:
    """Density in ``bin_edges``, with what lies outside in the outer bins; shape (N_BINS,)."""
    edges = bin_edges()
    inside = np.clip(scores, edges[0], np.nextafter(edges[-1], 0))
    return np.histogram(inside, bins=edges)[0] / (len(scores) * np.diff(edges))


def make_pane(
    title: str,
    t: Ints,
    x_t: Floats,
    noised: Floats,
    scores: tuple[Floats, Floats, Floats],
    values: tuple[Floats, Floats, Floats, Floats],
) -> PathPane:
    """Summarise one quantity of one class.

    Parameters
    ----------
    t : int64 array, shape (K,)
        Timesteps, descending to −1.
    x_t : float64 array, shape (K, N)
        The quantity's score along the way.
    noised : float64 array, shape (M,)
        Scores of real events noised to the last timestep.
    scores : three float64 arrays
        Clean scores of real, emulated and switched events.
    values : four float64 arrays
        The same in the quantity's unit, and the other class as it is.
    """
    from scipy.special import ndtri

    real, emulated, switched, source = values
    gaussian = ndtri((np.arange(len(noised)) + 0.5) / len(noised))
    half = len(real) // 2
    return PathPane(
        title=title,
        t=t,
        density=np.stack([score_density(row) for row in x_t]),
        contours=np.quantile(x_t, LEVELS, axis=1).T,
        paths=x_t[:, :N_PATHS],
        noised=noised,
        real=scores[0],
        emulated=scores[1],
        switched=scores[2],
        noise_distance=float(wasserstein(noised, gaussian)[0]),
        distance=float(wasserstein(emulated, real)[0]),
        switched_distance=float(wasserstein(switched, real)[0]),
        source_distance=float(wasserstein(source, real)[0]),
        reference=float(wasserstein(real[:half], real[half:])[0]),
    )
