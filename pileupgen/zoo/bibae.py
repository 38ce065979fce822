"""Bounded-information-bottleneck autoencoder with a post-processor (Buhmann et al. 2005.05334).

An encoder and a decoder that also has noise. Latents are held near N(0, 1) by the KL divergence of
each event, the maximum mean discrepancy of a batch and a critic; two more critics judge decoded
images, one of images alone, one of what differs from the event that was encoded. The post-processor
then corrects decoded cells one by one: 1 × 1 convolutions that are told ring, layer and conditions,
trained last, with the autoencoder fixed, on the spectrum of cells and on changing little.

What differs from the paper: critics are logistic with spectral norms, not Wasserstein ones with a
gradient penalty; and the spectrum's term is the distance of sorted cells of a ring, where the paper
has a kernel of sorted ones. The post-processor learns from events of normal latents, as it is used.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from pileupgen.models.codec import EventNoise
from pileupgen.models.networks.layers import zero_
from pileupgen.zoo.contract import Budget, ZooSample
from pileupgen.zoo.divergences import gaussian_kl, mmd, sorted_distance
from pileupgen.zoo.fitting import FitRecord, TrainingStep, train
from pileupgen.zoo.gan import Critic
from pileupgen.zoo.image_system import TARGET, ImageSystem
from pileupgen.zoo.layers import CellTrunk
from pileupgen.zoo.scores import Views
from pileupgen.zoo.vae import N_EVENT, N_LOCAL, ImageVae

EVENTS_A_STEP = 16
KL, MMD, KEPT = 0.02, 5.0, 0.1
"""Weights of the divergence of an event's latents, a latent number; of their discrepancy in a
batch; and of what the post-processor changes."""
N_HIDDEN = 12
SHARE = 0.75
"""Part of the budget that trains autoencoder and critics; the rest is the post-processor's."""


class BibVae(ImageVae):
    """The encoder of a VAE, and a decoder that gives cells themselves, with noise of its own."""

    def __init__(
        self, shape: tuple[int, int, int], n_conditions: int, width: int = 20, *, is_ring: bool
    ) -> None:
        super().__init__(shape, n_conditions, width, is_ring=is_ring)
        n_layers, n_eta, _ = shape
        n_known = n_conditions + N_EVENT
        self.decoder = CellTrunk(
            N_LOCAL + n_layers, n_layers, n_known, n_eta, width, 2, is_ring=is_ring
        )

    def decoded(self, latents: Tensor, noise: Tensor, conditions: Tensor) -> Tensor:
        """Scores (N, L, n_eta, n_phi) from latents and a noise image, which it is at first."""
        spread, known = self.spread(latents, conditions)
        return noise + self.decoder(torch.cat([spread, noise], dim=1), known)


class PostProcessor(nn.Module):
    """A correction of every cell by itself; nothing at first.

    Parameters
    ----------
    shape : (int, int, int)
        L, n_eta, n_phi.
    n_conditions : int
    """

    def __init__(self, shape: tuple[int, int, int], n_conditions: int) -> None:
        super().__init__()
        n_layers, n_eta, _ = shape
        self.first = nn.Linear(1, N_HIDDEN)
        self.place = nn.Parameter(torch.zeros(n_layers, n_eta, 1, N_HIDDEN))
        self.condition = nn.Linear(n_conditions, N_HIDDEN)
        self.second = nn.Linear(N_HIDDEN, N_HIDDEN)
        self.last = nn.Linear(N_HIDDEN, 1)
        zero_(self.last)

    def forward(self, x: Tensor, conditions: Tensor) -> Tensor:
        """(N, L, n_eta, n_phi) and (N, k) to (N, L, n_eta, n_phi)."""
        hidden = self.first(x[..., None]) + self.place
        hidden = hidden + self.condition(conditions)[:, None, None, None]
        return x + self.last(F.silu(self.second(F.silu(hidden))))[..., 0]


class BibNetworks(nn.Module):
    """Autoencoder, its three critics and the post-processor."""

    def __init__(self, shape: tuple[int, int, int], n_conditions: int, *, is_ring: bool) -> None:
        super().__init__()
        self.vae = BibVae(shape, n_conditions, is_ring=is_ring)
        self.critic = Critic(shape[0], n_conditions, is_ring=is_ring)
        self.difference = Critic(2 * shape[0], n_conditions, is_ring=is_ring)
        self.latent = nn.Sequential(
            spectral_norm(nn.Linear(self.vae.n_latents, 32)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Linear(32, 1)),
        )
        self.post = PostProcessor(shape, n_conditions)


class BibAe(ImageSystem):
    """BIB-AE; option ``post``, whether events go through the post-processor, on."""

    citation = "Getting High, Buhmann et al. 2005.05334"
    known_options = ("post",)
    network: BibNetworks

    @property
    def _has_post(self) -> bool:
        return bool(self.options.get("post", True))

    @property
    def n_evaluations(self) -> int:
        """One of the decoder, and one of the post-processor."""
        return 1 + int(self._has_post)

    @property
    def n_parameters(self) -> int:
        """Trained numbers of what makes events: the decoder and the post-processor."""
        used = [self.network.vae.decoder, *([self.network.post] if self._has_post else [])]
        return sum(value.numel() for part in used for value in part.parameters())

    def make_network(self) -> BibNetworks:
        """All networks; the post-processor is trained whether it is used or not."""
        return BibNetworks(self.grid.shape, self.conditions.width, is_ring=self.grid.is_periodic)

    def train(self, sample: ZooSample, budget: Budget, seed: int) -> FitRecord:
        """Train autoencoder and critics in turns, then the post-processor on what they make."""
        images = sample.target
        scores = self.space.encode(images, images.mu, TARGET, seed)
        views = self.views(images)
        first, last = budget.shared(SHARE, "autoencoder")
        begun = self._train_vae(views, scores, first, seed)
        done = self._train_post(views, scores, last, seed + 1)
        if first.state is not None:
            first.state.unlink(missing_ok=True)
        return FitRecord(begun.steps + done.steps, begun.seconds + done.seconds, begun.losses)

    def _train_vae(self, views: Views, scores: Tensor, budget: Budget, seed: int) -> FitRecord:
        network, vae, seen = self.network, self.network.vae, dict[str, Tensor]()

        def of_vae(step: TrainingStep) -> Tensor:
            x, conditions = views.draw((scores,), EVENTS_A_STEP, step.rng)
            mean, log_variance = vae.encode(x, conditions)
            normal, prior = torch.randn((2, *mean.shape), generator=step.rng)
            latents = mean + torch.exp(0.5 * log_variance) * normal
            made = vae.decoded(latents, torch.randn(x.shape, generator=step.rng), conditions)
            differs = torch.cat([made, made - x], dim=1)
            loss = F.softplus(-network.critic(made, conditions)).mean()
            loss = loss + F.softplus(-network.difference(differs, conditions)).mean()
            loss = loss + F.softplus(-network.latent(latents)).mean()
            loss = loss + KL * gaussian_kl(mean, log_variance).mean() / mean.shape[1]
            seen.update(x=x, known=conditions, made=made.detach(), prior=prior)
            seen.update(latents=latents.detach())
            return loss + MMD * mmd(latents, prior)

        def of_critic(step: TrainingStep) -> Tensor:  # noqa: ARG001 - it sees the decoder's events
            both = torch.cat([seen["x"], seen["made"]])
            return _told_apart(network.critic(both, seen["known"].repeat(2, 1)))

        def of_difference(step: TrainingStep) -> Tensor:  # noqa: ARG001
            x, made = seen["x"], seen["made"]
            both = torch.cat([torch.cat([y, y - x], dim=1) for y in (x, made)])
            return _told_apart(network.difference(both, seen["known"].repeat(2, 1)))

        def of_latent(step: TrainingStep) -> Tensor:  # noqa: ARG001
            return _told_apart(network.latent(torch.cat([seen["prior"], seen["latents"]])))

        parts = [vae, network.critic, network.difference, network.latent]
        losses, rates = [of_vae, of_critic, of_difference, of_latent], [1e-3, *[2e-3] * 3]
        return train(network, parts, losses, budget, seed, rates=rates, momentum=0.5)

    def _train_post(self, views: Views, scores: Tensor, budget: Budget, seed: int) -> FitRecord:
        vae, post = self.network.vae, self.network.post

        def of_post(step: TrainingStep) -> Tensor:
            x, conditions = views.draw((scores,), EVENTS_A_STEP, step.rng)
            latents = torch.randn((len(x), vae.n_latents), generator=step.rng)
            with torch.no_grad():
                made = vae.decoded(latents, torch.randn(x.shape, generator=step.rng), conditions)
            after = post(made, conditions)
            rings = [y.permute(1, 2, 0, 3).flatten(2) for y in (after, x)]
            return sorted_distance(rings[0], rings[1]) + KEPT * (after - made).square().mean()

        return train(post, [post], [of_post], budget, seed, rates=[5e-3])

    def draw(self, conditions: Tensor, mu: Tensor, noise: EventNoise) -> Tensor:  # noqa: ARG002
        """Decode normal latents, and correct the cells if that is on."""
        vae = self.network.vae
        latents = noise.normal((vae.n_latents,))
        made: Tensor = vae.decoded(latents, noise.normal(self.grid.shape), conditions)
        return self.network.post(made, conditions) if self._has_post else made


def _told_apart(logit: Tensor) -> Tensor:
    """Loss of a critic, (); the first half of the logits (2 n, 1) are of what is real."""
    real, fake = logit[:, 0].chunk(2)
    return F.softplus(torch.cat([-real, fake])).mean()
