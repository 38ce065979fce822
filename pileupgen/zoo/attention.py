"""Attention between blocks of cells: what distant parts of an event tell each other."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from pileupgen.models.networks.layers import AttentionBlock, zero_
from pileupgen.models.networks.local import LocalDenoiser

WIDTH, N_HEADS = 24, 4
BLOCK = 3
"""Cells of a block along an axis, where that divides the image."""


def block_of(n: int, size: int = BLOCK) -> int:
    """Cells in a block along an axis of n: the divisor nearest to ``size``, of two the smaller.

    >>> [block_of(n) for n in (1, 6, 16, 50)]
    [1, 3, 2, 2]
    """
    return min((k for k in range(1, n + 1) if n % k == 0), key=lambda k: abs(k - size))


class BlockAttention(nn.Module):
    """Self-attention between blocks of cells, and cross-attention to conditions.

    A block's cells become one token; the answer is the same at all its cells.

    Parameters
    ----------
    n_in, n_out : int
        Channels; those of the answer are 0 at first.
    n_eta, n_phi : int
    n_conditions : int
    """

    def __init__(self, n_in: int, n_out: int, n_eta: int, n_phi: int, n_conditions: int) -> None:
        super().__init__()
        self.block = block_of(n_eta), block_of(n_phi)
        self.tokens = nn.Conv2d(n_in, WIDTH, self.block, stride=self.block)
        self.attention = AttentionBlock(WIDTH, n_eta // self.block[0], n_conditions, N_HEADS)
        self.cells = nn.Conv2d(n_in, WIDTH, 1)
        self.last = nn.Conv2d(WIDTH, n_out, 1)
        zero_(self.last)

    def forward(self, x: Tensor, conditions: Tensor) -> Tensor:
        """(N, n_in, H, W) and (N, n_conditions) to (N, n_out, H, W)."""
        tokens = self.attention(self.tokens(x), conditions)
        spread = F.interpolate(tokens, size=x.shape[2:], mode="nearest")
        found: Tensor = self.last(F.silu(self.cells(x) + spread))
        return found


class AttentiveDenoiser(LocalDenoiser):
    """The local denoiser, and attention of blocks to each other, to time and to μ."""

    def __init__(
        self, n_layers: int, n_eta: int, n_phi: int, n_blocks: int = 4, *, mirror: bool
    ) -> None:
        super().__init__(n_layers, n_eta, n_phi, n_blocks=n_blocks, mirror=mirror)
        n_known = self.condition.second.out_features
        self.between = BlockAttention(2 * n_layers, n_layers, n_eta, n_phi, n_known)

    def _correction(self, seen: Tensor, condition: Tensor, source: Tensor | None) -> Tensor:
        local = super()._correction(seen, condition, source)
        return local + self.between(seen, condition)


class Morph(nn.Module):
    """An image to one that looks otherwise: x plus what convolutions and attention find.

    Parameters
    ----------
    trunk : nn.Module
        Of 0 at first: (N, n_in, H, W) and conditions to (N, L, H, W).
    between : BlockAttention
    """

    def __init__(self, trunk: nn.Module, between: BlockAttention) -> None:
        super().__init__()
        self.trunk, self.between = trunk, between

    def forward(self, x: Tensor, conditions: Tensor) -> Tensor:
        """(N, L, H, W) and (N, k) to (N, L, H, W); x itself at first."""
        return x + self.trunk(x, conditions) + self.between(x, conditions)


__all__ = ["AttentiveDenoiser", "BlockAttention", "Morph", "block_of"]
