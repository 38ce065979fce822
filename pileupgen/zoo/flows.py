"""Coupling flows on images: the likelihood of scores, one pass to make an event.

RealNVP (Dinh et al. 1605.08803) with affine couplings, neural spline flows (Durkan et al.
1906.04032) with monotone rational-quadratic ones. Masks are chequerboards that alternate between
cells, and between layers.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pileupgen.errors import DependencyError
from pileupgen.models.codec import EventNoise
from pileupgen.samples.store import Images
from pileupgen.zoo.contract import Budget, ZooSample
from pileupgen.zoo.fitting import FitRecord, TrainingStep, train
from pileupgen.zoo.image_system import TARGET, ImageSystem, padded_batches, rows_of
from pileupgen.zoo.layers import CellTrunk, log_normal

N_BINS = 6
BOUND = 5.0
"""Scores beyond ± this are left as they are by a spline."""
EVENTS_A_STEP = 16


class CouplingFlow(nn.Module):
    """Couplings one after another, from scores to independent normal numbers.

    Parameters
    ----------
    shape : (int, int, int)
        L, n_eta, n_phi.
    n_conditions : int
    is_spline : bool
        Rational-quadratic splines, else affine maps.
    is_ring : bool
        Whether φ closes to a full turn.
    n_couplings, width : int
    n_context : int
        Channels that are shown to every coupling and stay as they are.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        n_conditions: int,
        *,
        is_spline: bool,
        is_ring: bool,
        n_couplings: int = 8,
        width: int = 24,
        n_context: int = 0,
    ) -> None:
        super().__init__()
        self.is_spline = is_spline
        n_layers, n_eta, n_phi = shape
        self.per_cell = 3 * N_BINS - 1 if is_spline else 2
        self.nets = nn.ModuleList(
            CellTrunk(
                2 * n_layers + n_context,
                self.per_cell * n_layers,
                n_conditions,
                n_eta,
                width,
                1,
                is_ring=is_ring,
            )
            for _ in range(n_couplings)
        )
        place = torch.arange(n_eta)[:, None] + torch.arange(n_phi)[None]
        layer = torch.arange(n_layers)[:, None, None]
        masks = [(place + layer) % 2, (place + layer + 1) % 2, place % 2, (place + 1) % 2]
        self._masks = [mask.expand(shape).float() for mask in masks]

    def forward(
        self, x: Tensor, conditions: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Scores to normal numbers, and ln |det| of the map, (N,)."""
        total = torch.zeros(len(x))
        for index, net in enumerate(self.nets):
            x, gained = self._couple(x, conditions, index, net, context, inverse=False)
            total = total + gained
        return x, total

    def inverse(self, x: Tensor, conditions: Tensor, context: Tensor | None = None) -> Tensor:
        """Normal numbers to scores."""
        for index, net in reversed(list(enumerate(self.nets))):
            x, _ = self._couple(x, conditions, index, net, context, inverse=True)
        return x

    def _couple(
        self,
        x: Tensor,
        conditions: Tensor,
        index: int,
        net: nn.Module,
        context: Tensor | None,
        *,
        inverse: bool,
    ) -> tuple[Tensor, Tensor]:
        kept = self._masks[index % len(self._masks)]
        known = [x * kept, kept.expand_as(x), *([] if context is None else [context])]
        shown = torch.cat(known, dim=1)
        parameters = net(shown, conditions).unflatten(1, (x.shape[1], self.per_cell))
        if self.is_spline:
            moved, slope = _spline(x, parameters.movedim(2, -1), inverse=inverse)
        else:
            raw, shift = parameters.unbind(dim=2)
            log_scale = 2 * torch.tanh(raw / 2)
            if inverse:
                moved, slope = (x - shift) * torch.exp(-log_scale), -log_scale
            else:
                moved, slope = x * torch.exp(log_scale) + shift, log_scale
        gained = (slope * (1 - kept)).flatten(1).sum(dim=1)
        return torch.where(kept > 0, x, moved), gained


def _spline(x: Tensor, parameters: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
    """Monotone rational-quadratic spline of every cell; identity where parameters are 0."""
    from zuko.transforms import MonotonicRQSTransform

    widths, heights, slopes = torch.split(parameters, [N_BINS, N_BINS, N_BINS - 1], dim=-1)
    spline = MonotonicRQSTransform(widths, heights, slopes, bound=BOUND)
    if inverse:
        return spline.inv(x), torch.zeros_like(x)
    return spline.call_and_ladj(x)


class Flow(ImageSystem):
    """A coupling flow trained by maximum likelihood; option ``spline``."""

    citation = "RealNVP, Dinh et al. 1605.08803; neural splines, Durkan et al. 1906.04032"
    takes_several = True
    known_options = ("spline", "n_couplings")
    network: CouplingFlow

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if options.get("spline") and find_spec("zuko") is None:
            raise DependencyError("Spline flows need zuko.", "pip install 'pileupgen[baselines]'")

    @property
    def is_exact(self) -> bool:
        """Whether no cell has a random rank: else, as with null cells, it is a lower bound."""
        return self.space.is_one_to_one

    @property
    def n_evaluations(self) -> int:
        """One after another, one a coupling."""
        return len(self.network.nets)

    def make_network(self) -> CouplingFlow:
        """Couplings of the kind that the options name."""
        spline = bool(self.options.get("spline", False))
        n = self.options.get("n_couplings", 4 if spline else 8)
        return CouplingFlow(
            self.grid.shape,
            self.conditions.width,
            is_spline=spline,
            is_ring=self.grid.is_periodic,
            n_couplings=n,
        )

    def train(self, sample: ZooSample, budget: Budget, seed: int) -> FitRecord:
        """Maximise the likelihood of the target's scores."""
        images = sample.target
        scores = self.space.encode(images, images.mu, TARGET, seed)
        views = self.views(images)
        n_cells = scores[0].numel()

        def loss(step: TrainingStep) -> Tensor:
            x, conditions = views.draw((scores,), EVENTS_A_STEP, step.rng)
            z, gained = self.network(x, conditions)
            return -(log_normal(z) + gained - log_normal(x)).mean() / n_cells

        return train(self.network, [self.network], [loss], budget, seed, rates=[2e-3])

    def draw(self, conditions: Tensor, mu: Tensor, noise: EventNoise) -> Tensor:  # noqa: ARG002
        """Invert the flow on normal numbers."""
        return self.network.inverse(noise.normal(self.grid.shape), conditions)

    @torch.no_grad()
    def nats_gained(
        self, images: Images, mu: NDArray[np.float32], seed: int
    ) -> NDArray[np.float64]:
        """Ln p of each target image above that of independent cells, nats a live cell, (N,)."""
        found, n_cells = [torch.empty(0)], self.space.n_alive(TARGET)
        for rows, n in padded_batches(len(images), self.batch):
            few = rows_of(images, rows)
            x = self.space.encode(few, mu[rows], TARGET, seed)
            conditions = self.shown(few, mu[rows])
            z, gained = self.network(x, conditions)
            found.append((log_normal(z) + gained - log_normal(x))[:n] / n_cells)
        return np.asarray(torch.cat(found).double().numpy())
