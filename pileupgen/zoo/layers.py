"""Layers that generators of images share: residual convolutions that are told conditions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pileupgen.models.networks.layers import PeriodicConv2d, wrapped, zero_


def continued(x: Tensor, pad: int, *, is_ring: bool) -> Tensor:
    """(N, C, H, W) to (N, C, H, W + 2 pad): around in φ, more than once if need be, or with zeros.

    Parameters
    ----------
    x : Tensor
    pad : int
    is_ring : bool
        Whether φ closes to a full turn.
    """
    if not is_ring:
        return F.pad(x, (pad, pad))
    n = x.shape[3]
    return wrapped(x, pad) if n >= pad else x[..., torch.arange(-pad, n + pad) % n]


class _OpenConv2d(nn.Conv2d):
    """A 3 × 3 convolution that sees zeros beyond all edges."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_in, n_out, 3, padding=1)


class PlacedModule(nn.Module):
    """A network that knows which ring a cell is in; :attr:`ring` is what it adds there."""

    ring: nn.Parameter
    """Shape (width, n_eta, 1); (width, n_eta, n_phi) once it was told places."""

    def tell_places(self, n_phi: int) -> None:
        """Let it tell the cells of a ring apart, too.

        Each channel begins as a slow wave over the image: of places that began alike a network
        takes long to learn what a condition does at each of them.
        """
        width, n_eta = self.ring.shape[:2]
        along = torch.linspace(-1, 1, n_eta)[:, None], torch.linspace(-1, 1, n_phi)[None]
        wave, phase = torch.randn(2, width, 1, 1), 2 * math.pi * torch.rand(width, 1, 1)
        shape = torch.cos(math.pi * (wave[0] * along[0] + wave[1] * along[1]) + phase)
        self.ring = nn.Parameter(self.ring.detach() + shape)


class CellTrunk(PlacedModule):
    """Residual convolutions on cells, with what the event has in common, and where a ring is.

    Parameters
    ----------
    n_in, n_out : int
        Channels.
    n_conditions : int
        Numbers of the conditions.
    n_eta : int
        Rings.
    width, n_blocks : int
    is_ring : bool
        Whether φ closes to a full turn; else what lies beyond its ends is 0.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        n_conditions: int,
        n_eta: int,
        width: int,
        n_blocks: int,
        *,
        is_ring: bool,
    ) -> None:
        super().__init__()
        convolution = PeriodicConv2d if is_ring else _OpenConv2d
        self.first = convolution(n_in, width)
        self.ring = nn.Parameter(torch.zeros(width, n_eta, 1))
        self.event = nn.Linear(2 * n_in + n_conditions, width)
        self.blocks = nn.ModuleList(convolution(width, width) for _ in range(n_blocks))
        self.mixes = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(n_blocks))
        self.gains = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(n_blocks))
        self.last = nn.Conv2d(width, n_out, 1)
        for gain in self.gains:
            zero_(gain)
        zero_(self.last)

    def forward(self, x: Tensor, conditions: Tensor) -> Tensor:
        """(N, n_in, H, W) and (N, n_conditions) to (N, n_out, H, W); 0 at first."""
        # The mean over n cells, times √n, is of the order of one cell.
        mean = x.mean(dim=(2, 3)) * (x.shape[2] * x.shape[3]) ** 0.5
        spread = x.var(dim=(2, 3), correction=0)
        event = F.silu(self.event(torch.cat([mean / 4, spread, conditions], dim=1)))
        hidden = self.first(x) + self.ring + event[:, :, None, None]
        for block, mix, gain in zip(self.blocks, self.mixes, self.gains, strict=True):
            scale, shift = gain(event)[:, :, None, None].chunk(2, dim=1)
            hidden = hidden + mix(F.silu(block(F.silu(hidden)) * (1 + scale) + shift))
        return self.last(F.silu(hidden))


def log_normal(x: Tensor) -> Tensor:
    """Log density of independent N(0, 1) cells, summed over all but the first axis, (N,)."""
    return -0.5 * (x.square() + 1.8378770664093453).flatten(1).sum(dim=1)
