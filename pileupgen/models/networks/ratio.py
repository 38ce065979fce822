"""The time-dependent density-ratio classifier."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pileupgen.models.field import StationaryField
from pileupgen.models.networks.layers import (
    ConditionEmbedding,
    PeriodicConv2d,
    ResidualBlock,
    kernel_for,
    zero_,
)
from pileupgen.models.networks.ratio_calibration import N_KNOTS, Lines
from pileupgen.models.saved import ModelMixin, register_to_config


class RatioClassifier(ModelMixin):
    """ln r(x_t, t) = ln p_data(x_t) / p_mc(x_t), the logit of a classifier of noised latents.

    L_DRE = −Σ p_c ln p̂_c(x_t, t) with s = p̂(data) gives r = s / (1 − s). The two Gaussian
    fields' own log-ratio enters with a learned weight per time; a convolutional network adds what
    is not Gaussian.

    Parameters
    ----------
    n_channels, height, width_phi : int
        Shape (C, H, W) of the latents.
    width, n_blocks : int
        Channels and residual blocks.
    patch : (int, int)
        Patch of the Gaussian log-ratio's :class:`StationaryField`.

    Attributes
    ----------
    knots, slope, offset : Tensor, shape (K,)
        Calibration of ln r, a line at each knot in t; the identity until :meth:`calibrate`.
    """

    @register_to_config
    def __init__(
        self,
        n_channels: int,
        height: int,
        width_phi: int,
        width: int = 48,
        n_blocks: int = 3,
        patch: tuple[int, int] = (1, 1),
    ) -> None:
        super().__init__()
        condition = 2 * width
        self.field = StationaryField(n_channels, height, width_phi, patch)
        self.condition = ConditionEmbedding(condition, n_labels=0)
        kernel = kernel_for(height, width_phi)
        self.first = PeriodicConv2d(n_channels, width, kernel)
        self.ring = nn.Parameter(torch.zeros(width, height, 1))
        self.blocks = nn.ModuleList(
            ResidualBlock(width, condition, kernel) for _ in range(n_blocks)
        )
        self.gain = nn.Linear(condition, 2)
        self.head = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, 1))
        self.knots: Tensor
        self.slope: Tensor
        self.offset: Tensor
        self.register_buffer("knots", torch.arange(N_KNOTS, dtype=torch.float32))
        self.register_buffer("slope", torch.ones(N_KNOTS))
        self.register_buffer("offset", torch.zeros(N_KNOTS))
        zero_(self.gain)
        zero_(self.head[-1])

    def forward(self, x_t: Tensor, t: Tensor, mu: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Ln r, shape (N,), from latents (N, C, H, W), t (N,), μ (N,), √ᾱ_t, √(1 − ᾱ_t)."""
        with torch.autocast(x_t.device.type, enabled=False):
            gaussian = self.field.log_ratio(x_t.float(), alpha, sigma)
        condition = self.condition(t, None, mu)
        hidden = self.first(x_t) + self.ring
        for block in self.blocks:
            hidden = block(hidden, condition)
        hidden = F.silu(hidden)
        pooled = torch.cat([hidden.mean(dim=(2, 3)), (hidden**2).mean(dim=(2, 3))], dim=1)
        gain, shift = self.gain(F.silu(condition)).float().unbind(dim=1)
        logit = (0.7 + gain) * gaussian + shift + self.head(pooled).float().squeeze(1)
        return self._at(self.slope, t) * logit + self._at(self.offset, t)

    @torch.no_grad()
    def calibrate(self, lines: Lines) -> None:
        """Take the calibration over."""
        for buffer, values in zip(
            (self.knots, self.slope, self.offset), (lines.t, lines.slope, lines.offset), strict=True
        ):
            buffer.copy_(torch.from_numpy(values))

    def _at(self, values: Tensor, t: Tensor) -> Tensor:
        """Values at the knots, linear between them, at times (N,)."""
        time = t.float().clamp(self.knots[0], self.knots[-1])
        low = (time[:, None] >= self.knots[1:-1]).sum(dim=1)  # ONNX has no searchsorted
        share = (time - self.knots[low]) / (self.knots[low + 1] - self.knots[low])
        return values[low] + share * (values[low + 1] - values[low])
