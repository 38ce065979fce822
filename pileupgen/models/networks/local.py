"""The local denoiser: a small network on single cells, made for what showers do to neighbours."""

from __future__ import annotations

import math

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401 - a pipeline looks for it here
from torch import Tensor, nn
from torch.nn import functional as F

from pileupgen.models.field import StationaryField
from pileupgen.models.networks.denoiser import FieldDenoiser
from pileupgen.models.networks.layers import (
    ConditionEmbedding,
    patchify,
    unpatchify,
    wrapped,
    zero_,
)

N_STRIP_CHANNELS = 8
STRIP_RINGS = 17
"""Rings of a strip's mean: what noise common to a φ sector has in common."""


class LocalDenoiser(FieldDenoiser):
    """A few convolutions on cells that correct the closed form's own estimate.

    What is left after the closed form is mostly local: energy that leaks into neighbours, cells
    at the threshold. It is small against the noise of its target, so that the number of parameters
    decides how many events are needed to learn it. Hence few channels, kernels that are
    symmetric where the detector is, and the closed form's x̃_0 as an input, in the
    place of the network's own until that is fed back. Means along strips in η, and of the whole
    event, carry what is common to distant cells.

    Parameters
    ----------
    n_channels, height, width_phi : int
        Shape (C, H, W) of the latents.
    width : int
        Channels of the convolutions.
    n_blocks : int
        Residual blocks; half of them come after the strips' means.
    patch : (int, int)
        Latents are patches of p × q cells; the network works on the cells.
    mirror : bool
        Whether η and −η are alike, and both directions of φ: kernels are then symmetric.
    self_conditioned : bool
        Whether it is trained on its own x̃_0, too; else it is always shown the closed form's.
    """

    @register_to_config
    def __init__(
        self,
        n_channels: int,
        height: int,
        width_phi: int,
        width: int = 16,
        n_blocks: int = 5,
        patch: tuple[int, int] = (1, 1),
        mirror: bool = True,
        self_conditioned: bool = False,  # noqa: ARG002
    ) -> None:
        super().__init__()
        self.field = StationaryField(n_channels, height, width_phi, patch)
        n_cells, n_rings = self.field.n_channels, self.field.height
        condition = 3 * width
        self.mirror = mirror
        self.condition = ConditionEmbedding(condition)
        self.first = _Convolution(2 * n_cells, width, mirror)
        self.event = nn.Linear(2 * n_cells, width)
        self.ring = nn.Parameter(torch.zeros(width, (n_rings + 1) // 2 if mirror else n_rings, 1))
        self.blocks = nn.ModuleList(_LocalBlock(width, condition, mirror) for _ in range(n_blocks))
        self.squeeze = nn.Conv2d(width, N_STRIP_CHANNELS, 1)
        self.strip = _Convolution(2 * N_STRIP_CHANNELS, width, mirror)
        self.gate = nn.Linear(condition, width)
        self.last = nn.Conv2d(width, n_cells, 1)
        for begins_as_nothing in (self.strip, self.gate, self.last):
            zero_(begins_as_nothing)

    @property
    def is_self_conditioned(self) -> bool:
        """Whether it was trained on its own x̃_0; models of before it could be were not."""
        return bool(self.config.get("self_conditioned", False))

    def estimate(
        self,
        x_0: Tensor,
        x_t: Tensor,
        closed_form: Tensor,
        alpha: Tensor,
        sigma: Tensor,
    ) -> Tensor:
        """The closed form's own x̃_0 = α x_t − σ v, or the network's where that is fed back."""
        own = alpha[:, None, None, None] * x_t - sigma[:, None, None, None] * closed_form
        if not self.is_self_conditioned:
            return own
        is_fed_back = x_0.abs().amax(dim=(1, 2, 3), keepdim=True) > 0
        return torch.where(is_fed_back, x_0, own)

    def residual(
        self,
        x_t: Tensor,
        t: Tensor,
        label: Tensor,
        mu: Tensor,
        x_0: Tensor,
        source: Tensor | None = None,  # noqa: ARG002 - it knows of no source event
    ) -> Tensor:
        """Compute the network's correction to the closed form, whose estimate is ``x_0``."""
        condition = F.silu(self.condition(t, label, mu))
        cells = unpatchify(torch.cat([x_t, x_0], dim=1), self.field.patch)
        mean = cells.mean(dim=(2, 3)) * math.sqrt(self.field.height * self.field.width / 8)
        hidden = self.first(cells) + self._rings() + self.event(mean)[:, :, None, None]
        for index, block in enumerate(self.blocks):
            if index == len(self.blocks) // 2:
                hidden = hidden + self._strips(hidden)
            hidden = block(hidden, condition)
        gate = 1 + self.gate(condition)[:, :, None, None]
        return patchify(self.last(F.silu(hidden) * gate).float(), self.field.patch)

    def _rings(self) -> Tensor:
        """The rings' embedding, (width, H, 1), the same at η and −η where they are alike."""
        if not self.mirror:
            return self.ring
        n_rings = self.field.height
        return torch.cat([self.ring.flip(1)[:, : n_rings // 2], self.ring], dim=1)

    def _strips(self, hidden: Tensor) -> Tensor:
        squeezed = F.silu(self.squeeze(hidden))
        near = _mean_of_near_rings(squeezed)
        whole = squeezed.mean(dim=2, keepdim=True).expand_as(near)
        update: Tensor = self.strip(torch.cat([near, whole], dim=1))
        return update


def _mean_of_near_rings(x: Tensor) -> Tensor:
    """Means over up to ``STRIP_RINGS`` rings around each, (N, C, H, W).

    A product with a band of ones; pooling takes twenty times as long on a CPU.
    """
    ring = torch.arange(x.shape[2], device=x.device)
    reach = min(STRIP_RINGS // 2, x.shape[2] // 2)
    band = (ring[:, None] - ring[None]).abs() <= reach
    return (band.to(x) @ x) / band.sum(dim=1)[:, None].to(x)


class _Convolution(nn.Module):
    """A 3 × 3 convolution, periodic in φ, its kernel symmetric if wanted."""

    def __init__(self, n_in: int, n_out: int, is_symmetric: bool) -> None:
        super().__init__()
        self.is_symmetric = is_symmetric
        self.weight = nn.Parameter(torch.randn(n_out, n_in, 3, 3) * 1.6 / math.sqrt(9 * n_in))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        """(N, n_in, H, W) to (N, n_out, H, W)."""
        weight: Tensor = self.weight
        if self.is_symmetric:
            weight = (weight + weight.flip(2)) / 2
            weight = (weight + weight.flip(3)) / 2
        return F.conv2d(wrapped(x, 1), weight, self.bias, padding=(1, 0))


class _LocalBlock(nn.Module):
    """One convolution, scaled and shifted by the condition, and a mixing of channels."""

    def __init__(self, width: int, condition: int, is_symmetric: bool) -> None:
        super().__init__()
        self.convolution = _Convolution(width, width, is_symmetric)
        self.mix = nn.Conv2d(width, width, 1)
        self.modulation = nn.Linear(condition, 2 * width)
        zero_(self.modulation)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(N, width, H, W) and (N, condition) to (N, width, H, W)."""
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        return x + self.mix(F.silu(self.convolution(x) * (1 + scale) + shift))
