"""Conditional adversarial network on images, with three additions that are switched one by one.

The generator moves a noise image: with last weights of zero, as at first, it makes independent
cells. Options: ``diversity``, the term of SDI-GAN (Dubiński et al. 2207.01561), f(c) · d_Z / d_I;
``intensity``, the sum of an image against that of a real one at the same conditions; ``regressor``,
a network that finds the conditions in an image and judges those of generated ones. Each is the
weight of its term in the generator's loss; 0 leaves it out.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from pileupgen.models.codec import EventNoise
from pileupgen.samples.weights import rows_by_weight
from pileupgen.zoo.contract import Budget, ZooSample
from pileupgen.zoo.fitting import FitRecord, TrainingStep, train
from pileupgen.zoo.image_system import TARGET, ImageSystem
from pileupgen.zoo.layers import CellTrunk, continued

EVENTS_A_STEP = 16
N_EXTRA, N_EVENT = 1, 8
"""Channels of noise beside the layers', and numbers of noise that an event has in common."""
N_BINS = 6
"""Bins of the first condition in which real events' diversity is taken."""


class ImageGenerator(nn.Module):
    """Noise image and noise of the event to scores, (N, L, n_eta, n_phi)."""

    def __init__(
        self, shape: tuple[int, int, int], n_conditions: int, width: int = 20, *, is_ring: bool
    ) -> None:
        super().__init__()
        self.n_layers, n_known = shape[0], n_conditions + N_EVENT
        self.trunk = CellTrunk(
            shape[0] + N_EXTRA, shape[0], n_known, shape[1], width, 2, is_ring=is_ring
        )

    def forward(self, noise: Tensor, event: Tensor, conditions: Tensor) -> Tensor:
        """(N, L + N_EXTRA, n_eta, n_phi), (N, N_EVENT), (N, n_conditions)."""
        found = self.trunk(noise, torch.cat([conditions, event], dim=1))
        return noise[:, : self.n_layers] + found


class Critic(nn.Module):
    """Numbers about an image: of two convolutions, and of products of the first one's channels.

    What cells do together is in products of them.
    """

    def __init__(
        self, n_layers: int, n_conditions: int, n_out: int = 1, width: int = 16, *, is_ring: bool
    ) -> None:
        super().__init__()
        self.is_ring = is_ring
        self.first = spectral_norm(nn.Conv2d(n_layers, width, (3, 3), padding=(1, 0)))
        self.second = spectral_norm(nn.Conv2d(width, 2 * width, (3, 3), padding=(1, 0)))
        rows, columns = torch.triu_indices(width, width)
        self._pairs = rows, columns
        n = 4 * width + len(rows) + n_conditions
        self.norm = nn.LayerNorm(n)
        self.hidden, self.last = nn.Linear(n, 32), nn.Linear(32, n_out)

    def forward(self, x: Tensor, conditions: Tensor) -> Tensor:
        """(N, L, n_eta, n_phi) and (N, n_conditions) to (N, n_out)."""
        seen = self.first(continued(x, 1, is_ring=self.is_ring))
        flat = seen.flatten(2)
        products = flat @ flat.transpose(1, 2) / flat.shape[2]
        hidden = F.leaky_relu(seen, 0.2)
        if min(hidden.shape[2:]) > 1:
            hidden = F.avg_pool2d(hidden, 2, ceil_mode=True)
        hidden = self.second(continued(hidden, 1, is_ring=self.is_ring))
        hidden = F.leaky_relu(hidden, 0.2).flatten(2)
        spread = hidden.var(dim=2, correction=0).add(1e-6).sqrt()
        parts = [hidden.mean(dim=2), spread, products[:, self._pairs[0], self._pairs[1]]]
        known = torch.cat([*parts, conditions], dim=1)
        return self.last(F.leaky_relu(self.hidden(self.norm(known)), 0.2))


class Gan(ImageSystem):
    """Generator, critic and, if wanted, a regressor of the conditions; see the module."""

    citation = "Goodfellow et al. 1406.2661; SDI-GAN, Dubiński et al. 2207.01561"
    takes_several = True
    known_options = ("diversity", "intensity", "regressor")
    network: nn.ModuleDict

    @property
    def n_evaluations(self) -> int:
        """One, of the generator."""
        return 1

    @property
    def n_parameters(self) -> int:
        """Trained numbers of the generator, which makes events."""
        return sum(value.numel() for value in self.network["generator"].parameters())

    def make_network(self) -> nn.ModuleDict:
        """The networks that the options ask for."""
        shape, n, is_ring = self.grid.shape, self.conditions.width, self.grid.is_periodic
        n_seen = shape[0] + (2 if self.space.is_by_place else 0)
        parts: dict[str, nn.Module] = {
            "generator": ImageGenerator(shape, n, is_ring=is_ring),
            "critic": Critic(n_seen, n, is_ring=is_ring),
        }
        if self._weight("regressor"):
            parts["regressor"] = Critic(n_seen, 0, n // 2, is_ring=is_ring)
        return nn.ModuleDict(parts)

    def _weight(self, name: str) -> float:
        return float(self.options.get(name, 0.0))

    def train(self, sample: ZooSample, budget: Budget, seed: int) -> FitRecord:
        """Train generator, critic and regressor in turns."""
        images, network = sample.target, self.network
        scores = self.space.encode(images, images.mu, TARGET, seed)
        rows = rows_by_weight(images.weight)
        views, diversity = self.views(images), _Diversity(images.energy[rows], images.mu[rows])
        events: list[Tensor] = []
        make, judge = network["generator"], network["critic"]

        def of_generator(step: TrainingStep) -> Tensor:
            arrays = scores, torch.from_numpy(images.mu).view(-1, 1, 1, 1)
            real, mu, conditions = views.draw(arrays, EVENTS_A_STEP, step.rng)
            noise, event = self._noise(step.rng)
            fake = make(noise, event, conditions)
            loss = F.softplus(-judge(self._seen(fake), conditions)).mean()
            if self._weight("diversity"):
                other_noise, other_event = self._noise(step.rng)
                other = make(other_noise, other_event, conditions)
                d_i = (fake - other).abs().flatten(1).mean(dim=1)
                d_z = torch.cat(
                    [(noise - other_noise).flatten(1), event - other_event], dim=1
                ).abs()
                f = diversity(mu.flatten())
                ratio = d_z.mean(dim=1) / d_i.clamp_min(1e-3)
                loss = loss + self._weight("diversity") * (f * ratio).mean()
            if self._weight("intensity"):
                total = (fake - real).flatten(1).mean(dim=1)
                loss = loss + self._weight("intensity") * total.abs().mean()
            if "regressor" in network:
                loss = loss + self._weight("regressor") * self._missed(fake, conditions)
            events[:] = [real, fake.detach(), conditions]
            return loss

        def of_critic(step: TrainingStep) -> Tensor:  # noqa: ARG001 - it sees the generator's events
            real, fake, conditions = events
            both = self._seen(torch.cat([real, fake]))
            logit = judge(both, conditions.repeat(2, 1))[:, 0]
            return F.softplus(torch.cat([-logit[: len(real)], logit[len(real) :]])).mean()

        def of_regressor(step: TrainingStep) -> Tensor:  # noqa: ARG001
            return self._missed(events[0], events[2])

        parts, losses = [make, judge], [of_generator, of_critic]
        if "regressor" in network:
            parts, losses = [*parts, network["regressor"]], [*losses, of_regressor]
        rates = [1e-3, 2e-3, 2e-3][: len(parts)]
        return train(network, parts, losses, budget, seed, rates=rates, momentum=0.5)

    def _missed(self, x: Tensor, conditions: Tensor) -> Tensor:
        """Mean squared error of the regressor's conditions, where they are known."""
        values, known = conditions.chunk(2, dim=1)
        found = self.network["regressor"](self._seen(x), conditions[:, :0])
        missed: Tensor = ((found - values).square() * known).mean()
        return missed

    def _seen(self, x: Tensor) -> Tensor:
        """Scores as a critic sees them: with their places, from −1 to 1, where those differ."""
        if not self.space.is_by_place:
            return x
        axes = [torch.linspace(-1, 1, n) for n in self.grid.shape[1:]]
        places = torch.stack(torch.meshgrid(*axes, indexing="ij"))
        return torch.cat([x, places.expand(len(x), -1, -1, -1)], dim=1)

    def _noise(self, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        n_layers, n_eta, n_phi = self.grid.shape
        shape = EVENTS_A_STEP, n_layers + N_EXTRA, n_eta, n_phi
        return torch.randn(shape, generator=rng), torch.randn(EVENTS_A_STEP, N_EVENT, generator=rng)

    def draw(self, conditions: Tensor, mu: Tensor, noise: EventNoise) -> Tensor:  # noqa: ARG002
        """One pass of the generator."""
        n_layers, n_eta, n_phi = self.grid.shape
        found: Tensor = self.network["generator"](
            noise.normal((n_layers + N_EXTRA, n_eta, n_phi)), noise.normal((N_EVENT,)), conditions
        )
        return found


class _Diversity:
    """f(c): spread of real events at the same μ, over the largest of all; 1 where it is unknown."""

    def __init__(self, energy: np.ndarray, mu: np.ndarray) -> None:
        known = np.isfinite(mu)
        self._edges, self._values = torch.zeros(0), torch.ones(1)
        if known.sum() < 2 * N_BINS:
            return
        edges = np.unique(np.quantile(mu[known], np.linspace(0, 1, N_BINS + 1)[1:-1]))
        number = np.searchsorted(edges, mu[known], side="right")
        logs = np.log1p(np.abs(energy[known]))
        chosen = [logs[number == i] for i in range(len(edges) + 1)]
        spread = [part.std(axis=0).mean() if len(part) else np.nan for part in chosen]
        largest = np.nanmax(spread)
        if largest > 0:
            self._edges = torch.from_numpy(edges).float()
            self._values = torch.tensor(np.nan_to_num(np.array(spread) / largest, nan=1.0))

    def __call__(self, mu: Tensor) -> Tensor:
        number = torch.searchsorted(self._edges, mu.contiguous(), right=True)
        return torch.where(torch.isfinite(mu), self._values[number].float(), 1.0)
