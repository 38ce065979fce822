"""A conditional normalizing flow with a domain bit, on observables."""

from __future__ import annotations

import time

import numpy as np
import torch
import zuko
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor

from benchmarks.baselines.contract import Floats, Problem, measured
from pileupgen.compare.quality import MethodOutput
from pileupgen.samples.store import Images

BATCH, HELD_OUT = 256, 0.1
PATIENCE = 20


class FlowMorphing:
    """Forward with the bit of mc, back with that of data (Daumann et al. 2403.18582).

    A neural spline flow (Durkan et al. 1906.04032) on standardised observables, conditioned on
    domain and μ. One network learns both densities, so that what both domains share, and with it
    the order of events, is the same in both directions.
    """

    n_evaluations = 2
    is_slow = False

    def fit(self, problem: Problem) -> None:
        torch.manual_seed(problem.seed)
        raw = [measured(problem.mc), measured(problem.data)]
        self.scale = _Scaling(np.concatenate(raw))
        features = torch.from_numpy(np.concatenate([self.scale(part) for part in raw])).float()
        context = torch.cat(
            [_context(images.mu, bit) for bit, images in enumerate((problem.mc, problem.data))]
        )
        self.flow = zuko.flows.NSF(
            features.shape[1], context.shape[1], transforms=3, hidden_features=(64, 64)
        )
        order = torch.randperm(len(features))
        n_held_out = int(HELD_OUT * len(features))
        self._train(features, context, order[n_held_out:], order[:n_held_out], problem.seconds)

    def _train(
        self, features: Tensor, context: Tensor, train: Tensor, held_out: Tensor, seconds: float
    ) -> None:
        """Maximum likelihood; the weights of the lowest held-out loss are kept."""
        optimizer = torch.optim.AdamW(self.flow.parameters(), lr=1e-3, weight_decay=1e-3)
        best, kept, waited = float("inf"), self.flow.state_dict(), 0
        end = time.perf_counter() + seconds
        while waited < PATIENCE and time.perf_counter() < end:
            for rows in torch.split(train[torch.randperm(len(train))], BATCH):
                loss = -self.flow(context[rows]).log_prob(features[rows]).mean()
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                torch.nn.utils.clip_grad_norm_(self.flow.parameters(), 1.0)
                optimizer.step()
            with torch.no_grad():
                judged = -float(self.flow(context[held_out]).log_prob(features[held_out]).mean())
            waited = 0 if judged < best else waited + 1
            if judged < best:
                best = judged
                kept = {key: value.clone() for key, value in self.flow.state_dict().items()}
        self.flow.load_state_dict(kept)
        self.flow.eval()

    @torch.no_grad()
    def translate(self, images: Images) -> MethodOutput:
        features = torch.from_numpy(self.scale(measured(images))).float()
        base = self.flow(_context(images.mu, 0)).transform(features)
        moved = self.flow(_context(images.mu, 1)).transform.inv(base)
        return MethodOutput(observables=self.scale.back(moved.double().numpy()))

    @property
    def n_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.flow.parameters())


class _Scaling:
    """Each observable to a standard normal by its ranks over both domains, linear between."""

    def __init__(self, values: Floats, n_knots: int = 200) -> None:
        levels = np.linspace(0.5 / n_knots, 1 - 0.5 / n_knots, n_knots)
        self.scores = ndtri(levels)
        self.knots = np.quantile(values, levels, axis=0)
        rise = 1e-9 * np.maximum(np.ptp(self.knots, axis=0), 1e-9)
        self.knots = self.knots + rise * np.arange(n_knots)[:, None]

    def __call__(self, values: Floats) -> Floats:
        columns = zip(values.T, self.knots.T, strict=True)
        return np.stack([_linear(x, k, self.scores) for x, k in columns], axis=1)

    def back(self, scores: Floats) -> Floats:
        columns = zip(scores.T, self.knots.T, strict=True)
        return np.stack([_linear(s, self.scores, k) for s, k in columns], axis=1)


def _linear(x: Floats, knots: Floats, values: Floats) -> Floats:
    """Interpolate, beyond the knots with the slope over the outer twentieth."""
    n = max(1, len(knots) // 20)
    low = (values[n] - values[0]) / (knots[n] - knots[0])
    high = (values[-1] - values[-1 - n]) / (knots[-1] - knots[-1 - n])
    inside = np.interp(x, knots, values)
    below = values[0] + low * (x - knots[0])
    above = values[-1] + high * (x - knots[-1])
    return np.where(x < knots[0], below, np.where(x > knots[-1], above, inside))


def _context(mu: NDArray[np.float32], bit: int) -> Tensor:
    """Domain and μ, (N, 2); an unknown μ is the mean's."""
    scaled = (np.where(np.isfinite(mu), mu, 60.0) - 60.0) / 30.0
    return torch.from_numpy(np.stack([np.full(len(mu), 2 * bit - 1), scaled], axis=1)).float()
