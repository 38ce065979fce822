"""The noise schedule."""

from __future__ import annotations

import math

import torch
from diffusers import DDPMScheduler
from torch import Tensor


def cosine_betas(num_train_timesteps: int, power: int = 2, s: float = 0.008) -> list[float]:
    """β_t of the cosine schedule, f(t) = cos((t/T + s)/(1 + s)·π/2)^power, ᾱ_t = f(t)/f(0).

    ``power=2`` is Nichol & Dhariwal (2102.09672, eq. 17); ``power=1`` the DeGeSim talk's print.
    β_t = 1 − ᾱ_{t+1}/ᾱ_t, at most 0.999.
    """

    def f(t: float) -> float:
        return math.cos((t / num_train_timesteps + s) / (1 + s) * math.pi / 2) ** power

    return [min(1 - f(t + 1) / f(t), 0.999) for t in range(num_train_timesteps)]


def make_scheduler(num_train_timesteps: int, power: int = 2, s: float = 0.008) -> DDPMScheduler:
    """A DDPM scheduler with the cosine schedule and no clipping, as latents need it."""
    return DDPMScheduler(
        num_train_timesteps=num_train_timesteps,
        trained_betas=cosine_betas(num_train_timesteps, power, s),
        prediction_type="v_prediction",
        clip_sample=False,
    )


def alpha_sigma(scheduler: DDPMScheduler, t: Tensor) -> tuple[Tensor, Tensor]:
    """√ᾱ_t and √(1 − ᾱ_t) at integer timesteps, of the shape of ``t``; t = −1 is the clean end."""
    alphas = scheduler.alphas_cumprod.to(t.device, torch.float64)
    alpha_bar = torch.where(t < 0, 1.0, alphas[t.clamp_min(0)])
    return alpha_bar.sqrt().float(), (1 - alpha_bar).sqrt().float()
