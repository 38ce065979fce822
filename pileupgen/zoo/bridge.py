"""A bridge from simulation to data, and from noise to data: flow matching between samples.

Straight lines x_t = (1 − t) x_0 + t x_1 join events of the source, or noise, at t = 0 with events
of the target at t = 1; a network learns their mean velocity at (x_t, t), whose flow carries one
distribution into the other (rectified flow, Liu et al. 2209.03003; stochastic interpolants,
Albergo et al. 2303.08797; pairs by optimal transport within a batch, Tong et al. 2302.00482).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from pileupgen.errors import ConfigError
from pileupgen.models.codec import EventNoise
from pileupgen.samples.store import Images
from pileupgen.zoo.contract import Budget, ZooSample
from pileupgen.zoo.fitting import FitRecord, TrainingStep, train
from pileupgen.zoo.image_system import SOURCE, TARGET, ImageSystem
from pileupgen.zoo.layers import CellTrunk

EVENTS_A_STEP = 16
"""Events of either start in a step."""
N_WAVES = 4
"""Frequencies in which a network is told the time."""


class BridgeVelocity(nn.Module):
    """BridgeVelocity of an event at a time, given where it started; 0 at first.

    Parameters
    ----------
    shape : (int, int, int)
        L, n_eta, n_phi.
    n_conditions : int
    is_ring : bool
        Whether φ closes to a full turn.
    """

    def __init__(self, shape: tuple[int, int, int], n_conditions: int, *, is_ring: bool) -> None:
        super().__init__()
        n_layers, n_eta, _ = shape
        n_known = n_conditions + 2 * N_WAVES + 1
        self.trunk = CellTrunk(n_layers, 2 * n_layers, n_known, n_eta, 32, 3, is_ring=is_ring)

    def forward(self, x: Tensor, t: Tensor, is_source: Tensor, conditions: Tensor) -> Tensor:
        """(N, L, n_eta, n_phi), (N,), (N,) and (N, n_conditions) to (N, L, n_eta, n_phi)."""
        angle = math.pi * t[:, None] * torch.arange(1, N_WAVES + 1)
        known = [conditions, angle.cos(), angle.sin(), is_source[:, None]]
        offset, scale = self.trunk(x, torch.cat(known, dim=1)).chunk(2, dim=1)
        return offset + scale * x


class Bridge(ImageSystem):
    """A flow from the source's events, or from noise, to the target's; option ``steps``, 8."""

    citation = "Liu et al. 2209.03003; Albergo et al. 2303.08797; OT-CFM, Tong et al. 2302.00482"
    can_translate = True
    known_options = ("steps",)
    network: BridgeVelocity

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if self._n_steps < 1:
            raise ConfigError(f"A flow of {self._n_steps} steps.", "Give at least 1.")

    @property
    def _n_steps(self) -> int:
        return int(self.options.get("steps", 8))

    @property
    def n_evaluations(self) -> int:
        """Two a step of the midpoint rule."""
        return 2 * self._n_steps

    def make_network(self) -> BridgeVelocity:
        """One network for both starts."""
        return BridgeVelocity(self.grid.shape, self.conditions.width, is_ring=self.grid.is_periodic)

    def train(self, sample: ZooSample, budget: Budget, seed: int) -> FitRecord:
        """Minimise the mean squared error of the velocity along lines between paired events."""
        domains = {TARGET: sample.target}
        if sample.source is not None:
            domains[SOURCE] = sample.source
        scores = {d: self.space.encode(one, one.mu, d, seed) for d, one in domains.items()}
        views = {d: self.views(one) for d, one in domains.items()}
        starts = [False] if sample.source is None else [False, True]
        # Times are spread evenly over a batch, for a loss of less variance.
        places = torch.arange(EVENTS_A_STEP) / EVENTS_A_STEP

        def loss(step: TrainingStep) -> Tensor:
            total = torch.zeros(())
            for is_source in starts:
                drawn = views[TARGET].draw((scores[TARGET],), EVENTS_A_STEP, step.rng)
                end, conditions = drawn
                if is_source:
                    begin, of_begin = views[SOURCE].draw((scores[SOURCE],), len(end), step.rng)
                    order = _paired(begin, of_begin, end, conditions)
                    end, conditions = end[order], conditions[order]
                else:
                    begin = torch.randn(end.shape, generator=step.rng)
                t = (torch.rand(1, generator=step.rng) + places) % 1
                at = t[:, None, None, None]
                flag = torch.full((len(end),), float(is_source))
                found = self.network((1 - at) * begin + at * end, t, flag, conditions)
                total = total + (found - (end - begin)).square().mean()
            return total / len(starts)

        return train(self.network, [self.network], [loss], budget, seed, rates=[3e-3])

    def draw(self, conditions: Tensor, mu: Tensor, noise: EventNoise) -> Tensor:  # noqa: ARG002
        """Follow the flow from noise."""
        return self._followed(noise.normal(self.grid.shape), 0.0, conditions)

    def move(self, images: Images, mu: Tensor, seed: int) -> Tensor:
        """Follow the flow from source events."""
        start = self.space.encode(images, mu.numpy(), SOURCE, seed)
        return self._followed(start, 1.0, self.conditions(mu[:, None]))

    def _followed(self, x: Tensor, is_source: float, conditions: Tensor) -> Tensor:
        flag = torch.full((len(x),), is_source)
        for now, then in pairwise(torch.linspace(0, 1, self._n_steps + 1)):
            half = (then - now) / 2
            first = self.network(x, now.expand(len(x)), flag, conditions)
            middle = (now + half).expand(len(x))
            x = x + 2 * half * self.network(x + half * first, middle, flag, conditions)
        return x


def _paired(begin: Tensor, of_begin: Tensor, end: Tensor, of_end: Tensor) -> Tensor:
    """Which end each beginning goes to, so that squares of distances are least in sum, (n,).

    Conditions count as much as cells do, so that events are led to events of their own μ.
    """
    n_cells = begin[0].numel()
    cost = torch.cdist(begin.flatten(1), end.flatten(1)).square()
    cost = cost + n_cells * torch.cdist(of_begin, of_end).square()
    return torch.from_numpy(linear_sum_assignment(cost.double().numpy())[1])
