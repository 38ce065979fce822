"""The denoiser's error over t beside those of the closed form and of a trivial predictor."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from pileupgen.diffusion.schedule import Schedule, alpha_sigma
from pileupgen.fields import PlainRecord
from pileupgen.models.codec import LatentModel
from pileupgen.models.networks.denoiser import FieldDenoiser
from pileupgen.training.data import ScoreSample

TIMES = (10, 50, 100, 200, 300, 400, 500, 600, 700, 800, 900, 950, 990)
"""Timesteps of a schedule of 1000; scaled to the length of the schedule."""
N_EVENTS = 128
"""Held-out events per domain."""
_PIECE = 64


@dataclass(frozen=True)
class DenoisingCurve(PlainRecord):
    """Mean squared errors of the velocity v over t on held-out events, per latent value."""

    t: list[int]
    """Timesteps."""
    trivial: list[float]
    """Error of the best guess from the mean and variance of each channel, without correlations."""
    closed_form: list[float]
    """Error of the stationary Gaussian field's denoiser."""
    network: list[float]
    """Error of the trained denoiser, with self-conditioning on its first estimate."""
    first_estimate: list[float]
    """Error of that first estimate, without self-conditioning."""
    gain: list[float]
    gain_error: list[float]
    """1 − network / closed_form, and the standard error of this ratio of means, to first order in
    the events' deviations from it."""
    n_events: int
    """mc and data together."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@torch.no_grad()
def denoising_curve(
    denoiser: FieldDenoiser,
    codec: LatentModel,
    scheduler: Schedule,
    held_out: ScoreSample,
    training_latents: list[Tensor],
    seed: int,
    device: torch.device,
) -> DenoisingCurve:
    """Take the errors of the network, the closed form and the trivial predictor.

    Parameters
    ----------
    training_latents : two Tensors, shape (N, C, H, W)
        mc and data; the trivial predictor's means and variances.
    """
    batch = held_out.in_order(N_EVENTS, seed)
    rng = torch.Generator().manual_seed(seed)
    last = len(scheduler.alphas_cumprod) - 1
    times = sorted({round(t * last / 999) for t in TIMES})
    moments = torch.stack([_moments(latents) for latents in training_latents])
    rows: dict[int, list[Tensor]] = {t: [] for t in times}
    for begin in range(0, len(batch), _PIECE):
        part = batch.rows(slice(begin, begin + _PIECE)).to(device)
        z = codec.encode(part.scores, part.label, part.mu).float()
        eps = torch.randn(z.shape, generator=rng).to(device)
        known = moments.to(device)[part.label]
        for t in times:
            errors = _errors(denoiser, scheduler, z, eps, t, part.label, part.mu, known)
            rows[t].append(errors.double().cpu())
    per_event = torch.stack([torch.cat(rows[t], dim=1) for t in times])  # (t, 4, N)
    trivial, closed, network, first = per_event.mean(dim=2).unbind(dim=1)
    # To first order in the events' deviations: both errors of an event are large or small together.
    share = network / closed
    deviation = per_event[:, 2] - share[:, None] * per_event[:, 1]
    spread = deviation.std(dim=1) / len(batch) ** 0.5
    return DenoisingCurve(
        times,
        trivial.tolist(),
        closed.tolist(),
        network.tolist(),
        first.tolist(),
        (1 - share).tolist(),
        (spread / closed).tolist(),
        len(batch),
    )


def _errors(
    denoiser: FieldDenoiser,
    scheduler: Schedule,
    z: Tensor,
    eps: Tensor,
    t: int,
    label: Tensor,
    mu: Tensor,
    moments: Tensor,
) -> Tensor:
    """Errors of trivial, closed form, network and its first estimate, shape (4, N)."""
    times = torch.full((len(z),), t, device=z.device)
    alpha, sigma = alpha_sigma(scheduler, times)
    a, s = alpha[:, None, None, None], sigma[:, None, None, None]
    x_t, velocity = a * z + s * eps, a * eps - s * z
    mean, variance = moments[:, 0], moments[:, 1]
    # E[v | x_t] of white latents; see StationaryField.velocity.
    white = a * s * (1 - variance) / (a**2 * variance + s**2) * (x_t - a * mean) - s * mean
    closed = denoiser.closed_form(x_t, label, alpha, sigma)
    first = denoiser(x_t, times, label, mu, torch.zeros_like(x_t), alpha, sigma)
    again = denoiser(x_t, times, label, mu, a * x_t - s * first, alpha, sigma)
    guesses = (white, closed, again, first)
    return torch.stack([((guess - velocity) ** 2).flatten(1).mean(1) for guess in guesses])


def _moments(latents: Tensor) -> Tensor:
    """Mean and variance of each channel, shape (2, C, 1, 1)."""
    axes = (0, 2, 3)
    moments = torch.stack([latents.mean(dim=axes), latents.var(dim=axes)])
    return moments[:, :, None, None]
