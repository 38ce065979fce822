"""Observables: numbers computed from the image of an event.

Names derive from the grid's layers, so the same code serves any number of layers. On a periodic
φ axis every observable is unchanged by a roll in φ, with these exceptions: the components of the
missing transverse momentum rotate, ρ is unchanged by rolls of whole patches, and the random cone
stays where it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Floats, Ints, quotient
from pileupgen.calo.geometry import Grid
from pileupgen.errors import GeometryError
from pileupgen.measure.regions import Cones, Patches, ring_groups

MEV = 1000.0
"""MeV in a GeV."""


@dataclass(frozen=True)
class Observable:
    """Name, label and unit of a per-event number."""

    name: str
    """Key in tables and files."""
    label: str
    """Matplotlib mathtext."""
    unit: str = ""
    """``"GeV"``, or empty where there is none."""

    @property
    def axis_label(self) -> str:
        """Label with its unit in brackets."""
        return f"{self.label} [{self.unit}]" if self.unit else self.label


class ObservableSet:
    """The observables of one grid.

    Energies are sums over cells; E_T is E / cosh η at the ring's centre. A hit is a cell whose
    energy is not 0: the zero suppression has emptied all others, and it is two-sided.

    ``sum_e``, ``sum_et``
        ΣE and ΣE_T in GeV, of all layers together.
    ``sum_e_<layer>``, ``sum_et_<layer>``, ``sum_et_<layer>_ring<i>``
        The same of one layer, and its ΣE_T in groups of rings, from small to large |η|.
    ``fraction_<layer>``
        Share of ΣE, for all layers but the last; 0 where ΣE is not above 0.
    ``occupancy_<layer>``
        Hits over cells.
    ``lead_et_<layer>``
        The largest cell E_T in GeV.
    ``log_e_mean_<layer>``, ``log_e_width_<layer>``
        Mean and standard deviation of log10(|E|/MeV) over the event's hits.
    ``negative_<layer>``, ``negative_et_<layer>``
        Cells below 0 over cells, and their ΣE_T in GeV; only where asked for.
    ``met``, ``met_x``, ``met_y``
        Size and components of −ΣE_T (cos φ, sin φ), in GeV; only where φ is periodic.
    ``rho``, ``rho_sigma``
        Median of the patches' E_T density in GeV per unit area in η-φ, and σ = (median − 15.9 %
        quantile)·√(mean patch area) in GeV (Cacciari & Salam, 0707.1378; FastJet 1111.6097, §8).
    ``cone_et``
        E_T in a cone of R = 0.4 whose axis is a function of the event's number alone.
    ``corr_eta_<layer>``, ``corr_phi_<layer>``
        Correlation of a cell's E_T with its neighbour's, over the event's cells, each ring's mean
        over φ removed.
    ``corr_<layer>_<next>``
        The same between the cells of two adjacent layers.

    An observable that an event leaves undefined (the mean log-energy without hits, a correlation of
    constants) is 0.
    """

    def __init__(self, grid: Grid, *, with_negatives: bool = False) -> None:
        self.grid = grid
        self._with_negatives = with_negatives
        self._inverse_cosh = 1.0 / np.cosh(grid.eta_centres)
        self._ring_groups = ring_groups(grid)
        self._patches = Patches(grid)
        self._cones = Cones(grid)
        self.records = self._describe()

    @property
    def names(self) -> tuple[str, ...]:
        """Names, in the order of the records."""
        return tuple(record.name for record in self.records)

    def __getitem__(self, name: str) -> Observable:
        return next(record for record in self.records if record.name == name)

    def measure(
        self,
        energy: NDArray[np.float32],
        event_id: Ints,
        mu: NDArray[np.float32] | None = None,  # noqa: ARG002 - as ShowerSet.measure
    ) -> dict[str, Floats]:
        """All observables of a batch.

        Parameters
        ----------
        energy : float32 array, shape (N, L, n_eta, n_phi)
            GeV.
        event_id : int64 array, shape (N,)
            Chooses the axis of the random cone.
        mu : float32 array, shape (N,), optional
            Not used.

        Returns
        -------
        dict of float64 arrays, shape (N,)
            In the order of :attr:`records`.

        Raises
        ------
        GeometryError
            If the images do not have the grid's shape.
        """
        grid = self.grid
        if energy.shape[1:] != grid.shape:
            raise GeometryError(f"Images of shape {energy.shape[1:]} on a grid of {grid.shape}.")
        e = energy.astype(np.float64)
        et = e * self._inverse_cosh[:, None]
        ring_et = et.sum(axis=3)
        tower_et = et.sum(axis=1)
        layer_e = e.sum(axis=(2, 3))
        values: dict[str, Floats] = {
            "sum_e": layer_e.sum(axis=1),
            "sum_et": ring_et.sum(axis=(1, 2)),
        }
        values |= self._layer_values(e, et, ring_et, layer_e)
        values |= self._missing_et(tower_et)
        values["rho"], values["rho_sigma"] = self._patches.density(tower_et)
        values["cone_et"] = self._cones.sums(tower_et, event_id)
        if self._with_negatives:
            values |= negative_values(et, grid)
        return {name: values[name] for name in self.names}

    def _layer_values(
        self, e: Floats, et: Floats, ring_et: Floats, layer_e: Floats
    ) -> dict[str, Floats]:
        values: dict[str, Floats] = {}
        fractions = quotient(layer_e, layer_e.sum(axis=1, keepdims=True))
        residual = et - ring_et[..., None] / self.grid.n_phi
        for i, layer in enumerate(self.grid.layers):
            values[f"sum_e_{layer}"] = layer_e[:, i]
            values[f"sum_et_{layer}"] = ring_et[:, i].sum(axis=1)
            for group, (_, _, rings) in enumerate(self._ring_groups):
                values[f"sum_et_{layer}_ring{group}"] = ring_et[:, i, rings].sum(axis=1)
            values[f"fraction_{layer}"] = fractions[:, i]
            values[f"lead_et_{layer}"] = et[:, i].max(axis=(1, 2))
            occupancy, mean, width = _log_energy(e[:, i])
            values[f"occupancy_{layer}"] = occupancy
            values[f"log_e_mean_{layer}"], values[f"log_e_width_{layer}"] = mean, width
            here = residual[:, i]
            values[f"corr_eta_{layer}"] = correlation(here[:, 1:], here[:, :-1])
            if self.grid.is_periodic:
                values[f"corr_phi_{layer}"] = correlation(here, np.roll(here, 1, axis=2))
            else:
                values[f"corr_phi_{layer}"] = correlation(here[:, :, 1:], here[:, :, :-1])
            if i + 1 < self.grid.n_layers:
                name = f"corr_{layer}_{self.grid.layers[i + 1]}"
                values[name] = correlation(here, residual[:, i + 1])
        return values

    def _missing_et(self, tower_et: Floats) -> dict[str, Floats]:
        around = tower_et.sum(axis=1)
        x = -around @ np.cos(self.grid.phi_centres)
        y = -around @ np.sin(self.grid.phi_centres)
        return {"met": np.hypot(x, y), "met_x": x, "met_y": y}

    def _describe(self) -> tuple[Observable, ...]:
        grid = self.grid
        records: list[Observable] = []
        for name, symbol in (("sum_e", r"\Sigma E"), ("sum_et", r"\Sigma E_T")):
            records.append(Observable(name, f"${symbol}$", "GeV"))
            if grid.n_layers > 1:
                records += [_named(name, layer, symbol, "GeV") for layer in grid.layers]
        axis = r"|\eta|" if grid.is_eta_symmetric else r"\eta"
        for layer in grid.layers:
            for group, (low, high, _) in enumerate(self._ring_groups):
                label = rf"$\Sigma E_T$, {layer}, {low:.3g} < ${axis}$ < {high:.3g}"
                records.append(Observable(f"sum_et_{layer}_ring{group}", label, "GeV"))
        records += [_named("fraction", layer, r"f_E") for layer in grid.layers[:-1]]
        families = [
            ("occupancy", r"\mathrm{occupancy}", ""),
            ("lead_et", r"E_T^{\mathrm{max}}", "GeV"),
            ("log_e_mean", r"\langle \mathrm{log_{10}(}E\mathrm{/MeV)} \rangle", ""),
            ("log_e_width", r"\sigma\,\mathrm{(log_{10}(}E\mathrm{/MeV))}", ""),
        ]
        if grid.n_eta > 1:
            families.append(("corr_eta", r"r_{\eta\,\mathrm{neighbours}}", ""))
        if grid.n_phi > 1:
            families.append(("corr_phi", r"r_{\phi\,\mathrm{neighbours}}", ""))
        for name, symbol, unit in families:
            records += [_named(name, layer, symbol, unit) for layer in grid.layers]
        for first, second in zip(grid.layers, grid.layers[1:], strict=False):
            pair = rf"$r$ ({first}, {second})"
            records.append(Observable(f"corr_{first}_{second}", pair))
        if grid.is_periodic:
            records.append(Observable("met", r"$|E_T^{\mathrm{miss}}|$", "GeV"))
            records.append(Observable("met_x", r"$E_x^{\mathrm{miss}}$", "GeV"))
            records.append(Observable("met_y", r"$E_y^{\mathrm{miss}}$", "GeV"))
        records.append(Observable("rho", r"$\rho$", "GeV"))
        records.append(Observable("rho_sigma", r"$\sigma(\rho)$", "GeV"))
        cone = rf"$\Sigma E_T$, random cone $R$ = {self._cones.radius:.2g}"
        records.append(Observable("cone_et", cone, "GeV"))
        return (*records, *negative_records(grid)) if self._with_negatives else tuple(records)


def negative_records(grid: Grid) -> tuple[Observable, ...]:
    """Records of the observables that count cells below 0."""
    families = (
        ("negative", r"\mathrm{occupancy}\ (E<0)", ""),
        ("negative_et", r"\Sigma E_T\ (E<0)", "GeV"),
    )
    return tuple(
        _named(name, layer, symbol, unit)
        for name, symbol, unit in families
        for layer in grid.layers
    )


def negative_values(et: Floats, grid: Grid) -> dict[str, Floats]:
    """Cells below 0 over cells, and their ΣE_T in GeV, by name.

    Parameters
    ----------
    et : float64 array, shape (N, L, n_eta, n_phi)
        E_T in GeV.

    Returns
    -------
    dict of float64 arrays, shape (N,)
        In the order of :func:`negative_records`.
    """
    shares = (et < 0).mean(axis=(2, 3))
    sums = np.minimum(et, 0.0).sum(axis=(2, 3))
    columns = np.concatenate([shares, sums], axis=1)
    records = negative_records(grid)
    return {record.name: columns[:, place] for place, record in enumerate(records)}


def _named(name: str, layer: str, symbol: str, unit: str = "") -> Observable:
    return Observable(f"{name}_{layer}", f"${symbol}$, {layer}", unit)


def correlation(x: Floats, y: Floats) -> Floats:
    """Correlation over the last two axes of arrays that have no mean; 0 where undefined.

    >>> correlation(np.array([[[1.0, -1.0]]]), np.array([[[2.0, -2.0]]]))
    array([1.])
    """
    product = np.einsum("nij,nij->n", x, y)
    squares = np.einsum("nij,nij->n", x, x) * np.einsum("nij,nij->n", y, y)
    # What is left of a constant image is rounding.
    scale = np.einsum("nij,nij->n", np.abs(x), np.abs(y))
    return np.where(scale > 1e-12, quotient(product, np.sqrt(squares)), 0.0)


def _log_energy(e: Floats) -> tuple[Floats, Floats, Floats]:
    """Occupancy, and mean and width of log10(|E|/MeV) over hits, each ``(N,)``."""
    hit = e != 0
    logs = np.zeros_like(e)
    np.log10(np.abs(e), out=logs, where=hit)
    n_hits = hit.sum(axis=(1, 2)).astype(np.float64)
    first = quotient(logs.sum(axis=(1, 2)), n_hits)
    second = quotient(np.einsum("nij,nij->n", logs, logs), n_hits)
    width = np.sqrt(np.maximum(second - first**2, 0.0))
    mean = np.where(n_hits > 0, first + np.log10(MEV), 0.0)
    return n_hits / (e.shape[1] * e.shape[2]), mean, width
