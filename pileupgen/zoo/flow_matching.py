"""Flow matching on images, with the project's own denoiser."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from pileupgen.models.codec import EventNoise
from pileupgen.zoo.diffusion import Ddpm, T


class FlowMatching(Ddpm):
    """Conditional flow matching along straight lines (Lipman et al. 2210.02747; Liu 2209.03003).

    x_s = (1 − s) z + s ε, from s = 1 to 0 by the midpoint rule; option ``steps``, of two
    evaluations each. The denoiser sees x_s / √((1 − s)² + s²), which has the form α z + σ ε, and
    the velocity ε − z follows from its own.
    """

    citation = "Lipman et al. 2210.02747; Liu, Gong & Liu 2209.03003"
    known_options = ("steps",)

    @property
    def n_evaluations(self) -> int:
        """Two a step, and one for the denoised image at the end."""
        return 2 * self._n_steps + 1

    def loss(self, z: Tensor, eps: Tensor, u: Tensor, mu: Tensor) -> Tensor:
        """Mean squared error of ε − z along the straight line, relative to its scale."""
        s = (0.01 + 0.98 * u)[:, None, None, None]
        missed = self._flow((1 - s) * z + s * eps, s, mu) - (eps - z)
        return self._of_grid(missed).square().mean()

    def _flow(self, x: Tensor, s: Tensor, mu: Tensor) -> Tensor:
        norm = ((1 - s).square() + s.square()).sqrt()
        alpha, sigma = ((1 - s) / norm).flatten(), (s / norm).flatten()
        t = (s.flatten() * (T - 1)).round().long()
        scaled = x / norm
        v = self._velocity(scaled, t, mu, alpha, sigma)
        a, b = alpha[:, None, None, None], sigma[:, None, None, None]
        found: Tensor = (b * scaled + a * v) - (a * scaled - b * v)
        return found

    def draw(self, conditions: Tensor, mu: Tensor, noise: EventNoise) -> Tensor:
        """Solve dx/ds = ε − z from s = 0.99 to 0.01, then take the denoised image."""
        mu = self._told(conditions, mu)
        x = noise.normal(self._shape)
        ends = torch.linspace(0.99, 0.01, self._n_steps + 1)
        for now, then in pairwise(ends):
            half = (then - now) / 2
            whole = torch.full((len(x), 1, 1, 1), 1.0)
            middle = x + half * self._flow(x, now * whole, mu)
            x = x + 2 * half * self._flow(middle, (now + half) * whole, mu)
        whole = torch.full((len(x), 1, 1, 1), 1.0)
        return self._of_grid(x - 0.01 * self._flow(x, 0.01 * whole, mu))
