"""From the denoiser's velocity to guided estimates of noise and clean latents."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from pileupgen.diffusion.schedule import alpha_sigma
from pileupgen.models.denoiser import NULL, Denoiser


@dataclass(frozen=True)
class Predictor:
    """ε̄ and x̃_0 of one class, with classifier-free guidance.

    ε̄ = (w + 1) ε_θ(x_t, t, y, x̃_0) − w ε_θ(x_t, t, ∅, x̃_0) (Ho & Salimans 2207.12598, eq. 6);
    w = 0 asks the network once.

    Parameters
    ----------
    denoiser : Denoiser
    scheduler : DDPMScheduler
    label : int
        Class y: 0 mc, 1 data.
    mu : Tensor, shape (N,)
        Number of pileup interactions.
    w : float
        Guidance; diffusers' ``guidance_scale`` is w + 1.
    bf16 : bool
        Run the network's residual in bfloat16; the closed form stays in single precision.
    """

    denoiser: Denoiser
    scheduler: DDPMScheduler
    label: int
    mu: Tensor
    w: float = 0.0
    bf16: bool = True

    @torch.no_grad()
    def __call__(self, x_t: Tensor, t: int, x_0: Tensor) -> tuple[Tensor, Tensor]:
        """ε̄ and the clean latents it implies, both (N, C, H, W), at one timestep for all."""
        times = torch.full((len(x_t),), t, device=x_t.device)
        alpha, sigma = alpha_sigma(self.scheduler, times)
        velocity = self._velocity(x_t, times, self.label, x_0, alpha, sigma)
        if self.w:
            free = self._velocity(x_t, times, NULL, x_0, alpha, sigma)
            velocity = velocity + self.w * (velocity - free)
        a, s = alpha[:, None, None, None], sigma[:, None, None, None]
        return s * x_t + a * velocity, a * x_t - s * velocity

    def _velocity(
        self, x_t: Tensor, t: Tensor, label: int, x_0: Tensor, alpha: Tensor, sigma: Tensor
    ) -> Tensor:
        with torch.autocast(x_t.device.type, torch.bfloat16, enabled=self.bf16):
            return self.denoiser(x_t, t, torch.full_like(t, label), self.mu, x_0, alpha, sigma)
