"""Guided estimates of noise and clean latents from the denoiser's velocity.

Guidance is a sum of terms w(t) · direction added to the velocity v. At fixed x_t, ε = σ x_t + α v
and x̃_0 = α x_t − σ v are linear in v: a difference of velocities is a difference of ε over α.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from pileupgen.diffusion.schedule import Schedule, alpha_sigma
from pileupgen.diffusion.settings import Settings, WeightSchedule
from pileupgen.models.networks.denoiser import FieldDenoiser
from pileupgen.models.networks.precision import autocast
from pileupgen.models.networks.ratio import RatioClassifier


@dataclass(frozen=True)
class Strength:
    """w over the decoding.

    With u = t / t_start: ``constant`` w; ``linear`` 2 w (1 − u); ``cosine`` w (1 + cos πu). The
    latter two rise from 0 at the start to 2 w at the clean end; the mean over t is w for all three.
    """

    w: float
    schedule: WeightSchedule = "constant"
    t_start: int = 1
    """Timestep at which the decoding starts."""
    interval: tuple[int, int] | None = None
    """Timesteps lo ≤ t ≤ hi outside of which w is 0."""

    def __call__(self, t: int) -> float:
        """W at a timestep."""
        if self.interval is not None and not self.interval[0] <= t <= self.interval[1]:
            return 0.0
        u = min(t / max(self.t_start, 1), 1.0)
        if self.schedule == "linear":
            return 2 * self.w * (1 - u)
        if self.schedule == "cosine":
            return self.w * (1 + math.cos(math.pi * u))
        return self.w


@dataclass(frozen=True)
class Point:
    """The point at which the network is evaluated."""

    x_t: Tensor
    x_0: Tensor
    """Noised latents, and the last estimate of the clean ones. Shape (N, C, H, W)."""
    t: Tensor
    """Shape (N,)."""
    mu: Tensor
    """Shape (N,)."""
    alpha: Tensor
    sigma: Tensor
    """√ᾱ_t and √(1 − ᾱ_t). Shape (N,)."""


class Velocity(Protocol):
    """v_θ at a point with a class label."""

    def __call__(self, point: Point, label: int) -> Tensor:
        """The velocity, (N, C, H, W)."""


class Guide(Protocol):
    """One term of the guidance."""

    @property
    def strength(self) -> Strength:
        """Its w over t."""

    def direction(self, point: Point, velocity: Tensor, of_label: Velocity) -> Tensor:
        """Term added to the velocity (N, C, H, W) for w = 1."""


@dataclass(frozen=True)
class LabelContrast:
    """v_y − v_other: away from another label.

    With the null label classifier-free guidance, ε̄ = (w + 1) ε_θ(x_t, t, y, x̃_0) −
    w ε_θ(x_t, t, ∅, x̃_0) (Ho & Salimans 2207.12598, eq. 6). With mc against data it follows
    ∇ ln r, since ε_data − ε_mc = −σ ∇ ln r for a perfect denoiser.
    """

    strength: Strength
    other: int

    def direction(self, point: Point, velocity: Tensor, of_label: Velocity) -> Tensor:
        """v_y − v_other."""
        return velocity - of_label(point, self.other)


@dataclass(frozen=True)
class FieldContrast:
    """Classifier-free guidance by the closed forms alone, v_y^G − v_∅^G, in one network pass.

    The denoiser is the closed form of a Gaussian field plus what a network adds. Between labels
    the former differs by far more than the latter, and costs next to nothing.
    """

    strength: Strength
    denoiser: FieldDenoiser
    label: int
    other: int

    def direction(self, point: Point, velocity: Tensor, of_label: Velocity) -> Tensor:  # noqa: ARG002
        """v_y^G − v_∅^G."""
        return self.denoiser.closed_form_contrast(
            point.x_t, self.label, self.other, point.alpha, point.sigma
        )


@dataclass(frozen=True)
class RatioGradient:
    """Classifier guidance ε̄ = ε − w σ ∇ ln r(x_t, t) (Dhariwal & Nichol 2105.05233, algorithm 2).

    The gradient is that of the calibrated ln r by x_t. ``sign`` −1 leads to mc instead of data.
    """

    strength: Strength
    ratio: RatioClassifier
    sign: int = 1

    def direction(self, point: Point, velocity: Tensor, of_label: Velocity) -> Tensor:  # noqa: ARG002
        """∓(σ/α) ∇ ln r."""
        scale = self.sign * (point.sigma / point.alpha)[:, None, None, None]
        return -scale * self.gradient(point)

    def gradient(self, point: Point) -> Tensor:
        """∇ ln r(x_t, t) by x_t, (N, C, H, W)."""
        with torch.enable_grad():
            x_t = point.x_t.detach().float().requires_grad_()
            log_ratio = self.ratio(x_t, point.t, point.mu, point.alpha, point.sigma)
            (gradient,) = torch.autograd.grad(log_ratio.sum(), x_t)
        return gradient.detach()


@dataclass(frozen=True)
class Predictor:
    """ε̄ and x̃_0 of one class, guided."""

    denoiser: FieldDenoiser
    scheduler: Schedule
    label: int
    """Class y: 0 mc, 1 data."""
    mu: Tensor
    """Number of pileup interactions. Shape (N,)."""
    guides: tuple[Guide, ...] = ()
    """Terms of the guidance; a term whose w is 0 at a timestep costs nothing there."""
    bf16: bool = True
    """Run the network's residual in bfloat16, where the device has it; the closed form stays in
    single precision."""
    source: Tensor | None = None
    """Clean latents of the source events, for a denoiser that is conditioned on them. Shape (N, C,
    H, W)."""
    settings: Settings = field(default_factory=Settings)
    """The translation's, of which ``network`` and ``self_conditioning`` are used."""

    @torch.no_grad()
    def __call__(self, x_t: Tensor, t: int, x_0: Tensor) -> tuple[Tensor, Tensor]:
        """ε̄ and the clean latents it implies, both (N, C, H, W), at one timestep for all."""
        times = torch.full((len(x_t),), t, device=x_t.device)
        alpha, sigma = alpha_sigma(self.scheduler, times)
        shown = x_0 if self.settings.self_conditioning else torch.zeros_like(x_0)
        point = Point(x_t, shown, times, self.mu, alpha, sigma)
        velocity = self.velocity(point, self.label)
        guided = velocity
        for guide in self.guides:
            w = guide.strength(t)
            if w:
                guided = guided + w * guide.direction(point, velocity, self.velocity)
        a, s = alpha[:, None, None, None], sigma[:, None, None, None]
        return s * x_t + a * guided, a * x_t - s * guided

    def velocity(self, point: Point, label: int) -> Tensor:
        """v_θ with one label for all events."""
        labels = torch.full_like(point.t, label)
        if not self.settings.network:
            return self.denoiser.closed_form(point.x_t, labels, point.alpha, point.sigma)
        with autocast(point.x_t.device, self.bf16):
            return self.denoiser(
                point.x_t,
                point.t,
                labels,
                point.mu,
                point.x_0,
                point.alpha,
                point.sigma,
                **({} if self.source is None else {"source": self.source}),
            )
