"""CaloClouds: points by themselves, given a latent vector of the event (Buhmann et al. 2305.04847).

An encoder of EPiC layers finds a latent vector of a set; given it, each point is denoised by itself
(DDPM, 2006.11239, T = 100 steps), as in Luo & Hu 2103.01458. The loss is the denoiser's, and a
little of the latent's KL divergence; a flow of couplings, the "Latent Flow", learns the latents'
density given conditions. All three are trained together, here with an ε that has its closed form
for independent N(0, 1) points, to which the network adds.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from pileupgen.diffusion.schedule import cosine_betas
from pileupgen.errors import ConfigError
from pileupgen.models.codec import EventNoise
from pileupgen.zoo.contract import Budget, ZooSample
from pileupgen.zoo.fitting import FitRecord, TrainingStep, train
from pileupgen.zoo.flows import CouplingFlow
from pileupgen.zoo.layers import log_normal
from pileupgen.zoo.point_layers import N_TIMES, EpicNet, PointwiseNet, mean_of_points, time_features
from pileupgen.zoo.point_system import PointSystem

T = 100
EVENTS_A_STEP, POINTS_A_STEP = 24, 160
"""Events of a step, and points of each at most: those of one event are independent."""
N_LATENTS = 8
KL_WEIGHT = 1e-3
"""Weight of the latents' KL divergence, as in the paper."""


class CloudNets(nn.Module):
    """Encoder of sets, denoiser of points and flow of latents."""

    def __init__(self, n_features: int, n_known: int) -> None:
        super().__init__()
        self.encoder = EpicNet(n_features, 0, n_known, n_judged=2 * N_LATENTS, width=32)
        self.denoiser = PointwiseNet(n_features, n_known + N_LATENTS + N_TIMES)
        self.flow = CouplingFlow(
            (N_LATENTS, 1, 1), n_known, is_spline=False, is_ring=False, n_couplings=6, width=32
        )


class CaloClouds(PointSystem):
    """Latent vector and independent points; option ``steps`` of the denoiser, 100 at most."""

    citation = "CaloClouds, Buhmann et al. 2305.04847"
    known_options = ("steps", *PointSystem.known_options)
    network: CloudNets

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if not 1 <= self._n_steps <= T:
            raise ConfigError(f"{self._n_steps} steps.", f"Give 1 to {T}.")

    @property
    def _n_steps(self) -> int:
        return int(self.options.get("steps", T))

    @property
    def n_evaluations(self) -> int:
        """One a step of the denoiser, and one a coupling of the latents' flow."""
        return self._n_steps + len(self.network.flow.nets)

    @property
    def n_parameters(self) -> int:
        """Trained numbers of denoiser and flow, which make events."""
        parts = self.network.denoiser, self.network.flow
        return sum(value.numel() for part in parts for value in part.parameters())

    def make_network(self) -> CloudNets:
        """All three."""
        return CloudNets(self.space.n_features, self.n_known)

    def train(self, sample: ZooSample, budget: Budget, seed: int) -> FitRecord:
        """Train encoder and denoiser, then the flow on the latents they agreed on, in turns."""
        views, network, (alpha, sigma) = self.views(sample.target), self.network, schedule()
        n = self.a_step(EVENTS_A_STEP)
        places = torch.arange(n) / n
        latents: list[Tensor] = []

        def of_points(step: TrainingStep) -> Tensor:
            x, mask, known = views.draw(n, step.rng, POINTS_A_STEP)
            mean, log_variance = network.encoder.judge(x, mask, known).chunk(2, dim=1)
            log_variance = log_variance.clamp(-8, 4)
            normal = torch.randn(mean.shape, generator=step.rng)
            latent = mean + torch.exp(0.5 * log_variance) * normal
            latents[:] = [latent.detach(), known]
            u = (torch.rand(1, generator=step.rng) + places) % 1
            t = (u * T).long().clamp_max(T - 1)
            eps = torch.randn(x.shape, generator=step.rng)
            x_t = alpha[t][:, None, None] * x + sigma[t][:, None, None] * eps
            missed = (self._noise_in(x_t, t, torch.cat([known, latent], dim=1)) - eps).square()
            kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1).mean()
            return mean_of_points(missed, mask) + KL_WEIGHT * kl

        def of_latents(step: TrainingStep) -> Tensor:  # noqa: ARG001 - it sees the encoder's
            latent, known = latents
            z, gained = network.flow(latent[:, :, None, None], known)
            return -(log_normal(z) + gained).mean() / N_LATENTS

        parts = [nn.ModuleList([network.encoder, network.denoiser]), network.flow]
        losses = [of_points, of_latents]
        return train(network, parts, losses, budget, seed, rates=[3e-3, 2e-3])

    def _noise_in(self, x: Tensor, t: Tensor, known: Tensor) -> Tensor:
        """Mean of ε given x_t at steps (N,): σ x_t for N(0, 1) points, and what is learned."""
        alpha, sigma = schedule()
        shown = torch.cat([known, time_features(2 * t / T - 1)], dim=1)
        s, a = sigma[t][:, None, None], alpha[t][:, None, None]
        return s * x + a * self.network.denoiser(x, shown)

    def draw(self, mask: Tensor, known: Tensor, noise: EventNoise) -> Tensor:
        """Latents from their flow, then the ancestral steps of DDPM (2006.11239, algorithm 2)."""
        latent = self.network.flow.inverse(noise.normal((N_LATENTS, 1, 1)), known)[:, :, 0, 0]
        shown, (alpha, sigma) = torch.cat([known, latent], dim=1), schedule()
        shape = mask.shape[1], self.space.n_features
        x = noise.normal(shape)
        times = torch.linspace(T - 1, -1, self._n_steps + 1).round().long().tolist()
        for now, then in pairwise(times):
            t = torch.full((len(x),), now)
            eps = self._noise_in(x, t, shown)
            if then < 0:
                return (x - sigma[now] * eps) / alpha[now]
            ratio = alpha[now] / alpha[then]
            x = (x - (1 - ratio.square()) / sigma[now] * eps) / ratio
            # The posterior's variance; for single steps (1 − ᾱ_{t−1}) / (1 − ᾱ_t) β_t.
            spread = sigma[then] / sigma[now] * (1 - ratio.square()).sqrt()
            x = x + spread * noise.normal(shape)
        raise AssertionError("the last step ends before the first level")


@cache
def schedule() -> tuple[Tensor, Tensor]:
    """√ᾱ_t and √(1 − ᾱ_t) of the cosine schedule (2102.09672), (T,) each."""
    betas = torch.tensor(cosine_betas(T), dtype=torch.float64)
    bar = torch.cumprod(1 - betas, 0)
    return bar.sqrt().float(), (1 - bar).sqrt().float()
