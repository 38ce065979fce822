"""The local layers' arithmetic, forward and backward, written out.

Arrays are (N, H, W + 2, C): channels last, as fast convolutions on CPUs have them, with a column
more on either side in φ that repeats the opposite one. So a convolution pads zeros only, and a
layer's answer becomes the next one's input by copying two columns.

With the graph that autograd would keep, most of a step's time goes into casts, copies and calls
between the operations, and threads wait for each other at each.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

STRIP_RINGS = 17
"""Rings of a strip's mean: what noise common to a φ sector has in common."""


class Weights(NamedTuple):
    """Weights of the layers, C being the width; what is an event's own has its axis first."""

    event: Tensor
    """What is added to all cells of an event, and of a ring. Shape (N, H, C)."""
    first: Tensor
    """Kernel (C, n_seen, 3, 3)."""
    factor: Tensor
    offset: Tensor
    """Modulation of the blocks' convolutions, biases included. Shape (B, N, C)."""
    kernels: Tensor
    """Kernels of the blocks. Shape (B, C, C, 3, 3)."""
    mixes: Tensor
    mix_biases: Tensor
    """Mixing of channels in the blocks, (B, C, C) and (B, C)."""
    squeeze: Tensor
    squeeze_bias: Tensor
    """From C to S channels, whose means of strips are taken: (S, C) and (S,)."""
    strip: Tensor
    strip_bias: Tensor
    """Kernel (C, 2·S, 3, 3) on these means, and its bias (C,)."""
    last: Tensor
    """Each event's own last weights. Shape (N, n_found, C)."""


class Pass(torch.autograd.Function):
    """Found cells (N, n_found, H, W), without the last bias, from seen ones and the weights."""

    @staticmethod
    def forward(ctx: Any, cells: Tensor, dtype: torch.dtype, *weights: Tensor) -> Tensor:
        """Find the cells, and keep what the gradient needs."""
        kept: list[Tensor] = []
        found = run(cells, dtype, Weights(*weights), kept)
        ctx.save_for_backward(*weights, *kept)
        ctx.dtype = dtype
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_found: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the cells and of each of the weights."""
        n_weights = len(Weights._fields)
        weights, kept = Weights(*ctx.saved_tensors[:n_weights]), ctx.saved_tensors[n_weights:]
        of_cells, of_weights = _gradient(
            of_found, ctx.dtype, weights, list(kept), ctx.needs_input_grad[0]
        )
        cast = (value.to(own.dtype) for value, own in zip(of_weights, weights, strict=True))
        return of_cells, None, *cast


def run(
    cells: Tensor, dtype: torch.dtype, weights: Weights, kept: list[Tensor] | None = None
) -> Tensor:
    """Find cells (N, n_found, H, W), without the last bias, from those seen (N, n_seen, H, W).

    Parameters
    ----------
    dtype : torch.dtype
        Precision of convolutions and products; what the layers add up is at least float32.
    kept : list
        Receives what the gradient needs. Without it arrays are written over.
    """
    seen = _closed(cells.permute(0, 2, 3, 1).to(dtype))
    hidden = _convolved(seen, weights.first).to(_sums(dtype))
    hidden = _closed_in_place(hidden.add_(weights.event[:, :, None]))
    if kept is not None:
        kept.append(seen)
    n_blocks = len(weights.kernels)
    for index in range(n_blocks):
        if index == n_blocks // 2:
            hidden = _added(hidden, _strips(hidden, dtype, weights, kept), kept is not None)
        hidden = _block(hidden, dtype, weights, index, kept)
    active = F.silu(hidden.to(dtype), inplace=kept is None)
    if kept is not None:
        kept.extend([hidden, active])
    found = torch.bmm(active.flatten(1, 2), weights.last.to(dtype).transpose(1, 2))
    inner = found.to(hidden.dtype).view(*hidden.shape[:3], -1)[:, :, 1:-1]
    return inner.permute(0, 3, 1, 2).contiguous()


def _block(
    hidden: Tensor, dtype: torch.dtype, weights: Weights, index: int, kept: list[Tensor] | None
) -> Tensor:
    """Hidden cells after a convolution, its modulation, and a mixing of channels."""
    seen = hidden.to(dtype)
    convolved = _convolved(seen, weights.kernels[index])
    # Whole rows at once: with 16 numbers to a broadcast row this would take longer.
    factor, offset = (
        _rows(values[index].to(dtype), hidden.shape[2])
        for values in (weights.factor, weights.offset)
    )
    flat = convolved.flatten(2)
    if kept is None:
        modulated = flat.mul_(factor).add_(offset)
    else:
        modulated = torch.addcmul(offset, flat, factor)
    active = F.silu(modulated, inplace=kept is None).view_as(convolved)
    if kept is not None:
        kept.extend([seen, convolved, modulated, active])
    mix, bias = weights.mixes[index].to(dtype), weights.mix_biases[index].to(dtype)
    return _added(hidden, F.linear(active, mix, bias), kept is not None)


def _strips(
    hidden: Tensor, dtype: torch.dtype, weights: Weights, kept: list[Tensor] | None
) -> Tensor:
    """What the means of strips in η add to the cells."""
    seen = hidden.to(dtype)
    squeezed = F.linear(seen, weights.squeeze.to(dtype), weights.squeeze_bias.to(dtype))
    active = F.silu(squeezed)
    near = (_band(active) @ active.flatten(2)).view_as(active)
    whole = active.mean(dim=1, keepdim=True).expand_as(active)
    means = torch.cat([near, whole], dim=3)
    if kept is not None:
        kept.extend([seen, squeezed, means])
    return _convolved(means, weights.strip, weights.strip_bias)


def _gradient(
    of_found: Tensor, dtype: torch.dtype, weights: Weights, kept: list[Tensor], of_seen: bool
) -> tuple[Tensor | None, Weights]:
    """Gradients of the cells, where they are asked for, and of the weights."""
    hidden, active = kept[-2:]
    of = of_found.new_zeros(*hidden.shape[:3], of_found.shape[1], dtype=dtype)
    of[:, :, 1:-1] = of_found.permute(0, 2, 3, 1)
    of_last = of.flatten(1, 2).transpose(1, 2) @ active.flatten(1, 2)
    of_active = (of.flatten(1, 2) @ weights.last.to(dtype)).view_as(hidden)
    of_hidden = torch.ops.aten.silu_backward(of_active, hidden.to(dtype)).to(hidden)
    n_blocks, n_kept = len(weights.kernels), len(kept) - 2
    blocks: list[tuple[Tensor, ...]] = []
    strips: tuple[Tensor, ...] = ()
    for index in reversed(range(n_blocks)):
        n_kept -= 4
        blocks.append(
            _gradient_of_block(of_hidden, dtype, weights, index, kept[n_kept : n_kept + 4])
        )
        if index == n_blocks // 2:
            n_kept -= 3
            strips = _gradient_of_strips(of_hidden, dtype, weights, kept[n_kept : n_kept + 3])
    _fold(of_hidden)
    of_cells, of_first = _gradient_of_convolution(
        of_hidden.to(dtype), kept[0], weights.first, of_seen
    )
    if of_seen:
        _fold(of_cells)
        of_cells = of_cells[:, :, 1:-1].permute(0, 3, 1, 2).to(of_found)
    of_factor, of_offset, of_kernels, of_mixes, of_biases = map(
        torch.stack, zip(*reversed(blocks), strict=True)
    )
    of_event = of_hidden.sum(dim=2)
    modulation = of_factor, of_offset
    of_weights = [of_event, of_first, *modulation, of_kernels, of_mixes, of_biases, *strips]
    return of_cells, Weights._make([*of_weights, of_last])


def _gradient_of_block(
    of_hidden: Tensor, dtype: torch.dtype, weights: Weights, index: int, kept: list[Tensor]
) -> tuple[Tensor, ...]:
    """Gradients of a block's own weights; that of the hidden cells is taken through the block."""
    seen, convolved, modulated, active = kept
    _fold(of_hidden)
    of_answer = of_hidden.to(dtype)
    of_mix = of_answer.flatten(0, 2).T @ active.flatten(0, 2)
    of_active = F.linear(of_answer, weights.mixes[index].to(dtype).T)
    of_modulated = torch.ops.aten.silu_backward(of_active, modulated.view_as(of_active))
    of_offset = of_modulated.sum(dim=(1, 2))
    of_factor = (of_modulated * convolved).sum(dim=(1, 2))
    factor = _rows(weights.factor[index].to(dtype), of_hidden.shape[2])
    of_modulated.flatten(2).mul_(factor)
    of_bias = of_hidden.sum(dim=(0, 1, 2))
    of_seen, of_kernel = _gradient_of_convolution(of_modulated, seen, weights.kernels[index])
    of_hidden.add_(of_seen)
    return of_factor, of_offset, of_kernel, of_mix, of_bias


def _gradient_of_strips(
    of_hidden: Tensor, dtype: torch.dtype, weights: Weights, kept: list[Tensor]
) -> tuple[Tensor, ...]:
    """Gradients of the weights of the strips, as :func:`_gradient_of_block` has them."""
    seen, squeezed, means = kept
    _fold(of_hidden)
    of_means, of_strip = _gradient_of_convolution(of_hidden.to(dtype), means, weights.strip)
    of_near, of_whole = of_means.chunk(2, dim=3)
    band = _band(squeezed)
    of_active = (band.T @ of_near.flatten(2)).view_as(squeezed)
    of_active.add_(of_whole.mean(dim=1, keepdim=True))
    of_squeezed = torch.ops.aten.silu_backward(of_active, squeezed)
    of_strip_bias = of_hidden.sum(dim=(0, 1, 2))
    of_hidden.add_(F.linear(of_squeezed, weights.squeeze.to(dtype).T))
    of_squeeze = of_squeezed.flatten(0, 2).T @ seen.flatten(0, 2)
    return of_squeeze, of_squeezed.sum(dim=(0, 1, 2)), of_strip, of_strip_bias


def _gradient_of_convolution(
    of_answer: Tensor, seen: Tensor, kernel: Tensor, of_seen: bool = True
) -> tuple[Tensor, Tensor]:
    """Gradients of the cells that a convolution sees, empty if not asked for, and of its kernel."""
    of_cells, of_kernel, _ = torch.ops.aten.convolution_backward(
        of_answer.permute(0, 3, 1, 2),
        seen.permute(0, 3, 1, 2),
        kernel.to(seen.dtype, memory_format=torch.channels_last),
        None,
        [1, 1],
        [1, 1],
        [1, 1],
        False,
        [0, 0],
        1,
        [of_seen, True, False],
    )
    return of_cells.permute(0, 2, 3, 1) if of_seen else seen.new_empty(0), of_kernel


def _convolved(seen: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    """(N, H, W + 2, n_in) and (C, n_in, 3, 3) to (N, H, W + 2, C), outer columns aside."""
    kernel = kernel.to(seen.dtype, memory_format=torch.channels_last)
    bias = None if bias is None else bias.to(seen.dtype)
    return F.conv2d(seen.permute(0, 3, 1, 2), kernel, bias, padding=1).permute(0, 2, 3, 1)


def _added(hidden: Tensor, update: Tensor, keep: bool) -> Tensor:
    """The sum with its outer columns set, in the place of the update where ``hidden`` is kept."""
    if not keep:
        total = hidden.add_(update)
    elif update.dtype == hidden.dtype:
        total = update.add_(hidden)
    else:
        total = hidden + update
    return _closed_in_place(total)


def _closed(x: Tensor) -> Tensor:
    """(N, H, W, C) to (N, H, W + 2, C), continued around in φ."""
    return torch.cat([x[:, :, -1:], x, x[:, :, :1]], dim=2)


def _closed_in_place(x: Tensor) -> Tensor:
    """Set the outer columns of (N, H, W + 2, C) to those that they repeat."""
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        # In a graph a column that is assigned is scattered, number by number.
        return _closed(x[:, :, 1:-1])
    x[:, :, 0] = x[:, :, -2]
    x[:, :, -1] = x[:, :, 1]
    return x


def _fold(gradient: Tensor) -> None:
    """The gradient before :func:`_closed_in_place` from that after it, in place."""
    gradient[:, :, -2].add_(gradient[:, :, 0])
    gradient[:, :, 1].add_(gradient[:, :, -1])
    gradient[:, :, 0] = 0
    gradient[:, :, -1] = 0


def _sums(dtype: torch.dtype) -> torch.dtype:
    """Precision of what layers add up."""
    return torch.promote_types(dtype, torch.float32)


def _rows(values: Tensor, n_columns: int) -> Tensor:
    """(N, C) to (N, 1, n_columns·C), for rows of columns whose channels lie together."""
    return values.repeat(1, n_columns)[:, None]


def _band(x: Tensor) -> Tensor:
    """Matrix (H, H) of means over up to ``STRIP_RINGS`` rings around each of (N, H, …).

    Pooling takes twenty times as long on a CPU.
    """
    ring = torch.arange(x.shape[1], device=x.device)
    reach = min(STRIP_RINGS // 2, x.shape[1] // 2)
    band = (ring[:, None] - ring[None]).abs() <= reach
    return band.to(x) / band.sum(dim=1)[:, None].to(x)
