"""Conditional gated PixelCNN (van den Oord et al. 1606.05328), cell after cell in raster order."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pileupgen.models.codec import EventNoise
from pileupgen.samples.store import Images
from pileupgen.zoo.cells import cell_features, gained_of_cells, null_given, of_rank
from pileupgen.zoo.contract import Budget, ZooSample
from pileupgen.zoo.fitting import FitRecord, TrainingStep, train
from pileupgen.zoo.gated import GatedStacks, RowCache
from pileupgen.zoo.image_system import TARGET, ImageSystem, padded_batches, rows_of
from pileupgen.zoo.scores import joined_scores, split_scores

EVENTS_A_STEP = 8


class PixelCnn(ImageSystem):
    """Rings from one end in η to the other, cells along φ, layers from the deepest.

    A cell is a hit with some probability, and a hit's score is a mixture of normals. The vertical
    stack goes around in φ where that is a full turn; along its own ring a cell sees no further than
    to the ring's first cell.
    """

    citation = "van den Oord et al. 1606.05328; PixelCNN++, Salimans et al. 1701.05517"
    batch = 128
    network: GatedStacks

    @property
    def is_exact(self) -> bool:
        """Whether null cells are cells of their own kind, not scores of random ranks."""
        return self.space.has_nulls or self.space.is_one_to_one

    @property
    def n_evaluations(self) -> int:
        """One a cell in η and φ."""
        return int(self.grid.n_eta * self.grid.n_phi)

    def make_network(self) -> GatedStacks:
        """Both stacks."""
        return GatedStacks(self.grid.shape, self.conditions.width, is_ring=self.grid.is_periodic)

    def train(self, sample: ZooSample, budget: Budget, seed: int) -> FitRecord:
        """Maximise the likelihood of the target."""
        images = sample.target
        mu = torch.from_numpy(images.mu)
        scores = self.space.encode(images, images.mu, TARGET, seed)
        mass = self.space.null_mass(mu, TARGET).float().expand_as(scores)
        alive = self.space.is_alive(TARGET).float().expand_as(scores)
        views = self.views(images)

        def loss(step: TrainingStep) -> Tensor:
            arrays = scores, mass, alive
            x, null, live, conditions = views.draw(arrays, EVENTS_A_STEP, step.rng)
            gained, n = self._gained(x, null[..., :1].double(), live, conditions)
            return -gained.sum() / n.clamp_min(1.0)

        return train(self.network, [self.network], [loss], budget, seed, rates=[4e-3])

    def _gained(
        self, scores: Tensor, mass: Tensor, alive: Tensor, conditions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Ln p above that of independent cells, (N,), and how many cells there are."""
        hit, z, _ = split_scores(scores, mass)
        cells = cell_features(hit, z, mass, alive)
        features, own = self.network(cells, conditions), cells.permute(0, 2, 3, 1)
        total = torch.zeros(len(scores))
        for layer in range(self.grid.n_layers):
            found = self.network.head(features, own, layer)
            gained = gained_of_cells(
                found,
                hit[:, layer],
                z[:, layer],
                mass[:, layer],
                has_nulls=self.space.has_nulls,
            )
            total = total + (gained * alive[:, layer]).sum(dim=(1, 2))
        return total, alive.sum()

    def draw(self, conditions: Tensor, mu: Tensor, noise: EventNoise) -> Tensor:
        """Draw cell after cell."""
        rank = noise.uniform(self.grid.shape).double()
        mass = self.space.null_mass(mu, TARGET)
        alive = self.space.is_alive(TARGET).expand(rank.shape)
        n_layers, n_eta, n_phi = self.grid.shape
        hit = torch.zeros(rank.shape, dtype=torch.bool)
        z, among_null = torch.zeros_like(rank), torch.zeros_like(rank)
        cache = RowCache(self.network, conditions)
        for i in range(n_eta):
            cache.begin_row()
            row = torch.zeros(len(rank), 2 * n_layers, n_phi)
            for j in range(n_phi):
                features, own = cache.features(i, j), torch.zeros(len(rank), 2 * n_layers)
                for layer in reversed(range(n_layers)):
                    at = slice(None), layer, i, j
                    logit, *mixture = self.network.head(features, own, layer)
                    here = mass[:, layer, i, 0]
                    null = null_given(logit, here, has_nulls=self.space.has_nulls)
                    hit[at], z[at], among_null[at] = of_rank(rank[at], null, mixture)
                    part = slice(None), slice(layer, layer + 1), slice(i, i + 1), slice(j, j + 1)
                    shown = cell_features(hit[part], z[part], mass[part[:3]], alive[part])
                    own[:, 2 * layer : 2 * layer + 2] = shown[:, :, 0, 0]
                cache.show(own)
                row[..., j] = own
            cache.end_row(row)
        return joined_scores(hit, z, among_null, mass)

    @torch.no_grad()
    def nats_gained(
        self, images: Images, mu: NDArray[np.float32], seed: int
    ) -> NDArray[np.float64]:
        """Ln p of each target image above that of independent cells, nats a live cell, (N,)."""
        found, n_cells = [torch.empty(0)], self.space.n_alive(TARGET)
        for rows, n in padded_batches(len(images), 32):
            own = torch.from_numpy(mu[rows])
            scores = self.space.encode(rows_of(images, rows), mu[rows], TARGET, seed)
            alive = self.space.is_alive(TARGET).float().expand_as(scores)
            mass = self.space.null_mass(own, TARGET)
            gained, _ = self._gained(scores, mass, alive, self.conditions(own[:, None]))
            found.append(gained[:n] / n_cells)
        return np.asarray(torch.cat(found).double().numpy())
