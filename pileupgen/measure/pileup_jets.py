"""Pileup jets: anti-k_t on cells, with the area-based subtraction (the ``jets`` extra)."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Floats, Ints
from pileupgen.calo.geometry import Grid
from pileupgen.errors import GeometryError, import_extra
from pileupgen.progress import Advance, silent
from pileupgen.samples.store import Images

RADIUS = 0.4
MIN_PT = 10.0
"""GeV that a jet keeps at least, after ρ times its area is taken off."""
SPECTRUM_EDGES = np.array(
    [10, 12, 14, 16, 18, 20, 23, 26, 30, 35, 40, 50, 60, 80, 120], dtype=float
)
"""Bin edges of the jets' p_T in GeV; the last bin holds all beyond."""


@dataclass(frozen=True)
class JetSample:
    """Pileup jets of N events."""

    name: str
    label: str
    """Role in the comparison, and what figures call it."""
    n_jets: Ints
    """Jets of each event. Shape (N,)."""
    weight: Floats
    """Event weights. Shape (N,)."""
    pt: Floats
    """p_T of all jets in GeV, ρ times area taken off. Shape (n,)."""
    event: Ints
    """Place of each jet's event. Shape (n,)."""

    def spectrum(self) -> tuple[Floats, Floats]:
        """Jets per event in bins of p_T, and standard errors from the spread over events."""
        n_bins = len(SPECTRUM_EDGES) - 1
        bins = np.clip(np.searchsorted(SPECTRUM_EDGES, self.pt, side="right") - 1, 0, n_bins - 1)
        counts = np.bincount(self.event * n_bins + bins, minlength=len(self.n_jets) * n_bins)
        counts = counts.reshape(len(self.n_jets), n_bins)
        share = self.weight / self.weight.sum()
        mean = share @ counts
        return mean, np.sqrt(np.square(share) @ np.square(counts - mean))


def find_jets(
    name: str,
    label: str,
    batches: Iterable[Images],
    grid: Grid,
    rho: Floats,
    advance: Advance = silent,
) -> JetSample:
    """Cluster the cells of every event, layers summed, each a massless particle at its centre.

    Cells whose sum over the layers is negative take no part: jets have no negative constituents.
    Anti-k_t (0802.1189) by FastJet (1111.6097), R = 0.4; p_T less ρ π R² (0707.1378); axes further
    than R from the edge of the acceptance in η.

    Parameters
    ----------
    rho : float64 array, shape (N,)
        Each event's density in GeV per unit area.

    Raises
    ------
    DependencyError
        If fastjet is not installed.
    GeometryError
        If φ is not periodic: jets need the full azimuth.
    """
    if not grid.is_periodic:
        raise GeometryError(f"Jets need the whole azimuth; grid '{grid.name}' covers a window.")
    fastjet = import_fastjet()
    definition = fastjet.JetDefinition(fastjet.antikt_algorithm, RADIUS)
    pts, events, weights = [], [], []
    begin = 0
    for images in batches:
        event, pt, eta, _ = cluster_cells(fastjet, definition, images.energy, grid)
        pt = pt - rho[begin + event] * np.pi * RADIUS**2
        low, high = grid.eta_edges[0] + RADIUS, grid.eta_edges[-1] - RADIUS
        kept = (pt > MIN_PT) & (eta > low) & (eta < high)
        pts.append(pt[kept])
        events.append(begin + event[kept])
        weights.append(images.weight)
        begin += len(images)
        advance(len(images))
    event = np.concatenate(events)
    return JetSample(
        name=name,
        label=label,
        n_jets=np.bincount(event, minlength=begin).astype(np.int64),
        weight=np.concatenate(weights),
        pt=np.concatenate(pts),
        event=event,
    )


def import_fastjet() -> Any:
    """Import FastJet, without its banner.

    Raises
    ------
    DependencyError
        If it is not installed.
    """
    fastjet = import_extra("fastjet", "jets", "Clustering jets")
    with suppress(AttributeError):
        # FastJet's banner would go to the terminal in the middle of a progress bar.
        fastjet._swig.ClusterSequence.set_fastjet_banner_stream(None)
    return fastjet


def cluster_cells(
    fastjet: Any, definition: Any, energy: NDArray[np.float32], grid: Grid
) -> tuple[Ints, Floats, Floats, Floats]:
    """Event, p_T in GeV, η and φ of every jet of cells, (n,) each; see :func:`find_jets`."""
    import awkward as ak

    towers = energy.sum(axis=1, dtype=np.float64)
    event, i_eta, i_phi = np.nonzero(towers > 0)
    e = towers[event, i_eta, i_phi]
    eta, phi = grid.eta_centres[i_eta], grid.phi_centres[i_phi]
    pt = e / np.cosh(eta)
    flat = ak.zip(
        {"px": pt * np.cos(phi), "py": pt * np.sin(phi), "pz": pt * np.sinh(eta), "E": e},
        with_name="Momentum4D",
    )
    # An empty event would end the clustering of the whole batch.
    filled, counts = np.unique(event, return_counts=True)
    if not len(filled):
        return np.empty(0, dtype=np.int64), np.empty(0), np.empty(0), np.empty(0)
    clusters = fastjet.ClusterSequence(ak.unflatten(flat, counts), definition)
    jets = clusters.inclusive_jets(min_pt=MIN_PT)
    place = np.repeat(filled, ak.num(jets.px).to_numpy())
    px, py, pz = (ak.flatten(part).to_numpy() for part in (jets.px, jets.py, jets.pz))
    jet_pt = np.hypot(px, py)
    return place.astype(np.int64), jet_pt, np.arcsinh(pz / jet_pt), np.arctan2(py, px)
