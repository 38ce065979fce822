"""Latent denoisers on top of the closed-form Gaussian one, and the residual network among them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pileupgen.models.field import StationaryField
from pileupgen.models.networks.coarse import N_HEADS, CoarseAttention
from pileupgen.models.networks.layers import (
    ConditionEmbedding,
    DenseBlock,
    PeriodicConv2d,
    ResidualBlock,
    kernel_for,
    zero_,
)
from pileupgen.models.saved import ModelMixin, register_to_config

MC, DATA, NULL = 0, 1, 2
"""Class labels: the two domains and the null label ∅ of classifier-free guidance."""


class FieldDenoiser(ModelMixin):
    """v_θ(x_t, t, y, μ, x̃_0), the velocity of self-conditioned, class-guided diffusion.

    Base of all denoisers: the closed form of a stationary Gaussian field plus the correction that a
    network adds to it. With its last weights at zero, as at the start, a denoiser equals the
    closed form.
    """

    field: StationaryField
    condition: ConditionEmbedding

    @property
    def has_coarse(self) -> bool:
        """Whether the source event's coarse content is a condition."""
        return isinstance(getattr(self, "coarse", None), CoarseAttention)

    @property
    def is_self_conditioned(self) -> bool:
        """Whether it was trained on its own x̃_0, and makes use of it."""
        return bool(self.config.get("self_conditioned", True))

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        label: Tensor,
        mu: Tensor,
        x_0: Tensor,
        alpha: Tensor,
        sigma: Tensor,
        source: Tensor | None = None,
    ) -> Tensor:
        """Predict the velocity.

        Parameters
        ----------
        x_t : Tensor, shape (N, C, H, W)
            Noised latents, α z + σ ε.
        t, label : int Tensors, shape (N,)
            Timestep; 0 mc, 1 data, 2 null.
        mu : Tensor, shape (N,)
            Number of pileup interactions; NaN where it is not known.
        x_0 : Tensor, shape (N, C, H, W)
            Self-conditioning x̃_0 (Chen et al. 2208.04202); zeros where there is none.
        alpha, sigma : Tensor, shape (N,)
            √ᾱ_t and √(1 − ᾱ_t).
        source : Tensor, shape (N, C, H, W)
            Clean latents of the event that this one comes from; None or NaN where there is none.
            Only a denoiser with ``has_coarse`` takes them, and sees no more than block means.

        Returns
        -------
        Tensor, shape (N, C, H, W), float32
            v = α ε − σ z.
        """
        velocity = self.closed_form(x_t, label, alpha, sigma)
        known = self.estimate(x_0, x_t, velocity, alpha, sigma)
        return velocity + self.residual(x_t, t, label, mu, known, source)

    def estimate(
        self,
        x_0: Tensor,
        x_t: Tensor,  # noqa: ARG002
        closed_form: Tensor,  # noqa: ARG002
        alpha: Tensor,  # noqa: ARG002
        sigma: Tensor,  # noqa: ARG002
    ) -> Tensor:
        """Choose the x̃_0 (N, C, H, W) shown to the network: zeros if it was trained without."""
        return x_0 if self.is_self_conditioned else torch.zeros_like(x_0)

    def closed_form(self, x_t: Tensor, label: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """E[v | x_t] if the latents were a stationary Gaussian field."""
        with torch.autocast(x_t.device.type, enabled=False):
            x_t = x_t.float()
            present = torch.unique(label)
            which = int(present) if len(present) == 1 else label
            return self.field.velocity(x_t, alpha, sigma, which)

    def closed_form_contrast(
        self, x_t: Tensor, label: int, other: int, alpha: Tensor, sigma: Tensor
    ) -> Tensor:
        """The closed form of one label less that of another, (N, C, H, W)."""
        with torch.autocast(x_t.device.type, enabled=False):
            return self.field.velocity_contrast(x_t.float(), alpha, sigma, label, other)

    def residual(
        self,
        x_t: Tensor,
        t: Tensor,
        label: Tensor,
        mu: Tensor,
        x_0: Tensor,
        source: Tensor | None = None,
    ) -> Tensor:
        """Compute the network's correction to the closed form."""
        seen = torch.cat([x_t, x_0], dim=1)
        return self._correction(seen, self.condition(t, label, mu), source)

    def _correction(self, seen: Tensor, condition: Tensor, source: Tensor | None) -> Tensor:
        """Compute the network's correction to the closed form, (N, C, H, W).

        Parameters
        ----------
        seen : Tensor, shape (N, 2 C, H, W)
            Noised latents and the x̃_0 that is shown.
        condition : Tensor, shape (N, n)
            Embedding of time, class and μ.
        source : Tensor, shape (N, C, H, W)
            As :meth:`forward` takes it.
        """
        raise NotImplementedError


class Denoiser(FieldDenoiser):
    """The talk's residual network on top of the closed form.

    Embedding of time and class, short and long residual connections, dense blocks.

    Parameters
    ----------
    n_channels, height, width_phi : int
        Shape (C, H, W) of the latents.
    width : int
        Channels of the convolutions.
    n_blocks : int
        Residual blocks on each side of the dense block.
    patch : (int, int)
        Patch of the closed form's :class:`StationaryField`.
    has_coarse : bool
        Whether the source event's coarse content is a condition.
    self_conditioned : bool
        Whether it is trained on its own x̃_0; else it is shown zeros.
    """

    @register_to_config
    def __init__(
        self,
        n_channels: int,
        height: int,
        width_phi: int,
        width: int = 96,
        n_blocks: int = 4,
        patch: tuple[int, int] = (1, 1),
        has_coarse: bool = False,
        self_conditioned: bool = True,  # noqa: ARG002
    ) -> None:
        super().__init__()
        condition = 2 * width
        self.field = StationaryField(n_channels, height, width_phi, patch)
        self.condition = ConditionEmbedding(condition)
        kernel = kernel_for(height, width_phi)
        self.first = PeriodicConv2d(2 * n_channels, width, kernel)
        self.ring = nn.Parameter(torch.zeros(width, height, 1))
        self.before = nn.ModuleList(
            ResidualBlock(width, condition, kernel) for _ in range(n_blocks)
        )
        self.middle = DenseBlock(width, height)
        self.coarse = (
            CoarseAttention(n_channels, height, width_phi, width, N_HEADS, patch)
            if has_coarse
            else None
        )
        self.join = nn.ModuleList(nn.Conv2d(2 * width, width, 1) for _ in range(n_blocks))
        self.after = nn.ModuleList(ResidualBlock(width, condition, kernel) for _ in range(n_blocks))
        self.last = PeriodicConv2d(width, n_channels, kernel)
        zero_(self.last)

    def _correction(self, seen: Tensor, condition: Tensor, source: Tensor | None) -> Tensor:
        hidden = self.first(seen) + self.ring
        skips = []
        for block in self.before:
            hidden = block(hidden, condition)
            skips.append(hidden)
        hidden = self.middle(hidden)
        if self.coarse is not None:
            hidden = self.coarse(hidden, source)
        for block, join in zip(self.after, self.join, strict=True):
            hidden = block(join(torch.cat([hidden, skips.pop()], dim=1)), condition)
        return self.last(F.silu(hidden)).float()
