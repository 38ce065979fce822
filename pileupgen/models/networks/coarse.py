"""An event's coarse content as a condition of denoiser and autoencoder.

The denoiser sees the source event's: in training block means of the event's own clean latents, so
that no pairs are needed; in translation a data event is denoised under those of the mc event it
comes from. The two halves of the autoencoder see that of what they are given.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pileupgen.errors import ConfigError
from pileupgen.models.networks.layers import rotary_angles, rotate, unpatchify, zero_

N_HEADS = 2
_BLOCK = (5, 3)
"""Largest number of latent positions in η and in φ that make a block."""


class CoarseAttention(nn.Module):
    """Cross-attention of latent positions to block means of the source event.

    Queries and keys are rotated by their place as the transformer's are, so that a roll in φ by
    whole blocks commutes. One token more stands for no source: where an event's is NaN, it is all
    there is to attend to.

    Parameters
    ----------
    n_channels, height, width_phi : int
        Shape (C, H, W) of the latents.
    width : int
        Channels of the positions.
    patch : (int, int)
        Latents are patches of p × q cells, which are averaged too.

    Raises
    ------
    ConfigError
        If the width is not a multiple of four times the heads.
    """

    def __init__(
        self,
        n_channels: int,
        height: int,
        width_phi: int,
        width: int,
        n_heads: int,
        patch: tuple[int, int],
    ) -> None:
        super().__init__()
        if width % (4 * n_heads):
            raise ConfigError(
                f"A width of {width} is not a multiple of {4 * n_heads}.",
                "With coarse_conditioning a head needs pairs of channels for η and for φ.",
            )
        self.n_heads, self.patch = n_heads, patch
        self.block = _divisor(height, _BLOCK[0]), _divisor(width_phi, _BLOCK[1])
        rows, columns = (torch.arange(n, dtype=torch.float64) for n in (height, width_phi))
        means = [
            axis.view(-1, size).mean(1)
            for axis, size in zip((rows, columns), self.block, strict=True)
        ]
        head = width // n_heads
        self._angles = rotary_angles(rows, columns, height, width_phi, head)
        self._coarse_angles = rotary_angles(means[0], means[1], height, width_phi, head)
        self.first = nn.Linear(n_channels // math.prod(patch), width)
        self.ring = nn.Parameter(torch.zeros(len(means[0]), 1, width))
        self.absent = nn.Parameter(torch.zeros(1, 1, width))
        self.norm = nn.LayerNorm(width)
        self.query, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        zero_(self.out)

    def forward(self, x: Tensor, source: Tensor | None) -> Tensor:
        """Positions (N, width, H, W) and the source's latents (N, C, H, W) to positions."""
        n, width = x.shape[:2]
        positions = self.norm(x.flatten(2).transpose(1, 2))
        tokens, is_there = self._tokens(n, source)
        query = rotate(self._split(self.query(positions)), self._angles.to(x.device))
        raw_key, raw_value = self.key_value(tokens).chunk(2, dim=2)
        placed = self._split(raw_key)[:, :, 1:]
        keys = rotate(placed, self._coarse_angles[: placed.shape[2]].to(x.device))
        # The token for no source has no place that a query could be turned against: its key is 0.
        key, value = F.pad(keys, (0, 0, 1, 0)), self._split(raw_value)
        mask = is_there[:, None, None, :]
        mixed = F.scaled_dot_product_attention(query.to(value), key.to(value), value, mask)
        update = self.out(mixed.transpose(1, 2).reshape(n, -1, width))
        return x + update.transpose(1, 2).reshape_as(x)

    def content(self, source: Tensor) -> Tensor:
        """Means over blocks, in units of their spread were cells independent, (N, L, h, w)."""
        fine = unpatchify(source, self.patch)
        size = self.block[0] * self.patch[0], self.block[1] * self.patch[1]
        return F.avg_pool2d(fine, size) * math.prod(size) ** 0.5

    def _tokens(self, n: int, source: Tensor | None) -> tuple[Tensor, Tensor]:
        """The token for no source and those of the blocks, (N, T, width), and who counts."""
        absent = self.absent.expand(n, -1, -1)
        counts = torch.ones(n, 1, dtype=torch.bool, device=absent.device)
        if source is None:
            return absent, counts
        content = self.content(source.float())
        known = torch.isfinite(content).flatten(1).all(dim=1)
        content = torch.where(known[:, None, None, None], content, 0.0)
        tokens = (self.first(content.permute(0, 2, 3, 1)) + self.ring).flatten(1, 2)
        there = torch.cat([counts, known[:, None].expand(-1, tokens.shape[1])], dim=1)
        return torch.cat([absent.to(tokens), tokens], dim=1), there

    def _split(self, tokens: Tensor) -> Tensor:
        """(N, T, width) to (N, heads, T, channels)."""
        return tokens.view(*tokens.shape[:2], self.n_heads, -1).transpose(1, 2)


def _divisor(n: int, at_most: int) -> int:
    return next(d for d in range(at_most, 0, -1) if n % d == 0)
