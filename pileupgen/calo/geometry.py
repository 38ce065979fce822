"""The η-φ grid that images are drawn on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.errors import GeometryError, did_you_mean

TWO_PI = 2.0 * np.pi


@dataclass(frozen=True)
class Grid:
    """Cells in η and φ, the same for every layer.

    Parameters
    ----------
    eta_edges : tuple of float, length n_eta + 1
        Ascending pseudorapidity edges of the rings.
    n_phi : int
        Cells in φ, equally wide, beginning at ``phi_min``.
    layers : tuple of str
        Layer names, in the order of the image's layer axis.
    phi_min, phi_max : float
        Azimuth covered, in rad. A full turn makes the grid periodic.

    Raises
    ------
    GeometryError
        If edges do not ascend, a count is not positive, a layer is named twice, or the window
        in φ is wider than a full turn.
    """

    eta_edges: tuple[float, ...]
    n_phi: int
    layers: tuple[str, ...] = ("em", "had")
    phi_min: float = -np.pi
    phi_max: float = np.pi
    name: str = field(default="custom", compare=False)

    def __post_init__(self) -> None:
        edges = np.asarray(self.eta_edges, dtype=np.float64)
        if len(edges) < 2 or not np.all(np.isfinite(edges)) or np.any(np.diff(edges) <= 0):
            raise GeometryError(
                f"Grid '{self.name}': eta_edges must be at least two finite, ascending numbers.",
                "Sort them and drop duplicates.",
            )
        if self.n_phi < 1:
            raise GeometryError(f"Grid '{self.name}': n_phi is {self.n_phi}, must be ≥ 1.")
        if not self.layers or len(set(self.layers)) != len(self.layers):
            raise GeometryError(
                f"Grid '{self.name}': layers {self.layers} must be distinct and not empty."
            )
        width = self.phi_max - self.phi_min
        if not 0 < width <= TWO_PI * (1 + 1e-6):
            raise GeometryError(
                f"Grid '{self.name}': φ window of {width:.4g} rad, must be in (0, 2π]."
            )

    @property
    def n_eta(self) -> int:
        """Number of rings."""
        return len(self.eta_edges) - 1

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return len(self.layers)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image, ``(L, n_eta, n_phi)``."""
        return (self.n_layers, self.n_eta, self.n_phi)

    @property
    def is_periodic(self) -> bool:
        """Whether φ closes to a ring."""
        return bool(abs(self.phi_max - self.phi_min - TWO_PI) < 1e-6)

    @property
    def is_eta_symmetric(self) -> bool:
        """Whether the rings at η and −η are alike."""
        edges = np.asarray(self.eta_edges)
        return bool(np.allclose(edges, -edges[::-1], atol=1e-6))

    @property
    def phi_edges(self) -> NDArray[np.float64]:
        """Azimuth edges in rad, shape ``(n_phi + 1,)``."""
        return np.linspace(self.phi_min, self.phi_max, self.n_phi + 1)

    @property
    def eta_centres(self) -> NDArray[np.float64]:
        """Ring centres in η, shape ``(n_eta,)``."""
        edges = np.asarray(self.eta_edges, dtype=np.float64)
        return np.asarray(0.5 * (edges[1:] + edges[:-1]))

    @property
    def phi_centres(self) -> NDArray[np.float64]:
        """Cell centres in φ in rad, shape ``(n_phi,)``."""
        edges = self.phi_edges
        return np.asarray(0.5 * (edges[1:] + edges[:-1]))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for HDF5 attributes, YAML and JSON."""
        return {
            "name": self.name,
            "eta_edges": [float(edge) for edge in self.eta_edges],
            "n_phi": self.n_phi,
            "layers": list(self.layers),
            "phi_min": float(self.phi_min),
            "phi_max": float(self.phi_max),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Grid:
        """Inverse of :meth:`to_dict`; an unknown key is an error."""
        known = ("name", "eta_edges", "n_phi", "layers", "phi_min", "phi_max")
        for key in values:
            if key not in known:
                raise GeometryError(f"Unknown geometry key '{key}'.", did_you_mean(key, known))
        missing = [key for key in ("eta_edges", "n_phi") if key not in values]
        if missing:
            raise GeometryError(
                f"Geometry lacks {', '.join(missing)}.", "Give them, or name a preset."
            )
        rest = {key: values[key] for key in ("name", "phi_min", "phi_max") if key in values}
        try:
            return cls(
                eta_edges=tuple(float(edge) for edge in values["eta_edges"]),
                n_phi=int(values["n_phi"]),
                layers=tuple(values.get("layers", ("em", "had"))),
                **rest,
            )
        except (TypeError, ValueError) as error:
            raise GeometryError(f"Geometry values do not fit: {error}.") from error


def _uniform(low: float, high: float, n: int) -> tuple[float, ...]:
    return tuple(float(edge) for edge in np.round(np.linspace(low, high, n + 1), 6))


PRESETS: dict[str, Grid] = {
    # Delphes' ATLAS card, |η| < 2.5: towers of 0.1 × 10°.
    "atlas": Grid(_uniform(-2.5, 2.5, 50), 36, name="atlas"),
    # The same cells in |η| < 1.6: a quick look on a small machine.
    "atlas_barrel": Grid(_uniform(-1.6, 1.6, 32), 36, name="atlas_barrel"),
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
    if geometry not in PRESETS:
        raise GeometryError(f"No geometry preset '{geometry}'.", did_you_mean(geometry, PRESETS))
    return PRESETS[geometry]


def require_same_grid(found: Grid, expected: Grid, what: str, expected_by: str) -> None:
    """Refuse images of another geometry.

    Raises
    ------
    GeometryError
        Naming the first property that differs.
    """
    for name in ("layers", "n_phi", "n_eta", "eta_edges", "phi_min", "phi_max"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        same = (
            ours == theirs
            if isinstance(ours, int) or name == "layers"
            else np.allclose(ours, theirs, atol=1e-6)
        )
        if not same:
            raise GeometryError(
                f"{what} has {name} = {_short(ours)}, but {expected_by} has {_short(theirs)}.",
                "Preprocess it with the same geometry.",
            )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 60 else text[:57] + "…"
