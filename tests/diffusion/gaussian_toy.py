"""A toy whose answers are known: mc is N(0, 1) in every cell, data is N(m, s²).

Everything is linear: the noised densities, the velocity, the ratio and the deterministic decode.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pileupgen.diffusion.schedule import alpha_sigma, make_scheduler
from pileupgen.models.networks.denoiser import DATA, MC

SCHEDULER = make_scheduler(1000)
SHIFT, WIDTH = 0.4, 0.8


def levels(t: int) -> tuple[float, float]:
    alpha, sigma = alpha_sigma(SCHEDULER, torch.tensor(t))
    return float(alpha), float(sigma)


def moments(label: int, t: int) -> tuple[float, float]:
    """Mean and standard deviation of x_t; the null label is the mc-data mixture's moments."""
    a, s = levels(t)
    mean, width = {MC: (0.0, 1.0), DATA: (SHIFT, WIDTH)}[label]
    return a * mean, math.hypot(a * width, s)


class ToyDenoiser(nn.Module):
    """The exact velocity of either class; ∅ is taken to be mc, so that both contrasts agree."""

    def forward(self, x_t, t, label, mu, x_0, alpha, sigma) -> Tensor:
        which = DATA if int(label[0]) == DATA else MC
        mean, width = moments(which, int(t[0]))
        a, s = alpha[0], sigma[0]
        eps = s * (x_t - mean) / width**2
        return (eps - s * x_t) / a


class ToyRatio(nn.Module):
    """The exact ln r."""

    def forward(self, x_t, t, mu, alpha, sigma) -> Tensor:
        m0, w0 = moments(MC, int(t[0]))
        m1, w1 = moments(DATA, int(t[0]))
        log_ratio = 0.5 * ((x_t - m0) / w0) ** 2 - 0.5 * ((x_t - m1) / w1) ** 2
        return (log_ratio + math.log(w0 / w1)).flatten(1).sum(1)


def wasserstein_to_data(x: Tensor, weight: Tensor | None = None) -> float:
    """W1 of a weighted sample to N(m, s²), by quantiles."""
    values, order = x.flatten().double().sort()
    w = torch.ones_like(values) if weight is None else weight.double()[order]
    levels_ = (w.cumsum(0) - 0.5 * w) / w.sum()
    exact = SHIFT + WIDTH * torch.special.ndtri(levels_.clamp(1e-9, 1 - 1e-9))
    return float((w / w.sum() * (values - exact).abs()).sum())
