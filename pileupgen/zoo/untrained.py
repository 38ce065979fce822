"""What the yardsticks have in common: there is no network, and nothing to train."""

from __future__ import annotations

from torch import nn

from pileupgen.zoo.base import FittedSystem
from pileupgen.zoo.contract import Budget, ZooSample
from pileupgen.zoo.fitting import FitRecord


class Untrained(FittedSystem):
    """A system that draws from the tables of its space alone."""

    @property
    def n_evaluations(self) -> int:
        """There is no network."""
        return 0

    def make_network(self) -> nn.Module:
        """None."""
        return nn.Module()

    def train(
        self,
        sample: ZooSample,  # noqa: ARG002
        budget: Budget,  # noqa: ARG002
        seed: int,  # noqa: ARG002
    ) -> FitRecord:
        """Nothing is left to learn once the tables are known."""
        return FitRecord(0, 0.0, ())
