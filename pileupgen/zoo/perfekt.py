"""Regression from one detector to another where pairs exist (Fast Perfekt, Wolf et al. 2410.15992).

A residual network moves a source event, without noise, to where the same event is in the target.
Two terms teach it: the squared difference of each pair, and the maximum mean discrepancy between
moved and target events, which a mean over what a pair may become does not keep small. Here it is
that of a few numbers of an event, as the original's is of a jet's, and its weight rises linearly in
the training; the original has a schedule of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pileupgen.samples.store import Images
from pileupgen.zoo.attention import Morph
from pileupgen.zoo.contract import Budget, ZooSample
from pileupgen.zoo.cycle import make_morph
from pileupgen.zoo.divergences import mmd
from pileupgen.zoo.fitting import FitRecord, TrainingStep, train
from pileupgen.zoo.image_system import SOURCE, TARGET, ImageSystem

EVENTS_A_STEP = 32


class Perfekt(ImageSystem):
    """Regression on pairs and an ensemble term.

    Options: ``pairs``, weight of the squared differences, 1; ``ensemble``, weight of the
    discrepancy at the end of the training, 10.
    """

    citation = "Fast Perfekt, Wolf et al. 2410.15992"
    can_generate = False
    can_translate = True
    needs_pairs = True
    known_options = ("pairs", "ensemble")
    network: Morph

    @property
    def n_evaluations(self) -> int:
        """One."""
        return 1

    def make_network(self) -> Morph:
        """One residual network."""
        n = self.conditions.width
        return make_morph(self.grid.shape, n, is_ring=self.grid.is_periodic)

    def train(self, sample: ZooSample, budget: Budget, seed: int) -> FitRecord:
        """Minimise both terms on turned and mirrored pairs."""
        assert sample.source is not None
        before = self.space.encode(sample.source, sample.source.mu, SOURCE, seed)
        after = self.space.encode(sample.target, sample.target.mu, TARGET, seed)
        views = self.views(sample.target)
        of_pairs = float(self.options.get("pairs", 1.0))
        ensemble = float(self.options.get("ensemble", 10.0))

        def loss(step: TrainingStep) -> Tensor:
            x, y, conditions = views.draw((before, after), EVENTS_A_STEP, step.rng)
            moved = self.network(x, conditions)
            found = of_pairs * (moved - y).square().mean()
            return found + ensemble * step.progress * mmd(numbers_of(moved), numbers_of(y))

        return train(self.network, [self.network], [loss], budget, seed, rates=[2e-3])

    def move(self, images: Images, mu: Tensor, seed: int) -> Tensor:
        """One pass."""
        scores = self.space.encode(images, mu.numpy(), SOURCE, seed)
        moved: Tensor = self.network(scores, self.conditions(mu[:, None]))
        return moved


def numbers_of(x: Tensor) -> Tensor:
    """What an event is judged by, (N, 4 L): of order 1, each layer for itself.

    Mean and spread of cells, and products of neighbours in φ and in η.
    """
    n = (x.shape[2] * x.shape[3]) ** 0.5
    along_phi, along_eta = x * x.roll(1, 3), x[:, :, 1:] * x[:, :, :-1]
    parts = [x.mean(dim=(2, 3)), x.square().mean(dim=(2, 3)) - 1, along_phi.mean(dim=(2, 3))]
    parts.append(along_eta.sum(dim=(2, 3)) / (n * n))
    return torch.cat(parts, dim=1) * n / 4
