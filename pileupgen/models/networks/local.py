"""The local denoiser: a small network on single cells, made for what showers do to neighbours."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pileupgen.models.field import StationaryField
from pileupgen.models.networks.denoiser import FieldDenoiser
from pileupgen.models.networks.layers import (
    ConditionEmbedding,
    patchify,
    precision_of,
    unpatchify,
    zero_,
)
from pileupgen.models.networks.local_pass import Pass, Weights, run
from pileupgen.models.saved import (
    ModelMixin,  # noqa: F401 - diffusers looks for it here
    register_to_config,
)

N_STRIP_CHANNELS = 8


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
        weights = self._weights(cells, condition)
        dtype = precision_of(cells)
        if torch.is_grad_enabled():
            found: Tensor = Pass.apply(cells, dtype, *weights)  # type: ignore[no-untyped-call]
        else:
            found = run(cells, dtype, weights)
        return found + self.last.get_parameter("bias")[:, None, None]

    def _weights(self, cells: Tensor, condition: Tensor) -> Weights:
        mean = cells.mean(dim=(2, 3)) * self.mean_scale
        blocks = [block for block in self.blocks if isinstance(block, _LocalBlock)]
        modulation = torch.stack([block.modulation(condition) for block in blocks]).to(mean)
        scale, shift = modulation.chunk(2, dim=2)
        biases = torch.stack([block.convolution.bias for block in blocks])
        # The gate is a factor of the last weights, event by event, not of every cell's channels.
        gate = 1 + self.gate(condition).to(mean)
        return Weights(
            event=self.first.bias + self._rings() + self.event(mean).to(mean)[:, None],
            first=self.first.kernel(),
            factor=1 + scale,
            offset=(1 + scale) * biases[:, None] + shift,
            kernels=_kernel(
                torch.stack([block.convolution.weight for block in blocks]), self.mirror
            ),
            mixes=torch.stack([block.mix.weight[:, :, 0, 0] for block in blocks]),
            mix_biases=torch.stack([block.mix.get_parameter("bias") for block in blocks]),
            squeeze=self.squeeze.weight[:, :, 0, 0],
            squeeze_bias=self.squeeze.get_parameter("bias"),
            strip=self.strip.kernel(),
            strip_bias=self.strip.bias,
            last=self.last.weight[:, :, 0, 0] * gate[:, None],
        )

    def _rings(self) -> Tensor:
        """The rings' embedding, (H, width), the same at η and −η where they are alike."""
        ring: Tensor = self.ring[:, :, 0].T
        if not self.mirror:
            return ring
        return torch.cat([ring.flip(0)[: self.n_rings // 2], ring])


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


class _Convolution(nn.Module):
    """Weights of a 3 × 3 convolution, periodic in φ, its kernel symmetric if wanted."""

    def __init__(self, n_in: int, n_out: int, is_symmetric: bool) -> None:
        super().__init__()
        self.is_symmetric = is_symmetric
        self.weight = nn.Parameter(torch.randn(n_out, n_in, 3, 3) * 1.6 / math.sqrt(9 * n_in))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def kernel(self) -> Tensor:
        """(n_out, n_in, 3, 3)."""
        return _kernel(self.weight, self.is_symmetric)


def _kernel(weight: Tensor, is_symmetric: bool) -> Tensor:
    """Kernels (…, 3, 3) of weights: their means with their mirror images, or themselves."""
    if not is_symmetric:
        return weight
    both = weight + weight.flip(-2)
    return (both + both.flip(-1)) / 4


class _LocalBlock(nn.Module):
    """Weights of one convolution, scaled and shifted by the condition, and a mixing of channels."""

    def __init__(self, width: int, condition: int, is_symmetric: bool) -> None:
        super().__init__()
        self.convolution = _Convolution(width, width, is_symmetric)
        self.mix = nn.Conv2d(width, width, 1)
        self.modulation = nn.Linear(condition, 2 * width)
        zero_(self.modulation)
