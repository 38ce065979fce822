"""Solvers of the reverse (and forward) diffusion, on explicit timesteps.

diffusers' schedulers truncate partial diffusion to their own grid and add noise off it wrongly;
here every solver takes the timesteps it is given and is exact on any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from pileupgen.diffusion.schedule import Schedule, alpha_sigma
from pileupgen.diffusion.settings import SAMPLERS, Sampler, is_stochastic
from pileupgen.errors import ConfigError

Predict = Callable[[Tensor, int, Tensor], tuple[Tensor, Tensor]]
Record = Callable[[int, Tensor], None]


def solve(
    x_t: Tensor,
    timesteps: Sequence[int],
    predict: Predict,
    scheduler: Schedule,
    sampler: Sampler = "sde-dpmsolver++",
    normal: Callable[[], Tensor] | None = None,
    eta: float = 0.0,
    record: Record | None = None,
) -> Tensor:
    """Follow the diffusion along ``timesteps``, down (denoise) or, without noise, up (invert).

    Parameters
    ----------
    x_t : Tensor, shape (N, C, H, W)
        Latents at the first timestep.
    timesteps : sequence of int
        Monotonic; −1 is the clean end.
    predict : callable
        (x_t, t, x̃_0) to (ε, x̃_0); x̃_0 is fed back from step to step (2208.04202).
    sampler : str
        ``ancestral`` (Ho et al. 2006.11239, eq. 7, on any grid: DDIM's η = 1), ``ddim``
        (Song et al. 2010.02502, eq. 12), ``dpmsolver++`` and ``sde-dpmsolver++`` (second order,
        multistep, and its SDE form: Lu et al. 2211.01095).
    normal : callable
        Gives standard normal noise of the shape of ``x_t``; needed by stochastic samplers.
    record : callable
        Told (t, x_t) at every one of ``timesteps``, the first and the last included.

    Returns
    -------
    Tensor, shape (N, C, H, W)
        Latents at the last timestep.

    Raises
    ------
    ConfigError
        If the sampler is unknown or lacks its noise.
    """
    if sampler not in SAMPLERS:
        raise ConfigError(f"No sampler '{sampler}'.", f"Known: {', '.join(SAMPLERS)}.")
    eta = 1.0 if sampler == "ancestral" else eta
    noisy = is_stochastic(sampler, eta)
    if noisy and normal is None:
        raise ConfigError(f"Sampler '{sampler}' needs noise.")
    alphas, sigmas = (values.tolist() for values in alpha_sigma(scheduler, torch.tensor(timesteps)))
    x, x_0, history = x_t, torch.zeros_like(x_t), _History()
    if record is not None:
        record(timesteps[0], x)
    for index in range(len(timesteps) - 1):
        # Inverting starts where there is no noise: the network's first timestep stands for it.
        eps, x_0 = predict(x, max(timesteps[index], 0), x_0)
        here = (alphas[index], sigmas[index])
        there = (alphas[index + 1], sigmas[index + 1])
        noise = normal() if noisy and normal is not None and there[1] > 0 else None
        if sampler in ("ancestral", "ddim"):
            x = _ddim_step(eps, x_0, here, there, eta, noise)
        else:
            x = history.step(x, eps, x_0, here, there, noise)
        if record is not None:
            record(timesteps[index + 1], x)
    return x


Level = tuple[float, float]


def _ddim_step(
    eps: Tensor, x_0: Tensor, here: Level, there: Level, eta: float, noise: Tensor | None
) -> Tensor:
    """DDIM (2010.02502, eq. 12 with σ of eq. 16)."""
    (a, s), (a_next, s_next) = here, there
    spread = 0.0
    if noise is not None:
        spread = eta * (s_next / s) * max(1 - (a / a_next) ** 2, 0.0) ** 0.5
    x = a_next * x_0 + max(s_next**2 - spread**2, 0.0) ** 0.5 * eps
    return x if noise is None else x + spread * noise


class _History:
    """DPM-Solver++(2M) and its SDE form: the data prediction of the step before is kept."""

    def __init__(self) -> None:
        self._x_0: Tensor | None = None
        self._h = 0.0

    def step(
        self, x: Tensor, eps: Tensor, x_0: Tensor, here: Level, there: Level, noise: Tensor | None
    ) -> Tensor:
        (a, s), (a_next, s_next) = here, there
        if s_next == 0:
            return x_0
        if s == 0:
            # λ is infinite at the clean end: the first inversion step is DDIM's.
            return a_next * x_0 + s_next * eps
        h = float(np.log(a_next / s_next) - np.log(a / s))
        data = x_0
        if self._x_0 is not None:
            ratio = self._h / h
            data = x_0 + (x_0 - self._x_0) / (2 * ratio)
        self._x_0, self._h = x_0, h
        if noise is None:
            return (s_next / s) * x - a_next * float(np.expm1(-h)) * data
        decay = float(np.exp(-h))
        grown = -float(np.expm1(-2 * h))
        return (s_next / s) * decay * x + a_next * grown * data + s_next * grown**0.5 * noise
