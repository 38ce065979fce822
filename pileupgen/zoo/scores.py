"""The space that all image systems of the collection learn in: Gaussian scores of cells.

Each cell's energy becomes Φ⁻¹ of its rank given ring, layer and μ, and back, so that marginals are
N(0, 1) and what is left to learn is what cells do together. Layers are not chained: what they have
in common is for the systems to learn.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pileupgen.calo.geometry import Grid
from pileupgen.models.calibration.calibration import CellCalibration
from pileupgen.models.calibration.null_probability import null_probability
from pileupgen.models.codec import EventNoise
from pileupgen.samples.store import Images
from pileupgen.zoo.contract import EventConditions, Symmetry, ZooSample

SOURCE, TARGET = 0, 1
"""Domains, as the calibration numbers them."""
N_BINS, N_LOG_BINS = 3, 8
"""Places in μ with quantiles of their own; the second where μ spans more than a decade."""
_DECADE = 10.0
_BATCH = 100
_NULL_STREAM = 7
_CLEAR = 1e-6
"""Margin by which a hit's rank stays above that of the null cells."""


class ScoreSpace:
    """Energies to scores and back, for source and target.

    Cells of a ring share their quantiles; in :class:`~pileupgen.zoo.places.PlaceSpace` others
    do.

    Parameters
    ----------
    grid : Grid
    is_eta_symmetric : bool
        Whether rings at η and −η share their quantiles.
    """

    is_by_place = False
    """Whether cells of a ring differ."""

    def __init__(self, grid: Grid, *, is_eta_symmetric: bool) -> None:
        self.grid, self.is_logarithmic = grid, False
        self._is_eta_symmetric = is_eta_symmetric
        self.calibration = self._new_calibration(N_BINS)

    def _new_calibration(self, n_bins: int) -> CellCalibration:
        grid = self.grid
        calibration = CellCalibration(
            grid.n_layers,
            grid.n_eta,
            grid.n_phi,
            n_mu_bins=n_bins,
            n_layer_bins=1,
            is_eta_symmetric=self._is_eta_symmetric,
        )
        calibration.exclude(grid.is_dead)
        return calibration

    def fit(self, sample: ZooSample) -> None:
        """Take the quantiles of the training events.

        Where μ, or what stands for it, as a shower's incident energy, spans more than a decade,
        they are taken at more places, even in its logarithm.
        """
        both = [sample.source or sample.target, sample.target]
        self.is_logarithmic = spans_decades(torch.from_numpy(sample.target.mu))
        self.calibration = self._new_calibration(N_LOG_BINS if self.is_logarithmic else N_BINS)
        self.calibration.fit(
            [self.alike(torch.from_numpy(images.energy)).numpy() for images in both],
            [self._place(torch.from_numpy(images.mu)).numpy() for images in both],
            [images.weight for images in both],
        )

    def alike(self, x: Tensor) -> Tensor:
        """Cells (N, L, n_eta, n_phi) with those that share their quantiles along the last axis."""
        return x

    def apart(self, x: Tensor) -> Tensor:
        """Inverse of :meth:`alike`."""
        return x

    def _place(self, mu: Tensor) -> Tensor:
        """What quantiles are interpolated in: μ, (N,), or its logarithm."""
        return mu.clamp_min(1e-30).log() if self.is_logarithmic else mu

    def save(self, folder: Path) -> None:
        """Write the quantiles into a folder."""
        self.calibration.save_pretrained(folder / "calibration")

    def load(self, folder: Path, *, is_logarithmic: bool) -> None:
        """Read what :meth:`save` wrote."""
        self.is_logarithmic = is_logarithmic
        self.calibration = CellCalibration.from_pretrained(folder / "calibration")

    @property
    def has_nulls(self) -> bool:
        """Whether null cells come first in rank, so that a hit's own score is defined."""
        return bool(self.calibration.is_plain)

    @property
    def is_one_to_one(self) -> bool:
        """Whether a target event has one array of scores: no cell of it has a random rank."""
        calibration = self.calibration
        has_nulls = bool((calibration.null_mass[TARGET] > 0).any())
        return not has_nulls and not calibration.n_ties and bool(self.is_alive(TARGET).all())

    @property
    def limits(self) -> Tensor:
        """Lowest and highest score that networks are trusted with, (L, 2)."""
        return self.calibration.score_limits

    def n_alive(self, domain: int) -> int:
        """How many cells ever have energy; 1 where none has."""
        return max(int(self.is_alive(domain).sum()), 1)

    def is_alive(self, domain: int) -> Tensor:
        """Whether a cell ever has energy, (L, n_eta, n_phi)."""
        return self.apart(self.calibration.is_alive[domain][None])[0]

    def encode(self, images: Images, mu: NDArray[np.float32], domain: int, seed: int) -> Tensor:
        """Energies of events to scores (N, L, n_eta, n_phi), null cells at a random rank."""
        parts = [torch.empty(0, *self.grid.shape)]
        for begin in range(0, len(images), _BATCH):
            rows = slice(begin, begin + _BATCH)
            energy = torch.from_numpy(np.ascontiguousarray(images.energy[rows]))
            uniform = EventNoise(seed, images.event_id[rows], _NULL_STREAM).uniform(self.grid.shape)
            of_events = self._place(torch.from_numpy(mu[rows]))
            cells, rank = self.alike(energy), self.alike(uniform)
            parts.append(self.apart(self.calibration.encode(cells, domain, of_events, rank)))
        return torch.cat(parts)

    def decode(self, scores: Tensor, mu: NDArray[np.float32], domain: int) -> NDArray[np.float32]:
        """Scores to energies in GeV, (N, L, n_eta, n_phi); 0 where the grid has dead cells."""
        energy = np.zeros(scores.shape, dtype=np.float32)
        of_events = self._place(torch.from_numpy(mu))
        for begin in range(0, len(scores), _BATCH):
            rows = slice(begin, begin + _BATCH)
            cells = self.alike(scores[rows])
            found = self.apart(self.calibration.decode(cells, domain, of_events[rows]))
            energy[rows] = np.where(self.grid.is_dead, np.float32(0.0), found.numpy())
        return energy

    def null_mass(self, mu: Tensor, domain: int) -> Tensor:
        """Probability of a null cell, float64; 0 without nulls.

        (N, L, n_eta, 1); (N, L, n_eta, n_phi) where cells of a ring differ.
        """
        if not self.has_nulls:
            return torch.zeros(len(mu), self.grid.n_layers, self.grid.n_eta, 1).double()
        found = null_probability(self.calibration, domain, self._place(mu))[..., None]
        if not self.is_by_place:
            return found
        return self.apart(found.expand(-1, -1, -1, self.calibration.is_alive.shape[-1]))


def split_scores(scores: Tensor, null_mass: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scores to what a cell is: whether it is a hit, and the normal score among its kind.

    Parameters
    ----------
    scores : Tensor, shape (N, L, n_eta, n_phi)
    null_mass : float64 Tensor, shape (N, L, n_eta, 1)

    Returns
    -------
    hit : bool Tensor, shape (N, L, n_eta, n_phi)
    z : float64 Tensor, shape (N, L, n_eta, n_phi)
        N(0, 1) among hits; 0 for null cells.
    rank : float64 Tensor, shape (N, L, n_eta, n_phi)
        Of null cells within their mass, in (0, 1).
    """
    exact = scores.double()
    above = torch.special.ndtr(-exact)
    share = above / (1 - null_mass)
    hit = share < 1
    z = -torch.special.ndtri(share.clamp(1e-60, 1 - 1e-12))
    rank = (torch.special.ndtr(exact) / null_mass.clamp_min(1e-12)).clamp(1e-9, 1 - 1e-9)
    return hit, torch.where(hit, z, 0.0), rank


def joined_scores(hit: Tensor, z: Tensor, rank: Tensor, null_mass: Tensor) -> Tensor:
    """Inverse of :func:`split_scores`, float32; a hit stays one in single precision."""
    of_null = torch.special.ndtri((null_mass * rank).clamp(1e-60, 1 - 1e-12))
    above = ((1 - null_mass) * torch.special.ndtr(-z)).clamp(1e-60, 1 - 1e-12)
    edge = torch.special.ndtri(null_mass.clamp(1e-60, 1 - 1e-12))
    of_hit = torch.maximum(-torch.special.ndtri(above), edge + _CLEAR * (1 + edge.abs()))
    return torch.where(hit, of_hit, torch.minimum(of_null, edge)).float()


def spans_decades(values: Tensor) -> bool:
    """Whether the known values, (N,), are positive and nearly all span more than a decade."""
    known = values[torch.isfinite(values)].double()
    if not len(known) or not bool(known.min() > 0):
        return False
    low, high = known.quantile(torch.tensor([0.01, 0.99]).double())
    return bool(high > _DECADE * low)


class ConditionInput(nn.Module):
    """Conditions as a network sees them: of mean 0 and variance 1, and whether they are known.

    A condition that spans more than a decade enters as its logarithm.

    Attributes
    ----------
    centre, spread : Tensor, shape (k,)
        Mean and standard deviation over the training events, of what enters.
    low, high : Tensor, shape (k,)
        Range of the training; beyond it an event enters as its end.
    is_logarithmic : bool Tensor, shape (k,)
    """

    def __init__(self, n_conditions: int) -> None:
        super().__init__()
        self.centre: Tensor
        self.spread: Tensor
        self.low: Tensor
        self.high: Tensor
        for name, value in (("centre", 0.0), ("spread", 1.0), ("low", -1e30), ("high", 1e30)):
            self.register_buffer(name, torch.full((n_conditions,), value))
        self.is_logarithmic: Tensor
        self.register_buffer("is_logarithmic", torch.zeros(n_conditions, dtype=torch.bool))

    @property
    def width(self) -> int:
        """Numbers that come out: 2 k."""
        return 2 * len(self.centre)

    @torch.no_grad()
    def standardise(self, conditions: EventConditions) -> None:
        """Take the distribution of the training events' conditions."""
        for column, values in enumerate(conditions.values.T.astype(np.float64)):
            known = values[np.isfinite(values)]
            if not len(known):
                continue
            self.low[column], self.high[column] = float(known.min()), float(known.max())
            self.is_logarithmic[column] = spans_decades(torch.from_numpy(known))
            entering = np.log(known) if self.is_logarithmic[column] else known
            self.centre[column] = float(entering.mean())
            self.spread[column] = float(entering.std()) or 1.0

    def forward(self, values: Tensor) -> Tensor:
        """(N, k) to (N, 2 k)."""
        known = torch.isfinite(values)
        inside = torch.minimum(torch.maximum(values, self.low), self.high)
        inside = torch.where(self.is_logarithmic, inside.clamp_min(1e-30).log(), inside)
        scaled = torch.where(known, (inside - self.centre) / self.spread, 0.0)
        return torch.cat([scaled, known.to(scaled)], dim=1)


class Views:
    """Batches of training events: any event, turned in φ and mirrored where the detector allows.

    Turns are by whole cells of the detector, and only where all φ are alike; so are mirrors in φ.

    Parameters
    ----------
    grid : Grid
    symmetry : Symmetry
        Of the detector; where the grid is not alike, that counts.
    conditions : Tensor, shape (N, 2 k)
        Of the events, as networks see them.
    weight : float64 array, shape (N,)
        Weights of the events; those below 0 count as 0.
    """

    def __init__(
        self, grid: Grid, symmetry: Symmetry, conditions: Tensor, weight: NDArray[np.float64]
    ) -> None:
        self._grid, self._conditions = grid, conditions
        self._weight = torch.from_numpy(np.maximum(weight, 0.0) + 0.0)
        self._step = math.lcm(*np.unique(grid.layer_widths).tolist())
        self._symmetry = symmetry.of(grid)

    def draw(self, arrays: tuple[Tensor, ...], n: int, rng: torch.Generator) -> list[Tensor]:
        """Draw n events in proportion to their weights.

        Parameters
        ----------
        arrays : tuple of Tensors, shape (N, C, n_eta, n_phi)
            Of the same events.
        n : int
        rng : torch.Generator

        Returns
        -------
        list of Tensor
            The arrays, (n, C, n_eta, n_phi), and last the conditions, (n, 2 k).
        """
        rows = torch.multinomial(self._weight, n, replacement=True, generator=rng)
        turn = 0
        if self._grid.is_periodic and self._symmetry.phi:
            n_turns = self._grid.n_phi // self._step
            turn = self._step * int(torch.randint(n_turns, (1,), generator=rng))
        flips = torch.rand(2, generator=rng) < 0.5
        axes = [3] if flips[0] and self._symmetry.phi else []
        axes += [2] if flips[1] and self._symmetry.eta else []
        found = [values[rows].roll(turn, 3).flip(axes) for values in arrays]
        return [*found, self._conditions[rows]]
