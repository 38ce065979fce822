"""Cells to Gaussian scores and back, domain by domain.

Each cell's energy becomes Φ⁻¹ of its rank among the training events of its own domain, per layer,
ring and μ, and, layer after layer (deepest first), given the layer before: chained quantile
morphing. The marginals are then N(0, 1)
in both domains, so that encoding with the source's quantiles and decoding with the target's is
the classical calibration, and what is left to learn is what cells do together.

Real cells go negative, and so do features of tables: negative hits come first in rank, then the
null cells (exactly zero), then the positive hits. A null cell takes a rank within the mass of the
null cells, and a value that comes again and again one within its own mass, from a uniform number
that the caller provides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pileupgen.arrays import Flags, Floats, Ints
from pileupgen.models.calibration.fitting import MIN_MASS, CalibrationFit
from pileupgen.models.calibration.limits import SCORE_LIMIT
from pileupgen.models.calibration.mu_law import continued
from pileupgen.models.calibration.quantiles import QuantileTables
from pileupgen.models.calibration.ranks import S_LOWEST, CellRanks, Negatives
from pileupgen.models.calibration.space import CellSpace
from pileupgen.models.calibration.tails import Tail, no_lines
from pileupgen.models.calibration.ties import Ties
from pileupgen.models.saved import (
    ModelMixin,  # noqa: F401 - diffusers looks for it here
    register_to_config,
)

SLACK = 0.98
"""A cell below this fraction of the smallest hit of training is null; the threshold itself lies
below that hit."""


class CellCalibration(CellSpace):
    """Quantile tables of both domains.

    Parameters
    ----------
    n_knots : int
        Quantiles per table, K.
    n_mu_bins : int
        Tables in μ, M; between their centres the tables are interpolated.
    n_layer_bins : int
        Condition bins, B, on the layer before in the chain: one for null cells, B − 1 of equal
        mass for the rest. 1 is plain morphing, layer by layer.
    is_eta_symmetric : bool
        Whether rings at η and −η share their tables.
    is_signed : bool
        Whether there are tables for negative hits; :meth:`fit` finds out.
    n_ties : int
        Room for tied values, T; :meth:`fit` finds out.

    Attributes
    ----------
    log_energy : Tensor, shape (2, L, R, M, B, K)
        ln(E / GeV) of positive hits at the knots, by domain (0 mc, 1 data), layer, table ring, μ
        and condition.
    null_mass : Tensor, shape (2, L, R, M, B)
        Probability of a null cell.
    log_negative, negative_mass : Tensors
        The same of negative hits, ln(|E| / GeV) and their probability; only if ``is_signed``.
    ties : float64 Tensor, shape (2, L, T, 3)
        See :func:`~pileupgen.models.calibration.ties.find_ties`; padded with NaN; only if
        ``n_ties`` > 0.
    upper_lines, lower_lines : Tensors, shape (L, R, M, B, 3)
        What lies beyond the ends of the quantiles, the same line in both domains; see
        :mod:`~pileupgen.models.calibration.tails`.
    threshold : Tensor, shape (2, L)
        Smallest size of a hit in GeV; a cell below is taken for a null cell, as the training's
        would have been. 0 where there is no threshold.
    largest : Tensor, shape (2, L, R)
        Largest size of a hit of training in GeV.
    mu_range : Tensor, shape (2,)
        Smallest and largest μ of training; NaN where none is known.
    null_rate : Tensor, shape (2, L, R, B)
        p of the null mass' exp(−p μ) beyond the outermost centres in μ; see
        :mod:`~pileupgen.models.calibration.mu_law`.
    mu_centres : Tensor, shape (M,)
    is_alive : bool Tensor, shape (2, L, n_eta, n_phi)
        False where a cell never had energy though its ring did: a dead cell. It counts for no
        table, takes any rank when encoded, and is null when decoded.
    """

    has_normal_scores = True

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
        is_signed: bool = False,
        n_ties: int = 0,
    ) -> None:
        super().__init__()
        n_rings = (n_eta + 1) // 2 if is_eta_symmetric else n_eta
        self.table_shape = (2, n_layers, n_rings, n_mu_bins, n_layer_bins)
        self.log_energy: Tensor
        self.null_mass: Tensor
        self.mu_centres: Tensor
        self.register_buffer("log_energy", torch.zeros(*self.table_shape, n_knots))
        self.register_buffer("null_mass", torch.ones(self.table_shape))
        self.register_buffer("mu_centres", torch.zeros(n_mu_bins))
        self.upper_lines: Tensor
        self.lower_lines: Tensor
        for name in ("upper_lines", "lower_lines"):
            lines = no_lines(math.prod(self.table_shape[1:])).reshape(*self.table_shape[1:], 3)
            self.register_buffer(name, torch.from_numpy(lines).float())
        self.threshold: Tensor
        self.largest: Tensor
        self.mu_range: Tensor
        self.register_buffer("threshold", torch.zeros(2, n_layers))
        self.register_buffer("largest", torch.zeros(2, n_layers, n_rings))
        self.register_buffer("mu_range", torch.full((2,), torch.nan))
        self.null_rate: Tensor
        self.register_buffer("null_rate", torch.zeros(2, n_layers, n_rings, n_layer_bins))
        self.is_alive: Tensor
        self.register_buffer("is_alive", torch.ones(2, n_layers, n_eta, n_phi, dtype=torch.bool))
        ring = np.arange(n_eta)
        if is_eta_symmetric:
            ring = np.minimum(ring, n_eta - 1 - ring)
        self.ring = torch.from_numpy(ring)
        self.n_layers, self.n_knots = n_layers, n_knots
        self.n_mu_bins, self.n_layer_bins = n_mu_bins, n_layer_bins
        self._excluded = np.zeros((n_layers, n_eta, n_phi), dtype=bool)
        self.make_room(is_signed, n_ties)

    def make_room(self, is_signed: bool, n_ties: int) -> None:
        """Tables that only some samples need; a model of none but null and positive has none."""
        self.is_signed, self.n_ties = is_signed, n_ties
        if is_signed:
            self.log_negative: Tensor
            self.negative_mass: Tensor
            self.register_buffer("log_negative", torch.zeros(*self.table_shape, self.n_knots))
            self.register_buffer("negative_mass", torch.zeros(self.table_shape))
        if n_ties:
            self.ties: Tensor
            shape = (2, self.n_layers, n_ties, 3)
            self.register_buffer("ties", torch.full(shape, torch.nan, dtype=torch.float64))

    @property
    def n_channels(self) -> int:
        """Numbers a cell position becomes: its layers' scores."""
        return self.n_layers

    def ring_of(self, n_eta: int) -> Ints:  # noqa: ARG002 - as SignedLogScaling's
        """Table ring of each ring of the image, (n_eta,)."""
        return np.asarray(self.ring.numpy())

    def lowest_hits(self, domain: int) -> Floats:
        """Size of a cell, in GeV, below which it is taken for null, of each layer, (L,)."""
        return np.array([self._lowest(domain, layer) for layer in range(self.n_layers)])

    @property
    def score_limits(self) -> Tensor:
        """Lowest and highest score that networks see, (L, 2)."""
        return torch.tensor([[-SCORE_LIMIT, SCORE_LIMIT]]).repeat(self.n_layers, 1)

    @property
    def is_plain(self) -> bool:
        """Whether null cells alone take ranks at random, from the lowest on."""
        return not self.is_signed and not self.n_ties

    def exclude(self, dead: Flags) -> None:
        """Take cells, (L, n_eta, n_phi), for dead in both domains, whatever :meth:`fit` sees."""
        self._excluded = dead

    def fit(
        self,
        energies: Sequence[NDArray[np.float32]],
        mus: Sequence[NDArray[np.float32]],
        weights: Sequence[Floats] | None = None,
    ) -> None:
        """Take the quantiles of training events; see :meth:`CellSpace.fit`.

        Events of unknown μ count as the middle bin. Ties and signs are looked for in the events as
        they are, not as they are repeated by weight.
        """
        CalibrationFit(self, self._excluded)(energies, mus, weights)

    @torch.no_grad()
    def encode(self, energy: Tensor, domain: int, mu: Tensor, uniform: Tensor) -> Tensor:
        """Energies to Gaussian scores by the quantiles of a domain; see :meth:`CellSpace.encode`.

        Where μ is not known the middle table counts. The uniform numbers are the place of a null
        cell, or of a tied value, within its mass.
        """
        scores = torch.empty_like(energy, dtype=torch.float32)
        condition: Tensor | None = None
        for layer in reversed(range(self.n_layers)):
            value = energy[:, layer].double()
            # What the training's zero suppression would have taken is a null cell.
            value = torch.where(value.abs() < self._lowest(domain, layer), 0.0, value)
            ranks = self._ranks(domain, layer, mu, condition, value.shape)
            score, condition = ranks.encode(value, uniform[:, layer].double())
            scores[:, layer] = score.float()
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
            ranks = self._ranks(domain, layer, mu, condition, scores[:, layer].shape)
            value, condition = ranks.decode(scores[:, layer].double())
            energy[:, layer] = value.float()
        return energy

    @torch.no_grad()
    def hit_ranks(self, scores: Tensor, domain: int, mu: Tensor) -> Tensor:
        """Ranks of scores among the positive hits of their table, in (0, 1); −1 for other cells.

        Parameters and shape as those of :meth:`decode`.
        """
        found = torch.empty_like(scores, dtype=torch.float32)
        condition: Tensor | None = None
        for layer in reversed(range(self.n_layers)):
            ranks = self._ranks(domain, layer, mu, condition, scores[:, layer].shape)
            value, condition = ranks.decode(scores[:, layer].double())
            found[:, layer] = ranks.among_positive(value, condition).float()
        return found

    def _ranks(
        self, domain: int, layer: int, mu: Tensor, condition: Tensor | None, shape: torch.Size
    ) -> CellRanks:
        """Ranks of every cell of one layer, interpolated in μ and in the layer before.

        ``condition`` is the rank, in (0, 1), of the hit cells of the layer before; −1 where it is
        null, None for the first of the chain.
        """
        ring = self.ring.to(mu.device)[None, :, None].expand(shape)
        parts = self._condition_corners(condition, ring)
        corners: list[tuple[Tensor, Tensor]] = []
        for mu_bin, mu_share in self._mu_corners(mu):
            for part, part_share in parts:
                index = (ring * self.n_mu_bins + mu_bin) * self.n_layer_bins + part
                corners.append((index, mu_share * part_share))
        negatives = None
        if self.is_signed:
            tables = self._tables("log_negative", "negative_mass", domain, layer, corners)
            negatives = Negatives(tables, tables.null_mass)
        tables = self._tables("log_energy", "null_mass", domain, layer, corners)
        below = 0.0 if negatives is None else negatives.mass
        tables = self._continued_in_mu(tables, domain, layer, mu, parts, ring, below)
        return CellRanks(
            tables,
            self.is_alive[domain, layer],
            negatives,
            Ties(self.ties[domain, layer] if self.n_ties else torch.empty(0, 3)),
            *self._tails(domain, layer, tables, negatives),
        )

    def _lowest(self, domain: int, layer: int) -> float:
        return SLACK * float(self.threshold[domain, layer])

    def _tails(
        self, domain: int, layer: int, tables: QuantileTables, negatives: Negatives | None
    ) -> tuple[Tail, Tail | None]:
        """What lies beyond the ends of the quantiles of one layer's cells."""
        upper, lower = (
            lines[layer].double().reshape(-1, 3) for lines in (self.upper_lines, self.lower_lines)
        )
        if negatives is not None:
            above = 1 - tables.null_mass - negatives.mass
            below = Tail(negatives.tables, lower, negatives.mass, domain)
            return Tail(tables, upper, above, domain), below
        above = 1 - tables.null_mass
        has_lower = bool((lower[:, 0] < -S_LOWEST).any())
        lowest = Tail(tables, lower, above, domain, end=-1) if has_lower else None
        return Tail(tables, upper, above, domain), lowest

    def _tables(
        self,
        knots: str,
        mass: str,
        domain: int,
        layer: int,
        corners: list[tuple[Tensor, Tensor]],
    ) -> QuantileTables:
        flat = [getattr(self, name)[domain, layer] for name in (knots, mass)]
        return QuantileTables(flat[0].flatten(), flat[1].double().flatten(), corners, self.n_knots)

    def _continued_in_mu(
        self,
        tables: QuantileTables,
        domain: int,
        layer: int,
        mu: Tensor,
        parts: list[tuple[Tensor, Tensor]],
        ring: Tensor,
        below: Tensor | float,
    ) -> QuantileTables:
        """Tables with the null mass at the events' own μ, beyond the outermost centres.

        Negative hits keep the probability ``below``; positive ones have what is left. ``parts``
        are the corners of the condition.
        """
        law, centres = self.null_rate[domain, layer].double().flatten(), self.mu_centres.double()
        own = mu.double()
        beyond = ((own < centres[0]) | (own > centres[-1])).nonzero()[:, 0]
        if not len(beyond) or not bool(law.any()):
            return tables
        begins = ring[beyond] * self.n_layer_bins
        rates = (share[beyond] * law[begins + part[beyond]] for part, share in parts)
        rate = sum(rates, torch.tensor(0.0))
        null_mass = tables.null_mass.clone()
        known = continued(null_mass[beyond], own[beyond][:, None, None], centres, rate)
        other = below[beyond] if isinstance(below, Tensor) else below
        null_mass[beyond] = known.clamp(max=1 - MIN_MASS - other)
        return tables.with_null_mass(null_mass)

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
