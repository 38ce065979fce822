"""Diffusion on images, with the project's own denoiser.

The network is :class:`~pileupgen.models.networks.local.LocalDenoiser`: the closed form of the
stationary Gaussian field and small convolutions that correct it. It goes around in φ; where φ is no
full turn, a margin of independent cells keeps both ends apart.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor

from pileupgen.diffusion.schedule import cosine_betas
from pileupgen.errors import ConfigError, TrainingError
from pileupgen.models.codec import EventNoise
from pileupgen.models.networks.layers import standardise_conditions
from pileupgen.models.networks.local import LocalDenoiser
from pileupgen.samples.weights import rows_by_weight
from pileupgen.zoo.attention import AttentiveDenoiser
from pileupgen.zoo.contract import Budget, ZooSample
from pileupgen.zoo.fitting import FitRecord, TrainingStep, train
from pileupgen.zoo.image_system import TARGET, ImageSystem
from pileupgen.zoo.informed import InformedDenoiser
from pileupgen.zoo.scores import Views

T = 1000
EVENTS_A_STEP = 16
SHIFT = 2.25
"""Shift of the cosine schedule, as the demo has it."""
MARGIN = 8
"""Columns of N(0, 1) that close a grid to a ring where φ is no full turn: more than convolutions
see."""


class Ddpm(ImageSystem):
    """Denoising diffusion (Ho et al. 2006.11239) with v-prediction.

    Options: ``schedule``, ``"cosine"`` (Nichol & Dhariwal 2102.09672) or ``"linear"`` (from 1e-4 to
    0.02); ``sampler``, ``"ddpm"`` (ancestral) or ``"ddim"`` (Song et al. 2010.02502, η = 0);
    ``steps``, 50 if not given; ``conditional``, whether the network is told μ, on; ``attention``,
    whether blocks attend to each other, to time and to μ (cross-attention, Rombach et al.
    2112.10752), off.

    Raises
    ------
    ConfigError
        If there is no such schedule or sampler, or no step.
    """

    citation = "Ho, Jain & Abbeel 2006.11239; DDIM, Song, Meng & Ermon 2010.02502"
    known_options: ClassVar[tuple[str, ...]] = (
        *("schedule", "sampler", "steps"),
        *("conditional", "attention"),
    )
    takes_several = True
    network: LocalDenoiser

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name, known in (("schedule", ("cosine", "linear")), ("sampler", ("ddpm", "ddim"))):
            given = options.get(name, known[0])
            if given not in known:
                raise ConfigError(f"There is no {name} '{given}'.", f"Known: {', '.join(known)}.")
        if self._n_steps < 1:
            raise ConfigError(f"A sampler of {self._n_steps} steps.", "Give at least 1.")

    @property
    def _n_steps(self) -> int:
        return int(self.options.get("steps", 50))

    @property
    def n_evaluations(self) -> int:
        """One a step."""
        return self._n_steps

    def make_network(self) -> LocalDenoiser:
        """The local denoiser; its field is fitted in :meth:`train`."""
        has_attention = self.options.get("attention", False)
        if self._has_several:
            if has_attention:
                raise TrainingError(
                    "Attention is for one condition; these events have several.", "Choose ddim."
                )
            return InformedDenoiser(*self._shape, n_told=self.conditions.width)
        kind = AttentiveDenoiser if has_attention else LocalDenoiser
        mirror = self.symmetry.phi and self.symmetry.eta
        return kind(*self._shape, n_blocks=4, mirror=mirror)

    @property
    def _has_several(self) -> bool:
        """Whether events have more conditions than the first."""
        return len(self.names) > 1

    def _told(self, conditions: Tensor, mu: Tensor) -> Tensor:
        """What the network is told where it asks for μ: μ, (N,), or that and all, (N, 1 + 2 k)."""
        return torch.cat([mu[:, None], conditions], dim=1) if self._has_several else mu

    @property
    def _shape(self) -> tuple[int, int, int]:
        """Shape of what the network sees: the grid's, with the margin if there is one."""
        grid = self.grid
        is_closed = grid.is_periodic or grid.n_phi == 1
        return grid.n_layers, grid.n_eta, grid.n_phi + (0 if is_closed else MARGIN)

    def _closed(self, z: Tensor, rng: torch.Generator) -> Tensor:
        """Scores with their margin, drawn anew."""
        n = self._shape[2] - z.shape[3]
        return torch.cat([z, torch.randn((*z.shape[:3], n), generator=rng)], dim=3) if n else z

    def train(self, sample: ZooSample, budget: Budget, seed: int) -> FitRecord:
        """Fit the field, then the correction to it."""
        images, network = sample.target, self.network
        scores = self.space.encode(images, images.mu, TARGET, seed)
        by_weight = scores[torch.from_numpy(rows_by_weight(images.weight))]
        by_weight = self._closed(by_weight, torch.Generator().manual_seed(seed))
        network.field.fit([by_weight, by_weight], mirror_eta=self.symmetry.eta, has_pooled=False)
        mu = torch.from_numpy(images.mu)
        standardise_conditions(network, mu)
        told = self._told(self.shown(images), mu)
        views = Views(self.grid, self.symmetry, told.view(len(mu), -1), images.weight)
        # Times are spread evenly over a batch, for a loss of less variance.
        places = torch.arange(EVENTS_A_STEP) / EVENTS_A_STEP

        def loss(step: TrainingStep) -> Tensor:
            z, of_events = views.draw((scores,), EVENTS_A_STEP, step.rng)
            z = self._closed(z, step.rng)
            eps = torch.randn(z.shape, generator=step.rng)
            u = (torch.rand(1, generator=step.rng) + places) % 1
            return self.loss(z, eps, u, of_events if self._has_several else of_events[:, 0])

        return train(network, [network], [loss], budget, seed, rates=[4e-3])

    def loss(self, z: Tensor, eps: Tensor, u: Tensor, mu: Tensor) -> Tensor:
        """Mean squared error of the velocity; u, (N,), are places in [0, 1) along the way."""
        t = (u * T).long().clamp_max(T - 1)
        alpha, sigma = self._alpha_sigma()
        a, s = alpha[t][:, None, None, None], sigma[t][:, None, None, None]
        found = self._velocity(a * z + s * eps, t, mu, alpha[t], sigma[t])
        return self._of_grid(found - (a * eps - s * z)).square().mean()

    def _of_grid(self, x: Tensor) -> Tensor:
        """Leave the margin out."""
        return x[..., : self.grid.n_phi]

    def _alpha_sigma(self) -> tuple[Tensor, Tensor]:
        """√ᾱ_t and √(1 − ᾱ_t), (T,)."""
        if self.options.get("schedule", "cosine") == "linear":
            betas = torch.linspace(1e-4, 0.02, T, dtype=torch.float64)
        else:
            betas = torch.tensor(cosine_betas(T, shift=SHIFT), dtype=torch.float64)
        bar = torch.cumprod(1 - betas, 0)
        return bar.sqrt().float(), (1 - bar).sqrt().float()

    @property
    def _denoiser(self) -> LocalDenoiser:
        return self.network

    def _velocity(self, x: Tensor, t: Tensor, mu: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        label = torch.full((len(x),), TARGET)
        if not self.options.get("conditional", True):
            mu = torch.full_like(mu, torch.nan)
        return self._denoiser(x, t, label, mu, torch.zeros_like(x), alpha, sigma)

    def draw(self, conditions: Tensor, mu: Tensor, noise: EventNoise) -> Tensor:
        """Denoise from t = T − 1 in even steps."""
        mu = self._told(conditions, mu)
        alpha, sigma = self._alpha_sigma()
        times = torch.linspace(T - 1, 0, self._n_steps + 1).round().long()
        x = noise.normal(self._shape)
        is_ancestral = self.options.get("sampler", "ddim") == "ddpm"
        for now, then in pairwise(times.tolist()):
            own = torch.full((len(x),), now)
            v = self._velocity(x, own, mu, alpha[own], sigma[own])
            z, eps = alpha[now] * x - sigma[now] * v, sigma[now] * x + alpha[now] * v
            if then == 0:
                return self._of_grid(z)
            fresh = 0.0
            if is_ancestral:
                # Eq. 16 of 2010.02502 with η = 1.
                ratio = alpha[now] / alpha[then]
                fresh = float(sigma[then] / sigma[now] * (1 - ratio.square()).clamp_min(0).sqrt())
            left = math.sqrt(max(float(sigma[then]) ** 2 - fresh**2, 0.0))
            x = alpha[then] * z + left * eps
            if fresh:
                x = x + fresh * noise.normal(self._shape)
        return self._of_grid(x)
