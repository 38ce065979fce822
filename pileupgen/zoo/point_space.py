"""The space in which systems of points learn: normal scores of points.

A point's coordinates and the logarithm of its energy become normal scores of their ranks among all
hits of the training, so that independent points of the right density are N(0, 1). Where φ is a full
turn it becomes the direction of a vector in the plane whose length is drawn at random
(χ with two degrees of freedom): N(0, 1) as well, and without a seam. How many points there are,
:mod:`~pileupgen.zoo.point_numbers` says.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pileupgen.arrays import Floats
from pileupgen.calo.geometry import Grid
from pileupgen.errors import TrainingError
from pileupgen.zoo.contract import ZooSample
from pileupgen.zoo.point_numbers import EventNumbers
from pileupgen.zoo.points import hits_of

_SEED = 77_003
"""Seed of the random parts of the training's places and numbers."""
_KNOTS, _FARTHEST = 257, 4.5
"""Knots of the energies' scores, between ∓ the second."""
_RARE = 1e-6
"""Probability of a row or column that had no hit."""


class PointSpace:
    """Points and numbers of events to normal scores and back.

    Parameters
    ----------
    grid : Grid
    is_eta_symmetric : bool

    Attributes
    ----------
    edges : list of Tensor, shapes (L + 1,), (n_eta + 1,), (n_phi + 1,)
        Share of hits below each edge of layers, rings and columns.
    log_energies : Tensor, shape (K,)
        Quantiles of ln E at even scores.
    lowest : Tensor, shape (L,)
        Smallest hit of each layer, GeV.
    numbers : EventNumbers
    """

    is_by_place = False

    def __init__(self, grid: Grid, *, is_eta_symmetric: bool) -> None:
        self.grid, self._is_eta_symmetric = grid, is_eta_symmetric
        self.numbers = EventNumbers(grid)
        self.edges = [torch.linspace(0, 1, k + 1) for k in grid.shape]
        self.log_energies = torch.linspace(-_FARTHEST, _FARTHEST, _KNOTS)
        self.lowest = torch.zeros(grid.n_layers)

    @property
    def n_features(self) -> int:
        """Numbers of a point: layer, ring, one or two for φ, energy."""
        return 5 if self.grid.is_periodic else 4

    @property
    def is_logarithmic(self) -> bool:
        """Whether quantiles are even in the logarithm of the first condition."""
        return self.numbers.is_logarithmic

    def fit(self, sample: ZooSample) -> None:
        """Take the tables of the target's hits.

        Raises
        ------
        TrainingError
            If a cell has a negative energy.
        """
        images = sample.target
        if self.grid.is_feature_table or (images.energy < 0).any():
            raise TrainingError(
                "Points are hits of cells, with positive energies; these images are features or "
                "have negative cells.",
                "Preprocess with zero suppression, or choose a system of images.",
            )
        points = hits_of(images, _SEED)
        weight = np.repeat(images.weight / images.weight.sum() + 1e-15, points.count)
        place, energy = points.place[points.mask], points.energy[points.mask]
        for axis, n in enumerate(self.grid.shape):
            share = np.bincount(np.floor(place[:, axis]).astype(np.int64), weight, minlength=n)
            if axis == 1 and self._is_eta_symmetric:
                share = share + share[::-1]
            share = np.maximum(share / max(share.sum(), 1e-300), _RARE)
            edges = np.concatenate([[0.0], np.cumsum(share)]) / share.sum()
            self.edges[axis] = torch.from_numpy(edges).float()
        if len(energy):
            layer = np.floor(place[:, 0]).astype(np.int64)
            lowest = np.full(self.grid.n_layers, energy.min())
            for number in np.unique(layer):
                lowest[number] = energy[layer == number].min()
            self.lowest = torch.from_numpy(lowest.astype(np.float32))
            self.log_energies = _quantiles(np.log(energy.astype(np.float64)), weight)
        self.numbers.fit(images)

    # -- points ---------------------------------------------------------------------------------

    def encode(self, place: Tensor, energy: Tensor, lengths: Tensor) -> Tensor:
        """Points to scores.

        Parameters
        ----------
        place : Tensor, shape (…, 3)
        energy : Tensor, shape (…)
        lengths : Tensor, shape (…)
            Uniform in [0, 1): lengths of the vectors that stand for φ in a full turn.

        Returns
        -------
        Tensor, shape (…, F)
        """
        ranks = [_level(place[..., axis], edges) for axis, edges in enumerate(self.edges)]
        found = [torch.special.ndtri(rank) for rank in ranks[:2]]
        if self.grid.is_periodic:
            length = (-2 * torch.log1p(-lengths)).sqrt()
            angle = 2 * torch.pi * ranks[2]
            found += [length * angle.cos(), length * angle.sin()]
        else:
            found.append(torch.special.ndtri(ranks[2]))
        even = torch.linspace(-_FARTHEST, _FARTHEST, _KNOTS)
        of_energy = _interpolated(energy.clamp_min(1e-30).log(), self.log_energies, even)
        return torch.stack([*found, of_energy], dim=-1)

    def decode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scores, (…, F), to places within the grid, (…, 3), and energies in GeV, (…)."""
        ranks = [torch.special.ndtr(x[..., axis].double()) for axis in range(2)]
        if self.grid.is_periodic:
            turn = torch.atan2(x[..., 3].double(), x[..., 2].double()) / (2 * torch.pi)
            ranks.append(turn % 1)
        else:
            ranks.append(torch.special.ndtr(x[..., 2].double()))
        place = [_place(rank, edges) for rank, edges in zip(ranks, self.edges, strict=True)]
        even = torch.linspace(-_FARTHEST, _FARTHEST, _KNOTS)
        log_energy = _interpolated(x[..., -1].clamp(-_FARTHEST, _FARTHEST), even, self.log_energies)
        return torch.stack(place, dim=-1).float(), log_energy.exp()

    # -- files ----------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write the tables into a folder."""
        self.numbers.save(folder)
        save_file(self._tables(), folder / "points.safetensors")

    def load(self, folder: Path, *, is_logarithmic: bool) -> None:
        """Read what :meth:`save` wrote."""
        self.numbers.load(folder, is_logarithmic=is_logarithmic)
        found = load_file(folder / "points.safetensors")
        for name, table in self._tables().items():
            if name != "log_energies" and found[name].shape != table.shape:
                raise ValueError(f"{name} has the shape {tuple(found[name].shape)}")
        self.edges = [found[f"edges.{axis}"] for axis in range(3)]
        self.log_energies, self.lowest = found["log_energies"], found["lowest"]

    def _tables(self) -> dict[str, Tensor]:
        edges = {f"edges.{axis}": values for axis, values in enumerate(self.edges)}
        return {**edges, "log_energies": self.log_energies, "lowest": self.lowest}


def _quantiles(values: Floats, weight: Floats) -> Tensor:
    """Weighted quantiles at even scores, each a little above the one before, (K,)."""
    order = np.argsort(values)
    rank = np.cumsum(weight[order])
    rank = (rank - 0.5 * weight[order]) / rank[-1]
    even = torch.linspace(-_FARTHEST, _FARTHEST, _KNOTS).double()
    found = np.interp(torch.special.ndtr(even).numpy(), rank, values[order])
    return torch.from_numpy(found + 1e-5 * np.arange(_KNOTS)).float()


def _level(place: Tensor, edges: Tensor) -> Tensor:
    """Share of hits below a place, within (0, 1)."""
    below = place.floor().long().clamp(0, len(edges) - 2)
    within = (place - below).clamp(0, 1)
    return torch.lerp(edges[below], edges[below + 1], within).clamp(1e-6, 1 - 1e-6)


def _place(level: Tensor, edges: Tensor) -> Tensor:
    """Inverse of :func:`_level`, float64, below the last edge."""
    exact = edges.double()
    below = (torch.searchsorted(exact, level, right=True) - 1).clamp(0, len(edges) - 2)
    width = exact[below + 1] - exact[below]
    within = ((level - exact[below]) / width.clamp_min(1e-12)).clamp(0, 1 - 1e-4)
    return below + within


def _interpolated(x: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    """Piecewise linear, constant beyond the ends."""
    above = torch.searchsorted(knots, x.contiguous()).clamp(1, len(knots) - 1)
    low, high = knots[above - 1], knots[above]
    part = ((x - low) / (high - low)).clamp(0, 1)
    return torch.lerp(values[above - 1], values[above], part)
