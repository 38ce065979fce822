"""The autoencoder: Gaussian scores of cells to latents and back."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pileupgen.errors import ConfigError
from pileupgen.models.networks.coarse import N_HEADS, CoarseAttention
from pileupgen.models.networks.layers import (
    AttentionBlock,
    ConditionEmbedding,
    PeriodicConv2d,
    ResidualBlock,
    patchify,
    require_patch,
    unpatchify,
    zero_,
)
from pileupgen.models.saved import ModelMixin, register_to_config

_CONDITION = 64
LOG_VARIANCE_RANGE = (-9.0, 3.0)


class Autoencoder(ModelMixin):
    """A U-Net-shaped encoder and decoder with space-to-channel shortcuts.

    The shortcuts (Chen et al., 2410.10733) carry each patch of cells straight into the
    channels of its latent position; convolutions, attention over all positions and
    cross-attention to domain and μ learn what is to be added. With as many channels as a patch
    has cells no information need be lost. A roll in φ by whole patches commutes with both
    halves.
    With ``has_coarse`` each half also attends to block means of what it is given, scores or
    latents: the energy of whole regions of the event. No information bypasses the latents.
    The decoder gives each cell a Gaussian density of its score, which through the quantile tables
    is a hit probability and a density of log-energy.

    Parameters
    ----------
    n_layers, n_eta, n_phi : int
        Shape of the images.
    patch : (int, int)
        Cells in η and φ per latent position.
    latent_channels : int
        Channels C of the latents.
    width, n_blocks, n_heads : int
        Convolution channels, residual blocks on each side, attention heads (0: no attention).
    has_coarse : bool
        Whether the event's coarse content is a condition.

    Raises
    ------
    ConfigError
        If the patch does not divide the image, or the heads not the width.
    """

    @register_to_config
    def __init__(
        self,
        n_layers: int,
        n_eta: int,
        n_phi: int,
        patch: tuple[int, int] = (2, 2),
        latent_channels: int = 8,
        width: int = 32,
        n_blocks: int = 2,
        n_heads: int = 4,
        has_coarse: bool = False,
    ) -> None:
        super().__init__()
        require_patch(patch, n_eta, n_phi)
        if n_heads and width % n_heads:
            raise ConfigError(f"autoencoder.width {width} is not a multiple of n_heads {n_heads}.")
        self.patch = (int(patch[0]), int(patch[1]))
        height = n_eta // patch[0]
        n_patch = n_layers * patch[0] * patch[1]
        self.field_patch = self.patch if latent_channels == n_patch else (1, 1)
        columns = n_phi // patch[1]
        self.latent_shape = (latent_channels, height, columns)
        of_scores = of_latents = None
        if has_coarse:
            of_scores = CoarseAttention(n_patch, height, columns, width, N_HEADS, self.patch)
            of_latents = CoarseAttention(
                latent_channels, height, columns, width, N_HEADS, self.field_patch
            )
        self.condition = ConditionEmbedding(_CONDITION, n_labels=2, has_time=False)
        self.encoder = _Half(n_patch, width, n_blocks, n_heads, height, of_scores)
        self.to_latent = nn.Conv2d(width, latent_channels, 1)
        self.shortcut_in = nn.Conv2d(n_patch, latent_channels, 1, bias=False)
        self.decoder = _Half(latent_channels, width, n_blocks, n_heads, height, of_latents)
        self.to_cells = PeriodicConv2d(width, 2 * n_patch)
        self.shortcut_out = nn.Conv2d(latent_channels, n_patch, 1, bias=False)
        zero_(self.to_latent)
        zero_(self.to_cells)
        with torch.no_grad():
            weight = torch.empty(latent_channels, n_patch)
            if latent_channels == n_patch:
                nn.init.eye_(weight)
            else:
                nn.init.orthogonal_(weight)
            self.shortcut_in.weight.copy_(weight[:, :, None, None])
            self.shortcut_out.weight.copy_(weight.T[:, :, None, None])

    def forward(
        self, scores: Tensor, domain: Tensor, mu: Tensor, latent_noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Encode, add noise, decode: mean and ln variance of each score.

        ``latent_noise`` (N, C, H, W) is in units of each channel's root mean square in the event,
        so that nothing is gained by latents that grow; no event knows of the others in its batch.
        """
        latents = self.encode(scores, domain, mu)
        scale = latents.square().mean(dim=(2, 3), keepdim=True).sqrt()
        return self.decode(latents + scale * latent_noise, domain, mu)

    def encode(self, scores: Tensor, domain: Tensor, mu: Tensor) -> Tensor:
        """Scores (N, L, n_eta, n_phi), domain (N,) and μ (N,) to latents (N, C, H, W)."""
        patches = patchify(scores, self.patch)
        condition = self.condition(None, domain, mu)
        update = self.to_latent(self.encoder(patches, condition))
        return _in_full(self.shortcut_in, patches) + update

    def decode(self, latents: Tensor, domain: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (N, C, H, W) to mean and ln variance of each score, (N, L, n_eta, n_phi)."""
        condition = self.condition(None, domain, mu)
        update, log_variance = self.to_cells(self.decoder(latents, condition)).chunk(2, dim=1)
        mean = _in_full(self.shortcut_out, latents) + update
        log_variance = (log_variance.float() - 4.0).clamp(*LOG_VARIANCE_RANGE)
        return unpatchify(mean, self.patch), unpatchify(log_variance, self.patch)


def _in_full(shortcut: nn.Conv2d, x: Tensor) -> Tensor:
    """A shortcut in single precision, whatever the networks beside it compute in."""
    with torch.autocast(x.device.type, enabled=False):
        carried: Tensor = shortcut(x.float())
    return carried


class _Half(nn.Module):
    """Convolutions at the latents' resolution, with attention in the middle."""

    def __init__(
        self,
        n_in: int,
        width: int,
        n_blocks: int,
        n_heads: int,
        height: int,
        coarse: CoarseAttention | None,
    ) -> None:
        super().__init__()
        self.first = PeriodicConv2d(n_in, width)
        self.ring = nn.Parameter(torch.zeros(width, height, 1))
        self.before = nn.ModuleList(ResidualBlock(width, _CONDITION) for _ in range(n_blocks))
        self.attention = AttentionBlock(width, height, _CONDITION, n_heads) if n_heads else None
        self.coarse = coarse
        self.after = nn.ModuleList(ResidualBlock(width, _CONDITION) for _ in range(n_blocks))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        hidden = self.first(x) + self.ring
        skips = []
        for block in self.before:
            hidden = block(hidden, condition)
            skips.append(hidden)
        if self.attention is not None:
            hidden = self.attention(hidden, condition)
        if self.coarse is not None:
            hidden = self.coarse(hidden, x)
        for block in self.after:
            hidden = block(hidden + skips.pop(), condition)
        return F.silu(hidden)
