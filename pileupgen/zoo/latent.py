"""Latent diffusion: a denoiser on the latents of an autoencoder (Rombach et al. 2112.10752).

A first part of the time trains the project's autoencoder, whose decoder gives each cell a mean and
a width; the rest a denoiser of its latents, which attends to time and μ. An event is denoised
latents, decoded, with its cells drawn.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pileupgen.models.codec import EventNoise
from pileupgen.models.networks.autoencoder import Autoencoder
from pileupgen.models.networks.layers import standardise_conditions
from pileupgen.samples.weights import rows_by_weight
from pileupgen.zoo.attention import AttentiveDenoiser, block_of
from pileupgen.zoo.contract import Budget, ZooSample
from pileupgen.zoo.diffusion import EVENTS_A_STEP, Ddpm
from pileupgen.zoo.fitting import FitRecord, TrainingStep, train
from pileupgen.zoo.image_system import TARGET
from pileupgen.zoo.layers import log_normal
from pileupgen.zoo.scores import Views

N_CHANNELS, WIDTH, N_HEADS = 6, 24, 4
SHARE = 0.4
"""Part of the budget that trains the autoencoder."""
LATENT_NOISE = 0.1
"""Noise on latents while the autoencoder learns, over their root mean square."""
_BATCH = 100


class LatentNetworks(nn.Module):
    """Autoencoder and denoiser, and the scale of latents.

    Parameters
    ----------
    shape : (int, int, int)
        L, n_eta and n_phi of what is encoded.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        patch = block_of(shape[1]), block_of(shape[2])
        n = min(N_CHANNELS, shape[0] * patch[0] * patch[1])
        self.autoencoder = Autoencoder(
            *shape, patch=patch, latent_channels=n, width=WIDTH, n_blocks=1, n_heads=N_HEADS
        )
        # Latents are no cells: their channels have neither sign nor order in η.
        self.denoiser = AttentiveDenoiser(*self.autoencoder.latent_shape, mirror=False)
        self.scale: Tensor
        self.register_buffer("scale", torch.ones(1, n, 1, 1))


class LatentDiffusion(Ddpm):
    """Diffusion of latents; options ``schedule``, ``sampler``, ``steps``, as of ``Ddpm``."""

    citation = "Rombach et al. 2112.10752"
    takes_several = False
    known_options = ("schedule", "sampler", "steps")
    network: LatentNetworks  # type: ignore[assignment]

    @property
    def n_evaluations(self) -> int:
        """One a step, and one of the decoder."""
        return self._n_steps + 1

    def make_network(self) -> LatentNetworks:  # type: ignore[override]
        """Both networks; the denoiser's field is fitted in :meth:`train`."""
        return LatentNetworks(super()._shape)

    @property
    def _shape(self) -> tuple[int, int, int]:
        """Shape of what is denoised."""
        return self.network.autoencoder.latent_shape

    def train(self, sample: ZooSample, budget: Budget, seed: int) -> FitRecord:
        """Train the autoencoder, then the denoiser."""
        images, network = sample.target, self.network
        scores = self.space.encode(images, images.mu, TARGET, seed)
        mu = torch.from_numpy(images.mu)
        standardise_conditions(network, mu)
        views = Views(self.grid, self.symmetry, mu[:, None], images.weight)
        first, second = budget.shared(SHARE, "autoencoder")

        def of_autoencoder(step: TrainingStep) -> Tensor:
            x, of_events = self._drawn_views(views, scores, step)
            noise = LATENT_NOISE * torch.randn((len(x), *self._shape), generator=step.rng)
            label = torch.full((len(x),), TARGET)
            mean, log_variance = network.autoencoder(x, label, of_events, noise)
            density = log_normal((x - mean) * torch.exp(-0.5 * log_variance))
            density = density - 0.5 * log_variance.flatten(1).sum(dim=1)
            return -(density - log_normal(x)).mean() / x[0].numel()

        begun = train(
            network.autoencoder, [network.autoencoder], [of_autoencoder], first, seed, rates=[3e-3]
        )
        few = torch.from_numpy(rows_by_weight(images.weight))
        closed = self._closed(scores[few], torch.Generator().manual_seed(seed))
        latents = self._encoded(closed, mu[few])
        network.scale.copy_(latents.std(dim=(0, 2, 3), keepdim=True).clamp_min(1e-3))
        latents = latents / network.scale
        network.denoiser.field.fit([latents, latents], has_pooled=False)
        places = torch.arange(EVENTS_A_STEP) / EVENTS_A_STEP

        def of_denoiser(step: TrainingStep) -> Tensor:
            x, of_events = self._drawn_views(views, scores, step)
            z = self._encoded(x, of_events) / network.scale
            eps = torch.randn(z.shape, generator=step.rng)
            u = (torch.rand(1, generator=step.rng) + places) % 1
            return self.loss(z, eps, u, of_events)

        done = train(
            network.denoiser, [network.denoiser], [of_denoiser], second, seed, rates=[3e-3]
        )
        if first.state is not None:
            first.state.unlink(missing_ok=True)
        return FitRecord(
            begun.steps + done.steps, begun.seconds + done.seconds, begun.losses + done.losses
        )

    def _drawn_views(
        self, views: Views, scores: Tensor, step: TrainingStep
    ) -> tuple[Tensor, Tensor]:
        """Scores of some training events, closed to a ring, and their μ."""
        x, of_events = views.draw((scores,), EVENTS_A_STEP, step.rng)
        return self._closed(x, step.rng), of_events[:, 0]

    def _closed(self, z: Tensor, rng: torch.Generator) -> Tensor:
        n = super()._shape[2] - z.shape[3]
        return torch.cat([z, torch.randn((*z.shape[:3], n), generator=rng)], dim=3) if n else z

    @torch.no_grad()
    def _encoded(self, scores: Tensor, mu: Tensor) -> Tensor:
        """Latents, (N, C, H, W), as the encoder gives them."""
        parts = []
        for begin in range(0, len(scores), _BATCH):
            x = scores[begin : begin + _BATCH]
            label = torch.full((len(x),), TARGET)
            parts.append(self.network.autoencoder.encode(x, label, mu[begin : begin + _BATCH]))
        return torch.cat(parts)

    def _of_grid(self, x: Tensor) -> Tensor:
        """Latents have no margin of their own: it is left out of the decoded event."""
        return x

    @property
    def _denoiser(self) -> AttentiveDenoiser:
        return self.network.denoiser

    def draw(self, conditions: Tensor, mu: Tensor, noise: EventNoise) -> Tensor:
        """Denoise latents, decode them, and draw the cells."""
        latents = super().draw(conditions, mu, noise) * self.network.scale
        label = torch.full((len(mu),), TARGET)
        mean, log_variance = self.network.autoencoder.decode(latents, label, mu)
        cells = mean + torch.exp(0.5 * log_variance) * noise.normal(tuple(mean.shape[1:]))
        return cells[..., : self.grid.n_phi]
