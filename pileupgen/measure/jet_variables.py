"""High-level variables of jets from their constituents, and the constituents themselves.

Constituents are massless, in coordinates relative to the jet axis; z_i is a constituent's share of
the sum of p_T, ΔR² = Δη² + Δφ².
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pileupgen.arrays import Floats, quotient
from pileupgen.calo.constituents import COORDINATES
from pileupgen.errors import CardError, did_you_mean
from pileupgen.measure.subjet_axes import wta_kt_axes

R0 = 0.8
"""Radius that N-subjettiness is in units of; it drops out of ratios."""
_CONSTITUENT = re.compile(rf"(?P<what>{'|'.join(COORDINATES)})_(?P<place>[1-9]\d*)")


@dataclass(frozen=True)
class JetArrays:
    """Jets as JetNet's files hold them."""

    particles: Floats
    """η_rel, φ_rel, p_T,rel, mask; what the mask leaves out counts as absent. Shape (N, P, 4)."""
    jets: Floats
    """p_T in GeV, η, mass in GeV, number of particles. Shape (N, 4)."""

    @property
    def pt(self) -> Floats:
        """p_T,rel of the constituents, 0 where absent, shape (N, P)."""
        return np.where(self.particles[..., 3] > 0, np.maximum(self.particles[..., 2], 0.0), 0.0)

    @property
    def z(self) -> Floats:
        """Shares of the sum of p_T, shape (N, P); all 0 for a jet without constituents."""
        return quotient(self.pt, self.pt.sum(axis=1, keepdims=True))

    @property
    def eta(self) -> Floats:
        """η_rel, 0 where absent, shape (N, P)."""
        return np.where(self.pt > 0, self.particles[..., 0], 0.0)

    @property
    def phi(self) -> Floats:
        """φ_rel, 0 where absent, shape (N, P)."""
        return np.where(self.pt > 0, self.particles[..., 1], 0.0)


def mass(jets: JetArrays) -> Floats:
    """Invariant mass of the constituents in GeV, shape (N,)."""
    pt, eta, phi = jets.pt, jets.eta, jets.phi
    energy = np.sum(pt * np.cosh(eta), axis=1)
    along = (np.sum(pt * axis, axis=1) for axis in (np.cos(phi), np.sin(phi), np.sinh(eta)))
    mass2 = energy**2 - sum(np.square(momentum) for momentum in along)
    return np.asarray(jets.jets[:, 0] * np.sqrt(np.maximum(mass2, 0.0)))


def girth(jets: JetArrays) -> Floats:
    """Σ z ΔR to the jet axis, shape (N,)."""
    return np.asarray(np.sum(jets.z * np.hypot(jets.eta, jets.phi), axis=1))


def ptd(jets: JetArrays) -> Floats:
    """√Σ z², shape (N,)."""
    return np.asarray(np.sqrt(np.sum(jets.z**2, axis=1)))


def energy_correlations(jets: JetArrays) -> tuple[Floats, Floats]:
    """Energy correlation functions e₂ and e₃ with β = 1 (Larkoski et al. 1305.0007), shape (N,).

    e₂ = Σ_{i<j} z_i z_j ΔR_ij and e₃ = Σ_{i<j<k} z_i z_j z_k ΔR_ij ΔR_ik ΔR_jk.
    """
    z, eta, phi = jets.z, jets.eta, jets.phi
    distance = np.hypot(eta[:, :, None] - eta[:, None], phi[:, :, None] - phi[:, None])
    root = np.sqrt(z)
    # e₃ is a sixth of the trace of the cube: a triangle has six walks around it.
    matrix = distance * root[:, :, None] * root[:, None]
    e2 = 0.5 * np.einsum("ni,nij,nj->n", z, distance, z, optimize=True)
    e3 = np.einsum("nij,nji->n", matrix @ matrix, matrix, optimize=True) / 6
    return e2, e3


def c2(jets: JetArrays) -> Floats:
    """C₂ = e₃ / e₂² (1305.0007), shape (N,)."""
    e2, e3 = energy_correlations(jets)
    return quotient(e3, e2**2)


def d2(jets: JetArrays) -> Floats:
    """D₂ = e₃ / e₂³ (1409.6298), shape (N,)."""
    e2, e3 = energy_correlations(jets)
    return quotient(e3, e2**3)


def subjettiness(jets: JetArrays, n_axes: int) -> Floats:
    """τ_N = Σ z min_a ΔR_a / R₀ with β = 1 (Thaler & Van Tilburg 1011.2268), shape (N,).

    The axes are those of exclusive k_t with winner-take-all recombination; a jet with no more
    constituents than axes has τ_N = 0.
    """
    axes = wta_kt_axes(jets.pt, jets.eta, jets.phi, n_axes)
    distance = np.hypot(
        jets.eta[:, :, None] - axes[:, None, :, 0], jets.phi[:, :, None] - axes[:, None, :, 1]
    )
    return np.asarray(np.sum(jets.z * distance.min(axis=2), axis=1) / R0)


def _ratio(n_axes: int) -> Callable[[JetArrays], Floats]:
    def ratio(jets: JetArrays) -> Floats:
        return quotient(subjettiness(jets, n_axes), subjettiness(jets, n_axes - 1))

    return ratio


VARIABLES: dict[str, tuple[str, Callable[[JetArrays], Floats]]] = {
    "mass": ("GeV", mass),
    "pt": ("GeV", lambda jets: jets.jets[:, 0]),
    "jet_eta": ("", lambda jets: jets.jets[:, 1]),
    "jet_mass": ("GeV", lambda jets: jets.jets[:, 2]),
    "n_constituents": ("", lambda jets: (jets.pt > 0).sum(axis=1).astype(np.float64)),
    "girth": ("", girth),
    "ptd": ("", ptd),
    "e2": ("", lambda jets: energy_correlations(jets)[0]),
    "e3": ("", lambda jets: energy_correlations(jets)[1]),
    "c2": ("", c2),
    "d2": ("", d2),
    "tau1": ("", lambda jets: subjettiness(jets, 1)),
    "tau2": ("", lambda jets: subjettiness(jets, 2)),
    "tau3": ("", lambda jets: subjettiness(jets, 3)),
    "tau21": ("", _ratio(2)),
    "tau32": ("", _ratio(3)),
}
"""Name → unit and function. ``jet_mass`` is the file's, of all particles; ``mass`` that of those
kept."""


def unit_of(name: str) -> str:
    """Unit of a variable, ``""`` where it has none.

    Raises
    ------
    CardError
        If there is no such variable.

    Examples
    --------
    >>> unit_of("mass"), unit_of("ptrel_1")
    ('GeV', '')
    """
    if _CONSTITUENT.fullmatch(name):
        return ""
    if name not in VARIABLES:
        raise CardError(
            f"No jet variable '{name}'.",
            f"{did_you_mean(name, VARIABLES)} Constituents are etarel_1, phirel_1, ptrel_1, …",
        )
    return VARIABLES[name][0]


def jet_variables(jets: JetArrays, names: Sequence[str]) -> Floats:
    """Compute variables, shape (N, len(names)).

    Parameters
    ----------
    names : sequence of str
        Of ``VARIABLES``; or ``etarel_1``, ``phirel_1``, ``ptrel_1`` of the leading constituent, and
        so on.

    Raises
    ------
    CardError
        If there is no such variable or constituent.
    """
    columns = []
    for name in names:
        unit_of(name)
        match = _CONSTITUENT.fullmatch(name)
        if match is None:
            columns.append(VARIABLES[name][1](jets))
            continue
        place, n_places = int(match["place"]), jets.particles.shape[1]
        if place > n_places:
            raise CardError(
                f"'{name}': the jets have {n_places} constituents.",
                f"Ask for {n_places} at most in the options of the card.",
            )
        found = {"etarel": jets.eta, "phirel": jets.phi, "ptrel": jets.pt}[match["what"]]
        columns.append(found[:, place - 1])
    return np.stack(columns, axis=1)
