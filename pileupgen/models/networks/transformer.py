"""The transformer denoiser: latent positions as tokens, positions periodic in φ."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pileupgen.errors import ConfigError
from pileupgen.models.field import StationaryField
from pileupgen.models.networks.coarse import CoarseAttention
from pileupgen.models.networks.denoiser import FieldDenoiser
from pileupgen.models.networks.layers import (
    ConditionEmbedding,
    PeriodicConv2d,
    rotary_angles,
    rotate,
    zero_,
)
from pileupgen.models.saved import (
    ModelMixin,  # noqa: F401 - diffusers looks for it here
    register_to_config,
)


class TransformerDenoiser(FieldDenoiser):
    """A diffusion transformer (Peebles & Xie 2212.09748) on top of the closed form.

    Every latent position is a token, embedded with its eight neighbours; time, class and μ scale,
    shift and gate each block (adaLN-Zero, there sec. 3.2). Rings carry a learned embedding; within
    the attention queries and keys are rotated by their place (rotary, Su et al. 2104.09864), in φ
    with whole frequencies only, so that the ring closes and a roll in φ commutes.

    Parameters
    ----------
    n_channels, height, width_phi : int
        Shape (C, H, W) of the latents.
    width : int
        Channels of a token.
    n_blocks : int
        Transformer blocks.
    n_heads : int
        Heads of the attention.
    patch : (int, int)
        Patch of the closed form's :class:`StationaryField`.
    has_coarse : bool
        Whether the source event's coarse content is a condition.
    self_conditioned : bool
        Whether it is trained on its own x̃_0; else it is shown zeros.

    Raises
    ------
    ConfigError
        If the width is not a multiple of four times the heads.
    """

    @register_to_config
    def __init__(
        self,
        n_channels: int,
        height: int,
        width_phi: int,
        width: int = 96,
        n_blocks: int = 4,
        n_heads: int = 4,
        patch: tuple[int, int] = (1, 1),
        has_coarse: bool = False,
        self_conditioned: bool = True,  # noqa: ARG002
    ) -> None:
        super().__init__()
        if width % (4 * n_heads):
            raise ConfigError(
                f"denoiser.width {width} is not a multiple of 4 × n_heads = {4 * n_heads}.",
                "A head needs pairs of channels for η and for φ.",
            )
        self.field = StationaryField(n_channels, height, width_phi, patch)
        self.condition = ConditionEmbedding(width)
        self.first = PeriodicConv2d(2 * n_channels, width)
        self.ring = nn.Parameter(torch.zeros(width, height, 1))
        rows, columns = (torch.arange(n, dtype=torch.float64) for n in (height, width_phi))
        self._angles = rotary_angles(rows, columns, height, width_phi, width // n_heads)
        self.coarse = (
            CoarseAttention(n_channels, height, width_phi, width, n_heads, patch)
            if has_coarse
            else None
        )
        self.blocks = nn.ModuleList(_AttentionBlock(width, n_heads) for _ in range(n_blocks))
        self.last_norm = nn.LayerNorm(width, elementwise_affine=False)
        self.last_modulation = nn.Linear(width, 2 * width)
        self.last = PeriodicConv2d(width, n_channels)
        zero_(self.last_modulation)
        zero_(self.last)

    def _correction(self, seen: Tensor, condition: Tensor, source: Tensor | None) -> Tensor:
        condition = F.silu(condition)
        image = self.first(seen) + self.ring
        if self.coarse is not None:
            image = self.coarse(image, source)
        tokens = image.flatten(2).transpose(1, 2)
        angles = self._angles.to(tokens.device)
        for block in self.blocks:
            tokens = block(tokens, condition, angles)
        shift, scale = self.last_modulation(condition)[:, None].chunk(2, dim=2)
        tokens = self.last_norm(tokens) * (1 + scale) + shift
        return self.last(tokens.transpose(1, 2).reshape_as(image)).float()


class _AttentionBlock(nn.Module):
    """Self-attention and a pointwise network, each scaled, shifted and gated by the condition."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm_attention = nn.LayerNorm(width, elementwise_affine=False)
        self.norm_pointwise = nn.LayerNorm(width, elementwise_affine=False)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.pointwise = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )
        self.modulation = nn.Linear(width, 6 * width)
        zero_(self.modulation)

    def forward(self, tokens: Tensor, condition: Tensor, angles: Tensor) -> Tensor:
        """Tokens (N, T, width), condition (N, width) and angles (T, pairs) to tokens."""
        parts = self.modulation(condition)[:, None].chunk(6, dim=2)
        shift, scale, gate, shift_point, scale_point, gate_point = parts
        modulated = self.norm_attention(tokens) * (1 + scale) + shift
        tokens = tokens + gate * self._attend(modulated, angles)
        modulated = self.norm_pointwise(tokens) * (1 + scale_point) + shift_point
        return tokens + gate_point * self.pointwise(modulated)

    def _attend(self, tokens: Tensor, angles: Tensor) -> Tensor:
        n, n_tokens, width = tokens.shape
        split = self.query_key_value(tokens).view(n, n_tokens, 3, self.n_heads, -1)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        query, key = rotate(query, angles).to(value), rotate(key, angles).to(value)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.out(mixed.transpose(1, 2).reshape(n, n_tokens, width))
