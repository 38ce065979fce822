"""What a response card is fitted to: recorded towers as cells, and numbers of an event."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pileupgen.arrays import Floats
from pileupgen.calo.towers import Towers
from pileupgen.errors import GeometryError, ImplausibleInputError
from pileupgen.simulate.calorimeter import TowerGrid
from pileupgen.simulate.response import LAYERS

N_BINS = 14
"""Bins of a layer's spectrum, of equal content in the recorded sample."""


def recorded_cells(parts: Sequence[Towers], grid: TowerGrid) -> Floats:
    """Energies of recorded towers in a card's cells, shape ``(n_events, 2, n_cells)``, GeV.

    A tower belongs to the cell that holds its centre.

    Raises
    ------
    GeometryError
        If the towers have other layers than ``em`` and ``had``.
    ImplausibleInputError
        If there are no events.
    """
    if not parts:
        raise ImplausibleInputError("The recorded sample has no events.", "Name files with events.")
    found = []
    for towers in parts:
        if towers.layers != LAYERS:
            raise GeometryError(
                f"A response card has the layers {' and '.join(LAYERS)}, the sample has "
                f"{', '.join(towers.layers)}."
            )
        eta, phi = towers.centres()
        cell = grid.locate(np.sinh(eta).astype(np.float32), phi.astype(np.float32))
        place = towers.event_index() * (grid.n_cells + 1) + cell
        size = towers.n_events * (grid.n_cells + 1)
        layers = [np.bincount(place, energy, size) for energy in towers.energy.T.astype(float)]
        shape = (towers.n_events, grid.n_cells + 1)
        found.append(np.stack([one.reshape(shape)[:, :-1] for one in layers], axis=1))
    return np.concatenate(found)


class Statistics:
    """Numbers of an event that depend on the card: spectra and products of neighbours.

    Parameters
    ----------
    abs_eta_max : float
        Cells up to this |η| are looked at.
    recorded : float64 array, shape (n_events, 2, n_cells)
        Fixes the bins of the spectra, and the energies at which products are cut off.

    Attributes
    ----------
    least : list of float64 arrays, shape (2,)
        Smallest energies of the layers in GeV, but for one hit in 10,000 and one in 1,000.

    Raises
    ------
    ImplausibleInputError
        If a layer has hardly any energy.
    """

    def __init__(self, grid: TowerGrid, abs_eta_max: float, recorded: Floats) -> None:
        inside = np.abs(grid.edges[:, :2]).max(axis=1) <= abs_eta_max + 1e-6
        self._cells = np.flatnonzero(inside)
        ring, column = grid.ring[self._cells], self._cells - grid.first[grid.ring[self._cells]]
        turned = grid.first[ring] + (column + 1) % grid.n_phi[ring]
        self._next = np.searchsorted(self._cells, turned)
        self._edges, self._cuts, self.least = [], [], []
        for layer, name in enumerate(LAYERS):
            energy = recorded[:, layer, self._cells]
            hit = energy[energy > 0]
            if len(hit) < 100 * N_BINS:
                raise ImplausibleInputError(
                    f"Only {len(hit)} cells of layer {name} have energy in |η| < {abs_eta_max:g}; "
                    f"a fit needs {100 * N_BINS}.",
                    "Read more events.",
                )
            # Hits below the smallest recorded one are in the first bin: a bin of their own would be
            # empty in nearly all events, and one such hit would outweigh all other numbers.
            inner = np.quantile(hit, np.linspace(0, 1, N_BINS + 1))[1:-1]
            self._edges.append(np.unique([0.0, *inner, np.inf]))
            self._cuts.append(float(np.quantile(hit, 0.98)))
            self.least.append(np.quantile(hit, [1e-4, 1e-3]))

    def __call__(self, energy: Floats) -> Floats:
        """Numbers of each event, shape ``(n_events, n_statistics)``."""
        columns: list[Floats] = []
        cut = []
        for layer, (edges, most) in enumerate(zip(self._edges, self._cuts, strict=True)):
            here = energy[:, layer, self._cells]
            bins = np.searchsorted(edges, here, side="right") - 1
            bins[here <= 0] = -1
            columns += [np.count_nonzero(bins == k, axis=1) for k in range(len(edges) - 1)]
            cut.append(np.minimum(here, most))
            columns.append(np.sum(cut[layer] * cut[layer][:, self._next], axis=1))
        columns.append(np.sum(cut[0] * cut[1], axis=1))
        return np.column_stack(columns).astype(np.float64)
