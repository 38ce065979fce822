"""Calorimeter towers of many events, as flat arrays with offsets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Floats, Ints


@dataclass(frozen=True)
class Towers:
    """Towers of N events."""

    offsets: Ints
    """Event i owns towers ``offsets[i]:offsets[i + 1]``. Shape (N + 1,)."""
    edges: Floats | NDArray[np.float32]
    """``eta_min, eta_max, phi_min, phi_max`` of each tower, φ in rad and in any convention. A tower
    that is only known by its centre has zero width. Shape (n_towers, 4); or (n_towers, 2), η and φ,
    where all are known by their centres."""
    energy: NDArray[np.float32]
    """Energy per layer in GeV, in the order of ``layers``. Shape (n_towers, L)."""
    layers: tuple[str, ...]
    """Layer names, such as ``("em", "had")``."""
    mu: NDArray[np.float32]
    """Number of pileup interactions; NaN where it is not known. Shape (N,)."""
    event_id: Ints
    """Position of the event in its sample, from 0. Shape (N,)."""
    weight: Floats | None = None
    """Event weights, of either sign; None where all events count alike. Shape (N,)."""
    group: Ints | None = None
    """Number that events share which belong together; None where none do. Shape (N,)."""
    factor: Floats | None = None
    """What each tower's energy is over the file's number in the card's unit: cosh η where that is
    E_T, times a scale. None where all are 1. Shape (n_towers,)."""
    left_out: Mapping[str, float] = field(default_factory=dict)
    """Σ|E| in GeV of cells that the card leaves out, by what they are called in the file."""
    known: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """What else the file knows of each event, by the names of stores. Shape (N,) each."""
    collections: Mapping[str, float] = field(default_factory=dict)
    """ΣE in GeV by collection of the file, where the card joins several."""

    @property
    def n_events(self) -> int:
        """Number of events N."""
        return len(self.offsets) - 1

    @property
    def n_towers(self) -> int:
        """Number of towers of all events together."""
        return len(self.edges)

    def events(self, begin: int, end: int) -> Towers:
        """Events ``begin … end − 1``; their towers are views, not copies."""
        low, high = int(self.offsets[begin]), int(self.offsets[end])
        return Towers(
            offsets=self.offsets[begin : end + 1] - low,
            edges=self.edges[low:high],
            energy=self.energy[low:high],
            layers=self.layers,
            mu=self.mu[begin:end],
            event_id=self.event_id[begin:end],
            weight=None if self.weight is None else self.weight[begin:end],
            group=None if self.group is None else self.group[begin:end],
            factor=None if self.factor is None else self.factor[low:high],
            known={name: values[begin:end] for name, values in self.known.items()},
        )

    def centres(self) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
        """η and φ in rad of the towers' middles, shape (n_towers,) each."""
        if self.edges.shape[1] == 2:
            return self.edges[:, 0], self.edges[:, 1]
        eta, phi = (0.5 * (self.edges[:, side] + self.edges[:, side + 1]) for side in (0, 2))
        return eta, phi

    def event_index(self) -> NDArray[np.int64]:
        """Event number (0 … N−1 within this record) of each tower, shape ``(n_towers,)``."""
        return np.repeat(np.arange(self.n_events, dtype=np.int64), np.diff(self.offsets))

    def event_sums(self) -> Floats:
        """Energy per event and layer in GeV, shape ``(N, L)``."""
        sums = np.zeros((self.n_events, len(self.layers)))
        index = self.event_index()
        for layer in range(len(self.layers)):
            sums[:, layer] = np.bincount(
                index, weights=self.energy[:, layer].astype(np.float64), minlength=self.n_events
            )
        return sums


def four_edges(
    edges: NDArray[np.float32] | NDArray[np.float64],
) -> NDArray[np.float32] | NDArray[np.float64]:
    """Edges of towers, shape (n, 4), of which some may only be known by their centres, (n, 2)."""
    return edges[:, [0, 0, 1, 1]] if edges.shape[1] == 2 else edges
