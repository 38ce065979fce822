"""The lossless codec: patches of Gaussianised cells are the latents."""

from __future__ import annotations

import torch
from torch import Tensor

from pileupgen.models.networks.layers import patchify, require_patch, unpatchify
from pileupgen.models.saved import ModelMixin, register_to_config


class CellPatches(ModelMixin):
    """Scores to latents and back by space-to-channel alone: nothing is learned, nothing is lost.

    It replaces :class:`~pileupgen.models.networks.autoencoder.Autoencoder`. The denoiser then sees
    the normal scores themselves; only the rank of a null cell within its mass is arbitrary.

    Parameters
    ----------
    n_layers, n_eta, n_phi : int
        Shape of the images.
    patch : (int, int)
        Cells in η and φ per latent position.

    Raises
    ------
    ConfigError
        If the patch does not divide the image.

    Attributes
    ----------
    latent_shape : (int, int, int)
        (C, H, W) of the latents.
    image_shape : int64 Tensor, shape (3,)
        (L, n_eta, n_phi).
    """

    @register_to_config
    def __init__(
        self, n_layers: int, n_eta: int, n_phi: int, patch: tuple[int, int] = (2, 2)
    ) -> None:
        super().__init__()
        require_patch(patch, n_eta, n_phi)
        self.patch = (int(patch[0]), int(patch[1]))
        self.field_patch = self.patch
        self.latent_shape = (
            n_layers * self.patch[0] * self.patch[1],
            n_eta // self.patch[0],
            n_phi // self.patch[1],
        )
        self.image_shape: Tensor
        # The diffusers layout has a file of tensors for every model; this is all there is to hold.
        self.register_buffer("image_shape", torch.tensor([n_layers, n_eta, n_phi]))

    def encode(self, scores: Tensor, domain: Tensor, mu: Tensor) -> Tensor:  # noqa: ARG002
        """Scores (N, L, n_eta, n_phi) to latents (N, C, H, W), alike in both domains."""
        return patchify(scores, self.patch)

    def decode(
        self,
        latents: Tensor,
        domain: Tensor,  # noqa: ARG002
        mu: Tensor,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor]:
        """Latents (N, C, H, W) to scores, with ln variance −∞ since they are exact."""
        scores = unpatchify(latents, self.patch)
        return scores, torch.full_like(scores, -torch.inf)
