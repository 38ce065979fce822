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
from pileupgen.models.calibration.limits import SCORE_LIMIT
from pileupgen.models.calibration.mu_law import continued, fit_null_rate
from pileupgen.models.calibration.quantile_fit import (
    NO_THRESHOLD,
    condition_bins,
    find_alive,
    find_threshold,
    fit_knots,
    mu_binning,
)
from pileupgen.models.calibration.quantiles import QuantileTables
from pileupgen.models.calibration.ranks import S_LOWEST, CellRanks, Negatives
from pileupgen.models.calibration.tails import (
    Spectrum,
    Tail,
    fit_lower,
    fit_upper,
    in_agreement,
    no_lines,
)
from pileupgen.models.calibration.ties import Ties, find_ties
from pileupgen.models.saved import ModelMixin, register_to_config
from pileupgen.samples.weights import rows_by_weight

_MIN_MASS = 1e-6
SLACK = 0.98
"""A cell is null below so much of the smallest hit of training, which lies above the threshold."""
_SUPPRESSED = 0.01
"""A layer with more than this fraction of null cells, among the cells that ever have energy, has a
threshold, if its smallest hits show one.
"""


class CellCalibration(ModelMixin):
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
        self._shape = (2, n_layers, n_rings, n_mu_bins, n_layer_bins)
        self.log_energy: Tensor
        self.null_mass: Tensor
        self.mu_centres: Tensor
        self.register_buffer("log_energy", torch.zeros(*self._shape, n_knots))
        self.register_buffer("null_mass", torch.ones(self._shape))
        self.register_buffer("mu_centres", torch.zeros(n_mu_bins))
        self.upper_lines: Tensor
        self.lower_lines: Tensor
        for name in ("upper_lines", "lower_lines"):
            lines = no_lines(math.prod(self._shape[1:])).reshape(*self._shape[1:], 3)
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
        self._make_room(is_signed, n_ties)

    def _make_room(self, is_signed: bool, n_ties: int) -> None:
        """Tables that only some samples need; a model of none but null and positive has none."""
        self.is_signed, self.n_ties = is_signed, n_ties
        if is_signed:
            self.log_negative: Tensor
            self.negative_mass: Tensor
            self.register_buffer("log_negative", torch.zeros(*self._shape, self.n_knots))
            self.register_buffer("negative_mass", torch.zeros(self._shape))
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

    # -- fitting ---------------------------------------------------------------------------------

    def exclude(self, dead: Flags) -> None:
        """Take cells, (L, n_eta, n_phi), for dead in both domains, whatever :meth:`fit` sees."""
        self._excluded = dead

    def fit(
        self,
        energies: Sequence[NDArray[np.float32]],
        mus: Sequence[NDArray[np.float32]],
        weights: Sequence[Floats] | None = None,
    ) -> None:
        """Take the quantiles of training events.

        Parameters
        ----------
        energies : two float32 arrays, shape (N, L, n_eta, n_phi)
            Images in GeV of mc and of data; negative values are welcome.
        mus : two float arrays, shape (N,)
            Number of pileup interactions; NaN counts as the middle bin.
        weights : two float64 arrays, shape (N,), optional
            Weights ≥ 0 of the events, which are then repeated in proportion; ties and signs are
            looked for in the events as they are.
        """
        edges, centres = mu_binning(mus, self.n_mu_bins)
        self.mu_centres.copy_(torch.from_numpy(centres))
        known_mu = np.concatenate([np.asarray(mu)[np.isfinite(mu)] for mu in mus])
        if len(known_mu):
            self.mu_range.copy_(torch.tensor([known_mu.min(), known_mu.max()]))
        self._find_kind(energies)
        whole = energies
        if weights is not None:
            rows = [rows_by_weight(weight) for weight in weights]
            energies = [energy[chosen] for energy, chosen in zip(energies, rows, strict=True)]
            mus = [mu[chosen] for mu, chosen in zip(mus, rows, strict=True)]
        self._n_hits = np.zeros((2, *self._shape))
        for domain, (energy, mu) in enumerate(zip(energies, mus, strict=True)):
            middle = float(self.mu_centres[self.n_mu_bins // 2])
            known = np.where(np.isfinite(mu), mu, middle)
            mu_bin = np.clip(np.searchsorted(edges, known, side="right") - 1, 0, self.n_mu_bins - 1)
            self._fit_domain(domain, energy, mu_bin)
            self._fit_range(domain, whole[domain])
        self._fit_lines()
        self._fit_mu_law()

    def _fit_mu_law(self) -> None:
        """Take how null masses go on in μ."""
        centres = self.mu_centres.double().numpy()
        rate = fit_null_rate(self.null_mass.double().numpy(), centres)
        self.null_rate.copy_(torch.from_numpy(rate))

    def _fit_range(self, domain: int, energy: NDArray[np.float32]) -> None:
        """Take the threshold and the largest energies of a domain."""
        for layer in range(self.n_layers):
            cells = energy[:, layer]
            is_discrete = self.n_ties > 0 and bool(torch.isfinite(self.ties[domain, layer]).any())
            n_hits = np.count_nonzero(cells, axis=0)
            # Cells that the layer does not cover, or that are dead, show no suppression.
            n_hits = n_hits[n_hits > 0]
            is_suppressed = n_hits.sum() < (1 - _SUPPRESSED) * n_hits.size * len(cells)
            if is_suppressed and not is_discrete:
                lowest = find_threshold(cells)
                self.threshold[domain, layer] = lowest if lowest > NO_THRESHOLD else 0.0
            for row, table_ring in enumerate(self.ring.tolist()):
                found = float(np.abs(cells[:, row]).max())
                known = float(self.largest[domain, layer, table_ring])
                self.largest[domain, layer, table_ring] = max(found, known)

    def _fit_lines(self) -> None:
        """Take the lines beyond the ends of the quantiles from both domains' tables."""
        tables = [of.double().numpy() for of in (self.log_energy, self.null_mass)]
        below = self.negative_mass.double().numpy() if self.is_signed else 0 * tables[1]

        def spectrum(domain: int, layer: int, sign: int) -> Spectrum:
            knots = tables[0] if sign > 0 else self.log_negative.double().numpy()
            mass = 1 - tables[1] - below if sign > 0 else below
            n_hits = self._n_hits[0 if sign > 0 else 1, domain, layer]
            parts = knots[domain, layer], mass[domain, layer], n_hits
            return Spectrum(
                parts[0].reshape(-1, self.n_knots),
                np.maximum(parts[1].ravel(), 1e-12),
                parts[2].ravel(),
            )

        for layer in range(self.n_layers):
            upper = fit_upper((spectrum(0, layer, 1), spectrum(1, layer, 1)))
            lower = no_lines(len(upper))
            if self.is_signed:
                lower = fit_upper((spectrum(0, layer, -1), spectrum(1, layer, -1)))
            elif not tables[1][:, layer][self._n_hits[0, :, layer] > 0].any():
                lower = fit_lower((spectrum(0, layer, 1), spectrum(1, layer, 1)))
            for buffer, lines in ((self.upper_lines, upper), (self.lower_lines, lower)):
                shaped = lines.reshape(buffer[layer].shape)
                buffer[layer] = torch.from_numpy(in_agreement(shaped))

    def _find_kind(self, energies: Sequence[NDArray[np.float32]]) -> None:
        """Find out whether there are negative hits and tied values, and keep the latter."""
        ties = [
            [find_ties(energy[:, layer]) for layer in range(self.n_layers)] for energy in energies
        ]
        is_signed = any(bool(np.any(energy < 0)) for energy in energies)
        n_ties = max(len(found) for of_domain in ties for found in of_domain)
        self._make_room(is_signed, n_ties)
        self.register_to_config(is_signed=is_signed, n_ties=n_ties)
        for domain, of_domain in enumerate(ties):
            for layer, found in enumerate(of_domain):
                if len(found):
                    self.ties[domain, layer, : len(found)] = torch.from_numpy(found)

    def _fit_domain(
        self,
        domain: int,
        energy: NDArray[np.float32],
        mu_bin: Ints,
    ) -> None:
        alive = find_alive(energy) & ~self._excluded
        self.is_alive[domain] = torch.from_numpy(alive)
        ring = self.ring.numpy()
        for table_ring in range(self.log_energy.shape[2]):
            rows = np.flatnonzero(ring == table_ring)
            for mu in range(self.n_mu_bins):
                inside = mu_bin == mu
                # A bin without events of this domain, as where μ is not known: as all of them.
                cells = (energy[inside] if inside.any() else energy)[:, :, rows]
                used = np.broadcast_to(alive[:, rows], cells.shape)
                condition = np.zeros(cells[:, 0].shape, dtype=np.int64)
                for layer in reversed(range(self.n_layers)):
                    values = cells[:, layer]
                    for part in range(self.n_layer_bins):
                        chosen = values[(condition == part) & used[:, layer]]
                        if not len(chosen) or (part and not np.any(chosen != 0)):
                            # Too rare to have a table, or, where the layer before is never null,
                            # of no cell at all: as all cells of the ring.
                            chosen = values[used[:, layer]]
                        index = (domain, layer, table_ring, mu, part)
                        self._fit_table(index, chosen, values[used[:, layer]])
                    condition = condition_bins(
                        values, self.n_layer_bins - 1, has_ties=self.n_ties > 0
                    )

    def _fit_table(
        self, index: tuple[int, ...], values: NDArray[np.float32], ring: NDArray[np.float32]
    ) -> None:
        """Knots and masses from the values of a table; ``ring`` are those of all its tables."""
        positive, n = values[values > 0], max(len(values), 1)
        self._count_hits(index, values)
        if not self.is_signed:
            self._fit_knots(self.log_energy, index, positive)
            null = 1.0 - len(positive) / n
            self.null_mass[index] = float(np.clip(null, 0.0, 1.0 - _MIN_MASS))
            return
        negative = -values[values < 0]
        # A table without hits of a sign is mixed with others that have some.
        above, below_zero = ring[ring > 0], -ring[ring < 0]
        lowest = find_threshold(ring)
        self._fit_knots(self.log_energy, index, positive if len(positive) else above, lowest=lowest)
        self._fit_knots(
            self.log_negative, index, negative if len(negative) else below_zero, lowest=lowest
        )
        below = float(np.clip(len(negative) / n, 0.0, 1.0 - _MIN_MASS))
        null = (n - len(positive) - len(negative)) / n
        self.negative_mass[index] = below
        self.null_mass[index] = float(np.clip(null, 0.0, 1.0 - _MIN_MASS - below))

    def _count_hits(self, index: tuple[int, ...], values: NDArray[np.float32]) -> None:
        """Count the hits of either sign that tell how a table goes on; none if the last is tied."""
        tied = self.ties[index[:2]][:, 0].numpy() if self.n_ties else np.empty(0)
        for which, sizes in enumerate((values[values > 0], -values[values < 0])):
            is_tied = len(sizes) > 0 and bool(np.any(np.abs(tied) == sizes.max()))
            self._n_hits[(which, *index)] = 0 if is_tied else len(sizes)

    def _fit_knots(
        self,
        table: Tensor,
        index: tuple[int, ...],
        sizes: NDArray[np.float32],
        lowest: float | None = None,
    ) -> None:
        tied = self.ties[index[:2]][:, 0].numpy() if self.n_ties else None
        if len(sizes):
            knots = fit_knots(sizes, self.n_knots, lowest=lowest, tied=tied)
            table[index] = torch.from_numpy(knots)

    # -- applying --------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, energy: Tensor, domain: int, mu: Tensor, uniform: Tensor) -> Tensor:
        """Energies to Gaussian scores.

        Parameters
        ----------
        energy : Tensor, shape (N, L, n_eta, n_phi)
            GeV, of either sign.
        domain : int
            0 mc, 1 data: whose quantiles.
        mu : Tensor, shape (N,)
            Number of pileup interactions; NaN takes the middle table.
        uniform : Tensor, shape (N, L, n_eta, n_phi)
            Numbers in [0, 1): the place of a null cell, or of a tied value, within its mass.

        Returns
        -------
        Tensor, shape (N, L, n_eta, n_phi), float32
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
        """Ranks of scores among the hits of their table, in (0, 1); −1 for null cells.

        Parameters and shape as those of :meth:`decode`.
        """
        found = torch.empty_like(scores, dtype=torch.float32)
        condition: Tensor | None = None
        for layer in reversed(range(self.n_layers)):
            ranks = self._ranks(domain, layer, mu, condition, scores[:, layer].shape)
            condition = ranks.decode(scores[:, layer].double())[1]
            found[:, layer] = condition.float()
        return found

    def _ranks(
        self, domain: int, layer: int, mu: Tensor, condition: Tensor | None, shape: torch.Size
    ) -> CellRanks:
        """Ranks of every cell of one layer, interpolated in μ and in the layer before.

        ``condition`` is the rank, in (0, 1), of the hit cells of the layer before; −1 where it is
        null, None for the first of the chain.
        """
        ring = self.ring.to(mu.device)[None, :, None].expand(shape)
        corners: list[tuple[Tensor, Tensor]] = []
        for mu_bin, mu_share in self._mu_corners(mu):
            for part, part_share in self._condition_corners(condition, ring):
                index = (ring * self.n_mu_bins + mu_bin) * self.n_layer_bins + part
                corners.append((index, mu_share * part_share))
        negatives = None
        if self.is_signed:
            tables = self._tables("log_negative", "negative_mass", domain, layer, corners)
            negatives = Negatives(tables, tables.null_mass)
        tables = self._tables("log_energy", "null_mass", domain, layer, corners)
        below = 0.0 if negatives is None else negatives.mass
        tables = self._continued_in_mu(tables, domain, layer, mu, condition, ring, below)
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
        condition: Tensor | None,
        ring: Tensor,
        below: Tensor | float,
    ) -> QuantileTables:
        """Tables with the null mass at the events' own μ, beyond the outermost centres.

        Negative hits keep the probability ``below``; positive ones have what is left.
        """
        law, centres = self.null_rate[domain, layer].double().flatten(), self.mu_centres.double()
        own = mu.double()[:, None, None]
        beyond = (own < centres[0]) | (own > centres[-1])
        if not bool(beyond.any()) or not bool(law.any()):
            return tables
        parts = (
            share * law[ring * self.n_layer_bins + part]
            for part, share in self._condition_corners(condition, ring)
        )
        rate = sum(parts, torch.tensor(0.0))
        known = torch.where(beyond, own, centres[0])
        null_mass = continued(tables.null_mass, known, centres, rate)
        null_mass = null_mass.clamp(max=1 - _MIN_MASS - below)
        return tables.with_null_mass(torch.where(beyond, null_mass, tables.null_mass))

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
