"""The minimum of a χ² that is not smooth, and errors by its profile.

Simulated hits pass thresholds one by one, so that χ² of simulated means has a minimum at every
turn: a fit by steps ends in one of them, and the slope there tells little. Here the means of many
points around it are described by a polynomial of second order, as in tunes of generators (Buckley
et al., Eur. Phys. J. C 65 (2010) 331, section 2), whose χ² is smooth. The error of a number ends
where that is greater by 1 than at its least, all other numbers fitted again (James, *Statistical
Methods in Experimental Physics*, 2nd ed., section 9.3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pileupgen.arrays import Flags, Floats, Ints

RISE = 1.0
"""Rise of χ² where an error ends."""
WIDTH = 1.5
"""Standard deviation of the points around the minimum, in errors of the fit before."""
FARTHEST = 4.0
"""Widths beyond which the polynomial is not asked."""
_POINTS = 2
"""Points over the terms of the polynomial."""


@dataclass(frozen=True)
class SmoothFit:
    """Numbers where the smooth χ² is least, and their errors, shape (n,) each."""

    point: Floats
    error: Floats
    """Errors by the slope at the minimum; infinite where nothing depends on a number."""
    down: Floats
    up: Floats
    """Distances to where χ² has risen by ``RISE``, or to a bound that is met before; infinite where
    neither is near."""


def n_points(n: int) -> int:
    """Points that are simulated for n numbers."""
    return int(_POINTS * ((n + 1) * (n + 2) // 2)) + 1


def smooth_fit(
    mean: Callable[[Floats], Floats],
    aim: Floats,
    weight: Floats,
    begun: SmoothFit,
    covariance: Floats,
    bounds: tuple[Floats, Floats],
    seed: int,
) -> tuple[SmoothFit, Floats]:
    """Fit numbers once more, by χ² = rᵀ V⁻¹ r of a polynomial r.

    Parameters
    ----------
    mean : callable
        Simulated means, shape (m,), of numbers of shape (n,).
    aim : float64 array, shape (m,)
        Recorded means.
    weight : float64 array, shape (m, m)
        V⁻¹.
    begun : SmoothFit
        Where to begin.
    covariance : float64 array, shape (n, n)
        Of the numbers, by the slope there.
    bounds : two float64 arrays, shape (n,)
        Least and largest values.
    seed : int
        Of the points.

    Returns
    -------
    SmoothFit
        Numbers that nothing depends on are as in ``begun``.
    covariance : float64 array, shape (n, n)
        Of the numbers, by the slope at the new minimum.
    """
    free = np.flatnonzero(np.isfinite(begun.error) & (begun.error > 0))
    unit = begun.error[free]
    centre = begun.point[free]
    low, high = ((bound[free] - centre) / unit for bound in bounds)
    values, vectors = np.linalg.eigh(covariance[np.ix_(free, free)] / np.outer(unit, unit))
    spread = WIDTH * vectors * np.sqrt(np.maximum(values, 1e-3))
    rng = np.random.default_rng([seed, len(free)])
    drawn = rng.standard_normal((n_points(len(free)), len(free))) @ spread.T
    points = np.vstack([np.zeros(len(free)), np.clip(drawn, low, high)])

    def at(inner: Floats) -> Floats:
        whole = begun.point.copy()
        whole[free] = centre + inner * unit
        return whole

    means = np.array([mean(at(inner)) for inner in points])
    terms = np.linalg.lstsq(_terms(points), means, rcond=1e-8)[0]
    values, vectors = np.linalg.eigh(weight)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))).T
    least = _Valley(
        root @ aim,
        terms @ root.T,
        np.maximum(low, -FARTHEST * WIDTH),
        np.minimum(high, FARTHEST * WIDTH),
    )
    inner, chi2, curvature = least.minimum(np.zeros(len(free)), np.ones(len(free), dtype=bool))
    found = np.linalg.pinv(curvature)
    error, down, up = np.full((3, len(begun.point)), np.inf)
    error[free] = np.sqrt(np.maximum(np.diag(found), 0.0)) * unit
    for number, place in enumerate(free):
        for side, ends, bound in ((-1, down, low), (1, up, high)):
            ends[place] = unit[number] * least.rise(inner, chi2, number, side, bound[number])
    new = np.zeros_like(covariance)
    new[np.ix_(free, free)] = found * np.outer(unit, unit)
    return SmoothFit(at(inner), error, down, up), new


def _terms(points: Floats) -> Floats:
    """Terms of a polynomial of second order, shape (k, (n + 1)(n + 2) / 2)."""
    rows, columns = _pairs(points.shape[1])
    return np.hstack([np.ones((len(points), 1)), points, points[:, rows] * points[:, columns]])


def _pairs(n: int) -> tuple[Ints, Ints]:
    rows, columns = np.triu_indices(n)
    return rows, columns


class _Valley:
    """χ² = |r|² of a polynomial r of second order, within bounds."""

    def __init__(self, aim: Floats, terms: Floats, low: Floats, high: Floats) -> None:
        self._aim, self._terms = aim, terms
        self._low, self._high = low, high

    def minimum(self, begin: Floats, free: Flags) -> tuple[Floats, float, Floats]:
        """Where χ² is least over the free numbers, how much it is, and JᵀJ there."""
        from scipy.optimize import least_squares

        low, high = self._low[free], self._high[free]
        inside = 1e-6 * (high - low)

        def residual(part: Floats) -> Floats:
            return self._residual(_set(begin, free, part))

        start = np.clip(begin[free], low + inside, high - inside)
        found = least_squares(residual, start, bounds=(low, high))
        slope = np.asarray(found.jac, dtype=np.float64)
        return _set(begin, free, found.x), float(2 * found.cost), slope.T @ slope

    def rise(self, best: Floats, chi2: float, i: int, side: int, bound: float) -> float:
        """Distance from the minimum to where the profile of number i has risen."""
        from scipy.optimize import brentq

        others = np.arange(len(best)) != i
        limit = self._high[i] if side > 0 else self._low[i]

        def height(distance: float) -> float:
            there = best.copy()
            there[i] += side * distance
            value = self.minimum(there, others)[1] if others.any() else self._chi2(there)
            return value - chi2 - RISE

        most = abs(float(limit - best[i]))
        if most <= 0 or height(most) < 0:
            return most if limit == bound else np.inf
        return float(brentq(height, 0.0, most, xtol=0.01))

    def _chi2(self, inner: Floats) -> float:
        return float(np.sum(np.square(self._residual(inner))))

    def _residual(self, inner: Floats) -> Floats:
        residual: Floats = self._aim - _terms(inner[None])[0] @ self._terms
        return residual


def _set(begin: Floats, free: Flags, part: Floats) -> Floats:
    whole = begin.copy()
    whole[free] = part
    return whole
