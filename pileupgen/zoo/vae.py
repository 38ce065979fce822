"""Conditional variational autoencoder on images (Kingma & Welling 1312.6114; Sohn et al. 2015)."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pileupgen.models.codec import EventNoise
from pileupgen.samples.store import Images
from pileupgen.zoo.attention import block_of
from pileupgen.zoo.contract import Budget, ZooSample
from pileupgen.zoo.divergences import gaussian_kl
from pileupgen.zoo.fitting import FitRecord, TrainingStep, train
from pileupgen.zoo.image_system import TARGET, ImageSystem, padded_batches, rows_of
from pileupgen.zoo.layers import CellTrunk, log_normal

EVENTS_A_STEP = 16
N_LOCAL, N_EVENT = 3, 12
"""Latent numbers of each block of cells, and of the event."""


class ImageVae(nn.Module):
    """Encoder and decoder with a latent grid of blocks and a latent vector of the event.

    The decoder gives mean and width of every cell's score, and cells are drawn from it: a mean
    alone would have no cell spectrum. With last weights of zero, as at first, cells are independent
    and N(0, 1).

    Parameters
    ----------
    shape : (int, int, int)
        L, n_eta, n_phi.
    n_conditions : int
    width : int
    is_ring : bool
        Whether φ closes to a full turn.
    """

    def __init__(
        self, shape: tuple[int, int, int], n_conditions: int, width: int = 24, *, is_ring: bool
    ) -> None:
        super().__init__()
        n_layers, n_eta, n_phi = shape
        self.shape = shape
        self.block = block_of(n_eta), block_of(n_phi)
        self.latent = n_eta // self.block[0], n_phi // self.block[1]
        n_latents, n_known = N_LOCAL + N_EVENT, n_conditions + N_EVENT
        self.encoder = CellTrunk(
            n_layers, 2 * n_latents, n_conditions, n_eta, width, 1, is_ring=is_ring
        )
        self.decoder = CellTrunk(N_LOCAL, 2 * n_layers, n_known, n_eta, width, 2, is_ring=is_ring)

    @property
    def n_latents(self) -> int:
        """Numbers of an event's latent."""
        return N_LOCAL * self.latent[0] * self.latent[1] + N_EVENT

    def encode(self, x: Tensor, conditions: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and ln variance of the latents, (N, n_latents) each."""
        found = self.encoder(x, conditions)
        n = 2 * N_LOCAL
        local = F.avg_pool2d(found[:, :n], self.block) * (self.block[0] * self.block[1]) ** 0.5
        event = found[:, n:].mean(dim=(2, 3)) * (x.shape[2] * x.shape[3]) ** 0.5
        parts = [*local.flatten(2).chunk(2, dim=1)]
        means = torch.cat([parts[0].flatten(1), event[:, :N_EVENT]], dim=1)
        log_variance = torch.cat([parts[1].flatten(1), event[:, N_EVENT:]], dim=1)
        return means, log_variance.clamp(-8, 4)

    def decode(self, latents: Tensor, conditions: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and ln variance of the scores, (N, L, n_eta, n_phi) each."""
        mean, log_variance = self.decoder(*self.spread(latents, conditions)).chunk(2, dim=1)
        return mean, log_variance.clamp(-6, 2)

    def spread(self, latents: Tensor, conditions: Tensor) -> tuple[Tensor, Tensor]:
        """Latents as a decoder takes them: at cells, (N, ``N_LOCAL``, …), and beside conditions."""
        local = latents[:, :-N_EVENT].reshape(-1, N_LOCAL, *self.latent)
        at_cells = F.interpolate(local, size=self.shape[1:], mode="nearest")
        return at_cells, torch.cat([conditions, latents[:, -N_EVENT:]], dim=1)


class Cvae(ImageSystem):
    """A conditional variational autoencoder; option ``beta``, the weight of the KL divergence."""

    citation = "Kingma & Welling 1312.6114; Sohn, Lee & Yan, NeurIPS 2015"
    is_exact = False
    takes_several = True
    known_options = ("beta",)
    network: ImageVae

    @property
    def n_evaluations(self) -> int:
        """One, of the decoder."""
        return 1

    def make_network(self) -> ImageVae:
        """Encoder and decoder."""
        return ImageVae(self.grid.shape, self.conditions.width, is_ring=self.grid.is_periodic)

    def train(self, sample: ZooSample, budget: Budget, seed: int) -> FitRecord:
        """Maximise the lower bound of the likelihood."""
        images = sample.target
        scores = self.space.encode(images, images.mu, TARGET, seed)
        views = self.views(images)
        beta = float(self.options.get("beta", 1.0))

        def loss(step: TrainingStep) -> Tensor:
            x, conditions = views.draw((scores,), EVENTS_A_STEP, step.rng)
            normal = torch.randn(len(x), self.network.n_latents, generator=step.rng)
            # The latents are used before they are paid for, else they never come into use.
            return -self._bound(x, conditions, normal, beta * min(1.0, 4 * step.progress)).mean()

        return train(self.network, [self.network], [loss], budget, seed, rates=[3e-3])

    def _bound(self, x: Tensor, conditions: Tensor, normal: Tensor, beta: float) -> Tensor:
        """Lower bound of ln p above that of independent cells, nats a cell, (N,)."""
        mean, log_variance = self.network.encode(x, conditions)
        latents = mean + torch.exp(0.5 * log_variance) * normal
        cell_mean, cell_variance = self.network.decode(latents, conditions)
        scaled = (x - cell_mean) * torch.exp(-0.5 * cell_variance)
        density = log_normal(scaled) - 0.5 * cell_variance.flatten(1).sum(dim=1)
        paid = beta * gaussian_kl(mean, log_variance)
        return (density - log_normal(x) - paid) / x[0].numel()

    def draw(self, conditions: Tensor, mu: Tensor, noise: EventNoise) -> Tensor:  # noqa: ARG002
        """Decode normal latents, and draw the cells."""
        return self.drawn_of(noise.normal((self.network.n_latents,)), conditions, noise)

    def drawn_of(self, latents: Tensor, conditions: Tensor, noise: EventNoise) -> Tensor:
        """Scores (n, L, n_eta, n_phi) drawn from what latents (n, n_latents) decode to."""
        mean, log_variance = self.network.decode(latents, conditions)
        return mean + torch.exp(0.5 * log_variance) * noise.normal(self.grid.shape)

    @torch.no_grad()
    def nats_gained(
        self, images: Images, mu: NDArray[np.float32], seed: int
    ) -> NDArray[np.float64]:
        """Lower bound of ln p of each image above independent cells, nats a live cell, (N,)."""
        found = [torch.empty(0)]
        share = self.space.n_alive(TARGET) / math.prod(self.grid.shape)
        for rows, n in padded_batches(len(images), self.batch):
            few = rows_of(images, rows)
            x = self.space.encode(few, mu[rows], TARGET, seed)
            normal = EventNoise(seed, images.event_id[rows], stream=5).normal(
                (self.network.n_latents,)
            )
            conditions = self.shown(few, mu[rows])
            found.append(self._bound(x, conditions, normal, 1.0)[:n] / share)
        return np.asarray(torch.cat(found).double().numpy())
