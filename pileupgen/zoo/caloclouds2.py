"""CaloClouds II: continuous time, no latents, and a student of one step (2309.05704).

Points are denoised by themselves at noise levels σ, with the preconditioning, noise levels and Heun
solver of EDM (Karras et al. 2206.00364, table 1 and algorithm 1); marginals are N(0, 1) here, so
that σ_data = 1 and c_skip x is the best denoiser as long as the network gives 0. The student is
distilled for consistency (Song et al. 2303.01469, algorithm 2): what it finds at σ_{n+1} is what it
finds after one of the teacher's steps to σ_n, and at σ_min it is the identity (appendix C). As
target serves the student itself without a gradient, not an average of its weights, and noise levels
become more in the course of the distillation (2310.14189, sections 3.2 and 3.4).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from pileupgen.errors import ConfigError, did_you_mean
from pileupgen.models.codec import EventNoise
from pileupgen.zoo.contract import Budget, ZooSample
from pileupgen.zoo.fitting import FitRecord, TrainingStep, train
from pileupgen.zoo.point_layers import N_TIMES, PointwiseNet, mean_of_points, time_features
from pileupgen.zoo.point_system import PointSystem

EVENTS_A_STEP, POINTS_A_STEP = 24, 160
"""Events of a step, and points of each at most: those of one event are independent."""
SIGMA_MIN, SIGMA_MAX, RHO = 0.002, 80.0, 7.0
MEAN_LOG, SPREAD_LOG = -1.2, 1.2
"""Mean and standard deviation of ln σ in training."""
N_SCALES = 3, 18
"""Noise levels between which a student is distilled, at first and in the end."""
GROWTH = 0.7
"""Fraction of the distillation in which their number grows."""
SAMPLERS = ("heun", "consistency")


def preconditioning(sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """c_skip, c_out, c_in and c_noise of EDM with σ_data = 1 (2206.00364, table 1)."""
    norm = (1 + sigma.square()).sqrt()
    return 1 / norm.square(), sigma / norm, 1 / norm, sigma.log() / 4


def boundary(sigma: Tensor) -> tuple[Tensor, Tensor]:
    """c_skip and c_out that make f(x, σ_min) = x (2303.01469, appendix C), with σ_data = 1."""
    beyond = sigma - SIGMA_MIN
    return 1 / (1 + beyond.square()), beyond / (1 + sigma.square()).sqrt()


def noise_levels(n: int) -> Tensor:
    """σ from ``SIGMA_MAX`` down to ``SIGMA_MIN`` (2206.00364, eq. 5), (n,)."""
    ends = torch.tensor([SIGMA_MAX, SIGMA_MIN]).double() ** (1 / RHO)
    return ((ends[0] + torch.linspace(0, 1, n).double() * (ends[1] - ends[0])) ** RHO).float()


def n_scales(progress: float) -> int:
    """Noise levels at a fraction of the distillation; they grow by a factor in equal times.

    What is known at σ_min has to pass from level to level up to σ_max: through few large steps
    first, which are inaccurate, through more and smaller ones then. With all of them from the start
    a short distillation ends near the teacher's own answer at σ_max, the mean of all points.
    """
    first, last = N_SCALES
    return round(first * (last / first) ** min(progress / GROWTH, 1.0))


class CaloClouds2(PointSystem):
    """Denoiser of points, and its student of one step.

    Options: ``steps`` of Heun's rule, 13; ``distilled``, the part of the budget that goes to the
    student, 0; ``sampler``, ``heun`` or, of a student, ``consistency``.
    """

    citation = "CaloClouds II, Buhmann et al. 2309.05704"
    known_options = ("steps", "distilled", "sampler", *PointSystem.known_options)
    network: nn.ModuleDict

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if int(options.get("steps", 13)) < 2:
            raise ConfigError(f"{options['steps']} steps; at least two are needed.")
        if not 0 <= self._distilled < 1:
            raise ConfigError(
                f"distilled: {self._distilled:g} of the budget.", "Give 0 to less than 1."
            )
        if self._sampler not in SAMPLERS:
            raise ConfigError(
                f"There is no sampler '{self._sampler}'.",
                did_you_mean(self._sampler, SAMPLERS),
            )
        if self._sampler == "consistency" and not self._distilled:
            raise ConfigError("There is no student to draw with.", "Give distilled, as 0.5.")

    @property
    def _distilled(self) -> float:
        return float(self.options.get("distilled", 0.0))

    @property
    def _sampler(self) -> str:
        return str(self.options.get("sampler", SAMPLERS[0]))

    @property
    def n_evaluations(self) -> int:
        """Two a step of Heun's rule but for the last; one of a student."""
        return 1 if self._sampler == "consistency" else 2 * int(self.options.get("steps", 13)) - 1

    @property
    def n_parameters(self) -> int:
        """Trained numbers of the network that makes events."""
        name = "student" if self._sampler == "consistency" else "teacher"
        return sum(value.numel() for value in self.network[name].parameters())

    def make_network(self) -> nn.ModuleDict:
        """Denoiser and, where it is asked for, student."""
        names = ("teacher", "student") if self._distilled else ("teacher",)
        n, known = self.space.n_features, self.n_known + N_TIMES
        return nn.ModuleDict({name: PointwiseNet(n, known) for name in names})

    def train(self, sample: ZooSample, budget: Budget, seed: int) -> FitRecord:
        """Train the denoiser, then with the rest of the budget the student."""
        views, network, share = self.views(sample.target), self.network, 1 - self._distilled
        n = self.a_step(EVENTS_A_STEP)

        def of_teacher(step: TrainingStep) -> Tensor:
            x, mask, known = views.draw(n, step.rng, POINTS_A_STEP)
            sigma = torch.exp(MEAN_LOG + SPREAD_LOG * torch.randn(len(x), generator=step.rng))
            noisy = x + sigma[:, None, None] * torch.randn(x.shape, generator=step.rng)
            found = self.denoised(noisy, sigma, known)
            # λ(σ) = 1 / c_out², eq. 8.
            weight = preconditioning(sigma)[1].square().reciprocal()
            return mean_of_points((found - x).square() * weight[:, None, None], mask)

        def of_student(step: TrainingStep) -> Tensor:
            return self.inconsistency(*views.draw(n, step.rng, POINTS_A_STEP), step)

        teacher, steps = network["teacher"], budget.max_steps
        state = budget.state and budget.state.with_name(f"teacher-{budget.state.name}")
        of_budget = replace(
            budget,
            seconds=share * budget.seconds,
            max_steps=None if steps is None else max(round(share * steps), min(steps, 1)),
            state=state,
        )
        done = train(teacher, [teacher], [of_teacher], of_budget, seed, rates=[3e-3])
        if not self._distilled:
            if state is not None:
                state.unlink(missing_ok=True)
            return done
        network["student"].load_state_dict(teacher.state_dict())
        rest = replace(
            budget,
            seconds=budget.seconds - of_budget.seconds,
            max_steps=None if steps is None else steps - done.steps,
        )
        student = network["student"]
        more = train(network, [student], [of_student], rest, seed + 1, rates=[3e-3])
        if state is not None:
            state.unlink(missing_ok=True)
        return FitRecord(done.steps + more.steps, done.seconds + more.seconds, done.losses)

    def inconsistency(self, x: Tensor, mask: Tensor, known: Tensor, step: TrainingStep) -> Tensor:
        """How far the student's answers at neighbouring noise levels are apart, squared."""
        levels = noise_levels(n_scales(step.progress))
        number = torch.randint(len(levels) - 1, (len(x),), generator=step.rng)
        high, low = levels[number], levels[number + 1]
        noisy = x + high[:, None, None] * torch.randn(x.shape, generator=step.rng)
        with torch.no_grad():
            target = self.consistent(self._heun(noisy, high, low, known), low, known)
        return mean_of_points((self.consistent(noisy, high, known) - target).square(), mask)

    def denoised(self, x: Tensor, sigma: Tensor, known: Tensor) -> Tensor:
        """D(x; σ) of the teacher; points (N, P, F), σ (N,) and what is known (N, k)."""
        c_skip, c_out, _, _ = (c[:, None, None] for c in preconditioning(sigma))
        return c_skip * x + c_out * self._shown("teacher", x, sigma, known)

    def consistent(self, x: Tensor, sigma: Tensor, known: Tensor) -> Tensor:
        """f(x, σ) of the student."""
        c_skip, c_out = (c[:, None, None] for c in boundary(sigma))
        return c_skip * x + c_out * self._shown("student", x, sigma, known)

    def _shown(self, name: str, x: Tensor, sigma: Tensor, known: Tensor) -> Tensor:
        _, _, c_in, c_noise = preconditioning(sigma)
        seen = torch.cat([known, time_features(c_noise)], dim=1)
        found: Tensor = self.network[name](c_in[:, None, None] * x, seen)
        return found

    def _heun(self, x: Tensor, high: Tensor, low: Tensor, known: Tensor) -> Tensor:
        """One step of Heun's rule from σ to σ', (N,) each, of which none is 0."""
        h, width = high[:, None, None], (low - high)[:, None, None]
        slope = (x - self.denoised(x, high, known)) / h
        other = x + width * slope
        after = (other - self.denoised(other, low, known)) / low[:, None, None]
        return x + width * (slope + after) / 2

    def draw(self, mask: Tensor, known: Tensor, noise: EventNoise) -> Tensor:
        """Heun's rule from σ_max to 0, or one evaluation of the student."""
        levels = noise_levels(int(self.options.get("steps", 13)))
        x = levels[0] * noise.normal((mask.shape[1], self.space.n_features))
        of_events = levels[:, None].expand(-1, len(x))
        if self._sampler == "consistency":
            return self.consistent(x, of_events[0], known)
        for high, low in pairwise(of_events):
            x = self._heun(x, high, low, known)
        return self.denoised(x, of_events[-1], known)
