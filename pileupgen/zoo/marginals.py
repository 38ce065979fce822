"""Each cell drawn from its marginal, independently: what every generator has to beat."""

from __future__ import annotations

from torch import Tensor

from pileupgen.models.codec import EventNoise
from pileupgen.zoo.image_system import ImageSystem
from pileupgen.zoo.untrained import Untrained


class Marginals(Untrained, ImageSystem):
    """Independent cells, each with its distribution given ring, layer and μ."""

    citation = "none: the yardstick"
    takes_several = True

    def draw(self, conditions: Tensor, mu: Tensor, noise: EventNoise) -> Tensor:  # noqa: ARG002
        """Normal scores."""
        return noise.normal(self.grid.shape)
