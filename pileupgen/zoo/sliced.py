"""Optimal transport of normal scores: between Gaussian fields, then along slices.

First the closed form between stationary Gaussian fields,
:meth:`~pileupgen.models.field.StationaryField.transport`. What is not Gaussian is moved by many
small maps one after another (iterative distribution transfer, Pitié, Kokaram & Dahyot 2007; sliced
normalising flows, Dai & Seljak 2007.00674): along some orthonormal directions in blocks of cells
each value goes to the target's value of the same rank. Each map is the gradient of a convex
function, hence optimal for what it makes of its input (Brenier 1991); their chain is not.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pileupgen.errors import ConfigError
from pileupgen.models.codec import EventNoise
from pileupgen.models.field import StationaryField
from pileupgen.models.networks.layers import patchify, unpatchify
from pileupgen.samples.store import Images
from pileupgen.samples.weights import rows_by_weight
from pileupgen.zoo.attention import block_of
from pileupgen.zoo.contract import Budget, ZooSample
from pileupgen.zoo.diffusion import MARGIN
from pileupgen.zoo.fitting import FitRecord
from pileupgen.zoo.image_system import SOURCE, TARGET, ImageSystem

SIZES = (1, 2, 3, 6, 12)
"""Cells of blocks along an axis, taken in turns, where they divide the image."""
LARGEST = 800
"""Cells of a block in all layers, at most: larger ones are made smaller."""
N_DIRECTIONS = 6
N_KNOTS = 33
"""Quantiles at which a map is known."""
_MARGIN_STREAM = 11


class TransportTables(nn.Module):
    """Both parts of the map: matrices of the field, and directions and knots of the slices."""

    def __init__(self, shape: tuple[int, int, int], n_slices: int) -> None:
        super().__init__()
        _, n_eta, n_phi = shape
        self.field = StationaryField(*shape)
        n_rows = self.field.modes.n_rows
        eye = torch.eye(n_rows).repeat(self.field.modes.n_frequencies, 1, 1)
        self.maps: Tensor
        self.register_buffer("maps", eye)
        self.blocks, self.turns = [], []
        rng = torch.Generator().manual_seed(n_slices)
        for index in range(n_slices):
            block, n = _block(shape, SIZES[index % len(SIZES)])
            basis, _ = torch.linalg.qr(torch.randn(n, n, generator=rng))
            k = min(n, N_DIRECTIONS)
            knots = torch.linspace(-3, 3, N_KNOTS).expand(k, n_eta // block[0], N_KNOTS)
            self.register_buffer(f"directions_{index}", basis[:, :k].contiguous())
            self.register_buffer(f"knots_{index}", torch.stack([knots, knots]).contiguous())
            self.blocks.append(block)
            self.turns.append(int(torch.randint(n_phi, (1,), generator=rng)))

    def gaussian(self, x: Tensor) -> Tensor:
        """Scores (N, L, H, W) from the source's Gaussian field to the target's."""
        return self.field.move(x, self.maps, SOURCE, TARGET)

    def slices(self, index: int, x: Tensor) -> Tensor:
        """Coordinates of blocks along a step's directions, (k, H / p, N · W / q)."""
        patches = patchify(x.roll(self.turns[index], 3), self.blocks[index])
        directions = self.get_buffer(f"directions_{index}")
        return torch.einsum("nchw,ck->khnw", patches, directions).flatten(2)

    def learn(self, index: int, source: Tensor, target: Tensor) -> None:
        """Take the quantiles of both samples, (N, L, H, W), along a step's directions."""
        at = torch.linspace(0, 1, N_KNOTS).clamp(0.002, 0.998)
        for row, x in enumerate((source, target)):
            # Sorted once: torch.quantile refuses as many values.
            values = self.slices(index, x).sort(dim=2).values
            place = (at * (values.shape[2] - 1)).round().long()
            self.get_buffer(f"knots_{index}")[row] = values[:, :, place]

    def step(self, index: int, x: Tensor) -> Tensor:
        """One map, x + Q (T(Qᵀ x) − Qᵀ x), (N, L, H, W)."""
        block, turn = self.blocks[index], self.turns[index]
        before = self.slices(index, x)
        moved = monotone(before, *self.get_buffer(f"knots_{index}")) - before
        n, _, height, width = x.shape
        shape = len(before), height // block[0], n, width // block[1]
        directions = self.get_buffer(f"directions_{index}")
        update = torch.einsum("khnw,ck->nchw", moved.view(shape), directions)
        return x + unpatchify(update.contiguous(), block).roll(-turn, 3)


def _block(shape: tuple[int, int, int], size: int) -> tuple[tuple[int, int], int]:
    """Block of about ``size`` cells along both axes, and its cells in all layers."""
    n_layers, n_eta, n_phi = shape
    block = block_of(n_eta, size), block_of(n_phi, size)
    n = n_layers * block[0] * block[1]
    return (block, n) if n <= LARGEST or size == 1 else _block(shape, size - 1)


def monotone(x: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Piecewise linear maps through knots (k, h, m) of values (k, h, n), shifts beyond the ends."""
    after = after.cummax(dim=2).values
    number = torch.searchsorted(before.contiguous(), x.contiguous())
    upper = number.clamp(1, before.shape[2] - 1)
    low, high = (before.gather(2, upper - back) for back in (1, 0))
    to_low, to_high = (after.gather(2, upper - back) for back in (1, 0))
    share = ((x - low) / (high - low).clamp_min(1e-9)).clamp(0, 1)
    beyond = x - torch.minimum(torch.maximum(x, before[..., :1]), before[..., -1:])
    return to_low + share * (to_high - to_low) + beyond


class SlicedTransport(ImageSystem):
    """The Gaussian map, then ``slices`` sliced ones, 40; see the module."""

    citation = "Dowson & Landau 1982; Pitié et al. 2007; Dai & Seljak 2007.00674"
    can_generate = False
    can_translate = True
    known_options = ("slices",)
    network: TransportTables

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if self._n_slices < 0:
            raise ConfigError(f"{self._n_slices} slices.", "Give 0, the Gaussian map, or more.")

    @property
    def _n_slices(self) -> int:
        return int(self.options.get("slices", 40))

    @property
    def n_evaluations(self) -> int:
        """There is no network."""
        return 0

    @property
    def n_parameters(self) -> int:
        """Numbers of the tables: matrices of the Gaussian map and knots of the slices."""
        tables = self.network
        knots = (tables.get_buffer(f"knots_{i}").numel() for i in range(len(tables.blocks)))
        return tables.maps.numel() + sum(knots)

    def make_network(self) -> TransportTables:
        """Tables of maps that change nothing."""
        grid = self.grid
        is_closed = grid.is_periodic or grid.n_phi == 1
        margin = 0 if is_closed else -(-MARGIN // grid.n_phi) * grid.n_phi
        return TransportTables((grid.n_layers, grid.n_eta, grid.n_phi + margin), self._n_slices)

    def train(self, sample: ZooSample, budget: Budget, seed: int) -> FitRecord:
        """Fit the field, then slice after slice to what is left, while there is time."""
        assert sample.source is not None
        begun, tables, moved = time.process_time(), self.network, []
        for domain, images in ((SOURCE, sample.source), (TARGET, sample.target)):
            scores = self._closed(images, images.mu, domain, seed)
            moved.append(scores[torch.from_numpy(rows_by_weight(images.weight))])
        tables.field.fit(moved, mirror_eta=self.symmetry.eta, has_pooled=False)
        tables.maps.copy_(tables.field.transport(SOURCE, TARGET))
        moved[0] = tables.gaussian(moved[0])
        wanted = self._n_slices if budget.max_steps is None else budget.max_steps
        steps = 0
        while steps < min(wanted, self._n_slices):
            if time.process_time() - begun > budget.seconds:
                break
            tables.learn(steps, *moved)
            moved[0] = tables.step(steps, moved[0])
            steps += 1
        return FitRecord(steps, time.process_time() - begun, ())

    def move(self, images: Images, mu: Tensor, seed: int) -> Tensor:
        """Both parts of the map, on scores."""
        x = self.network.gaussian(self._closed(images, mu.numpy(), SOURCE, seed))
        for index in range(len(self.network.blocks)):
            x = self.network.step(index, x)
        return x[..., : self.grid.n_phi]

    def _closed(self, images: Images, mu: NDArray[np.float32], domain: int, seed: int) -> Tensor:
        """Scores with a margin of independent cells where φ is no full turn."""
        scores = self.space.encode(images, mu, domain, seed)
        shape = self.network.field.modes
        missing = shape.width - scores.shape[3]
        if not missing:
            return scores
        noise = EventNoise(seed, images.event_id, _MARGIN_STREAM)
        return torch.cat([scores, noise.normal((*scores.shape[1:3], missing))], dim=3)


__all__ = ["SlicedTransport", "TransportTables", "monotone"]
