"""Blocks that all networks share: φ-periodic convolutions, embeddings, attention."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pileupgen.errors import ConfigError


class PeriodicConv2d(nn.Module):
    """A convolution that wraps around in φ (the last axis) and pads with zeros in η.

    Parameters
    ----------
    n_in, n_out : int
        Channels.
    kernel : int
        Odd width in both axes.
    """

    def __init__(self, n_in: int, n_out: int, kernel: int = 3) -> None:
        super().__init__()
        self.pad = kernel // 2
        self.conv = nn.Conv2d(n_in, n_out, kernel, padding=(self.pad, 0))

    def forward(self, x: Tensor) -> Tensor:
        """(N, n_in, H, W) to (N, n_out, H, W)."""
        if x.shape[2:] == (1, 1):
            # All that a lone cell sees in its row is itself.
            weight = self.conv.weight[:, :, self.pad].sum(dim=2)
            return F.linear(x.flatten(1), weight, self.conv.bias)[:, :, None, None]
        if self.pad:
            x = wrapped(x, self.pad)
        return self.conv(x)


def wrapped(x: Tensor, pad: int) -> Tensor:
    """(N, C, H, W) to (N, C, H, W + 2 pad), continued around in φ.

    Equal to ``F.pad`` in its circular mode, whose gradient takes much longer. Under autocast in the
    precision that a convolution is about to ask for.
    """
    dtype = precision_of(x)
    if torch.is_grad_enabled() and x.requires_grad:
        padded: Tensor = _Wrapped.apply(x, pad, dtype)  # type: ignore[no-untyped-call]
        return padded
    return _continued(x.to(dtype), pad)


def precision_of(x: Tensor) -> torch.dtype:
    """Precision in which a convolution of ``x`` is computed: autocast's where that is on."""
    device = x.device.type
    if x.dtype == torch.float32 and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return x.dtype


def _continued(x: Tensor, pad: int) -> Tensor:
    return torch.cat([x[..., -pad:], x, x[..., :pad]], dim=3)


class _Wrapped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, pad: int, dtype: torch.dtype) -> Tensor:
        ctx.pad, ctx.dtype = pad, x.dtype
        return _continued(x.to(dtype), pad)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        # In one copy, where the gradient of slices fills an array for each of them.
        pad, gradient = ctx.pad, gradients[0]
        inner = gradient[..., pad:-pad].to(ctx.dtype, copy=True)
        inner[..., -pad:].add_(gradient[..., :pad])
        inner[..., :pad].add_(gradient[..., -pad:])
        return inner, None, None


_DECADE = 10.0
"""Ratio of the 99 % and the 1 % quantile of a condition above which its logarithm enters."""


class SinusoidalEmbedding(nn.Module):
    """Sines and cosines of a scalar (Vaswani et al. 1706.03762, sec. 3.5)."""

    def __init__(self, width: int, longest: float = 10000.0) -> None:
        super().__init__()
        half = width // 2
        self._frequencies = torch.exp(-math.log(longest) * torch.arange(half) / half)

    def forward(self, value: Tensor) -> Tensor:
        """(N,) to (N, width)."""
        angle = value.float()[:, None] * self._frequencies.to(value.device)
        return torch.cat([angle.sin(), angle.cos()], dim=1)


class ConditionEmbedding(nn.Module):
    """Time, class label and μ in one vector.

    μ, or whatever a sample's condition is, enters standardised by the training's own distribution,
    as its logarithm where that spans more than a decade. Beyond the training's range it enters as
    the end of the range, since no network has learned what lies there.

    Parameters
    ----------
    width : int
        Length of the vector.
    n_labels : int
        Labels, the null label included; 0 leaves the label out.
    has_time : bool
        Whether t is a condition.

    Attributes
    ----------
    centre, spread : Tensor, shape ()
        Mean and standard deviation of μ, or of ln μ, in training.
    span : Tensor, shape (2,)
        Smallest and largest μ of training.
    is_logarithmic : bool Tensor, shape ()
    """

    def __init__(self, width: int, n_labels: int = 3, has_time: bool = True) -> None:
        super().__init__()
        self.time = SinusoidalEmbedding(64) if has_time else None
        self.label = nn.Embedding(n_labels, width) if n_labels else None
        self.first = nn.Linear(64 * has_time + 2, width)
        self.second = nn.Linear(width, width)
        self.centre: Tensor
        self.spread: Tensor
        self.span: Tensor
        self.is_logarithmic: Tensor
        self.register_buffer("centre", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))
        self.register_buffer("span", torch.tensor([-torch.inf, torch.inf]))
        self.register_buffer("is_logarithmic", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def standardise(self, mu: Tensor) -> None:
        """Take the distribution of μ, (N,), of the training events; NaN is not known."""
        known = mu[torch.isfinite(mu)].double()
        if not len(known):
            return
        low, high = known.quantile(torch.tensor([0.01, 0.99]).double())
        is_logarithmic = bool(known.min() > 0) and bool(high > _DECADE * low)
        self.span.copy_(torch.stack([known.min(), known.max()]))
        values = known.log() if is_logarithmic else known
        spread = values.std(correction=0)
        self.centre.copy_(values.mean())
        self.spread.copy_(spread if spread > 0 else torch.ones(()))
        self.is_logarithmic.fill_(is_logarithmic)

    @torch.no_grad()
    def standardise_as(self, other: ConditionEmbedding) -> None:
        """Take the distribution of μ that another embedding was given."""
        for name in ("centre", "spread", "span", "is_logarithmic"):
            getattr(self, name).copy_(getattr(other, name))

    def standardised(self, mu: Tensor) -> Tensor:
        """μ, (N,), as it enters: within the training's range of mean 0 and variance 1."""
        inside = torch.minimum(torch.maximum(mu, self.span[0]), self.span[1])
        value = torch.where(self.is_logarithmic, inside.clamp_min(1e-30).log(), inside)
        return (value - self.centre) / self.spread

    def forward(self, t: Tensor | None, label: Tensor | None, mu: Tensor) -> Tensor:
        """(N,), (N,), (N,) to (N, width); μ may be NaN where it is not known."""
        known = torch.isfinite(mu)
        scaled = torch.where(known, self.standardised(mu), 0.0)
        parts = [torch.stack([scaled, known.to(scaled)], dim=1)]
        if self.time is not None and t is not None:
            parts.append(self.time(t))
        hidden = self.first(torch.cat(parts, dim=1))
        if self.label is not None and label is not None:
            hidden = hidden + self.label(label)
        return self.second(F.silu(hidden))


def standardise_conditions(network: nn.Module, mu: Tensor) -> None:
    """Give all condition embeddings of a network the distribution of the training's μ, (N,)."""
    for module in network.modules():
        if isinstance(module, ConditionEmbedding):
            module.standardise(mu)


def kernel_for(height: int, width_phi: int) -> int:
    """Width of convolutions on latents (C, H, W): 1 where there is a single position."""
    return 1 if height == width_phi == 1 else 3


class ResidualBlock(nn.Module):
    """Two convolutions with a short residual connection, scaled and shifted by the condition.

    With a kernel of 1 positions do not mix: two dense layers, normalised over all channels.
    """

    def __init__(self, width: int, condition: int, kernel: int = 3) -> None:
        super().__init__()
        groups = math.gcd(width, 8) if kernel > 1 else 1
        self.norm_in, self.norm_out = nn.GroupNorm(groups, width), nn.GroupNorm(groups, width)
        self.conv_in = PeriodicConv2d(width, width, kernel)
        self.conv_out = PeriodicConv2d(width, width, kernel)
        self.modulation = nn.Linear(condition, 2 * width)
        zero_(self.modulation)
        zero_(self.conv_out.conv)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(N, width, H, W) and (N, condition) to (N, width, H, W)."""
        scale, shift = self.modulation(F.silu(condition))[:, :, None, None].chunk(2, dim=1)
        hidden = self.conv_in(F.silu(self.norm_in(x)))
        hidden = self.norm_out(hidden) * (1 + scale) + shift
        return x + self.conv_out(F.silu(hidden))


class DenseBlock(nn.Module):
    """A dense layer over the φ means of all rings: what the whole event has in common."""

    def __init__(self, width: int, height: int, hidden: int = 64) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(math.gcd(width, 8), width)
        self.squeeze = nn.Conv2d(width, 8, 1)
        self.first = nn.Linear(8 * height, hidden)
        self.second = nn.Linear(hidden, width * height)
        zero_(self.second)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) to (N, width, H, W); constant in φ."""
        pooled = self.squeeze(self.norm(x).mean(dim=3, keepdim=True))
        hidden = self.second(F.silu(self.first(pooled.flatten(1))))
        return x + hidden.view(x.shape[0], x.shape[1], x.shape[2], 1)


class AttentionBlock(nn.Module):
    """Global self-attention over positions and cross-attention to condition tokens.

    Keys and values are means over groups of up to five rings (spatial reduction, Wang et al.
    2102.12122), each column in φ for itself; positions carry a learned embedding of
    their ring only. So a roll in φ commutes.
    """

    def __init__(self, width: int, height: int, condition: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.group = next(size for size in range(5, 0, -1) if height % size == 0)
        self.ring = nn.Parameter(torch.zeros(width, height, 1))
        self.norm_self, self.norm_cross = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_self, self.out_self = nn.Linear(width, width), nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.query, self.out_cross = nn.Linear(width, width), nn.Linear(width, width)
        self.tokens = nn.Linear(condition, 2 * 4 * width)
        zero_(self.out_self)
        zero_(self.out_cross)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(N, width, H, W) and (N, condition) to (N, width, H, W)."""
        n, width, height, columns = x.shape
        placed = x + self.ring
        tokens = placed.flatten(2).transpose(1, 2)
        grouped = F.avg_pool2d(placed, (self.group, 1)).flatten(2).transpose(1, 2)
        q = self.query_self(self.norm_self(tokens))
        k, v = self.key_value(self.norm_self(grouped)).chunk(2, dim=2)
        update = self.out_self(self._attend(q, k, v))
        keys, values = self.tokens(F.silu(condition)).view(n, 4, 2 * width).chunk(2, dim=2)
        queries = self.query(self.norm_cross(tokens + update))
        update = update + self.out_cross(self._attend(queries, keys, values))
        return x + update.transpose(1, 2).reshape(n, width, height, columns)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        def split(tokens: Tensor) -> Tensor:
            return tokens.view(*tokens.shape[:2], self.n_heads, -1).transpose(1, 2)

        # Written out: for narrow heads on CPUs the fused kernel's backward is many times slower.
        q, k, v = split(q) * (q.shape[2] // self.n_heads) ** -0.5, split(k), split(v)
        mixed = (q @ k.transpose(2, 3)).float().softmax(dim=3).to(v) @ v
        return mixed.transpose(1, 2).flatten(2)


def rotary_angles(
    rows: Tensor, columns: Tensor, height: int, width: int, n_channels: int
) -> Tensor:
    """Angles by which pairs of channels are rotated at each place (Su et al. 2104.09864).

    The first half of the pairs turns with φ, at whole frequencies 1, 2, …, W/2 and again, so that
    the ring closes; the other half with η, at geometric frequencies from 1 to 1/H.

    Parameters
    ----------
    rows, columns : float64 Tensors, shape (h,) and (w,)
        Places in η and φ, in latent positions.
    height, width : int
        H and W.
    n_channels : int
        Channels of a head.

    Returns
    -------
    Tensor, shape (h·w, n_channels/2)
    """
    n = n_channels // 4
    whole = 1 + torch.arange(n, dtype=torch.float64) % max(width // 2, 1)
    phi = 2 * math.pi / width * columns[:, None] * whole
    slow = torch.exp(-math.log(max(height, 2)) * torch.arange(n, dtype=torch.float64) / max(n, 1))
    shape = len(rows), len(columns), n
    both = [phi[None].expand(shape), (rows[:, None] * slow)[:, None].expand(shape)]
    return torch.cat(both, dim=2).flatten(0, 1).float()


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate pairs of channels of (N, heads, T, channels) by angles (T, channels/2)."""
    even, odd = x.float().chunk(2, dim=3)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([even * cos - odd * sin, even * sin + odd * cos], dim=3)


def zero_(module: nn.Module) -> None:
    """Set all parameters to zero, so that a residual branch begins as nothing."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)


def require_patch(patch: tuple[int, int], n_eta: int, n_phi: int) -> None:
    """Refuse patches that do not tile the image.

    Raises
    ------
    ConfigError
        If the patch does not divide it.
    """
    if n_eta % patch[0] or n_phi % patch[1]:
        raise ConfigError(
            f"autoencoder.patch {tuple(patch)} does not divide an image of {n_eta} × {n_phi}.",
            "Choose divisors of both.",
        )


def patchify(x: Tensor, patch: tuple[int, int]) -> Tensor:
    """(N, C, H, W) to (N, C·p·q, H/p, W/q): space to channels, nothing lost."""
    n, c, h, w = x.shape
    p, q = patch
    return (
        x.view(n, c, h // p, p, w // q, q).permute(0, 1, 3, 5, 2, 4).reshape(n, -1, h // p, w // q)
    )


def unpatchify(x: Tensor, patch: tuple[int, int]) -> Tensor:
    """Inverse of :func:`patchify`."""
    n, c, h, w = x.shape
    p, q = patch
    split = x.view(n, c // (p * q), p, q, h, w).permute(0, 1, 4, 2, 5, 3)
    return split.reshape(n, c // (p * q), h * p, w * q)
