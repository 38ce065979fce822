"""Propagation of particles to the calorimeter: straight lines and helices in a solenoid.

The formulas are those of Delphes' ``ParticlePropagator``, in a form that leaves the position of
the vertex along the beam open until the overlay.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pileupgen.simulate.interactions import Interactions
from pileupgen.simulate.response import Field3D

LIGHT = 0.299792458
"""GeV/(T m): the momentum of a unit charge on a circle of 1 m in 1 T."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Paths:
    """Paths of n particles from a vertex on the beam line at a z that is given later.

    A helix that leaves through the side (radius R) does so at a fixed azimuth and at a fixed
    distance along the beam from its vertex. One that leaves through an end has turned by
    α = dz · dα/dz, has gone r = dz · (p_T/p_z) · sin(α/2)/(α/2) outwards, in the direction
    φ₀ − α/2 (a chord of a circle). A straight line is the case α = 0.
    """

    phi: Floats
    """Azimuth of the momentum at the vertex. Shape (n,)."""
    phi_side: Floats
    dz_side: Floats
    """Azimuth at the side, and distance along z from the vertex; dz is infinite where the helix is
    too narrow to reach the side. Shape (n,)."""
    slope: Floats
    """p_T/|p_z|. Shape (n,)."""
    half_turn: Floats
    """(dα/d|z|)/2 in rad/m, positive for a positive charge in a positive field. Shape (n,)."""
    forward: Floats
    """+1 where p_z ≥ 0, −1 elsewhere. Shape (n,)."""

    def impact(self, rows: NDArray[np.int64], z: Floats, field: Field3D) -> tuple[Floats, Floats]:
        """Compute where particles hit the calorimeter.

        Parameters
        ----------
        rows : int64 array, shape (m,)
            Particles.
        z : float32 array, shape (m,)
            Their vertices on the beam line, m.

        Returns
        -------
        cot_theta, phi : float32 arrays, shape (m,)
            cot θ = sinh η of the point of impact, seen from the detector's centre, and its
            azimuth, not wrapped.
        """
        radius, length = np.float32(field.radius), np.float32(field.half_length)
        z_side = z + self.dz_side[rows]
        cot_theta = z_side / radius
        phi = self.phi_side[rows]
        through_end = np.flatnonzero(~(np.abs(z_side) <= length))
        ending = rows[through_end]
        forward = self.forward[ending]
        path = length - forward * z[through_end]
        half = path * self.half_turn[ending]
        sine = np.sin(half)
        with np.errstate(divide="ignore", invalid="ignore"):
            chord = np.where(np.abs(half) < 1e-4, np.float32(1), sine / half)
            r = path * self.slope[ending] * np.abs(chord)
            cot_theta[through_end] = forward * length / r
        phi[through_end] = self.phi[ending] - half + np.where(chord < 0, np.float32(np.pi), 0)
        return cot_theta, phi


def propagate(particles: Interactions, rows: NDArray[np.int64], field: Field3D) -> Paths:
    """Prepare the paths of some particles.

    Parameters
    ----------
    rows : int64 array, shape (n,)
        Which of its particles.
    field : Field3D
        Solenoid and cylinder.
    """
    px, py, pz = (component[rows] for component in (particles.px, particles.py, particles.pz))
    pt = np.sqrt(px * px + py * py)
    bend = np.float32(LIGHT * field.bz) * particles.charge[rows]
    phi = np.arctan2(py, px)
    with np.errstate(divide="ignore", invalid="ignore"):
        # sin of half the turning angle at the side: the chord R of a circle of radius p_T/bend.
        half_side_sine = 0.5 * field.radius * bend / pt
        reaches = np.abs(half_side_sine) <= 1
        half_side = np.arcsin(np.clip(half_side_sine, -1, 1))
        length = np.where(
            bend == 0, field.radius, 2 * half_side * pt / np.where(bend == 0, 1, bend)
        )
        dz_side = np.where(reaches, length * pz / pt, np.inf)
        # With p_z = 0 and no way through the side a particle never leaves the beam line.
        slope = np.where(pz == 0, 0.0, pt / np.abs(pz))
        half_turn = np.where(pz == 0, 0.0, 0.5 * bend / np.abs(pz))
    return Paths(
        phi=phi.astype(np.float32),
        phi_side=(phi - half_side).astype(np.float32),
        dz_side=dz_side.astype(np.float32),
        slope=slope.astype(np.float32),
        half_turn=half_turn.astype(np.float32),
        forward=np.where(pz >= 0, 1, -1).astype(np.float32),
    )
