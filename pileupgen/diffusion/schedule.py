"""The noise schedule."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from diffusers import DDPMScheduler


class Schedule(Protocol):
    """A noise schedule; diffusers' schedulers are such."""

    @property
    def alphas_cumprod(self) -> Tensor:
        """ᾱ_t, float32, of shape (T,)."""


@dataclass(frozen=True)
class NoiseSchedule:
    """A noise schedule that needs no diffusers."""

    alphas_cumprod: Tensor
    """ᾱ_t, float32, of shape (T,)."""


def read_schedule(folder: Path) -> NoiseSchedule:
    """Read the schedule of a scheduler that :func:`make_scheduler` made, to the same bits.

    Parameters
    ----------
    folder : Path
        Where diffusers wrote ``scheduler_config.json``.

    Raises
    ------
    OSError, ValueError, LookupError, TypeError
        If it is missing or damaged, or has no betas.
    """
    written = json.loads((folder / "scheduler_config.json").read_text(encoding="utf-8"))
    betas = torch.tensor(written["trained_betas"], dtype=torch.float32)
    return NoiseSchedule(torch.cumprod(1 - betas, dim=0))


def cosine_betas(
    num_train_timesteps: int, power: int = 2, s: float = 0.008, shift: float = 1.0
) -> list[float]:
    """β_t of the cosine schedule, f(t) = cos((t/T + s)/(1 + s)·π/2)^power, ᾱ_t = f(t)/f(0).

    ``power=2`` is Nichol & Dhariwal (2102.09672, eq. 17); ``power=1`` the DeGeSim talk's print.
    β_t = 1 − ᾱ_{t+1}/ᾱ_t, at most 0.999. ``shift`` divides the signal-to-noise ratio ᾱ/(1 − ᾱ) by
    its square (Hoogeboom et al. 2301.11093, eq. 3): means over shift² cells then have the ratio
    that single ones have without it. Cells, unlike pixels of photographs, are nearly independent:
    an early release of them removes little of what differs.
    """

    def f(t: float) -> float:
        plain = math.cos((t / num_train_timesteps + s) / (1 + s) * math.pi / 2) ** power
        plain /= math.cos(s / (1 + s) * math.pi / 2) ** power
        return plain / (plain + (1 - plain) * shift**2)

    return [min(1 - f(t + 1) / f(t), 0.999) for t in range(num_train_timesteps)]


def make_scheduler(
    num_train_timesteps: int, power: int = 2, s: float = 0.008, shift: float = 1.0
) -> DDPMScheduler:
    """A DDPM scheduler with the cosine schedule and no clipping, as latents need it."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(
        num_train_timesteps=num_train_timesteps,
        trained_betas=cosine_betas(num_train_timesteps, power, s, shift),
        prediction_type="v_prediction",
        clip_sample=False,
    )


def alpha_sigma(scheduler: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
    """√ᾱ_t and √(1 − ᾱ_t) at integer timesteps, of the shape of ``t``; t = −1 is the clean end."""
    alphas = scheduler.alphas_cumprod.to(t.device, torch.float64)
    alpha_bar = torch.where(t < 0, 1.0, alphas[t.clamp_min(0)])
    return alpha_bar.sqrt().float(), (1 - alpha_bar).sqrt().float()


def noised(scheduler: Schedule, x: Tensor, eps: Tensor, t: int) -> Tensor:
    """√ᾱ_t x + √(1 − ᾱ_t) ε (Ho et al. 2006.11239, eq. 4), to the bits of diffusers' own."""
    alpha_bar = scheduler.alphas_cumprod.to(x)[t]
    signal: Tensor = alpha_bar**0.5 * x
    return signal + (1 - alpha_bar) ** 0.5 * eps


def inverted_to(scheduler: Schedule, t: int, fresh_noise: float) -> int:
    """The timestep from which noise of the share ``fresh_noise`` of σ_t² leads to t; −1 is clean.

    The kernel from i to t has the variance 1 − ᾱ_t / ᾱ_i (Ho et al. 2006.11239, eq. 2); the
    timestep is taken whose variance is nearest to ``fresh_noise`` (1 − ᾱ_t).
    """
    alpha_bar = torch.cat([torch.ones(1).double(), scheduler.alphas_cumprod.double()])[: t + 2]
    variance = 1 - alpha_bar[-1] / alpha_bar
    return int((variance - fresh_noise * variance[0]).abs().argmin()) - 1


def forward(scheduler: Schedule, t_before: int, t: int) -> tuple[float, float]:
    """Factors of x and of white noise in the forward diffusion from one timestep to a later one."""
    alpha, _ = alpha_sigma(scheduler, torch.tensor([t_before, t]))
    ratio = float(alpha[1] / alpha[0])
    return ratio, max(1 - ratio**2, 0.0) ** 0.5
