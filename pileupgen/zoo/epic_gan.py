"""EPiC-GAN: a generator and a critic of EPiC layers (Buhmann et al. 2301.08128).

A normal number for each coordinate of each point, and a normal vector of the event, become a set; a
critic that pools over points judges it, with the loss of least squares (1611.04076) as in the
paper. The generator moves its noise: at first points are independent, with the right marginals.
The paper draws the number of points from a kernel density of the jets' type; here it follows from
the event's conditions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pileupgen.models.codec import EventNoise
from pileupgen.zoo.contract import Budget, ZooSample
from pileupgen.zoo.fitting import FitRecord, TrainingStep, train
from pileupgen.zoo.point_layers import EpicNet
from pileupgen.zoo.point_system import PointSystem

EVENTS_A_STEP = 12
N_NOISE = 10
"""Normal numbers of an event, as in the paper."""


class SetGan(nn.Module):
    """Generator and critic."""

    def __init__(self, n_features: int, n_known: int) -> None:
        super().__init__()
        self.generator = EpicNet(n_features, n_features, n_known, n_noise=N_NOISE)
        self.critic = EpicNet(n_features, 0, n_known, n_judged=1)


class EpicGan(PointSystem):
    """Generator and critic of sets."""

    citation = "EPiC-GAN, Buhmann et al. 2301.08128"
    network: SetGan

    @property
    def n_evaluations(self) -> int:
        """One, of the generator."""
        return 1

    @property
    def n_parameters(self) -> int:
        """Trained numbers of the generator, which makes events."""
        return sum(value.numel() for value in self.network.generator.parameters())

    def make_network(self) -> SetGan:
        """Both."""
        return SetGan(self.space.n_features, self.n_known)

    def train(self, sample: ZooSample, budget: Budget, seed: int) -> FitRecord:
        """Train critic and generator in turns."""
        views, network = self.views(sample.target), self.network
        n = self.a_step(EVENTS_A_STEP)
        events: list[Tensor] = []

        def of_generator(step: TrainingStep) -> Tensor:
            real, mask, known = views.draw(n, step.rng)
            noise = torch.randn(real.shape, generator=step.rng)
            event = torch.randn(len(real), N_NOISE, generator=step.rng)
            fake = self._moved(noise, mask, known, event)
            events[:] = [real, fake.detach(), mask, known]
            return (network.critic.judge(fake, mask, known) - 1).square().mean()

        def of_critic(step: TrainingStep) -> Tensor:  # noqa: ARG001 - it sees the generator's sets
            real, fake, mask, known = events
            judged = network.critic.judge(
                torch.cat([real, fake]), mask.repeat(2, 1), known.repeat(2, 1)
            )
            wanted = torch.cat([torch.ones(len(real), 1), torch.zeros(len(fake), 1)])
            return (judged - wanted).square().mean()

        parts, losses = [network.generator, network.critic], [of_generator, of_critic]
        return train(network, parts, losses, budget, seed, rates=[5e-4, 1e-3], momentum=0.5)

    def _moved(self, noise: Tensor, mask: Tensor, known: Tensor, event: Tensor) -> Tensor:
        moved = noise + self.network.generator(noise, mask, known, event)
        return torch.where(mask[..., None], moved, 0.0)

    def draw(self, mask: Tensor, known: Tensor, noise: EventNoise) -> Tensor:
        """One pass of the generator."""
        points = noise.normal((mask.shape[1], self.space.n_features))
        return self._moved(points, mask, known, noise.normal((N_NOISE,)))
