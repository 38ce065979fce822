"""Each point drawn from the marginals, independently: what every system of points has to beat."""

from __future__ import annotations

from torch import Tensor, nn

from pileupgen.models.codec import EventNoise
from pileupgen.zoo.contract import Budget, ZooSample
from pileupgen.zoo.fitting import FitRecord
from pileupgen.zoo.point_system import PointSystem


class PointMarginals(PointSystem):
    """Independent points, as many and of as much energy as are drawn given the conditions."""

    citation = "none: the yardstick of sets"

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

    def draw(self, mask: Tensor, known: Tensor, noise: EventNoise) -> Tensor:  # noqa: ARG002
        """Normal scores."""
        return noise.normal((mask.shape[1], self.space.n_features))
