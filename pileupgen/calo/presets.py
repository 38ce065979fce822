"""Grids of known detectors, by name."""

from __future__ import annotations

from typing import Any

import numpy as np

from pileupgen.calo.geometry import FEATURES, Grid
from pileupgen.errors import GeometryError, did_you_mean


def _uniform(low: float, high: float, n: int) -> tuple[float, ...]:
    return tuple(float(edge) for edge in np.round(np.linspace(low, high, n + 1), 6))


def _mirrored(rings: list[tuple[float, int]], **rest: Any) -> Grid:
    """Grid of rings at ±η, each given by its outer edge and its cells in φ."""
    upper = [edge for edge, _ in rings]
    counts = [count for _, count in rings]
    return Grid(
        eta_edges=(*(-edge for edge in reversed(upper)), 0.0, *upper),
        n_phi=max(counts),
        ring_n_phi=(*reversed(counts), *counts),
        **rest,
    )


def _edges(text: str, n_phi: int) -> list[tuple[float, int]]:
    return [(float(edge), n_phi) for edge in text.split()]


_ATLAS_FULL = [
    *((round(0.1 * ring, 6), 36) for ring in range(1, 27)),
    *_edges("2.8 3.0 3.2", 18),
    *_edges("3.3", 36),
    *_edges("3.5 3.7 3.9 4.1 4.3 4.5 4.7 4.9", 18),
]
_CMS_FULL = [
    *((round(0.087 * ring, 6), 72) for ring in range(1, 20)),
    *_edges("1.74 1.83 1.93 2.043 2.172 2.322 2.5 2.65 2.868 2.95 3.125 3.3 3.475", 36),
    *_edges("3.65 3.825 4.0 4.175 4.35 4.525", 36),
    *_edges("4.7 5.0", 18),
]

_DATA_SET_1 = {
    # CaloChallenge data set 1, photons (2410.21611): edges in r / mm, and cells in α.
    "layer_0": ("0 5 10 30 50 100 200 400 600", 1),
    "layer_1": ("0 2 4 6 8 10 12 15 20 30 40 50 70 90 120 150 200", 10),
    "layer_2": ("0 2 5 10 15 20 25 30 40 50 60 80 100 130 160 200 250 300 350 400", 10),
    "layer_3": ("0 50 100 200 400 600", 1),
    "layer_12": ("0 100 200 400 1000 2000", 1),
}


def _fibres(n_x: int, n_y: int, name: str) -> Grid:
    """Grid of one layer of squares around the axis."""
    edges = _uniform(-n_x / 2, n_x / 2, n_x)
    return Grid(edges, n_y, ("fibres",), phi_min=-n_y / 20, phi_max=n_y / 20, name=name)


def _layered(layers: dict[str, tuple[tuple[float, ...], int]], n_phi: int, name: str) -> Grid:
    """Grid of all layers' edges together, of layers given by their edges and cells in φ."""
    return Grid(
        tuple(sorted({edge for edges, _ in layers.values() for edge in edges})),
        n_phi,
        tuple(layers),
        layer_eta_edges=tuple(edges for edges, _ in layers.values()),
        layer_n_phi=tuple(n for _, n in layers.values()),
        name=name,
    )


CUBE = "cube_30"
"""Preset of a square calorimeter: x stands where η does, y / 10 where φ does, both in cells."""
ZDC_NEUTRON, ZDC_PROTON = "zdc_neutron", "zdc_proton"
"""Presets of the fibres of zero-degree calorimeters: x stands where η does, y / 10 where φ does,
both in fibres."""
FIBRES = (ZDC_NEUTRON, ZDC_PROTON)
SHOWERS = ("calochallenge_1", "calochallenge_2", "calochallenge_3", CUBE, *FIBRES)
"""Presets whose rings lie at distances from a detector's axis, not at pseudorapidities."""

PRESETS: dict[str, Grid] = {
    # Delphes' ATLAS card, |η| < 2.5: towers of 0.1 × 10°.
    "atlas": Grid(_uniform(-2.5, 2.5, 50), 36, name="atlas"),
    # The same cells in |η| < 1.6: a quick look on a small machine.
    "atlas_barrel": Grid(_uniform(-1.6, 1.6, 32), 36, name="atlas_barrel"),
    # All 2340 towers of Delphes' ATLAS card, of 10° and 20°.
    "atlas_full": _mirrored(_ATLAS_FULL, name="atlas_full"),
    # Delphes' CMS card: towers of 5°, 10° and 20°.
    "cms_full": _mirrored(_CMS_FULL, name="cms_full"),
    # Its towers of 5°, in |η| < 1.653.
    "cms_barrel": Grid(_uniform(-1.653, 1.653, 38), 72, name="cms_barrel"),
    # As sPHENIX has it: 24 × 64 towers in |η| < 1.1, in one layer.
    "sphenix": Grid(_uniform(-1.1, 1.1, 24), 64, layers=("em",), name="sphenix"),
    # CaloChallenge data set 2 (2410.21611): 45 layers × 16 α × 9 r; r stands where η does.
    "calochallenge_2": Grid(
        _uniform(0, 9, 9),
        16,
        layers=tuple(f"layer_{index}" for index in range(45)),
        name="calochallenge_2",
    ),
    # Data set 3: 45 layers × 50 α × 18 r.
    "calochallenge_3": Grid(
        _uniform(0, 18, 18),
        50,
        layers=tuple(f"layer_{index}" for index in range(45)),
        name="calochallenge_3",
    ),
    # 30 layers of 30 × 30 square cells around the axis.
    CUBE: Grid(
        _uniform(-15, 15, 30),
        30,
        layers=tuple(f"layer_{index}" for index in range(30)),
        phi_min=-1.5,
        phi_max=1.5,
        name=CUBE,
    ),
    # Fibres of ALICE's calorimeters of neutrons, 44 × 44, and of protons, 56 × 30.
    ZDC_NEUTRON: _fibres(44, 44, ZDC_NEUTRON),
    ZDC_PROTON: _fibres(56, 30, ZDC_PROTON),
    # Data set 1, photons: 368 voxels in five layers of their own binning; r in mm.
    "calochallenge_1": _layered(
        {
            layer: (tuple(float(edge) for edge in edges.split()), n_alpha)
            for layer, (edges, n_alpha) in _DATA_SET_1.items()
        },
        10,
        "calochallenge_1",
    ),
    # Layers of different granularity, as in ATLAS' barrel: em 0.025 × 0.1, had 0.1 × 0.1.
    "atlas_layers": _layered(
        {"em": (_uniform(-1.6, 1.6, 128), 64), "had": (_uniform(-1.6, 1.6, 32), 64)},
        64,
        "atlas_layers",
    ),
}


def get_grid(geometry: str | dict[str, Any]) -> Grid:
    """Find a preset by its name, or make a grid from its numbers.

    Raises
    ------
    GeometryError
        If there is no such preset or the numbers do not make a grid.
    """
    if isinstance(geometry, dict):
        return Grid.from_dict(geometry)
    if geometry == FEATURES:
        raise GeometryError(
            "The geometry 'features' is for cards of feature tables.",
            "Name such cards (format: features), or another geometry.",
        )
    if geometry not in PRESETS:
        raise GeometryError(f"No geometry preset '{geometry}'.", did_you_mean(geometry, PRESETS))
    return PRESETS[geometry]
