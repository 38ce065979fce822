"""Objectives of the training stages."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pileupgen.diffusion.schedule import Schedule, alpha_sigma
from pileupgen.models.codec import LatentModel
from pileupgen.models.networks.cell_patches import CellPatches
from pileupgen.models.networks.denoiser import NULL
from pileupgen.models.networks.layers import patchify
from pileupgen.training.data import Batch

MIN_SNR_GAMMA = 5.0
"""γ of min-SNR weighting: the paper's."""
FOCUS_SHARE = 0.8
"""Share of the timesteps up to the focus, where there is one."""


class Objective(Protocol):
    """A per-event loss; ``draw`` makes the random numbers of a whole global batch."""

    @property
    def name(self) -> str:
        """Name of the network on disk and in logs."""

    def draw(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """Random numbers, first axis the event, so that they can be shared out to processes."""

    def loss(self, network: nn.Module, batch: Batch, drawn: dict[str, Tensor]) -> Tensor:
        """Loss of each event, shape (N,)."""


@dataclass(frozen=True)
class Reconstruction:
    """Patch and pixel loss of the autoencoder.

    Pixel: −ln N(score; mean, variance) of the decoder's density, from latents with noise of
    ``latent_noise`` added, so that the decoder bears what a denoiser leaves. Patch: the squared
    difference of block means, weighted with the cells of a block so that white errors count alike.
    """

    latent_shape: tuple[int, int, int]
    latent_noise: float
    block: tuple[int, int]
    name: str = "autoencoder"

    def draw(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """Latent noise, (N, C, H, W)."""
        return {"noise": torch.randn(len(batch), *self.latent_shape, generator=rng)}

    def loss(self, network: nn.Module, batch: Batch, drawn: dict[str, Tensor]) -> Tensor:
        """Pixel plus patch loss of each event, shape (N,)."""
        mean, log_variance = network(
            batch.scores, batch.label, batch.mu, self.latent_noise * drawn["noise"]
        )
        error = batch.scores - mean.float()
        variance = log_variance.float()
        pixel = 0.5 * (error**2 * torch.exp(-variance) + variance).flatten(1).mean(1)
        blocks = F.avg_pool2d(error, self.block)
        patch = (blocks**2).flatten(1).mean(1) * (self.block[0] * self.block[1])
        return pixel + patch


@dataclass(frozen=True)
class Denoising:
    """L = ‖v − v_θ(x_t, t, y, x̃_0)‖², per latent value, on a frozen autoencoder's latents.

    With ``prediction_type`` "epsilon" the loss is ‖ε − ε_θ‖² = ᾱ_t ‖v − v_θ‖², the network being
    the same. Half of the events (``self_conditioning``), chosen one by one, see the network's own
    first estimate of z with its gradient stopped (Chen et al. 2208.04202); a part
    (``label_dropout``) sees the null label (Ho & Salimans 2207.12598). ``loss_weighting``
    "min_snr" is min(SNR, 5) ‖z − z̃‖², SNR = ᾱ_t / (1 − ᾱ_t), whatever is predicted (Hang et al.
    2303.09556, sec. 3.4). With ``coarse_dropout`` an event sees the block means of its own clean
    latents, but for this part of the events.

    The score of a null cell is a random rank below a ceiling, and above a floor where there are
    hits below 0. With a lossless codec its v is replaced by the mean over these ranks given x_t,
    :func:`velocity_within`, which leaves the minimum where it is and takes the noise of the ranks
    out of the gradient (Rao-Blackwell).
    """

    autoencoder: LatentModel
    scheduler: Schedule
    label_dropout: float
    self_conditioning: float
    prediction_type: str
    name: str = "denoiser"
    loss_weighting: str = "none"
    coarse_dropout: float | None = None
    focus: int | None = None
    """Timestep that most of the training's timesteps lie below, see :func:`even_timesteps`."""

    def draw(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """Timesteps, noise and the coins of label dropout and self-conditioning."""
        n, shape = len(batch), self.autoencoder.latent_shape
        return {
            "t": even_timesteps(n, self.scheduler, rng, self.focus),
            "eps": torch.randn(n, *shape, generator=rng),
            "label_coin": torch.rand(n, generator=rng),
            "self_coin": torch.rand(n, generator=rng),
            "coarse_coin": torch.rand(n, generator=rng),
        }

    def loss(self, network: nn.Module, batch: Batch, drawn: dict[str, Tensor]) -> Tensor:
        """Mean squared error of each event, shape (N,)."""
        t, eps = drawn["t"], drawn["eps"]
        z = latents_of(batch, self.autoencoder)
        alpha, sigma = alpha_sigma(self.scheduler, t)
        a, s = alpha[:, None, None, None], sigma[:, None, None, None]
        x_t = a * z + s * eps
        label = torch.where(drawn["label_coin"] < self.label_dropout, NULL, batch.label)
        coarse = {}
        if self.coarse_dropout is not None:
            is_dropped = drawn["coarse_coin"] < self.coarse_dropout
            coarse["source"] = torch.where(is_dropped[:, None, None, None], torch.nan, z)
        x_0 = torch.zeros_like(x_t)
        rows = torch.nonzero(drawn["self_coin"] < self.self_conditioning).squeeze(1)
        if len(rows):
            with torch.no_grad():
                velocity = network(
                    x_t[rows],
                    t[rows],
                    label[rows],
                    batch.mu[rows],
                    x_0[rows],
                    alpha[rows],
                    sigma[rows],
                    **{name: value[rows] for name, value in coarse.items()},
                )
                x_0[rows] = a[rows] * x_t[rows] - s[rows] * velocity
        velocity = network(x_t, t, label, batch.mu, x_0, alpha, sigma, **coarse)
        wanted = a * eps - s * z
        if batch.ceiling is not None and isinstance(self.autoencoder, CellPatches):
            ceiling = patchify(batch.ceiling, self.autoencoder.patch)
            if batch.floor is None:
                mean = velocity_below(ceiling, x_t, a, s)
            else:
                floor = patchify(batch.floor, self.autoencoder.patch)
                mean = velocity_within(floor, ceiling, x_t, a, s)
            wanted = torch.where(ceiling.isnan(), wanted, mean)
        error = ((velocity - wanted) ** 2).flatten(1).mean(1)
        return self.weight(alpha, sigma) * error

    def weight(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Factor of ‖v − v_θ‖² at √ᾱ_t and √(1 − ᾱ_t), of their shape.

        ‖z − z̃‖² = σ² ‖v − v_θ‖² and ‖ε − ε_θ‖² = α² ‖v − v_θ‖².
        """
        if self.loss_weighting == "min_snr":
            return torch.minimum(alpha**2, MIN_SNR_GAMMA * sigma**2)
        return alpha**2 if self.prediction_type == "epsilon" else torch.ones_like(alpha)


def velocity_below(ceiling: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """E[v | x_t] of a score z of N(0, 1) of which all that is known is that it is below a ceiling.

    Given x_t = α z + σ ε, z is N(α x_t, σ²) cut off at the ceiling, and v = (α x_t − z)/σ. Its mean
    is φ(b)/Φ(b), b = (ceiling − α x_t)/σ, the inverse of Mills' ratio.

    >>> one = torch.ones(())
    >>> round(float(velocity_below(one * torch.inf, 0.3 * one, 0.6 * one, 0.8 * one)), 3)
    0.0
    >>> round(float(velocity_below(0 * one, 0 * one, 0.6 * one, 0.8 * one)), 3)  # √(2/π)
    0.798
    """
    b = (ceiling - alpha * x_t) / sigma
    return math.sqrt(2 / math.pi) / torch.special.erfcx(-b / math.sqrt(2))


def velocity_within(
    floor: Tensor, ceiling: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor
) -> Tensor:
    """E[v | x_t] of a score z of N(0, 1) that is known to lie between a floor and a ceiling.

    As :func:`velocity_below`, (φ(b) − φ(a)) / (Φ(b) − Φ(a)) with a = (floor − α x_t)/σ. It is
    computed relative to φ at the limit nearer to 0, so that neither limit may be too far out;
    between limits that nearly coincide z is in the middle.

    >>> one = torch.ones(())
    >>> round(float(velocity_within(0 * one, one, 0 * one, 0.6 * one, 0.8 * one)), 3)
    -0.548
    >>> below = [velocity_within(-torch.inf * one, 0 * one, one, 0.6 * one, 0.8 * one)]
    >>> below += [velocity_below(0 * one, one, 0.6 * one, 0.8 * one)]
    >>> round(float(below[0] - below[1]), 6)
    0.0
    """
    low, high = (((limit - alpha * x_t) / sigma).clamp(-_FAR, _FAR) for limit in (floor, ceiling))
    is_turned = low + high > 0
    far, near = torch.where(is_turned, -high, low), torch.where(is_turned, -low, high)
    # φ(far)/φ(near), from 0 to 1, as |far| > |near|.
    ratio = 0.5 * (near - far) * (near + far)
    mass = _mills(near) - ratio.exp() * _mills(far)
    found = -torch.expm1(ratio) / mass
    found = torch.where(is_turned, -found, found)
    return torch.where(high - low > _NARROW, found, -0.5 * (low + high))


_FAR, _NARROW = 1e4, 1e-2


def _mills(x: Tensor) -> Tensor:
    """Φ(x)/φ(x)."""
    return math.sqrt(math.pi / 2) * torch.special.erfcx(-x / math.sqrt(2))


@dataclass(frozen=True)
class DensityRatio:
    """L_DRE = −Σ p_c ln p̂_c(x_t, t), with as many mc as data events."""

    autoencoder: LatentModel
    scheduler: Schedule
    name: str = "ratio"

    def draw(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """Timesteps and noise."""
        n, shape = len(batch), self.autoencoder.latent_shape
        return {
            "t": even_timesteps(n, self.scheduler, rng),
            "eps": torch.randn(n, *shape, generator=rng),
        }

    def loss(self, network: nn.Module, batch: Batch, drawn: dict[str, Tensor]) -> Tensor:
        """Binary cross-entropy of each event, shape (N,)."""
        z = latents_of(batch, self.autoencoder)
        alpha, sigma = alpha_sigma(self.scheduler, drawn["t"])
        a, s = alpha[:, None, None, None], sigma[:, None, None, None]
        logit = network(a * z + s * drawn["eps"], drawn["t"], batch.mu, alpha, sigma)
        return F.binary_cross_entropy_with_logits(logit, batch.label.to(logit), reduction="none")


@torch.no_grad()
def latents_of(batch: Batch, autoencoder: LatentModel) -> Tensor:
    """Latents of a batch, (N, C, H, W), encoded now if they are not cached."""
    if batch.is_encoded:
        return batch.scores.float()
    return autoencoder.encode(batch.scores, batch.label, batch.mu).float()


def even_timesteps(
    n: int, scheduler: Schedule, rng: torch.Generator, focus: int | None = None
) -> Tensor:
    """Timesteps of :func:`stratified_timesteps`, even in the angle arccos √ᾱ_t, shape (n,).

    With the cosine schedule that is even in t. A shifted one has most of its timesteps at noise
    levels where there is little to learn; what is learned should not depend on how they are
    numbered (Kingma et al. 2107.00630, sec. 5.1). With ``focus`` the share ``FOCUS_SHARE`` of them
    lies up to that timestep, even there, and the rest beyond.
    """
    alphas = scheduler.alphas_cumprod.double()
    angle = torch.arccos(alphas.sqrt())
    middle = (angle[1:] + angle[:-1]) / 2
    part = stratified_timesteps(n, len(alphas), rng).double() / (len(alphas) - 1)
    if focus is not None:
        knee = (angle[focus] - angle[0]) / (angle[-1] - angle[0])
        below, above = part / FOCUS_SHARE, (part - FOCUS_SHARE) / (1 - FOCUS_SHARE)
        part = torch.where(below < 1, knee * below, knee + (1 - knee) * above)
    return torch.searchsorted(middle, angle[0] + (angle[-1] - angle[0]) * part)


def stratified_timesteps(n: int, num_train_timesteps: int, rng: torch.Generator) -> Tensor:
    """Uniform timesteps, one in each n-th of 0 … T − 1, in random order, shape (n,).

    Each is uniform on its own; together they cover the range evenly, which lowers the variance of
    the batch's loss (Kingma et al. 2107.00630, app. I.1).
    """
    u = (torch.rand(1, generator=rng) + torch.randperm(n, generator=rng) / n) % 1
    return (u * num_train_timesteps).long().clamp_max(num_train_timesteps - 1)
