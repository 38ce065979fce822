"""Observables of single showers, as the CaloChallenge defines them (2410.21611).

On its grids r stands where η does and α where φ does. Axis names are the challenge's: η = r cos α
and φ = r sin α in mm, at the centres of voxels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Floats, Ints, quotient
from pileupgen.calo.geometry import Grid
from pileupgen.calo.presets import PRESETS
from pileupgen.errors import GeometryError
from pileupgen.measure.observables import MEV, Observable

_FAMILIES = {
    "e": ("E", "GeV"),
    "sparsity": (r"\mathrm{sparsity}", ""),
    "centre_eta": (r"\langle \eta \rangle", "mm"),
    "centre_phi": (r"\langle \phi \rangle", "mm"),
    "width_eta": (r"\sigma_\eta", "mm"),
    "width_phi": (r"\sigma_\phi", "mm"),
    "centre_r": (r"\langle r \rangle", "mm"),
    "width_r": (r"\sigma_r", "mm"),
}
FAMILIES = tuple(_FAMILIES)
"""Observables of every layer; η and φ only where a layer has cells in α."""
ALPHA_FAMILIES = FAMILIES[2:6]


@dataclass(frozen=True)
class DataSet:
    """Constants that the challenge fixes for one of its data sets."""

    name: str
    """Preset of its grid."""
    threshold: float
    """Voxels below count as empty, in MeV."""
    mm: float
    """Length of the grid's unit in r."""
    is_discrete: bool = False
    """Whether incident energies are powers of two."""
    far_layers: tuple[str, ...] = ()
    """Layers whose shapes are histogrammed over a wide range."""


_GEANT_THRESHOLD = 0.5e-3 / 0.033
"""Readout of 0.5 keV over the sampling fraction of data sets 2 and 3, in MeV."""
DATA_SETS = (
    DataSet("calochallenge_1", 1.0, 1.0, is_discrete=True, far_layers=("layer_12",)),
    DataSet("calochallenge_2", _GEANT_THRESHOLD, 4.65),
    DataSet("calochallenge_3", _GEANT_THRESHOLD, 2.325),
)


def data_set_of(grid: Grid) -> DataSet | None:
    """Tell which of the challenge's data sets has this grid, whatever it is called."""
    return next((found for found in DATA_SETS if PRESETS[found.name] == grid), None)


@dataclass(frozen=True)
class _Layer:
    """Voxels of a layer: the image cells of each, and where they lie."""

    share: Floats | None
    r: Floats
    eta: Floats
    phi: Floats
    n_alpha: int

    @classmethod
    def of(cls, grid: Grid, layer: int, mm: float) -> _Layer:
        edges = grid.eta_edges if grid.layer_eta_edges is None else grid.layer_eta_edges[layer]
        n_r = len(edges) - 1
        n_alpha = grid.n_phi if grid.layer_n_phi is None else grid.layer_n_phi[layer]
        ring = grid.layer_rings[layer][:, None]
        sector = np.arange(grid.n_phi) // (grid.n_phi // n_alpha)
        voxel = np.where(ring >= 0, ring * n_alpha + sector, -1).ravel()
        is_plain = np.array_equal(voxel, np.arange(n_r * n_alpha))
        share = None if is_plain else (voxel[:, None] == np.arange(n_r * n_alpha)).astype(float)
        r = mm * 0.5 * (np.asarray(edges[1:]) + np.asarray(edges[:-1]))
        alpha = grid.phi_min + (np.arange(n_alpha) + 0.5) * (grid.phi_max - grid.phi_min) / n_alpha
        place = np.repeat(r, n_alpha)
        angle = np.tile(alpha, n_r)
        return cls(share, place, place * np.cos(angle), place * np.sin(angle), n_alpha)

    def voxels(self, e: Floats) -> Floats:
        flat = e.reshape(len(e), -1)
        return flat if self.share is None else flat @ self.share


class ShowerSet:
    """The observables of showers on one of the challenge's grids.

    Voxels below the data set's threshold count as empty. A mean or width in an empty layer is 0.

    ``e_total``, ``e_ratio``
        Deposited energy in GeV, and over the incident energy; 0 where that is unknown.
    ``e_<layer>``, ``sparsity_<layer>``
        Deposited energy in GeV, and the fraction of empty voxels.
    ``centre_eta_<layer>``, ``centre_phi_<layer>``, ``width_eta_<layer>``, ``width_phi_<layer>``
        Energy-weighted mean and standard deviation of η = r cos α and φ = r sin α in mm.
    ``centre_r_<layer>``, ``width_r_<layer>``
        The same of r.

    Parameters
    ----------
    grid : Grid
        One of the challenge's.

    Raises
    ------
    GeometryError
        If it is not.
    """

    def __init__(self, grid: Grid) -> None:
        data_set = data_set_of(grid)
        if data_set is None:
            raise GeometryError(f"Grid '{grid.name}' is not one of the CaloChallenge's.")
        self.grid, self.data_set = grid, data_set
        self._layers = [_Layer.of(grid, layer, data_set.mm) for layer in range(grid.n_layers)]
        self.records = (
            Observable("e_total", r"$E_{\mathrm{tot}}$", "GeV"),
            Observable("e_ratio", r"$E_{\mathrm{tot}}/E_{\mathrm{inc}}$"),
            *(
                Observable(f"{family}_{name}", f"${symbol}$, {name}", unit)
                for family, (symbol, unit) in _FAMILIES.items()
                for name in self.layers_of(family)
            ),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names, in the order of the records."""
        return tuple(record.name for record in self.records)

    def __getitem__(self, name: str) -> Observable:
        return next(record for record in self.records if record.name == name)

    def layers_of(self, family: str) -> tuple[str, ...]:
        """Layers that one of ``FAMILIES`` is measured in."""
        return tuple(
            name
            for name, layer in zip(self.grid.layers, self._layers, strict=True)
            if layer.n_alpha > 1 or family not in ALPHA_FAMILIES
        )

    def voxels(self, energy: NDArray[np.float32]) -> list[Floats]:
        """Energies of the detector's voxels in MeV, those below the threshold set to 0.

        Parameters
        ----------
        energy : float32 array, shape (N, L, n_eta, n_phi)
            GeV.

        Returns
        -------
        list of float64 arrays, shape (N, n_voxels)
            One a layer, α fastest.

        Raises
        ------
        GeometryError
            If the images do not have the grid's shape.
        """
        if energy.shape[1:] != self.grid.shape:
            found = energy.shape[1:]
            raise GeometryError(f"Images of shape {found} on a grid of {self.grid.shape}.")
        voxels = []
        for number, layer in enumerate(self._layers):
            e = layer.voxels(energy[:, number].astype(np.float64)) * MEV
            voxels.append(np.where(e < self.data_set.threshold, 0.0, e))
        return voxels

    def measure(
        self,
        energy: NDArray[np.float32],
        event_id: Ints,  # noqa: ARG002 - as ObservableSet.measure
        mu: NDArray[np.float32] | None = None,
    ) -> dict[str, Floats]:
        """All observables of a batch.

        Parameters
        ----------
        energy : float32 array, shape (N, L, n_eta, n_phi)
            GeV.
        event_id : int64 array, shape (N,)
            Not used.
        mu : float32 array, shape (N,), optional
            Incident energy in MeV, as the challenge's files have it, which a card makes μ.

        Returns
        -------
        dict of float64 arrays, shape (N,)
            In the order of :attr:`records`.

        Raises
        ------
        GeometryError
            If the images do not have the grid's shape.
        """
        voxels = self.voxels(energy)
        total = np.sum([e.sum(axis=1) for e in voxels], axis=0)
        incident = np.full(len(energy), np.nan) if mu is None else mu.astype(np.float64)
        values = {"e_total": total / MEV, "e_ratio": quotient(total, incident)}
        for name, e, layer in zip(self.grid.layers, voxels, self._layers, strict=True):
            deposited = e.sum(axis=1)
            values[f"e_{name}"] = deposited / MEV
            values[f"sparsity_{name}"] = 1.0 - (e > 0).mean(axis=1)
            for axis, place in (("eta", layer.eta), ("phi", layer.phi), ("r", layer.r)):
                centre = quotient(e @ place, deposited)
                spread = quotient(e @ np.square(place), deposited) - np.square(centre)
                values[f"centre_{axis}_{name}"] = centre
                values[f"width_{axis}_{name}"] = np.sqrt(np.maximum(spread, 0.0))
        return {name: values[name] for name in self.names}

    def physics_features(self, values: dict[str, Floats], mu: NDArray[np.float32]) -> Floats:
        """Features of the challenge's FPD and KPD, shape ``(N, k)``.

        Energies enter as log10(E/MeV + 10⁻⁸), lengths over 100 mm; ``e_ratio`` is replaced by
        log10 of the incident energy where that is known.

        Parameters
        ----------
        values : dict of float64 arrays, shape (N,)
            What :meth:`measure` gave.
        mu : float32 array, shape (N,)
            Incident energy in MeV.
        """
        columns = []
        if np.all(mu > 0):
            columns.append(np.log10(mu.astype(np.float64)))
        for record in self.records:
            column = values[record.name]
            if record.unit == "GeV":
                columns.append(np.log10(column * MEV + 1e-8))
            elif record.name != "e_ratio":
                columns.append(column / 100.0 if record.unit == "mm" else column)
        return np.stack(columns, axis=1)
