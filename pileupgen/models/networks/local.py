"""The local denoiser: a small network on single cells, made for what showers do to neighbours."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from pileupgen.models.field import StationaryField
from pileupgen.models.networks.denoiser import FieldDenoiser
from pileupgen.models.networks.layers import (
    ConditionEmbedding,
    patchify,
    precision_of,
    unpatchify,
    unwrapped,
    wrapped,
    zero_,
)
from pileupgen.models.saved import (
    ModelMixin,  # noqa: F401 - diffusers looks for it here
    register_to_config,
)

N_STRIP_CHANNELS = 8
STRIP_RINGS = 17
"""Rings of a strip's mean: what noise common to a φ sector has in common."""


class LocalLayers:
    """A few convolutions on cells, means of strips in η and of the whole event.

    The layers of :class:`LocalDenoiser` and of the student that is distilled from it; a module of
    theirs makes them by :meth:`make_layers` in its own constructor.
    """

    def make_layers(
        self,
        condition: ConditionEmbedding,
        shape: tuple[int, int, int, int],
        width: int,
        n_blocks: int,
        *,
        mirror: bool,
    ) -> None:
        """Make the layers, whose last weights are zero.

        Parameters
        ----------
        condition : ConditionEmbedding
            Of 3 · ``width`` numbers.
        shape : (int, int, int, int)
            Channels of the cells that are seen and of those that are found; rings and columns.
        width, n_blocks, mirror
            As :class:`LocalDenoiser` takes them.
        """
        n_seen, n_found, n_rings, n_columns = shape
        self.mirror, self.n_rings = mirror, n_rings
        self.mean_scale = math.sqrt(n_rings * n_columns / 8)
        self.condition = condition
        self.first = _Convolution(n_seen, width, mirror)
        self.event = nn.Linear(n_seen, width)
        self.ring = nn.Parameter(torch.zeros(width, (n_rings + 1) // 2 if mirror else n_rings, 1))
        self.blocks = nn.ModuleList(_LocalBlock(width, 3 * width, mirror) for _ in range(n_blocks))
        self.squeeze = nn.Conv2d(width, N_STRIP_CHANNELS, 1)
        self.strip = _Convolution(2 * N_STRIP_CHANNELS, width, mirror)
        self.gate = nn.Linear(3 * width, width)
        self.last = nn.Conv2d(width, n_found, 1)
        for begins_as_nothing in (self.strip, self.gate, self.last):
            zero_(begins_as_nothing)

    def found_in(self, cells: Tensor, condition: Tensor) -> Tensor:
        """Cells (N, n_seen, n_rings, n_columns), condition (N, 3·width) to (N, n_found, …)."""
        mean = cells.mean(dim=(2, 3)) * self.mean_scale
        # Channels last, as fast convolutions on CPUs have them: nothing is copied between layers.
        hidden = self.first(cells.permute(0, 2, 3, 1)) + self._rings()
        hidden = hidden.float() + self.event(mean).float()[:, None, None]
        for index, block in enumerate(self.blocks):
            if index == len(self.blocks) // 2:
                hidden = hidden + self._strips(hidden)
            hidden = block(hidden, condition)
        # The gate is a factor of the last weights, event by event, not of every cell's channels.
        weight = self.last.weight[:, :, 0, 0] * (1 + self.gate(condition)[:, None])
        active = F.silu(hidden.to(precision_of(hidden))).flatten(1, 2)
        found = torch.bmm(active, weight.to(active).transpose(1, 2)).float()
        found = found + self.last.get_parameter("bias")
        shaped = found.view(-1, *hidden.shape[1:3], found.shape[2]).permute(0, 3, 1, 2)
        return shaped.contiguous()

    def _rings(self) -> Tensor:
        """The rings' embedding, (H, 1, width), the same at η and −η where they are alike."""
        ring: Tensor = self.ring.permute(1, 2, 0)
        if not self.mirror:
            return ring
        return torch.cat([ring.flip(0)[: self.n_rings // 2], ring])

    def _strips(self, hidden: Tensor) -> Tensor:
        squeezed = F.silu(pointwise(self.squeeze, hidden))
        near = _mean_of_near_rings(squeezed)
        whole = squeezed.mean(dim=1, keepdim=True).expand_as(near)
        update: Tensor = self.strip(torch.cat([near, whole], dim=3))
        return update


class LocalDenoiser(FieldDenoiser, LocalLayers):
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
        n_cells = self.field.n_channels
        shape = 2 * n_cells, n_cells, self.field.height, self.field.width
        self.make_layers(ConditionEmbedding(3 * width), shape, width, n_blocks, mirror=mirror)

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

    def _correction(
        self,
        seen: Tensor,
        condition: Tensor,
        source: Tensor | None,  # noqa: ARG002 - it knows of no source event
    ) -> Tensor:
        cells = unpatchify(seen, self.field.patch)
        return patchify(self.found_in(cells, F.silu(condition)), self.field.patch)


def pointwise(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Apply a 1 × 1 convolution to (N, H, W, C)."""
    return F.linear(x, layer.weight[:, :, 0, 0], layer.bias)


def _mean_of_near_rings(x: Tensor) -> Tensor:
    """Means over up to ``STRIP_RINGS`` rings around each, (N, H, W, C).

    A product with a band of ones; pooling takes twenty times as long on a CPU.
    """
    ring = torch.arange(x.shape[1], device=x.device)
    reach = min(STRIP_RINGS // 2, x.shape[1] // 2)
    band = (ring[:, None] - ring[None]).abs() <= reach
    mean = band.to(x) @ x.flatten(2) / band.sum(dim=1)[:, None].to(x)
    return mean.view_as(x)


class _Convolution(nn.Module):
    """A 3 × 3 convolution, periodic in φ, its kernel symmetric if wanted."""

    def __init__(self, n_in: int, n_out: int, is_symmetric: bool) -> None:
        super().__init__()
        self.is_symmetric = is_symmetric
        self.weight = nn.Parameter(torch.randn(n_out, n_in, 3, 3) * 1.6 / math.sqrt(9 * n_in))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def kernel(self) -> Tensor:
        """(n_out, n_in, 3, 3)."""
        weight: Tensor = self.weight
        if not self.is_symmetric:
            return weight
        found: Tensor = _Symmetric.apply(weight)  # type: ignore[no-untyped-call]
        return found

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, n_in) to (N, H, W, n_out)."""
        padded = wrapped(x, 1, dim=2)
        return _convolved(padded, self.kernel(), self.bias)


class _Symmetric(torch.autograd.Function):
    """The mean of kernels (n_out, n_in, 3, 3) and their mirror images, a self-adjoint map."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        return _symmetric(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _symmetric(gradient)


def _symmetric(weight: Tensor) -> Tensor:
    both = weight + weight.flip(2)
    return (both + both.flip(3)) / 4


class _LocalBlock(nn.Module):
    """One convolution, scaled and shifted by the condition, and a mixing of channels."""

    def __init__(self, width: int, condition: int, is_symmetric: bool) -> None:
        super().__init__()
        self.convolution = _Convolution(width, width, is_symmetric)
        self.mix = nn.Conv2d(width, width, 1)
        self.modulation = nn.Linear(condition, 2 * width)
        zero_(self.modulation)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(N, H, W, width) and (N, condition) to (N, H, W, width)."""
        scale, shift = self.modulation(condition).chunk(2, dim=1)
        weights = self.convolution.kernel(), self.convolution.bias, 1 + scale, shift
        mix = self.mix.weight[:, :, 0, 0], self.mix.get_parameter("bias")
        if torch.is_grad_enabled():
            found: Tensor = _Residual.apply(x, *weights, *mix)  # type: ignore[no-untyped-call]
            return found
        return _residual(x, *weights, *mix)[0]


def _residual(
    x: Tensor,
    kernel: Tensor,
    bias: Tensor,
    scale: Tensor,
    shift: Tensor,
    mix: Tensor,
    mix_bias: Tensor,
) -> tuple[Tensor, ...]:
    """A block's answer, and what its gradient needs: padded, convolved, modulated and active."""
    dtype = precision_of(x)
    padded = wrapped(x, 1, dim=2)
    convolved = _convolved(padded, kernel.to(dtype), bias.to(dtype))
    # Whole rows at once: with 16 numbers to a broadcast row this would take ten times as long.
    n_columns = x.shape[2]
    factor, offset = (_rows(values.to(dtype), n_columns) for values in (scale, shift))
    modulated = torch.addcmul(offset, convolved.flatten(2), factor).view_as(convolved)
    active = F.silu(modulated)
    answer = x + F.linear(active, mix.to(dtype), mix_bias.to(dtype))
    return answer, padded, convolved, modulated, active


class _Residual(torch.autograd.Function):
    """A block with a gradient written out, in the precision of its convolution throughout.

    The graph that autograd would keep casts and copies between all of its operations: twice the
    time of this one.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, *weights: Tensor) -> Tensor:
        answer, *kept = _residual(x, *weights)
        ctx.save_for_backward(*kept, *weights)
        return answer

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        padded, convolved, modulated, active, *weights = ctx.saved_tensors
        kernel, bias, scale, _, mix, _ = weights
        dtype, n_columns = padded.dtype, gradient.shape[2]
        of_answer = gradient.to(dtype)
        of_mix = of_answer.flatten(0, 2).T @ active.flatten(0, 2)
        of_active = F.linear(of_answer, mix.to(dtype).T)
        of_modulated = torch.ops.aten.silu_backward(of_active, modulated)
        of_shift = of_modulated.sum(dim=(1, 2))
        of_scale = (of_modulated * convolved).sum(dim=(1, 2))
        of_modulated.flatten(2).mul_(_rows(scale.to(dtype), n_columns))
        of_padded, of_kernel, of_bias = torch.ops.aten.convolution_backward(
            of_modulated.permute(0, 3, 1, 2),
            padded.permute(0, 3, 1, 2),
            kernel.to(dtype, memory_format=torch.channels_last),
            [len(bias)],
            [1, 1],
            [1, 0],
            [1, 1],
            False,
            [0, 0],
            1,
            [True, True, True],
        )
        of_x = unwrapped(of_padded.permute(0, 2, 3, 1), 1, 2, gradient.dtype).add_(gradient)
        found = of_kernel, of_bias, of_scale, of_shift, of_mix, gradient.sum(dim=(0, 1, 2))
        cast = (value.to(own.dtype) for value, own in zip(found, weights, strict=True))
        return of_x, *cast


def _convolved(padded: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """(N, H, W + 2, n_in) and (n_out, n_in, 3, 3) to (N, H, W, n_out)."""
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    found = F.conv2d(padded.permute(0, 3, 1, 2), kernel, bias, padding=(1, 0))
    return found.permute(0, 2, 3, 1)


def _rows(values: Tensor, n_columns: int) -> Tensor:
    """(N, C) to (N, 1, W·C), for rows of columns whose channels lie together."""
    return values.repeat(1, n_columns)[:, None]
