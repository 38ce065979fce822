"""A solver as a table of coefficients, for software that has to follow it without pileupgen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from pileupgen.diffusion.schedule import Schedule, alpha_sigma
from pileupgen.diffusion.settings import Sampler
from pileupgen.diffusion.solvers import solve
from pileupgen.fields import PlainRecord

_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Step(PlainRecord):
    """One step: ask the denoiser at t, then combine.

    With velocity v, ε = σ x + α v and x̃_0 = α x − σ v the next latents are
    ``x``·x + ``x_0``·x̃_0 + ``x_0_before``·(x̃_0 of the step before) + ``eps``·ε + ``noise``·N(0, 1).
    """

    t: int
    """Timestep that the network is given."""
    alpha: float
    sigma: float
    """√ᾱ_t and √(1 − ᾱ_t)."""
    x: float
    x_0: float
    x_0_before: float
    eps: float
    noise: float
    """Coefficients."""
    draws_noise: bool
    """Whether a normal number per latent is drawn."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def plan_steps(
    timesteps: Sequence[int], scheduler: Schedule, sampler: Sampler, eta: float = 0.0
) -> list[Step]:
    """The steps of :func:`pileupgen.diffusion.solvers.solve`, found by following it.

    All that a solver does is linear in the latents, the network's answers and the noise. It is
    given symbols for these, unit vectors, and its coefficients are read off.

    Parameters
    ----------
    timesteps, scheduler, sampler, eta
        As :func:`~pileupgen.diffusion.solvers.solve` takes them.

    Raises
    ------
    RuntimeError
        If a step looks further back than one.
    """
    probe = _Probe(len(timesteps) - 1)
    last = solve(probe.symbol(0), timesteps, probe.predict, scheduler, sampler, probe.normal, eta)
    states = [*probe.states, last]
    alphas, sigmas = (
        values.tolist() for values in alpha_sigma(scheduler, torch.tensor(probe.times))
    )
    steps = []
    for index, t in enumerate(probe.times):
        before, after = states[index], states[index + 1]
        eps, x_0, noise = (1 + 3 * index + part for part in range(3))
        old = after.clone()
        old[[eps, x_0, noise]] = 0
        known = [before] if index == 0 else [before, probe.symbol(x_0 - 3)]
        shares = torch.linalg.lstsq(torch.stack(known, dim=1), old[:, None]).solution[:, 0]
        if bool((torch.stack(known, dim=1) @ shares - old).abs().max() > _TOLERANCE):
            raise RuntimeError(f"the solver '{sampler}' looks back further than one step")
        x, x_0_before = [_clean(share) for share in (*shares.tolist(), 0.0)][:2]
        steps.append(
            Step(
                t=t,
                alpha=alphas[index],
                sigma=sigmas[index],
                x=x,
                x_0=float(after[x_0]),
                x_0_before=x_0_before,
                eps=float(after[eps]),
                noise=float(after[noise]),
                draws_noise=index in probe.drawn,
            )
        )
    return steps


class _Probe:
    """Symbols: the first latents, then of each step ε, x̃_0 and the noise."""

    def __init__(self, n_steps: int) -> None:
        self._unit = torch.eye(1 + 3 * n_steps, dtype=torch.float64)
        self.states: list[Tensor] = []
        self.times: list[int] = []
        self.drawn: set[int] = set()

    def symbol(self, index: int) -> Tensor:
        return self._unit[index]

    def predict(self, x: Tensor, t: int, _x_0: Tensor) -> tuple[Tensor, Tensor]:
        begin = 1 + 3 * len(self.states)
        self.states.append(x)
        self.times.append(t)
        return self.symbol(begin), self.symbol(begin + 1)

    def normal(self) -> Tensor:
        index = len(self.states) - 1
        self.drawn.add(index)
        return self.symbol(3 + 3 * index)


def _clean(value: float) -> float:
    return 0.0 if abs(value) < _TOLERANCE else value
