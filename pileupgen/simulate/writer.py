"""Simulated events in ROOT files with Delphes' own tree and branch names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.samples.delphes_file import EDGES, DelphesFile, offsets_of
from pileupgen.simulate.calorimeter import TowerGrid

BRANCHES: dict[str, str] = {
    "Event.Number": "var * int64",
    "Tower.ET": "var * float32",
    "Tower.Eta": "var * float32",
    "Tower.Phi": "var * float32",
    "Tower.E": "var * float32",
    "Tower.Eem": "var * float32",
    "Tower.Ehad": "var * float32",
    EDGES: "var * 4 * float32",
    "Rho.Rho": "var * float32",
    "Vertex.Z": "var * float32",
}
PERIOD = {"Event.Period": "var * int32"}
"""Branch of samples whose response card has periods: their places in it."""


POOL = {"Event.Pool": "var * int64"}
"""Branch that samples with separate pools have besides: which pool an event is from."""


def append_events(file: DelphesFile, grid: TowerGrid, events: Mapping[str, NDArray[Any]]) -> None:
    """Add events to a file of ``BRANCHES``, and ``PERIOD`` where events have one.

    Parameters
    ----------
    events : mapping
        As :meth:`pileupgen.simulate.overlay.Overlay.events` gives them.
    """
    n, cell = len(events["n_towers"]), events["cell"]
    energy = events["em"] + events["had"]
    towers, one_each = offsets_of(events["n_towers"]), np.arange(n + 1)
    period = {name: (one_each, events["period"]) for name in PERIOD if "period" in events}
    file.append(
        n,
        {
            **period,
            **{name: (one_each, events["pool"]) for name in POOL if "pool" in events},
            "Event.Number": (one_each, np.arange(file.n_events + 1, file.n_events + n + 1)),
            "Tower.ET": (towers, energy / np.cosh(grid.eta[cell])),
            "Tower.Eta": (towers, grid.eta[cell]),
            "Tower.Phi": (towers, grid.phi[cell]),
            "Tower.E": (towers, energy),
            "Tower.Eem": (towers, events["em"]),
            "Tower.Ehad": (towers, events["had"]),
            EDGES: (towers, grid.edges[cell]),
            "Rho.Rho": (events["rho"].shape[1] * one_each, events["rho"].ravel()),
            "Vertex.Z": (offsets_of(events["n_vertices"]), 1000 * events["z"]),
        },
    )
