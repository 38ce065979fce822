"""Networks as a config describes them."""

from __future__ import annotations

import math
from typing import Any

import torch

from pileupgen.calo.geometry import Grid
from pileupgen.config import Config, DenoiserConfig, RatioConfig
from pileupgen.models.calibration.calibration import CellCalibration
from pileupgen.models.calibration.scaling import SignedLogScaling
from pileupgen.models.calibration.space import CellSpace
from pileupgen.models.codec import LatentModel
from pileupgen.models.networks.autoencoder import Autoencoder
from pileupgen.models.networks.cell_patches import CellPatches
from pileupgen.models.networks.denoiser import Denoiser, FieldDenoiser
from pileupgen.models.networks.local import LocalDenoiser
from pileupgen.models.networks.ratio import RatioClassifier
from pileupgen.models.networks.transformer import TransformerDenoiser


def new_space(config: Config, grid: Grid, mirror: bool) -> CellSpace:
    """Make the calibration that a config asks for, to be fitted."""
    settings = config.calibration
    if settings.space == "signed_log":
        return SignedLogScaling(grid.n_layers)
    calibration = CellCalibration(
        grid.n_layers,
        grid.n_eta,
        grid.n_phi,
        settings.n_knots,
        settings.n_mu_bins,
        settings.n_layer_bins,
        mirror,
    )
    calibration.exclude(grid.is_dead)
    return calibration


def new_autoencoder(config: Config, grid: Grid, n_channels: int) -> Autoencoder | CellPatches:
    """The codec that a config names, untrained; its first weights follow from the seed."""
    settings = config.autoencoder
    if config.codec == "cells":
        return CellPatches(n_channels, grid.n_eta, grid.n_phi, settings.patch)
    torch.manual_seed(config.training_seed)
    return Autoencoder(
        n_channels,
        grid.n_eta,
        grid.n_phi,
        patch=settings.patch,
        latent_channels=settings.latent_channels or n_channels * math.prod(settings.patch),
        width=settings.width,
        n_blocks=settings.n_blocks,
        n_heads=settings.n_heads,
        has_coarse=settings.coarse_conditioning,
    )


def new_denoiser(settings: DenoiserConfig, codec: LatentModel, mirror: bool) -> FieldDenoiser:
    """A denoiser of a codec's latents, untrained; ``mirror`` where η and −η are alike."""
    shape, patch = codec.latent_shape, codec.field_patch
    sizes: dict[str, Any] = {"width": settings.width, "n_blocks": settings.n_blocks, "patch": patch}
    sizes["self_conditioned"] = settings.self_conditioning > 0
    if settings.kind == "local":
        return LocalDenoiser(*shape, **sizes, mirror=mirror)
    sizes["has_coarse"] = settings.coarse_conditioning
    if settings.kind == "transformer":
        return TransformerDenoiser(*shape, **sizes, n_heads=settings.n_heads)
    return Denoiser(*shape, **sizes)


def new_ratio(settings: RatioConfig, codec: LatentModel) -> RatioClassifier:
    """A density-ratio classifier of a codec's latents, untrained."""
    return RatioClassifier(
        *codec.latent_shape,
        width=settings.width,
        n_blocks=settings.n_blocks,
        patch=codec.field_patch,
    )
