"""Hadronic showers: two gamma functions of the depth, whose five numbers fluctuate together.

The form is that of GFLASH (Grindhammer, Rudowicz & Peters, NIM A290 (1990) 469): a short part
in radiation lengths, fed by neutral pions, and a long one in interaction lengths. That paper was
not at hand. The constants are those that CMS fitted to Geant4's pions that interact in its hadron
calorimeter of brass, as CMSSW has them in SimGeneral/GFlash (``par``, ``rho`` and ``rpar`` of
shower type 3). Lengths were measured there in brass of X_0 = 1.49 cm and λ = 16.42 cm, and are
carried to other media in these units. What a pion deposits before it interacts is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pileupgen.arrays import Floats
from pileupgen.simulate.shower_profile import Medium

_BRASS, _LATERAL_UNIT = 16.42, 22.4
"""λ of CMS' brass, and the length in which its lateral profile counts depths, cm."""
_DEEPEST, _WIDEST = 6.0, 12.0
"""Depth, in ``_LATERAL_UNIT``, at which a shower stops growing wider; largest radius in λ."""
_LARGEST_LOG = 4.0
"""ln α and ln β of the long part above it are drawn again, as is a short part outside [0, 1]."""
# p_0 + p_1 tanh(p_2 (ln E − p_3)): short part of the energy, its ln α and ln β, those of the rest.
_MEANS = np.array(
    [
        [0.63159, 0.14557, 0.47778, 2.5534],
        [0.64682, -0.073109, 34.524, 2.9954],
        [-1.9768, 0.31293, -0.56383, 3.0850],
        [0.96181, 0.11237, -1.7285, 2.3366],
        [1.5000, -1.5000, 0.42321, 0.89595],
    ]
)
_SPREADS = np.array(
    [
        [0.25000, 0.21781, -0.22974, 0.62906],
        [0.52411, -0.10607, 0.74782, 2.7602],
        [1.0462, -19.208, 0.0027239, -6.7807],
        [0.66619, 0.31562, -0.78957, 2.2168],
        [0.82528, -0.62222, 0.39534, 1.8290],
    ]
)
# Their correlations: 1 with 0, 2 with 0 and 1, 3 with 0, 1 and 2, …
_CORRELATIONS = np.array(
    [
        [0.10345, 0.048906, 66.775, 2.0782],
        [0.42870, 0.10980, 4.7327, 1.7190],
        [0.70416, 0.0, 1.0, 1.0],
        [-0.010516, -0.10000, 1.0603, 4.5948],
        [0.39288, 0.0, 1.0, 1.0],
        [0.40569, -34.859, 0.0027762, 0.99758],
        [0.21099, -0.10207, 1.6655, 4.2542],
        [0.20000, 0.27118, 0.61110, 1.0454],
        [0.55325, -0.070746, 3.5839, 4.3084],
        [0.73839, -0.11350, 0.63423, 2.1142],
    ]
)
# p_0 + p_1 ln E: median radius at the start and its growth with depth, cm; relative spread, same.
_LATERAL = np.array(
    [[1.9392, 0.034218], [7.8122, -1.5978], [0.66561, -0.039986], [-0.25633, 0.057796]]
)


@dataclass(frozen=True)
class HadronShowers:
    """Longitudinal profiles of N showers, from where the hadron interacts."""

    energy: Floats
    """GeV. Shape (N,)."""
    start: Floats
    """Depth of the first interaction in λ. Shape (N,)."""
    short: Floats
    """Part of the energy that the short, electromagnetic gamma function has. Shape (N,)."""
    alpha: Floats
    beta: Floats
    """Both gamma functions, short and long, β in 1/X_0 and 1/λ. Shape (2, N)."""
    medium: Medium

    @property
    def n_spots(self) -> Floats:
        """Mean number of spots, (5000 + 2500 ln E) / 3, of at least 500 / 3. Shape (N,)."""
        return np.asarray(np.maximum(5000 + 2500 * np.log(self.energy), 500) / 3)

    @property
    def units(self) -> Floats:
        """Units of depth of both parts, mm. Shape (2,)."""
        return np.array([self.medium.radiation_length, self.medium.interaction_length])


def draw_hadron_showers(energy: Floats, medium: Medium, rng: np.random.Generator) -> HadronShowers:
    """Draw showers; the first interaction is exponential in λ, the five numbers are normal.

    Parameters
    ----------
    energy : float64 array, shape (N,)
        Of the incident pions, GeV.
    medium : Medium
    rng : numpy.random.Generator
    """
    log_e = np.log(energy)
    means, spreads = _of_energy(_MEANS, log_e), _of_energy(_SPREADS, log_e)
    roots = _roots(correlations(energy))
    drawn: Floats = np.empty((5, len(energy)))
    left = np.arange(len(energy))
    start = rng.exponential(size=len(energy))
    while len(left):
        normal = rng.normal(size=(len(left), 5))
        found = means[:, left] + spreads[:, left] * np.einsum("nij,nj->in", roots[left], normal)
        drawn[:, left] = found
        is_odd = (found[0] < 0) | (found[0] > 1) | (found[3:] > _LARGEST_LOG).any(axis=0)
        left = left[is_odd]
    shape = np.exp(drawn[1:])
    return HadronShowers(energy, start, drawn[0], shape[[0, 2]], shape[[1, 3]], medium)


def correlations(energy: Floats) -> Floats:
    """Correlations of the five numbers, (N, 5, 5)."""
    values = _of_energy(_CORRELATIONS, np.log(energy))
    found = np.tile(np.eye(5), (len(energy), 1, 1))
    rows, columns = np.tril_indices(5, -1)
    found[:, rows, columns] = found[:, columns, rows] = values.T
    return found


def _roots(matrices: Floats) -> Floats:
    """R with R Rᵀ = C, (N, 5, 5); what makes C no correlation, below 3 GeV, is left out."""
    values, vectors = np.linalg.eigh(matrices)
    found = vectors * np.sqrt(np.maximum(values, 0.0))[:, None]
    return np.asarray(found / np.linalg.norm(found, axis=2, keepdims=True))


def median_radius(energy: float, depth: Floats, medium: Medium) -> tuple[Floats, Floats]:
    """Median radius R_50 in mm and its relative spread, at depths in mm from the first interaction.

    R_50 grows linearly with the depth; half of the energy lies within, by r² / (r² + R_50²).
    """
    radius, growth, spread, change = _LATERAL @ np.array([1.0, np.log(energy)])
    scale = medium.interaction_length / _BRASS
    reduced = np.minimum(np.maximum(depth, 0.0) / scale / _LATERAL_UNIT, _DEEPEST)
    return scale * (radius + max(growth, 0.0) * reduced), np.abs(spread + change * reduced)


def draw_radii(median: Floats, medium: Medium, rng: np.random.Generator) -> Floats:
    """Radii of spots in mm, (n,), at their median radii, (n,)."""
    v = rng.random(len(median))
    return np.minimum(median * np.sqrt(v / (1 - v)), _WIDEST * medium.interaction_length)


def _of_energy(table: Floats, log_e: Floats) -> Floats:
    """Numbers at energies, (rows, N)."""
    p = table[:, :, None]
    return np.asarray(p[:, 0] + p[:, 1] * np.tanh(p[:, 2] * (log_e - p[:, 3])))
