"""Electromagnetic showers in a homogeneous medium, by the parametrisation of Grindhammer & Peters.

Equations and constants are those of hep-ex/0001020, appendices A.1.2 to A.1.4, as Geant4 and CMS
have them in public code; the paper itself was not at hand. They agree but for one constant of k_4,
0.0421 here and in all but Geant4, which has 0.0412. Depths are in radiation lengths along the axis,
radii in Molière radii, energies in GeV.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import gammainc

from pileupgen.arrays import Floats

SCALE_ENERGY = 0.0212
"""E_s in GeV: R_M = X_0 E_s / E_c (Rossi)."""
INTERACTION = 35.0
"""g/cm²: Geant4 takes an element's nuclear interaction length to be this times A^(1/3)."""
SMALLEST_ALPHA = 1.05
"""Below 1 a profile has no maximum; one shower in 10⁴ at 1 GeV is drawn there."""

_ELEMENTS = {
    # Z, A, X_0 in g/cm² (Particle Data Group)
    "O": (8, 15.999, 34.24),
    "Si": (14, 28.085, 21.82),
    "Fe": (26, 55.845, 13.84),
    "Cu": (29, 63.546, 12.86),
    "Zn": (30, 65.38, 12.43),
    "W": (74, 183.84, 6.76),
    "Pb": (82, 207.2, 6.37),
}


@dataclass(frozen=True)
class Medium:
    """What a shower develops in."""

    z: float
    a: float
    """Atomic number and mass, means by mass."""
    x0: float
    """Radiation length, g/cm²."""
    density: float
    """g/cm³."""
    interaction: float
    """Nuclear interaction length, g/cm²."""

    @classmethod
    def of(cls, masses: Mapping[str, float], density: float) -> Medium:
        """Mix elements in proportion to their masses."""
        total = sum(masses.values())
        parts = [(mass / total, *_ELEMENTS[name]) for name, mass in masses.items()]
        return cls(
            z=sum(w * z for w, z, _, _ in parts),
            a=sum(w * a for w, _, a, _ in parts),
            x0=1 / sum(w / x0 for w, _, _, x0 in parts),
            density=density,
            interaction=1 / sum(w / (INTERACTION * a ** (1 / 3)) for w, _, a, _ in parts),
        )

    @property
    def radiation_length(self) -> float:
        """X_0 in mm."""
        return 10 * self.x0 / self.density

    @property
    def interaction_length(self) -> float:
        """λ in mm."""
        return 10 * self.interaction / self.density

    @property
    def critical_energy(self) -> float:
        """E_c in GeV: 2.66 MeV (X_0 Z / A)^1.1."""
        return 2.66e-3 * (self.x0 * self.z / self.a) ** 1.1

    @property
    def moliere_radius(self) -> float:
        """R_M in mm."""
        return self.radiation_length * SCALE_ENERGY / self.critical_energy


def _with_quartz(masses: Mapping[str, float], density: float, share: float) -> Medium:
    """A metal whose volume has a share of quartz fibres."""
    metal, quartz = density * (1 - share) / sum(masses.values()), 2.2 * share / 60.08
    mixed = {name: metal * mass for name, mass in masses.items()}
    oxide = {"Si": quartz * 28.085, "O": quartz * 2 * 15.999}
    return Medium.of(mixed | oxide, density * (1 - share) + 2.2 * share)


_W_MASS, _SI_MASS = 0.14 * 19.30, 0.03 * 2.329
MEDIA = {
    # 1.4 mm of tungsten and 0.3 mm of silicon, as data set 2 of the CaloChallenge has them
    # (2410.21611), taken for one medium.
    "w_si": Medium.of({"W": _W_MASS, "Si": _SI_MASS}, (_W_MASS + _SI_MASS) / 0.17),
    "pbwo4": Medium.of({"Pb": 207.2, "W": 183.84, "O": 4 * 15.999}, 8.30),
    "iron": Medium.of({"Fe": 1.0}, 7.874),
    # ALICE's zero-degree calorimeters: a fibre in 22 parts of a tungsten alloy, in 65 of brass.
    "w_quartz": _with_quartz({"W": 93.5, "Cu": 6.5}, 17.6, 1 / 22),
    "brass_quartz": _with_quartz({"Cu": 70.0, "Zn": 30.0}, 8.48, 1 / 65),
}


@dataclass(frozen=True)
class Profiles:
    """Longitudinal profiles of N showers: gamma densities of the depth t, eq. 2."""

    energy: Floats
    """GeV. Shape (N,)."""
    maximum: Floats
    """T: depth of the maximum in X_0. Shape (N,)."""
    alpha: Floats
    """Shape (N,)."""
    medium: Medium

    @property
    def beta(self) -> Floats:
        """β = (α − 1) / T, eq. 4."""
        return (self.alpha - 1) / self.maximum

    def below(self, t: Floats) -> Floats:
        """Part of the energy before depths t in X_0, (k,) to (N, k)."""
        return np.asarray(gammainc(self.alpha[:, None], self.beta[:, None] * np.maximum(t, 0.0)))

    def spots_below(self, t: Floats) -> Floats:
        """Part of the spots before depths t, (k,) to (N, k): eqs. 32, 33 and A.1.4."""
        z = self.medium.z
        alpha = self.alpha * (0.639 + 0.00334 * z)
        maximum = self.maximum * (0.698 + 0.00212 * z)
        # Their α of a short shower may be below 1, where they have no maximum: it stays a gamma.
        beta = np.maximum(alpha - 1, 0.05) / maximum
        return np.asarray(gammainc(alpha[:, None], beta[:, None] * np.maximum(t, 0.0)))

    @property
    def n_spots(self) -> Floats:
        """Spots of a shower, 93 ln Z E^0.876, eq. 31. Shape (N,)."""
        return 93 * np.log(self.medium.z) * self.energy**0.876

    def radial(self, t: Floats) -> tuple[Floats, Floats, Floats]:
        """R_C and R_T in R_M, and the core's part p, at depths t: (k,) to (N, k) each.

        Equations 24 to 26 at the shower's own τ, eq. 34, with A.1.3.
        """
        _, mean_log_alpha = _means(self.energy, self.medium)
        mean_depth = self.maximum * self.alpha / (self.alpha - 1)
        scale = np.exp(mean_log_alpha) / (np.exp(mean_log_alpha) - 1) / mean_depth
        tau, z, log_e = t * scale[:, None], self.medium.z, np.log(self.energy)[:, None]
        core = 0.0251 + 0.00319 * log_e + (0.1162 - 0.000381 * z) * tau
        late = 0.3585 + 0.0421 * log_e
        tail = (0.659 - 0.00309 * z) * (
            np.exp(-2.59 * (tau - 0.645)) + np.exp(late * (tau - 0.645))
        )
        place = (0.401 + 0.00187 * z - tau) / (1.313 - 0.0686 * log_e)
        part = (2.632 - 0.00094 * z) * np.exp(place - np.exp(place))
        return core, tail, np.clip(part, 0.0, 1.0)


def draw_profiles(energy: Floats, medium: Medium, rng: np.random.Generator) -> Profiles:
    """Draw showers, whose ln T and ln α are normal and correlated: eqs. 7 to 11 with A.1.2.

    Parameters
    ----------
    energy : float64 array, shape (N,)
        Of the incident electrons, GeV; well above the critical energy.
    medium : Medium
    rng : numpy.random.Generator
    """
    log_y = np.log(energy / medium.critical_energy)
    mean_log_t, mean_log_alpha = _means(energy, medium)
    rho = 0.705 - 0.023 * log_y
    one, other = rng.normal(size=(2, len(energy)))
    common, opposed = np.sqrt((1 + rho) / 2) * one, np.sqrt((1 - rho) / 2) * other
    log_t = mean_log_t + (common + opposed) / (-1.4 + 1.26 * log_y)
    log_alpha = mean_log_alpha + (common - opposed) / (-0.58 + 0.86 * log_y)
    alpha = np.maximum(np.exp(log_alpha), SMALLEST_ALPHA)
    return Profiles(energy, np.exp(log_t), alpha, medium)


def _means(energy: Floats, medium: Medium) -> tuple[Floats, Floats]:
    """⟨ln T⟩ and ⟨ln α⟩, (N,): A.1.2."""
    log_y = np.log(energy / medium.critical_energy)
    return np.log(log_y - 0.812), np.log(0.81 + (0.458 + 2.26 / medium.z) * log_y)
