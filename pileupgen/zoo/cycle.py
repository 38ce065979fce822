"""Cycle translation: there and back without pairs (Zhu et al. 1703.10593).

Two networks carry source events to target-like ones and back; critics judge what they make, and
what goes there and back should be the event it was. After UVCGAN (Torbunov et al. 2203.02557),
whose networks join convolutions and attention between patches; its pretraining on masked images
and its gradient penalty are left out, its U-Net is a few residual convolutions here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pileupgen.samples.store import Images
from pileupgen.zoo.attention import BlockAttention, Morph
from pileupgen.zoo.contract import Budget, ZooSample
from pileupgen.zoo.fitting import FitRecord, TrainingStep, train
from pileupgen.zoo.gan import Critic
from pileupgen.zoo.image_system import SOURCE, TARGET, ImageSystem
from pileupgen.zoo.layers import CellTrunk

EVENTS_A_STEP = 16
WIDTH, N_BLOCKS = 20, 2


class Cycle(ImageSystem):
    """Cycle-consistent adversarial translation.

    Options: ``cycle``, weight of what is lost there and back, 10; ``identity``, weight of what a
    network changes in events that are of its target already, 5.
    """

    citation = "CycleGAN, Zhu et al. 1703.10593; UVCGAN, Torbunov et al. 2203.02557"
    can_generate = False
    can_translate = True
    known_options = ("cycle", "identity")
    network: nn.ModuleDict

    @property
    def n_evaluations(self) -> int:
        """One, of the network that goes there."""
        return 1

    @property
    def n_parameters(self) -> int:
        """Trained numbers of the network that goes there."""
        return sum(value.numel() for value in self.network["there"].parameters())

    def make_network(self) -> nn.ModuleDict:
        """Both ways, and a critic of each."""
        shape, n, is_ring = self.grid.shape, self.conditions.width, self.grid.is_periodic
        return nn.ModuleDict(
            {
                "there": make_morph(shape, n, is_ring=is_ring),
                "back": make_morph(shape, n, is_ring=is_ring),
                "of_target": Critic(shape[0], n, is_ring=is_ring),
                "of_source": Critic(shape[0], n, is_ring=is_ring),
            }
        )

    def train(self, sample: ZooSample, budget: Budget, seed: int) -> FitRecord:
        """Train both ways together, then both critics, in turns."""
        assert sample.source is not None
        domains = {SOURCE: sample.source, TARGET: sample.target}
        scores = {d: self.space.encode(one, one.mu, d, seed) for d, one in domains.items()}
        views = {d: self.views(one) for d, one in domains.items()}
        there, back = self.network["there"], self.network["back"]
        critics = {TARGET: self.network["of_target"], SOURCE: self.network["of_source"]}
        cycle = float(self.options.get("cycle", 10.0))
        identity = float(self.options.get("identity", 5.0))
        seen: dict[int, tuple[Tensor, Tensor, Tensor, Tensor]] = {}

        def of_ways(step: TrainingStep) -> Tensor:
            x, of_x = views[SOURCE].draw((scores[SOURCE],), EVENTS_A_STEP, step.rng)
            y, of_y = views[TARGET].draw((scores[TARGET],), EVENTS_A_STEP, step.rng)
            like_y, like_x = there(x, of_x), back(y, of_y)
            loss = F.softplus(-critics[TARGET](like_y, of_x)).mean()
            loss = loss + F.softplus(-critics[SOURCE](like_x, of_y)).mean()
            lost = lost_on_the_way(there, back, x, of_x) + lost_on_the_way(back, there, y, of_y)
            kept = (there(y, of_y) - y).abs().mean() + (back(x, of_x) - x).abs().mean()
            seen[TARGET] = y, of_y, like_y.detach(), of_x
            seen[SOURCE] = x, of_x, like_x.detach(), of_y
            return loss + cycle * lost + identity * kept

        def of_critic(domain: int) -> Tensor:
            real, of_real, fake, of_fake = seen[domain]
            logit = critics[domain](torch.cat([real, fake]), torch.cat([of_real, of_fake]))[:, 0]
            n = len(real)
            return F.softplus(torch.cat([-logit[:n], logit[n:]])).mean()

        parts = [nn.ModuleList([there, back]), critics[TARGET], critics[SOURCE]]
        losses = [of_ways, lambda _: of_critic(TARGET), lambda _: of_critic(SOURCE)]
        rates = [1e-3, 2e-3, 2e-3]
        return train(self.network, parts, losses, budget, seed, rates=rates, momentum=0.5)

    def move(self, images: Images, mu: Tensor, seed: int) -> Tensor:
        """One pass of the network that goes there."""
        scores = self.space.encode(images, mu.numpy(), SOURCE, seed)
        moved: Tensor = self.network["there"](scores, self.conditions(mu[:, None]))
        return moved


def lost_on_the_way(go: nn.Module, come: nn.Module, x: Tensor, conditions: Tensor) -> Tensor:
    """Mean |change| of events that go and come back, of shape ()."""
    lost: Tensor = (come(go(x, conditions), conditions) - x).abs().mean()
    return lost


def make_morph(shape: tuple[int, int, int], n_conditions: int, *, is_ring: bool) -> Morph:
    """A network from images to images, which changes nothing at first."""
    n_layers, n_eta, n_phi = shape
    trunk = CellTrunk(n_layers, n_layers, n_conditions, n_eta, WIDTH, N_BLOCKS, is_ring=is_ring)
    return Morph(trunk, BlockAttention(n_layers, n_layers, n_eta, n_phi, n_conditions))
