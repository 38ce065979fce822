"""Correlations between cells by their distance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pileupgen.arrays import Floats, quotient
from pileupgen.calo.geometry import Grid

MAX_ETA_STEPS = 10
"""Distances in rings that the correlation in η is given for, at most."""
UNIT = 32
"""Events of one unit of the jackknife."""


@dataclass(frozen=True)
class CellCorrelation:
    """Correlation over events of the E_T of two cells, by their distance.

    Covariances are summed over all pairs of cells at a distance and divided by the sum of
    variances. It includes, at every distance, what all cells have in common (μ).

    Errors are from the jackknife over groups of events.
    """

    phi: Floats
    phi_error: Floats
    """Correlation by distance in cells of φ, same ring and layer; only pairs inside the window
    where φ is not periodic. Shape (L, n_phi // 2 + 1)."""
    eta: Floats
    eta_error: Floats
    """Correlation by distance in rings, same φ and layer. Shape (L, n_steps + 1)."""
    layers: Floats
    layers_error: Floats
    """Between adjacent layers, by distance in φ, same ring. Shape (L − 1, n_phi // 2 + 1)."""


class CorrelationAccumulator:
    """Adds up products of cells, batch by batch."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._n_phi = grid.n_phi // 2 + 1
        self._n_eta = min(grid.n_eta - 1, MAX_ETA_STEPS) + 1
        self._weights: list[Floats] = []
        self._means: list[Floats] = []
        self._products: list[Floats] = []

    def add(self, et: Floats, weight: Floats) -> None:
        """Add events.

        Parameters
        ----------
        et : float64 array, shape (n, L, n_eta, n_phi)
            E_T in GeV.
        weight : float64 array, shape (n,)
            Weights ≥ 0.
        """
        starts = np.arange(0, len(et), UNIT)
        self._weights.append(np.add.reduceat(weight, starts))
        weighted = et * weight[:, None, None, None]
        self._means.append(np.add.reduceat(weighted, starts, axis=0))
        self._products.append(np.add.reduceat(self._pair_sums(weighted, et), starts, axis=0))

    def merge(self, later: CorrelationAccumulator) -> None:
        """Add the events of another accumulator after these."""
        self._weights += later._weights
        self._means += later._means
        self._products += later._products

    def finish(self) -> CellCorrelation:
        """Correlations with their jackknife errors."""
        weights = np.concatenate(self._weights)
        means, products = np.concatenate(self._means), np.concatenate(self._products)
        totals = weights.sum(), means.sum(axis=0), products.sum(axis=0)
        value = self._correlation(*totals)
        n = len(weights)
        if n > 1:
            left = weights.sum() - weights
            kept = np.flatnonzero(left > 0)
            others = np.array(
                [
                    self._correlation(left[i], totals[1] - means[i], totals[2] - products[i])
                    for i in kept
                ]
            )
            error = np.sqrt((n - 1) * others.var(axis=0))
        else:
            error = np.full_like(value, np.nan)
        parts = [*self._split(value), *self._split(error)]
        return CellCorrelation(parts[0], parts[3], parts[1], parts[4], parts[2], parts[5])

    def _correlation(self, weight: float, sums: Floats, products: Floats) -> Floats:
        """Correlations in one row, from Σw, Σwx and the pair sums Σw x x'."""
        mean = (sums / weight)[None]
        covariance = products / weight - self._pair_sums(mean, mean)[0]
        phi, eta, layers = self._split(covariance)
        variance = phi[:, 0]
        steps = self._pair_counts()
        phi, eta, layers = phi / steps[0], eta / steps[1], layers / steps[0]
        scale = variance / steps[0][0]
        across = np.sqrt(np.maximum(scale[:-1] * scale[1:], 0.0))
        parts = [
            quotient(phi, scale[:, None]),
            quotient(eta, scale[:, None]),
            quotient(layers, across[:, None]),
        ]
        return np.concatenate([part.ravel() for part in parts])

    def _pair_sums(self, x: Floats, y: Floats) -> Floats:
        """Σ over cells of x y' at each distance, shape ``(n, n_numbers)``."""
        # Padding with zeros turns the circular products of a transform into those of a window.
        length = self._grid.n_phi if self._grid.is_periodic else 2 * self._grid.n_phi
        fx, fy = np.fft.rfft(x, length, axis=3), np.fft.rfft(y, length, axis=3)
        same = np.einsum("nlek,nlek->nlk", np.conj(fx), fy)
        phi = np.fft.irfft(same, length, axis=2)[..., : self._n_phi]
        eta = np.stack(
            [
                np.einsum("nlep,nlep->nl", x[:, :, : x.shape[2] - step], y[:, :, step:])
                for step in range(self._n_eta)
            ],
            axis=2,
        )
        cross = np.einsum("nlek,nlek->nlk", np.conj(fx[:, :-1]), fy[:, 1:])
        layers = np.fft.irfft(cross, length, axis=2)[..., : self._n_phi]
        return np.concatenate([part.reshape(len(x), -1) for part in (phi, eta, layers)], axis=1)

    def _pair_counts(self) -> tuple[Floats, Floats]:
        """Pairs of cells at each distance in φ and in η."""
        grid = self._grid
        along = np.full(self._n_phi, float(grid.n_phi))
        if not grid.is_periodic:
            along -= np.arange(self._n_phi)
        rings = grid.n_eta - np.arange(self._n_eta, dtype=np.float64)
        return np.asarray(along * grid.n_eta), np.asarray(rings * grid.n_phi)

    def _split(self, row: Floats) -> list[Floats]:
        n_layers = self._grid.n_layers
        shapes = [(n_layers, self._n_phi), (n_layers, self._n_eta), (n_layers - 1, self._n_phi)]
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
        return [
            part.reshape(shape)
            for part, shape in zip(np.split(row, ends[:-1]), shapes, strict=True)
        ]
