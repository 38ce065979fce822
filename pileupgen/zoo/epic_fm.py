"""EPiC-FM: conditional flow matching with EPiC layers (Buhmann et al. 2310.00049).

Points go along straight lines from noise ε at t = 0 to data x at t = 1, x_t = t x + (1 − t) ε, and
the network learns their mean velocity x − ε (Lipman et al. 2210.02747, eq. 23, with σ_min = 0;
2310.00049, section 3). The velocity is that of independent N(0, 1) points, which has a closed form,
and what EPiC layers add. Sets are made by the midpoint rule, as in the paper.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pileupgen.errors import ConfigError
from pileupgen.models.codec import EventNoise
from pileupgen.zoo.contract import Budget, ZooSample
from pileupgen.zoo.fitting import FitRecord, TrainingStep, train
from pileupgen.zoo.point_layers import N_TIMES, EpicNet, mean_of_points, time_features
from pileupgen.zoo.point_system import PointSystem

EVENTS_A_STEP = 12


def normal_velocity(x: Tensor, t: Tensor) -> Tensor:
    """Mean velocity at x of lines from N(0, 1) to N(0, 1): E[x₁ − x₀ | x_t].

    x₁ − x₀ and x_t are normal, with covariance 2 t − 1 and variance t² + (1 − t)² of x_t.
    """
    return x * (2 * t - 1) / (t.square() + (1 - t).square())


class EpicFlow(PointSystem):
    """Flow matching on sets; option ``steps``, of two evaluations each."""

    citation = "EPiC-FM, Buhmann et al. 2310.00049"
    known_options = ("steps", *PointSystem.known_options)
    network: EpicNet

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if self._n_steps < 1:
            raise ConfigError(f"{self._n_steps} steps; at least one is needed.")

    @property
    def _n_steps(self) -> int:
        return int(self.options.get("steps", 10))

    @property
    def n_evaluations(self) -> int:
        """Two a step."""
        return 2 * self._n_steps

    def make_network(self) -> EpicNet:
        """EPiC layers that are told the time."""
        n = self.space.n_features
        return EpicNet(n, n, self.n_known + N_TIMES)

    def train(self, sample: ZooSample, budget: Budget, seed: int) -> FitRecord:
        """Fit the velocity at times spread evenly over a batch."""
        views, n = self.views(sample.target), self.a_step(EVENTS_A_STEP)
        places = torch.arange(n) / n

        def loss(step: TrainingStep) -> Tensor:
            x, mask, known = views.draw(n, step.rng)
            noise = torch.randn(x.shape, generator=step.rng)
            t = (torch.rand(1, generator=step.rng) + places) % 1
            part = t[:, None, None]
            missed = self.velocity(part * x + (1 - part) * noise, t, mask, known) - (x - noise)
            # Each point counts alike, as in the paper: a large set for more than a small one.
            return mean_of_points(missed.square(), mask)

        return train(self.network, [self.network], [loss], budget, seed, rates=[3e-3])

    def velocity(self, x: Tensor, t: Tensor, mask: Tensor, known: Tensor) -> Tensor:
        """Velocity of points (N, P, F) at times (N,); 0 where padded."""
        shown = torch.cat([known, time_features(2 * t - 1)], dim=1)
        found = normal_velocity(x, t[:, None, None]) + self.network(x, mask, shown)
        return torch.where(mask[..., None], found, 0.0)

    def draw(self, mask: Tensor, known: Tensor, noise: EventNoise) -> Tensor:
        """Follow the velocity from t = 0 to 1 by the midpoint rule."""
        x = noise.normal((mask.shape[1], self.space.n_features))
        width = 1 / self._n_steps
        for step in range(self._n_steps):
            begin = torch.full((len(x),), step * width)
            middle = x + width / 2 * self.velocity(x, begin, mask, known)
            x = x + width * self.velocity(middle, begin + width / 2, mask, known)
        return x
