"""Each cell drawn from its marginal, independently: what every generator has to beat."""

from __future__ import annotations

from torch import Tensor, nn

from pileupgen.models.codec import EventNoise
from pileupgen.zoo.contract import Budget, ZooSample
from pileupgen.zoo.fitting import FitRecord
from pileupgen.zoo.image_system import ImageSystem


class Marginals(ImageSystem):
    """Independent cells, each with its distribution given ring, layer and μ."""

    citation = "none: the yardstick"
    takes_several = True

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
        """Nothing is left to learn once the quantiles are known."""
        return FitRecord(0, 0.0, ())

    def draw(self, conditions: Tensor, mu: Tensor, noise: EventNoise) -> Tensor:  # noqa: ARG002
        """Normal scores."""
        return noise.normal(self.grid.shape)
