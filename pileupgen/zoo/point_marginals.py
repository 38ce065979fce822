"""Each point drawn from the marginals, independently: what every system of points has to beat."""

from __future__ import annotations

from torch import Tensor

from pileupgen.models.codec import EventNoise
from pileupgen.zoo.point_system import PointSystem
from pileupgen.zoo.untrained import Untrained


class PointMarginals(Untrained, PointSystem):
    """Independent points, as many and of as much energy as are drawn given the conditions."""

    citation = "none: the yardstick of sets"

    def draw(self, mask: Tensor, known: Tensor, noise: EventNoise) -> Tensor:  # noqa: ARG002
        """Normal scores."""
        return noise.normal((mask.shape[1], self.space.n_features))
