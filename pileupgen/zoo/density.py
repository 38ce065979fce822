"""Density of some numbers of an event given another, learned by a spline flow, and samples of it.

The numbers become normal scores first, column by column, so that the flow (neural splines, Durkan
et al. 1906.04032) learns what they do together and how they depend on the condition.
"""

from __future__ import annotations

import time
from importlib.util import find_spec

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

from pileupgen.arrays import Floats
from pileupgen.errors import DependencyError, RunError, TrainingError

N_TRANSFORMS, N_BINS, WIDTH = 2, 8, 32
BATCH, RATE = 512, 5e-3
N_CHECKED = 30
"""Steps between looks at the held-out events."""
HELD_OUT = 0.1
_REACH = 3.5
"""Scores of the training's extremes; beyond lies nothing."""


class ConditionalDensity:
    """A density p(x | m) of k numbers x at a condition m.

    Raises
    ------
    DependencyError
        If zuko is not installed.
    """

    citation = "Neural spline flows, Durkan et al. 1906.04032"

    def __init__(self) -> None:
        if find_spec("zuko") is None:
            raise DependencyError("Densities need zuko.", "pip install 'pileupgen[baselines]'")
        self.training_seconds, self.steps = 0.0, 0
        self._flow: torch.nn.Module | None = None

    def fit(
        self, x: Floats, m: Floats, *, seed: int, seconds: float = 60.0, max_steps: int = 10_000
    ) -> None:
        """Maximise the likelihood; the weights with the best held-out one are kept.

        Parameters
        ----------
        x : float64 array, shape (N, k)
        m : float64 array, shape (N,)
        seconds : float
            CPU time of the steps.

        Raises
        ------
        TrainingError
            If there are fewer than 100 events, numbers that are not finite, or a likelihood that
            is not.
        """
        if len(x) < 100 or not (np.isfinite(x).all() and np.isfinite(m).all()):
            raise TrainingError(
                f"A density cannot be learned from {len(x)} events, or from infinite numbers.",
                "Give 100 or more, all finite.",
            )
        import zuko

        rng = np.random.default_rng([seed, 29])
        self._sorted = np.sort(x, axis=0)
        self._levels = _levels(len(x))
        self._centre, self._spread = float(m.mean()), float(m.std()) or 1.0
        order = rng.permutation(len(x))
        z, c = torch.from_numpy(self._scores(x)[order]), self._condition(m[order])
        n_held = max(int(HELD_OUT * len(x)), 10)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            flow = zuko.flows.NSF(
                x.shape[1], 1, transforms=N_TRANSFORMS, bins=N_BINS, hidden_features=[WIDTH] * 2
            )
        optimiser = torch.optim.Adam(flow.parameters(), RATE)
        best, state = np.inf, dict(flow.state_dict())
        begun = time.process_time()
        for step in range(max_steps):
            if time.process_time() - begun > seconds:
                break
            rows = torch.from_numpy(rng.integers(n_held, len(x), size=BATCH))
            loss = -flow(c[rows]).log_prob(z[rows]).mean()
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"The likelihood is {loss.item()} at step {step}.",
                    "Look for extreme values among the conditions.",
                )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            self.steps = step + 1
            if step % N_CHECKED == N_CHECKED - 1:
                with torch.no_grad():
                    now = -float(flow(c[:n_held]).log_prob(z[:n_held]).mean())
                if now < best:
                    best = now
                    state = {name: value.clone() for name, value in flow.state_dict().items()}
        flow.load_state_dict(state)
        self.training_seconds = time.process_time() - begun
        self._flow = flow

    @torch.no_grad()
    def sample(self, m: Floats, seed: int) -> Floats:
        """One draw at each condition, (N,) to (N, k).

        Raises
        ------
        RunError
            If nothing has been learned.
        """
        if self._flow is None:
            raise RunError("This density is not fitted.", "Fit it first.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            z = self._flow(self._condition(m)).sample().double().numpy()
        columns = [
            np.interp(np.clip(z[:, k], -_REACH, _REACH), self._levels, self._sorted[:, k])
            for k in range(z.shape[1])
        ]
        return np.stack(columns, axis=1)

    def _scores(self, x: Floats) -> Floats:
        """Normal scores, (N, k) in single precision."""
        columns = [np.interp(x[:, k], self._sorted[:, k], self._levels) for k in range(x.shape[1])]
        return np.stack(columns, axis=1).astype(np.float32)

    def _condition(self, m: Floats) -> Tensor:
        return torch.from_numpy(((m - self._centre) / self._spread).astype(np.float32))[:, None]


def _levels(n: int) -> Floats:
    """Scores of n sorted numbers, (n,)."""
    return np.asarray(np.clip(ndtri((np.arange(n) + 0.5) / n), -_REACH, _REACH))
