"""Layers of different granularity, and cells that the detector does not have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pileupgen.arrays import Floats, Ints
from pileupgen.errors import GeometryError, did_you_mean

_KEYS = ("layer", "eta", "phi")


@dataclass(frozen=True)
class DeadRegion:
    """A rectangle whose cells are dead or missing."""

    eta: tuple[float, float]
    """Its two ends in pseudorapidity."""
    phi: tuple[float, float] | None = None
    """Its two ends in rad, in the grid's convention; None for all φ."""
    layer: str | None = None
    """Name of a layer; None for all layers."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values; what is None is left out."""
        values: dict[str, Any] = {"eta": list(self.eta)}
        if self.phi is not None:
            values["phi"] = list(self.phi)
        if self.layer is not None:
            values["layer"] = self.layer
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DeadRegion:
        """Inverse of :meth:`to_dict`.

        Raises
        ------
        GeometryError
            If a key is not known or a value does not fit.
        """
        for key in values:
            if key not in _KEYS:
                raise GeometryError(
                    f"Unknown key '{key}' of a dead region.", did_you_mean(key, _KEYS)
                )
        try:
            low, high = (float(end) for end in values["eta"])
            ends = values.get("phi")
            phi = None if ends is None else (float(ends[0]), float(ends[1]))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise GeometryError(
                f"A dead region needs two numbers for eta, and for phi if given: {error}."
            ) from error
        return cls((low, high), phi, values.get("layer"))


def coarse_rings(eta_edges: Floats, layer_edges: Floats) -> Ints:
    """Which ring of a layer each ring of the image lies in, −1 for none, shape ``(n_eta,)``.

    Raises
    ------
    GeometryError
        If an edge of the layer is none of the image's.
    """
    nearest = np.abs(eta_edges[:, None] - layer_edges).min(axis=0)
    if len(layer_edges) < 2 or np.any(np.diff(layer_edges) <= 0) or np.any(nearest > 1e-6):
        raise GeometryError(
            "The edges of a layer must ascend, and each must be among eta_edges.",
            "Give as eta_edges the edges of all layers together.",
        )
    centres = 0.5 * (eta_edges[1:] + eta_edges[:-1])
    ring = np.searchsorted(layer_edges, centres) - 1
    ring[(centres < layer_edges[0]) | (centres > layer_edges[-1])] = -1
    return np.asarray(ring, dtype=np.int64)
