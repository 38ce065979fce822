"""The local denoiser where events have several conditions, and cells of a ring differ."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pileupgen.models.networks.local import LocalDenoiser
from pileupgen.zoo.layers import PlacedModule


class InformedDenoiser(LocalDenoiser, PlacedModule):
    """The local denoiser, told further conditions than μ.

    Where it asks for μ it takes (N, 1 + m): μ, and m numbers of :class:`ConditionInput`, which are
    added to the embedding of time and μ.
    """

    def __init__(
        self, n_layers: int, n_eta: int, n_phi: int, n_blocks: int = 4, *, n_told: int
    ) -> None:
        super().__init__(n_layers, n_eta, n_phi, n_blocks=n_blocks, mirror=False)
        n_known = self.condition.second.out_features
        self.told = nn.Linear(n_told, n_known)

    def residual(
        self,
        x_t: Tensor,
        t: Tensor,
        label: Tensor,
        mu: Tensor,
        x_0: Tensor,
        source: Tensor | None = None,
    ) -> Tensor:
        """The network's correction; ``mu`` as the class says."""
        condition = self.condition(t, label, mu[:, 0]) + self.told(mu[:, 1:].nan_to_num())
        return self._correction(torch.cat([x_t, x_0], dim=1), condition, source)

    def tell_places(self, n_phi: int) -> None:  # noqa: ARG002 - its own image may be wider
        """Let it tell the cells of a ring apart, too."""
        super().tell_places(self.field.width)
