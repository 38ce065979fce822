"""What an analysis measures of hard scatters with pileup: jets, E_T^miss, isolation.

Every number of an overlaid event is compared with that of its own hard scatter, seen by the same
calorimeter without pileup: so the numbers tell what the pileup does, and need no truth record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Flags, Floats, Ints
from pileupgen.calo.geometry import Grid
from pileupgen.measure.pileup_jets import RADIUS, cluster_cells, import_fastjet

Ints = Ints

JET_PT = 20.0
"""GeV that a jet of the hard scatter, or of pileup, has at least."""
ALONE = 2 * RADIUS
"""Distance within which a jet of the hard scatter has no other."""
NEIGHBOUR_PT = 10.0
"""GeV from which on another jet counts for that."""
MATCHED = 0.3
"""Distance in η and φ within which an overlaid jet is that of the hard scatter."""
LEPTON_ET = 20.0
"""GeV in 3 × 3 cells of the first layer that an electron has at least."""
CONE = 0.4
"""Radius of the isolation cone; 5 × 5 cells about the electron are left out of it."""
ISOLATED = 0.1
"""Isolation over E_T below which an electron is isolated."""
RHO_SPACING = 0.55
"""Side of the patches of FastJet's grid estimator of ρ."""


@dataclass(frozen=True)
class HardObjects:
    """Objects of N hard scatters without pileup."""

    n_events: int
    jet_event: Ints
    jet_pt: Floats
    jet_eta: Floats
    jet_phi: Floats
    """Jets with no other near them: place of their event, p_T in GeV, η, φ. Shape (J,)."""
    busy_event: Ints
    busy_eta: Floats
    busy_phi: Floats
    """All jets above ``NEIGHBOUR_PT``: an overlaid jet near one is no pileup jet. Shape (K,)."""
    met: Floats
    """Missing transverse energy, x and y, GeV. Shape (N, 2)."""
    lepton_event: Ints
    lepton_et: Floats
    lepton_ring: Ints
    lepton_cell: Ints
    """Isolated electron candidates: place of their event, E_T, and their cell. Shape (E,)."""
    lepton_isolation: Floats
    """Their isolation without pileup, GeV. Shape (E,)."""

    @classmethod
    def join(cls, parts: Sequence[HardObjects]) -> HardObjects:
        """Objects of one batch of events after the other."""
        begins = np.cumsum([0, *(part.n_events for part in parts)])
        columns = {}
        for one in fields(cls):
            if one.name != "n_events":
                values = [getattr(part, one.name) for part in parts]
                if one.name.endswith("_event"):
                    values = [v + begin for v, begin in zip(values, begins, strict=False)]
                columns[one.name] = np.concatenate(values)
        return cls(int(begins[-1]), **columns)


@dataclass(frozen=True)
class OverlaidObjects:
    """The same hard scatters with pileup."""

    jet_pt: Floats
    """p_T − ρ π R² of the jet that each jet of the hard scatter became, GeV; NaN where there is
    none. Shape (J,)."""
    n_pileup_jets: Floats
    """Jets above ``JET_PT`` that are not the hard scatter's. Shape (N,)."""
    met: Floats
    """Missing transverse energy less that of the hard scatter, x and y, GeV. Shape (N, 2)."""
    sum_et: Floats
    """ΣE_T, GeV. Shape (N,)."""
    isolation: Floats
    """Isolation of each electron candidate less ρ times the cone's area, GeV. Shape (E,)."""

    @classmethod
    def join(cls, parts: Sequence[OverlaidObjects]) -> OverlaidObjects:
        """Objects of one batch of events after the other."""
        return cls(
            *(np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(cls))
        )


class ObjectFinder:
    """Finds objects in images.

    Parameters
    ----------
    grid : Grid
        Axes of the images; periodic in φ.

    Raises
    ------
    DependencyError
        If fastjet is not installed.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._fastjet = import_fastjet()
        self._definition = self._fastjet.JetDefinition(self._fastjet.antikt_algorithm, RADIUS)
        self._reach = min(abs(grid.eta_edges[0]), abs(grid.eta_edges[-1]))
        self._direction = np.stack([np.cos(grid.phi_centres), np.sin(grid.phi_centres)])

    def hard(self, energy: NDArray[np.float32]) -> HardObjects:
        """Find the objects of hard scatters without pileup.

        Parameters
        ----------
        energy : float32 array, shape (N, L, n_eta, n_phi)
            GeV.
        """
        event, pt, eta, phi = self._jets(energy)
        near = _near(event, eta, phi, event, eta, phi, ALONE)
        np.fill_diagonal(near, val=False)
        is_alone = ~(near & (pt > NEIGHBOUR_PT)).any(axis=1)
        kept = (pt > JET_PT) & is_alone & (np.abs(eta) < self._reach - RADIUS)
        busy = pt > NEIGHBOUR_PT
        place, ring, cell, et = self._electrons(energy)
        isolation = self._isolation(self._transverse(energy), place, ring, cell)
        is_isolated = isolation < ISOLATED * et
        return HardObjects(
            len(energy),
            event[kept],
            pt[kept],
            eta[kept],
            phi[kept],
            event[busy],
            eta[busy],
            phi[busy],
            self._met(energy),
            place[is_isolated],
            et[is_isolated],
            ring[is_isolated],
            cell[is_isolated],
            isolation[is_isolated],
        )

    def overlaid(self, energy: NDArray[np.float32], hard: HardObjects) -> OverlaidObjects:
        """Find what the objects of hard scatters became with pileup.

        Parameters
        ----------
        energy : float32 array, shape (N, L, n_eta, n_phi)
            The same events as those of ``hard``, with pileup.
        """
        rho = self._rho(energy)
        event, pt, eta, phi = self._jets(energy)
        pt = pt - rho[event] * np.pi * RADIUS**2
        near = _near(hard.jet_event, hard.jet_eta, hard.jet_phi, event, eta, phi, MATCHED)
        # The nearest in direction would prefer a soft jet beside: take the hardest within reach.
        found = np.where(near, pt, -np.inf).max(axis=1, initial=-np.inf)
        is_busy = _near(event, eta, phi, hard.busy_event, hard.busy_eta, hard.busy_phi, RADIUS)
        of_pileup = (pt > JET_PT) & (np.abs(eta) < self._reach - RADIUS) & ~is_busy.any(axis=1)
        et = self._transverse(energy)
        isolation = self._isolation(et, hard.lepton_event, hard.lepton_ring, hard.lepton_cell)
        area = self._cone_area(hard.lepton_ring)
        return OverlaidObjects(
            jet_pt=np.where(np.isfinite(found), found, np.nan),
            n_pileup_jets=np.bincount(event[of_pileup], minlength=len(energy)).astype(np.float64),
            met=self._met(energy) - hard.met,
            sum_et=et.sum(axis=(1, 2)),
            isolation=isolation - rho[hard.lepton_event] * area,
        )

    def _jets(self, energy: NDArray[np.float32]) -> tuple[Ints, Floats, Floats, Floats]:
        return cluster_cells(self._fastjet, self._definition, energy, self._grid)

    def _transverse(self, energy: NDArray[np.float32]) -> Floats:
        """E_T of each tower, shape (N, n_eta, n_phi)."""
        towers = energy.sum(axis=1, dtype=np.float64)
        return towers * self._grid.transverse_shares[:, None]

    def _met(self, energy: NDArray[np.float32]) -> Floats:
        found: Floats = -(self._transverse(energy).sum(axis=1) @ self._direction.T)
        return found

    def _rho(self, energy: NDArray[np.float32]) -> Floats:
        """ρ of each event, GeV per unit area, by FastJet's median over a grid (1111.6097)."""
        estimator = self._fastjet.GridMedianBackgroundEstimator(self._reach, RHO_SPACING)
        rho = np.zeros(len(energy))
        eta, direction = self._grid.eta_centres, self._direction
        for place, et in enumerate(self._transverse(energy)):
            ring, cell = np.nonzero(et > 0)
            pt = et[ring, cell]
            momenta = np.stack(
                [*(pt * direction[:, cell]), pt * np.sinh(eta[ring]), pt * np.cosh(eta[ring])]
            )
            particles = [self._fastjet.PseudoJet(*p) for p in momenta.T.tolist()]
            estimator.set_particles(particles)
            rho[place] = estimator.rho()
        return rho

    def _electrons(self, energy: NDArray[np.float32]) -> tuple[Ints, Ints, Ints, Floats]:
        """Cells of the first layer that are maxima of 5 × 5, with enough E_T in 3 × 3."""
        et = energy[:, 0] * self._grid.transverse_shares[:, None]
        total = np.sum([_shifted(et, i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)], axis=0)
        highest = np.maximum.reduce(
            [_shifted(et, i, j) for i in (-2, -1, 0, 1, 2) for j in (-2, -1, 0, 1, 2)]
        )
        is_found = (et >= highest) & (total > LEPTON_ET)
        # The cone has to lie within the acceptance.
        is_found &= (np.abs(self._grid.eta_centres) < self._reach - CONE)[:, None]
        event, ring, cell = np.nonzero(is_found)
        return event, ring, cell, total[event, ring, cell].astype(np.float64)

    def _cone(self, ring: int) -> Any:
        """Cells of the isolation cone about a cell of a ring in column 0, shape (n_eta, n_phi)."""
        grid = self._grid
        d_eta = grid.eta_centres - grid.eta_centres[ring]
        d_phi = _wrapped(grid.phi_centres - grid.phi_centres[0])
        within = np.hypot(d_eta[:, None], d_phi) < CONE
        rings = np.arange(max(ring - 2, 0), min(ring + 3, grid.n_eta))
        within[np.ix_(rings, np.arange(-2, 3))] = False
        return within

    def _isolation(self, et: Floats, event: Ints, ring: Ints, cell: Ints) -> Floats:
        cones = {one: self._cone(one) for one in np.unique(ring).tolist()}
        return np.array(
            [
                float(et[e][np.roll(cones[r], c, axis=1)].sum())
                for e, r, c in zip(event.tolist(), ring.tolist(), cell.tolist(), strict=True)
            ]
        ).reshape(len(event))

    def _cone_area(self, ring: Ints) -> Floats:
        widths = np.diff(np.asarray(self._grid.eta_edges))[:, None] * np.diff(self._grid.phi_edges)
        areas = {one: float(widths[self._cone(one)].sum()) for one in np.unique(ring).tolist()}
        return np.array([areas[one] for one in ring.tolist()]).reshape(len(ring))


def _shifted(et: NDArray[Any], rings: int, cells: int) -> NDArray[Any]:
    """Values of the cell so many rings and cells away; 0 beyond the outermost rings."""
    turned = np.roll(et, -cells, axis=2)
    if rings == 0:
        return turned
    found = np.zeros_like(turned)
    if rings > 0:
        found[:, :-rings] = turned[:, rings:]
    else:
        found[:, -rings:] = turned[:, :rings]
    return found


def _wrapped(angle: Floats) -> Floats:
    return np.mod(angle + np.pi, 2 * np.pi) - np.pi


def _near(
    event: Ints, eta: Floats, phi: Floats, others: Ints, eta_2: Floats, phi_2: Floats, radius: float
) -> Flags:
    """Which of some directions lie near which of others of the same event, shape (n, m)."""
    same = event[:, None] == others
    found = np.zeros(same.shape, dtype=bool)
    i, j = np.nonzero(same)
    found[i, j] = np.hypot(eta[i] - eta_2[j], _wrapped(phi[i] - phi_2[j])) < radius
    return found
