"""Cells to Gaussian scores and back, domain by domain.

Each cell's energy becomes Φ⁻¹ of its rank among the training events of its own domain, per layer,
ring and μ, and, layer after layer (deepest first), given the layer before: chained quantile
morphing. The marginals are then N(0, 1)
in both domains, so that encoding with the source's quantiles and decoding with the target's is
the classical calibration, and what is left to learn is what cells do together.

A null cell (exactly zero) takes a rank within the mass of the null cells, from a uniform number
that the caller provides.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from numpy.typing import NDArray
from torch import Tensor

from pileupgen.models.quantiles import S_MAX, QuantileTables, extend_tail

_S_LOWEST = -4.5
"""Lowest score of a hit: far enough from the null cells to stay a hit in single precision."""
_MIN_EXPECTED_HITS = 20
"""A cell without hits where its ring has this many on average is dead: e⁻²⁰ by chance."""
_MIN_MASS = 1e-6


class CellCalibration(ModelMixin, ConfigMixin):
    """Quantile tables of both domains.

    Parameters
    ----------
    n_layers, n_eta, n_phi : int
        Shape of the images.
    n_knots : int
        Quantiles per table, K.
    n_mu_bins : int
        Tables in μ, M; between their centres the tables are interpolated.
    n_layer_bins : int
        Condition bins, B, on the layer before in the chain: one for null cells, B − 1 of equal
        mass for the rest. 1 is plain morphing, layer by layer.
    is_eta_symmetric : bool
        Whether rings at η and −η share their tables.

    Attributes
    ----------
    log_energy : Tensor, shape (2, L, R, M, B, K)
        ln(E / GeV) at the knots, by domain (0 mc, 1 data), layer, table ring, μ and condition.
    null_mass : Tensor, shape (2, L, R, M, B)
        Probability of a null cell.
    mu_centres : Tensor, shape (M,)
    is_alive : bool Tensor, shape (2, L, n_eta, n_phi)
        False where a cell never had energy though its ring did: a dead cell. It counts for no
        table, takes any rank when encoded, and is null when decoded.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(
        self,
        n_layers: int,
        n_eta: int,
        n_phi: int,
        n_knots: int = 256,
        n_mu_bins: int = 3,
        n_layer_bins: int = 8,
        is_eta_symmetric: bool = True,
    ) -> None:
        super().__init__()
        n_rings = (n_eta + 1) // 2 if is_eta_symmetric else n_eta
        shape = (2, n_layers, n_rings, n_mu_bins, n_layer_bins)
        self.log_energy: Tensor
        self.null_mass: Tensor
        self.mu_centres: Tensor
        self.register_buffer("log_energy", torch.zeros(*shape, n_knots))
        self.register_buffer("null_mass", torch.ones(shape))
        self.register_buffer("mu_centres", torch.zeros(n_mu_bins))
        self.is_alive: Tensor
        self.register_buffer("is_alive", torch.ones(2, n_layers, n_eta, n_phi, dtype=torch.bool))
        ring = np.arange(n_eta)
        if is_eta_symmetric:
            ring = np.minimum(ring, n_eta - 1 - ring)
        self._ring = torch.from_numpy(ring)
        self.n_layers, self.n_knots = n_layers, n_knots
        self.n_mu_bins, self.n_layer_bins = n_mu_bins, n_layer_bins

    # -- fitting ---------------------------------------------------------------------------------

    def fit(
        self,
        energies: Sequence[NDArray[np.float32]],
        mus: Sequence[NDArray[np.float32]],
    ) -> None:
        """Take the quantiles of training events.

        Parameters
        ----------
        energies : two float32 arrays, shape (N, L, n_eta, n_phi)
            Images in GeV of mc and of data.
        mus : two float arrays, shape (N,)
            Number of pileup interactions; NaN counts as the middle bin.
        """
        pooled = np.concatenate([np.asarray(mu, dtype=np.float64) for mu in mus])
        pooled = pooled[np.isfinite(pooled)]
        if self.n_mu_bins > 1 and len(pooled):
            edges = np.quantile(pooled, np.linspace(0, 1, self.n_mu_bins + 1))
        else:
            edges = np.array([0.0] * self.n_mu_bins + [1.0])
        edges[0], edges[-1] = -np.inf, np.inf
        levels = torch.special.ndtr(
            torch.linspace(-S_MAX, S_MAX, self.n_knots, dtype=torch.float64)
        )
        centres = np.zeros(self.n_mu_bins)
        for index in range(self.n_mu_bins):
            inside = pooled[(pooled >= edges[index]) & (pooled < edges[index + 1])]
            centres[index] = (
                inside.mean() if len(inside) else (centres[index - 1] if index else 0.0)
            )
        self.mu_centres.copy_(torch.from_numpy(np.maximum.accumulate(centres)))
        for domain, (energy, mu) in enumerate(zip(energies, mus, strict=True)):
            middle = float(self.mu_centres[self.n_mu_bins // 2])
            known = np.where(np.isfinite(mu), mu, middle)
            mu_bin = np.clip(np.searchsorted(edges, known, side="right") - 1, 0, self.n_mu_bins - 1)
            self._fit_domain(domain, energy, mu_bin, levels.numpy())

    def _fit_domain(
        self,
        domain: int,
        energy: NDArray[np.float32],
        mu_bin: NDArray[np.int64],
        levels: NDArray[np.float64],
    ) -> None:
        alive = _find_alive(energy)
        self.is_alive[domain] = torch.from_numpy(alive)
        ring = self._ring.numpy()
        for table_ring in range(self.log_energy.shape[2]):
            rows = np.flatnonzero(ring == table_ring)
            for mu in range(self.n_mu_bins):
                cells = energy[mu_bin == mu][:, :, rows]
                used = np.broadcast_to(alive[:, rows], cells.shape)
                condition = np.zeros(cells[:, 0].shape, dtype=np.int64)
                for layer in reversed(range(self.n_layers)):
                    values = cells[:, layer]
                    for part in range(self.n_layer_bins):
                        chosen = values[(condition == part) & used[:, layer]]
                        if not np.any(chosen > 0) and part:
                            # Too rare to have a table: as all cells of the ring.
                            chosen = values[used[:, layer]]
                        self._fit_table((domain, layer, table_ring, mu, part), chosen, levels)
                    condition = self._fit_condition(values)

    def _fit_table(
        self, index: tuple[int, ...], values: NDArray[np.float32], levels: NDArray[np.float64]
    ) -> None:
        positive = np.log(values[values > 0].astype(np.float64))
        mass = 1.0 - len(positive) / max(len(values), 1)
        self.null_mass[index] = float(np.clip(mass, 0.0, 1.0 - _MIN_MASS))
        if len(positive):
            knots = extend_tail(np.quantile(positive, levels), len(positive))
            knots += 1e-6 * np.arange(self.n_knots)  # strictly ascending, so that the map inverts
            self.log_energy[index] = torch.from_numpy(knots)

    def _fit_condition(self, values: NDArray[np.float32]) -> NDArray[np.int64]:
        """Condition bin of the next layer: 0 for null cells, else by rank among the others."""
        condition = np.zeros(values.shape, dtype=np.int64)
        n_parts = self.n_layer_bins - 1
        hit = values > 0
        if n_parts > 0 and np.any(hit):
            ordered = np.sort(values[hit])
            rank = (np.searchsorted(ordered, values[hit], side="right") - 0.5) / len(ordered)
            condition[hit] = 1 + np.minimum((rank * n_parts).astype(np.int64), n_parts - 1)
        return condition

    # -- applying --------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, energy: Tensor, domain: int, mu: Tensor, uniform: Tensor) -> Tensor:
        """Energies to Gaussian scores.

        Parameters
        ----------
        energy : Tensor, shape (N, L, n_eta, n_phi)
            GeV, not negative.
        domain : int
            0 mc, 1 data: whose quantiles.
        mu : Tensor, shape (N,)
            Number of pileup interactions; NaN takes the middle table.
        uniform : Tensor, shape (N, L, n_eta, n_phi)
            Numbers in [0, 1): the place of a null cell within the mass of null cells.

        Returns
        -------
        Tensor, shape (N, L, n_eta, n_phi), float32
        """
        scores = torch.empty_like(energy, dtype=torch.float32)
        condition: Tensor | None = None
        for layer in reversed(range(self.n_layers)):
            value = energy[:, layer].double()
            tables = self._tables(domain, layer, mu, condition, value.shape)
            hit = value > 0
            s = tables.score_of(torch.log(value.clamp_min(1e-30))).clamp_min(_S_LOWEST)
            null = tables.null_mass
            mass = torch.where(self.is_alive[domain, layer], null, 1.0)
            upper = torch.where(
                hit, (1 - null) * torch.special.ndtr(-s), 1 - mass * uniform[:, layer].double()
            )
            scores[:, layer] = -torch.special.ndtri(upper.clamp(1e-60, 1 - 1e-12)).float()
            condition = torch.where(hit, torch.special.ndtr(s), -1.0)
        return scores

    @torch.no_grad()
    def decode(self, scores: Tensor, domain: int, mu: Tensor) -> Tensor:
        """Gaussian scores to energies, the inverse of :meth:`encode` for the same domain and μ.

        Parameters
        ----------
        scores : Tensor, shape (N, L, n_eta, n_phi)
        domain : int
            0 mc, 1 data: whose quantiles.
        mu : Tensor, shape (N,)

        Returns
        -------
        Tensor, shape (N, L, n_eta, n_phi), float32
            Energy in GeV, null cells exactly 0.
        """
        energy = torch.empty_like(scores, dtype=torch.float32)
        condition: Tensor | None = None
        for layer in reversed(range(self.n_layers)):
            tables = self._tables(domain, layer, mu, condition, scores[:, layer].shape)
            upper = torch.special.ndtr(-scores[:, layer].double())
            tail = upper / (1 - tables.null_mass)
            hit = (tail < 1) & self.is_alive[domain, layer]
            s = -torch.special.ndtri(tail.clamp(1e-60, 1 - 1e-12))
            value = torch.exp(tables.log_energy_of(s))
            energy[:, layer] = torch.where(hit, value, 0.0).float()
            condition = torch.where(hit, torch.special.ndtr(s), -1.0)
        return energy

    def _tables(
        self, domain: int, layer: int, mu: Tensor, condition: Tensor | None, shape: torch.Size
    ) -> QuantileTables:
        """Tables of every cell of one layer, interpolated in μ and in the layer before.

        ``condition`` is the rank, in (0, 1), of the hit cells of the layer before; −1 where it is
        null, None for the first of the chain.
        """
        ring = self._ring.to(mu.device)[None, :, None].expand(shape)
        corners: list[tuple[Tensor, Tensor]] = []
        for mu_bin, mu_share in self._mu_corners(mu):
            for part, part_share in self._condition_corners(condition, ring):
                index = (ring * self.n_mu_bins + mu_bin) * self.n_layer_bins + part
                corners.append((index, mu_share * part_share))
        knots, null = self.log_energy[domain, layer], self.null_mass[domain, layer].double()
        return QuantileTables(knots.flatten(), null.flatten(), corners, self.n_knots)

    def _mu_corners(self, mu: Tensor) -> list[tuple[Tensor, Tensor]]:
        centres = self.mu_centres.double()
        if self.n_mu_bins == 1:
            zero = torch.zeros_like(mu)[:, None, None]
            return [(zero.long(), zero.double() + 1)]
        mu = torch.where(torch.isfinite(mu), mu.double(), centres[self.n_mu_bins // 2])
        low = (torch.searchsorted(centres, mu.contiguous()) - 1).clamp(0, self.n_mu_bins - 2)
        width = (centres[low + 1] - centres[low]).clamp_min(1e-9)
        share = ((mu - centres[low]) / width).clamp(0, 1)[:, None, None]
        low = low[:, None, None]
        return [(low, 1 - share), (low + 1, share)]

    def _condition_corners(
        self, condition: Tensor | None, ring: Tensor
    ) -> list[tuple[Tensor, Tensor]]:
        n_parts = self.n_layer_bins - 1
        if condition is None or n_parts == 0:
            zero = torch.zeros_like(ring)
            return [(zero, zero.double() + 1)]
        position = (condition * n_parts - 0.5).clamp(0, n_parts - 1)
        low = position.floor().clamp(max=max(n_parts - 2, 0))
        share = position - low
        null = condition < 0
        first = torch.where(null, 0, 1 + low.long())
        second = torch.where(null, 0, torch.clamp(2 + low.long(), max=n_parts))
        return [(first, 1 - share), (second, share)]


def _find_alive(energy: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Cells that ever had energy, or of whose ring too few had any to tell, (L, n_eta, n_phi)."""
    hits = (energy > 0).sum(axis=0)
    expected = hits.mean(axis=2, keepdims=True)
    return np.asarray((hits > 0) | (expected < _MIN_EXPECTED_HITS))
