"""VAE with latents for properties that may be correlated (CorrVAE, Wang et al. 2210.01796).

Some latents w of the event carry its properties, the others do not. A mask says which of them each
property depends on, so that properties may share some; along what it selects, a property is a
monotone function, y = h(m · w). Events of a wanted property have w moved along m, no farther than
is needed: of N(0, 1) latents that is exactly what they are, given m · w.

Beside the bound on the likelihood, the training has how well w gives y, the mask's absolute sum,
and that the encoder finds the w of a decoded event again. What differs from the paper: its mask
is binary and drawn, its h a residual network; two properties are a simple case, and its terms for
the total correlation of latents are left out.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pileupgen.errors import ConfigError, did_you_mean
from pileupgen.models.codec import EventNoise
from pileupgen.zoo.contract import Budget, Energies, EventConditions, ZooSample
from pileupgen.zoo.fitting import FitRecord, TrainingStep, train
from pileupgen.zoo.image_system import TARGET, padded_batches
from pileupgen.zoo.properties import PROPERTIES, PropertyScale, properties_of
from pileupgen.zoo.vae import EVENTS_A_STEP, Cvae, ImageVae

N_SHARED = 3
"""Latents that carry properties, the last of the event's."""
N_BENDS = 4
FOUND, SPARSE, AGAIN = 48.0, 0.8, 16.0
"""Weights, nats of an event: a property's log density, the mask's absolute sum, and w that is not
found again."""
FARTHEST = 8.0


class PropertyMap(nn.Module):
    """y = h(m · w) of each property: a straight line and bends, none of which goes down."""

    def __init__(self) -> None:
        super().__init__()
        k = len(PROPERTIES)
        self.mask = nn.Parameter(0.5 * torch.eye(k, N_SHARED) + 0.25)
        self.slope = nn.Parameter(torch.full((k, 1), 0.5413))
        self.shift = nn.Parameter(torch.zeros(k, 1))
        self.height = nn.Parameter(torch.full((k, N_BENDS), -4.0))
        self.place = nn.Parameter(torch.linspace(-2, 2, N_BENDS).repeat(k, 1))
        self.log_width = nn.Parameter(torch.zeros(k))

    def forward(self, w: Tensor) -> Tensor:
        """(N, ``N_SHARED``) to y, (N, k)."""
        return self.of_projection(w @ self.mask.T)

    def of_projection(self, s: Tensor) -> Tensor:
        """h(s), (N, k): ln(1 + eˣ) of slopes and heights is above 0, so that it rises."""
        bends = F.softplus(self.height) * torch.tanh(s[:, :, None] - self.place)
        straight = F.softplus(self.slope)[:, 0] * s + self.shift[:, 0]
        return straight + bends.sum(dim=2)

    def moved(self, w: Tensor, index: int, y: Tensor) -> Tensor:
        """Latents (N, ``N_SHARED``) moved along a property's mask to where it has the value y."""
        low, high = torch.full_like(y, -FARTHEST), torch.full_like(y, FARTHEST)
        for _ in range(40):
            middle = (low + high) / 2
            every = middle[:, None].expand(-1, len(PROPERTIES))
            above = self.of_projection(every)[:, index] < y
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        m = self.mask[index]
        missing = (low + high) / 2 - w @ m
        return w + missing[:, None] * m / m.square().sum().clamp_min(1e-9)

    def log_density(self, w: Tensor, y: Tensor) -> Tensor:
        """Ln p(y | w) of independent Gaussian errors, up to a constant, (N,)."""
        width = self.log_width.clamp(-3, 3)
        scaled = (y - self(w)) * torch.exp(-width)
        return (-0.5 * scaled.square() - width).sum(dim=1)


class ControlledVae(ImageVae):
    """The VAE's networks, and what maps its last latents to properties."""

    def __init__(
        self, shape: tuple[int, int, int], n_conditions: int, width: int = 24, *, is_ring: bool
    ) -> None:
        super().__init__(shape, n_conditions, width, is_ring=is_ring)
        self.properties, self.scale = PropertyMap(), PropertyScale(n_conditions)


class CorrVae(Cvae):
    """A conditional VAE whose events have wanted properties, see :meth:`controlled`."""

    citation = "CorrVAE, Wang et al. 2210.01796"
    takes_several = False
    network: ControlledVae
    properties = tuple(PROPERTIES)
    """Names of the properties that :meth:`controlled` takes."""

    def make_network(self) -> ControlledVae:
        """Encoder, decoder and property map."""
        return ControlledVae(self.grid.shape, self.conditions.width, is_ring=self.grid.is_periodic)

    def train(self, sample: ZooSample, budget: Budget, seed: int) -> FitRecord:
        """Maximise the bound and what ties properties to their latents."""
        images, network = sample.target, self.network
        scores = self.space.encode(images, images.mu, TARGET, seed)
        views, values = self.views(images), properties_of(images.energy)
        known = self.conditions(torch.from_numpy(images.mu)[:, None])
        network.scale.fit(values, known, torch.from_numpy(images.weight))
        wanted = network.scale(values, known)[:, :, None, None]
        beta, n_cells = float(self.options.get("beta", 1.0)), scores[0].numel()

        def loss(step: TrainingStep) -> Tensor:
            x, y, conditions = views.draw((scores, wanted), EVENTS_A_STEP, step.rng)
            normal = torch.randn(len(x), network.n_latents, generator=step.rng)
            bound = self._bound(x, conditions, normal, beta * min(1.0, 4 * step.progress))
            mean, log_variance = network.encode(x, conditions)
            w = (mean + torch.exp(0.5 * log_variance) * normal)[:, -N_SHARED:]
            found = network.properties.log_density(w, y.flatten(1)).mean()
            made = torch.randn(mean.shape, generator=step.rng)
            cell_mean, cell_variance = network.decode(made, conditions)
            cells = torch.randn(x.shape, generator=step.rng) * torch.exp(0.5 * cell_variance)
            again, _ = network.encode(cell_mean + cells, conditions)
            missed = (again - made)[:, -N_SHARED:].square().mean()
            tied = AGAIN * missed + SPARSE * network.properties.mask.abs().sum() - FOUND * found
            return -bound.mean() + tied / n_cells

        return train(network, [network], [loss], budget, seed, rates=[3e-3])

    def property_range(self, name: str) -> tuple[float, float]:
        """Smallest and largest value of a property that can be asked for: the training's.

        Raises
        ------
        ConfigError
            If there is no such property.
        """
        if name not in self.properties:
            raise ConfigError(
                f"There is no property '{name}'.", did_you_mean(name, list(self.properties))
            )
        index, scale = self.properties.index(name), self.network.scale
        return float(scale.low[index]), float(scale.high[index])

    @torch.no_grad()
    def controlled(
        self, conditions: EventConditions, name: str, values: NDArray[np.float64], seed: int
    ) -> Energies:
        """Make events that have a property: energies in GeV, (N, L, n_eta, n_phi).

        Parameters
        ----------
        conditions : EventConditions
        name : str
            One of :attr:`properties`.
        values : float64 array, shape (N,)
            Wanted values, within those of the training.
        seed : int

        Raises
        ------
        ConfigError
            If there is no such property, or a value is outside the training's.
        """
        low, high = self.property_range(name)
        if not ((values >= low) & (values <= high)).all():
            raise ConfigError(
                f"A wanted {name} of {values.min():g} to {values.max():g}; the system learned from "
                f"events of {low:g} to {high:g}."
            )
        index, scale = self.properties.index(name), self.network.scale
        parts = [torch.empty(0, *self.grid.shape)]
        for rows, n in padded_batches(len(conditions), self.batch):
            some = conditions.taken(rows)
            known = self.conditions(torch.from_numpy(some.values))
            wanted = torch.from_numpy(np.repeat(values[rows][:, None], len(PROPERTIES), axis=1))
            noise = EventNoise(seed, some.event_id)
            latents = noise.normal((self.network.n_latents,))
            y = scale(wanted, known)[:, index]
            latents[:, -N_SHARED:] = self.network.properties.moved(latents[:, -N_SHARED:], index, y)
            parts.append(self.drawn_of(latents, known, noise)[:n])
        scores = self.corrections["generate"](torch.cat(parts))
        return self.space.decode(scores, conditions.values[:, 0], TARGET)
