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
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from pileupgen.arrays import Floats, Ints
from pileupgen.calo.geometry import Grid
from pileupgen.errors import TrainingError
from pileupgen.samples.store import Images
from pileupgen.zoo.contract import Symmetry, ZooSample
from pileupgen.zoo.point_numbers import EventNumbers
from pileupgen.zoo.points import Points, apart, cells_of, hits_of, scaled_to

_SEED = 77_003
"""Seed of the random parts of the training's places and numbers."""
KNOTS, FARTHEST = 257, 4.5
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
    n_together = 1
    """Sets that go through networks where one large set would."""

    def __init__(self, grid: Grid, *, is_eta_symmetric: bool) -> None:
        self.grid, self._is_eta_symmetric = grid, is_eta_symmetric
        self.numbers = EventNumbers(grid)
        self.edges = [torch.linspace(0, 1, k + 1) for k in grid.shape]
        self.log_energies = torch.linspace(-FARTHEST, FARTHEST, KNOTS)
        self.lowest = torch.zeros(grid.n_layers)

    @property
    def n_features(self) -> int:
        """Numbers of a point: layer, ring, one or two for φ, energy."""
        return 5 if self.grid.is_periodic else 4

    @property
    def ranked(self) -> tuple[int, ...]:
        """Features that are scores of ranks: all but those of φ in a full turn, a vector."""
        n = self.n_features
        return (0, 1, n - 1) if self.grid.is_periodic else tuple(range(n))

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
            self.log_energies = quantiles(np.log(energy.astype(np.float64)), weight)
        self.numbers.fit(images)

    def summed(self, images: Images) -> Images:
        """What hits and energies of an event and its layers are counted in."""
        return images

    # -- points ---------------------------------------------------------------------------------

    def points_of(self, images: Images, seed: int) -> Points:
        """Take the points of events; the seed is of their places within cells."""
        return hits_of(images, seed)

    def moved(self, place: Tensor, symmetry: Symmetry, rng: torch.Generator) -> Tensor:
        """Turn and mirror a batch's places, (n, P, 3), as far as the detector is alike."""
        ring, column = place[..., 1], place[..., 2]
        _, n_eta, n_phi = self.grid.shape
        flips = torch.rand(2, generator=rng) < 0.5
        if symmetry.phi and self.grid.is_periodic:
            step = turn_step(self.grid)
            turn = step * int(torch.randint(n_phi // step, (1,), generator=rng))
            column = (column + turn) % n_phi
        if flips[0] and symmetry.phi:
            column = n_phi - column
        if flips[1] and symmetry.eta:
            ring = n_eta - ring
        return torch.stack([place[..., 0], ring, column], dim=-1)

    def image(
        self,
        place: NDArray[np.float32],
        energy: NDArray[np.float32],
        wanted: tuple[Ints, Floats] | None,
        *,
        is_apart: bool,
    ) -> NDArray[np.float32]:
        """One event's points as an image, (L, n_eta, n_phi).

        Parameters
        ----------
        place : float32 array, shape (n, 3)
        energy : float32 array, shape (n,)
        wanted : tuple of arrays, shape (L,) each, optional
            Hits of layers and their energies in GeV, which the points are calibrated to.
        is_apart : bool
            Whether points in one cell move to free ones.
        """
        if wanted is not None:
            place = place.copy()
            order = np.argsort(place[:, 0], kind="stable")
            place[order, 0] = np.repeat(np.arange(self.grid.n_layers), wanted[0]) + 0.5
        if is_apart:
            place = (apart(place, energy, self.grid) + 0.5).astype(np.float32)
        whole = Points(place[None], energy[None], np.ones((1, len(energy)), bool), np.zeros(1))
        image = cells_of(whole, self.grid).energy[0]
        if wanted is not None:
            image = scaled_to(image, wanted[1], self.lowest.numpy())
        return np.asarray(image)

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
        even = torch.linspace(-FARTHEST, FARTHEST, KNOTS)
        of_energy = interpolated(energy.clamp_min(1e-30).log(), self.log_energies, even)
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
        even = torch.linspace(-FARTHEST, FARTHEST, KNOTS)
        log_energy = interpolated(x[..., -1].clamp(-FARTHEST, FARTHEST), even, self.log_energies)
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
        self._take(found)

    def _take(self, found: dict[str, Tensor]) -> None:
        self.edges = [found[f"edges.{axis}"] for axis in range(3)]
        self.log_energies, self.lowest = found["log_energies"], found["lowest"]

    def _tables(self) -> dict[str, Tensor]:
        edges = {f"edges.{axis}": values for axis, values in enumerate(self.edges)}
        return {**edges, "log_energies": self.log_energies, "lowest": self.lowest}


def quantiles(values: Floats, weight: Floats, step: float = 1e-5) -> Tensor:
    """Weighted quantiles at even scores, each by ``step`` more above the one before, (K,)."""
    order = np.argsort(values)
    rank = np.cumsum(weight[order])
    rank = (rank - 0.5 * weight[order]) / rank[-1]
    even = torch.linspace(-FARTHEST, FARTHEST, KNOTS).double()
    found = np.interp(torch.special.ndtr(even).numpy(), rank, values[order])
    return torch.from_numpy(found + step * np.arange(KNOTS)).float()


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


def interpolated(x: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    """Piecewise linear, constant beyond the ends."""
    above = torch.searchsorted(knots, x.contiguous()).clamp(1, len(knots) - 1)
    low, high = knots[above - 1], knots[above]
    # Knots may be the same, where few events are.
    part = ((x - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    return torch.lerp(values[above - 1], values[above], part)


def turn_step(grid: Grid) -> int:
    """Columns of the smallest turn that maps cells of the detector onto cells."""
    return int(np.lcm.reduce(np.unique(grid.layer_widths)))
