"""The η-φ grid that images are drawn on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pileupgen.arrays import Flags, Floats, Ints
from pileupgen.calo.granularity import DeadRegion, coarse_rings
from pileupgen.errors import GeometryError, did_you_mean

TWO_PI = 2.0 * np.pi
FEATURES = "features"
"""Name of the grid of a feature table, and the geometry by which a config asks for it."""


@dataclass(frozen=True)
class Grid:
    """Cells in η and φ, the same for every layer.

    Raises
    ------
    GeometryError
        If edges do not ascend, a count is not positive, a layer is named twice, or the window
        in φ is wider than a full turn.
    """

    eta_edges: tuple[float, ...]
    """Ascending pseudorapidity edges of the rings. Length n_eta + 1."""
    n_phi: int
    """Cells in φ, equally wide, beginning at ``phi_min``."""
    layers: tuple[str, ...] = ("em", "had")
    """Layer names, in the order of the image's layer axis."""
    phi_min: float = -np.pi
    phi_max: float = np.pi
    """Azimuth covered, in rad. A full turn makes the grid periodic."""
    ring_n_phi: tuple[int, ...] | None = None
    """Cells in φ that the detector has in each ring, where they are fewer than ``n_phi``; each
    divides it. Images stay rectangular: a wide cell's energy is spread evenly over the cells it
    covers, and brought together on the way back to towers. Length n_eta."""
    name: str = field(default="custom", compare=False)
    units: tuple[str, ...] | None = None
    """Given where the layers are features of an event, each a number with this unit ("" for none),
    and the grid is a single cell; see :meth:`of_features`. None for calorimeters, whose cells hold
    GeV. Length L."""
    layer_eta_edges: tuple[tuple[float, ...], ...] | None = None
    """Edges of the rings that each layer has, among ``eta_edges``, where the layers differ. A wide
    cell's energy is spread by area as above. Where a layer ends early it has no cells. Length L."""
    layer_n_phi: tuple[int, ...] | None = None
    """Cells in φ of each layer, where the layers differ; each divides ``n_phi``. Length L."""
    dead_regions: tuple[DeadRegion, ...] = ()
    """Cells that are dead or missing: energy there counts as outside the acceptance, they take no
    part in statistics, and translation never fills them."""

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
        self._check_granularity()
        if self.units is not None and (
            len(self.units) != len(self.layers) or self.n_eta * self.n_phi != 1
        ):
            raise GeometryError(
                f"Grid '{self.name}': {len(self.units)} units for {len(self.layers)} features in "
                f"{self.n_eta} × {self.n_phi} cells.",
                "A table of features has one cell, and a unit for each feature.",
            )

    def _check_granularity(self) -> None:
        """Refuse rings and layers whose own cells do not fit the image's."""
        rings, layers = (self.n_eta, "ring"), (self.n_layers, "layer")
        for name, (n, what) in (
            ("ring_n_phi", rings),
            ("layer_eta_edges", layers),
            ("layer_n_phi", layers),
        ):
            given = getattr(self, name)
            if given is not None and len(given) != n:
                raise GeometryError(
                    f"Grid '{self.name}': {name} is given for {len(given)} of {n} {what}s.",
                    f"Give it for each {what}.",
                )
            odd = (
                []
                if name == "layer_eta_edges"
                else [k for k in given or () if k < 1 or self.n_phi % k]
            )
            if odd:
                raise GeometryError(
                    f"Grid '{self.name}': a {what} of {odd[0]} cells in φ does not divide n_phi = "
                    f"{self.n_phi}.",
                    f"Choose as n_phi a common multiple of the {what}s' counts.",
                )
        has_own = self.layer_eta_edges is not None or self.layer_n_phi is not None
        if has_own and self.ring_n_phi is not None:
            raise GeometryError(
                f"Grid '{self.name}': ring_n_phi does not go with layers of their own granularity."
            )
        for region in self.dead_regions:
            if region.layer is not None and region.layer not in self.layers:
                raise GeometryError(
                    f"Grid '{self.name}': a dead region in layer '{region.layer}'.",
                    did_you_mean(region.layer, self.layers),
                )
        _ = self.layer_rings

    @classmethod
    def of_features(cls, names: Sequence[str], units: Sequence[str]) -> Grid:
        """Make the grid of a feature table: F features as layers, in one cell that has no place.

        Parameters
        ----------
        names, units : sequences of str, length F
            ``""`` where a feature has no unit.

        Examples
        --------
        >>> Grid.of_features(["pt", "tau21"], ["GeV", ""]).shape
        (2, 1, 1)
        """
        return cls((0.0, 1.0), 1, tuple(names), 0.0, 1.0, name=FEATURES, units=tuple(units))

    @property
    def is_feature_table(self) -> bool:
        """Whether the layers are features of an event, with units of their own."""
        return self.units is not None

    @property
    def cell_widths(self) -> Ints:
        """Width of the detector's cells in φ in image cells, shape ``(n_eta,)``."""
        counts = (self.n_phi,) * self.n_eta if self.ring_n_phi is None else self.ring_n_phi
        return self.n_phi // np.asarray(counts, dtype=np.int64)

    @property
    def layer_rings(self) -> Ints:
        """Ring of its layer that each ring of the image lies in, −1 for none, ``(L, n_eta)``."""
        edges = np.asarray(self.eta_edges, dtype=np.float64)
        if self.layer_eta_edges is None:
            return np.tile(np.arange(self.n_eta), (self.n_layers, 1))
        return np.stack([coarse_rings(edges, np.asarray(own)) for own in self.layer_eta_edges])

    @property
    def layer_widths(self) -> Ints:
        """How many image cells a cell of the detector is wide in φ, shape ``(L, n_eta)``."""
        if self.layer_n_phi is None:
            return np.tile(self.cell_widths, (self.n_layers, 1))
        own = self.n_phi // np.asarray(self.layer_n_phi, dtype=np.int64)
        return np.repeat(own[:, None], self.n_eta, axis=1)

    @property
    def cell_shares(self) -> Floats:
        """Share of the area of the detector's cell that an image cell has, ``(L, n_eta)``."""
        shares = 1.0 / self.layer_widths
        if self.layer_eta_edges is None:
            return shares
        widths = np.diff(np.asarray(self.eta_edges, dtype=np.float64))
        for layer, ring in enumerate(self.layer_rings):
            has = ring >= 0
            whole = np.bincount(ring[has], weights=widths[has])
            shares[layer, has] *= widths[has] / whole[ring[has]]
        return shares

    @property
    def is_dead(self) -> Flags:
        """Cells that are dead or that their layer does not have, shape ``(L, n_eta, n_phi)``."""
        dead = np.zeros(self.shape, dtype=bool)
        dead[self.layer_rings < 0] = True
        for region in self.dead_regions:
            in_eta = (self.eta_centres > region.eta[0]) & (self.eta_centres < region.eta[1])
            in_phi = np.ones(self.n_phi, dtype=bool)
            if region.phi is not None:
                in_phi = (self.phi_centres > region.phi[0]) & (self.phi_centres < region.phi[1])
            layers = [region.layer is None or region.layer == layer for layer in self.layers]
            dead |= np.array(layers)[:, None, None] & in_eta[:, None] & in_phi
        return dead

    @property
    def is_phi_uniform(self) -> bool:
        """Whether all φ have the same cells."""
        dead = self.is_dead
        return bool(np.all(dead == dead[:, :, :1]))

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
        widths = self.cell_widths
        dead, shares = self.is_dead, self.cell_shares
        is_alike = (
            np.array_equal(widths, widths[::-1])
            and np.array_equal(dead, dead[:, ::-1])
            and np.allclose(shares, shares[:, ::-1])
        )
        return bool(is_alike and np.allclose(edges, -edges[::-1], atol=1e-6))

    @property
    def is_shower(self) -> bool:
        """Whether the rings lie at radii around a shower's axis, not at pseudorapidities."""
        from pileupgen.calo.presets import PRESETS, SHOWERS

        return any(PRESETS[name] == self for name in SHOWERS)

    @property
    def transverse_shares(self) -> Floats:
        """E_T over E of each ring, 1 / cosh η, shape ``(n_eta,)``; 1 where the axis is no η."""
        if self.is_shower or self.is_feature_table:
            return np.ones(self.n_eta)
        return np.asarray(1.0 / np.cosh(self.eta_centres))

    @property
    def phi_edges(self) -> Floats:
        """Azimuth edges in rad, shape ``(n_phi + 1,)``."""
        return np.linspace(self.phi_min, self.phi_max, self.n_phi + 1)

    @property
    def eta_centres(self) -> Floats:
        """Ring centres in η, shape ``(n_eta,)``."""
        edges = np.asarray(self.eta_edges, dtype=np.float64)
        return np.asarray(0.5 * (edges[1:] + edges[:-1]))

    @property
    def phi_centres(self) -> Floats:
        """Cell centres in φ in rad, shape ``(n_phi,)``."""
        edges = self.phi_edges
        return np.asarray(0.5 * (edges[1:] + edges[:-1]))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for HDF5 attributes, YAML and JSON."""
        # Named only where it says something: grids without it keep their fingerprints.
        rings = {} if self.ring_n_phi is None else {"ring_n_phi": list(self.ring_n_phi)}
        units = {} if self.units is None else {"units": list(self.units)}
        return {
            **rings,
            **units,
            **self._granularity(),
            "name": self.name,
            "eta_edges": [float(edge) for edge in self.eta_edges],
            "n_phi": self.n_phi,
            "layers": list(self.layers),
            "phi_min": float(self.phi_min),
            "phi_max": float(self.phi_max),
        }

    def _granularity(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        if self.layer_eta_edges is not None:
            values["layer_eta_edges"] = [[float(e) for e in own] for own in self.layer_eta_edges]
        if self.layer_n_phi is not None:
            values["layer_n_phi"] = list(self.layer_n_phi)
        if self.dead_regions:
            values["dead_regions"] = [region.to_dict() for region in self.dead_regions]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Grid:
        """Inverse of :meth:`to_dict`; an unknown key is an error."""
        known = (
            *("name", "eta_edges", "n_phi", "layers", "phi_min", "phi_max"),
            *("ring_n_phi", "units", "layer_eta_edges", "layer_n_phi", "dead_regions"),
        )
        for key in values:
            if key not in known:
                raise GeometryError(f"Unknown geometry key '{key}'.", did_you_mean(key, known))
        missing = [key for key in ("eta_edges", "n_phi") if key not in values]
        if missing:
            raise GeometryError(
                f"Geometry lacks {', '.join(missing)}.", "Give them, or name a preset."
            )
        rest = {key: values[key] for key in ("name", "phi_min", "phi_max") if key in values}
        rings, units = values.get("ring_n_phi"), values.get("units")
        own_edges, own_n_phi = values.get("layer_eta_edges"), values.get("layer_n_phi")
        try:
            return cls(
                layer_eta_edges=None
                if own_edges is None
                else tuple(tuple(float(edge) for edge in own) for own in own_edges),
                layer_n_phi=None if own_n_phi is None else tuple(int(n) for n in own_n_phi),
                dead_regions=tuple(
                    DeadRegion.from_dict(region) for region in values.get("dead_regions", ())
                ),
                units=None if units is None else tuple(str(unit) for unit in units),
                ring_n_phi=None if rings is None else tuple(int(n) for n in rings),
                eta_edges=tuple(float(edge) for edge in values["eta_edges"]),
                n_phi=int(values["n_phi"]),
                layers=tuple(values.get("layers", ("em", "had"))),
                **rest,
            )
        except (TypeError, ValueError) as error:
            raise GeometryError(f"Geometry values do not fit: {error}.") from error


def require_same_grid(found: Grid, expected: Grid, what: str, expected_by: str) -> None:
    """Refuse images of another geometry.

    Raises
    ------
    GeometryError
        Naming the first property that differs.
    """
    for name in (
        "layers",
        "units",
        "n_phi",
        "n_eta",
        "eta_edges",
        "phi_min",
        "phi_max",
        "cell_widths",
        "layer_rings",
        "layer_widths",
        "is_dead",
    ):
        ours, theirs = getattr(found, name), getattr(expected, name)
        same = (
            ours == theirs
            if isinstance(ours, int) or name in ("layers", "units")
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
