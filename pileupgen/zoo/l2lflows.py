"""Layer after layer with flows (L2LFlows, Diefenbacher et al. 2302.11594).

A first flow makes the energies of all layers. A second makes the cells of one layer after the other
as shares of the layer's energy, given the layers before; so layer energies are those of the first
flow exactly. The original has a network for each layer; here one serves all, which is told
which layer it is at, since training events are few.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pileupgen.arrays import Ints
from pileupgen.models.codec import EventNoise
from pileupgen.zoo.contract import Budget, Energies, EventConditions, ZooSample
from pileupgen.zoo.fitting import FitRecord, TrainingStep, train
from pileupgen.zoo.flows import CouplingFlow
from pileupgen.zoo.image_system import TARGET, ImageSystem, padded_batches
from pileupgen.zoo.layers import log_normal
from pileupgen.zoo.shares import ShareSpace, layer_energies_of

EVENTS_A_STEP = 32
"""Events of a step, of each one layer; the flow of layer energies has four times as many."""
N_BEFORE = 3
"""Layers before that a layer's cells are shown."""
WIDTH = 8
"""Numbers that tell which layer it is."""


class LayerFlows(nn.Module):
    """Both flows, and what tells the second at which layer it is."""

    def __init__(
        self, shape: tuple[int, int, int], n_conditions: int, n_couplings: int, *, is_ring: bool
    ) -> None:
        super().__init__()
        n_layers, n_eta, n_phi = shape
        self.energies = CouplingFlow(
            (n_layers, 1, 1), n_conditions, is_spline=False, is_ring=False, width=48
        )
        self.place = nn.Embedding(n_layers, WIDTH)
        self.cells = CouplingFlow(
            (1, n_eta, n_phi),
            n_conditions + 2 + WIDTH,
            is_spline=False,
            is_ring=is_ring,
            n_couplings=n_couplings,
            n_context=N_BEFORE,
        )


class L2LFlows(ImageSystem):
    """Energies of layers, then their cells; option ``n_couplings``, 6, of a layer's cells."""

    citation = "L2LFlows, Diefenbacher et al. 2302.11594"
    known_options = ("n_couplings",)
    network: LayerFlows
    space: ShareSpace

    @property
    def n_evaluations(self) -> int:
        """One a coupling, one after another: of the layers' energies, and of every layer."""
        cells = len(self.network.cells.nets)
        return len(self.network.energies.nets) + self.grid.n_layers * cells

    def make_space(self) -> ShareSpace:
        """Scores of shares and of layers' energies."""
        return ShareSpace(self.grid, is_eta_symmetric=self.symmetry.eta)

    def make_network(self) -> LayerFlows:
        """Both flows."""
        n = int(self.options.get("n_couplings", 6))
        return LayerFlows(self.grid.shape, self.conditions.width, n, is_ring=self.grid.is_periodic)

    def train(self, sample: ZooSample, budget: Budget, seed: int) -> FitRecord:
        """Maximise the likelihood of layers' energies and of the cells of one layer a step."""
        images, network, n_layers = sample.target, self.network, self.grid.n_layers
        of_layers = layer_energies_of(images, self.space.energies.grid)
        energies = self.space.energies.encode(of_layers, images.mu, TARGET, seed)
        arrays = self.space.encode(images, images.mu, TARGET, seed), energies
        has_energy = torch.from_numpy(of_layers.energy > 0).float()
        views = self.views(images)

        def of_energies(step: TrainingStep) -> Tensor:
            x, known = views.draw((energies,), 4 * EVENTS_A_STEP, step.rng)
            z, gained = network.energies(x, known)
            return -(log_normal(z) + gained - log_normal(x)).mean() / n_layers

        def of_cells(step: TrainingStep) -> Tensor:
            drawn = views.draw((*arrays, has_energy), EVENTS_A_STEP, step.rng)
            cells, of_layer, weight, known = drawn
            layer = torch.randint(n_layers, (EVENTS_A_STEP,), generator=step.rng)
            row = torch.arange(EVENTS_A_STEP)
            x, before = cells[row, layer][:, None], _before(cells, layer)
            z, gained = network.cells(x, self._told(layer, of_layer, known), before)
            found = (log_normal(z) + gained - log_normal(x)) / x[0].numel()
            # A layer without energy has no shares.
            return -(found * weight[row, layer, 0, 0]).mean()

        parts = [network.energies, nn.ModuleList([network.cells, network.place])]
        losses = [of_energies, of_cells]
        return train(network, parts, losses, budget, seed, rates=[2e-3, 3e-3])

    def _told(self, layer: Tensor, energies: Tensor, known: Tensor) -> Tensor:
        """Conditions of a layer's cells: the event's, energies of it and the last, its place."""
        row, flat = torch.arange(len(layer)), energies.flatten(1)
        last = torch.where(layer > 0, flat[row, (layer - 1).clamp_min(0)], 0.0)
        own = torch.stack([flat[row, layer], last], dim=1)
        return torch.cat([known, own, self.network.place(layer)], dim=1)

    def draw(self, conditions: Tensor, mu: Tensor, noise: EventNoise) -> Tensor:  # noqa: ARG002
        """Energies of all layers, then scores of shares from the first layer to the last."""
        energies = self._energy_scores(conditions, noise)
        cells = noise.normal(self.grid.shape)
        for number in range(self.grid.n_layers):
            layer = torch.full((len(cells),), number)
            told = self._told(layer, energies, conditions)
            part = slice(number, number + 1)
            cells[:, part] = self.network.cells.inverse(cells[:, part], told, _before(cells, layer))
        return cells

    def _energy_scores(self, conditions: Tensor, noise: EventNoise) -> Tensor:
        """Scores of layers' energies, (n, L, 1, 1), from an event's first random numbers."""
        return self.network.energies.inverse(noise.normal((self.grid.n_layers, 1, 1)), conditions)

    @torch.no_grad()
    def layer_energies(self, conditions: EventConditions, seed: int) -> NDArray[np.float32]:
        """Energies of the layers of events that :meth:`generate` makes, GeV, (N, L)."""
        parts = [torch.empty(0, self.grid.n_layers, 1, 1)]
        for rows, n in padded_batches(len(conditions), self.batch):
            some = conditions.taken(rows)
            shown = self.conditions(torch.from_numpy(some.values))
            parts.append(self._energy_scores(shown, EventNoise(seed, some.event_id))[:n])
        found = self.space.energies.decode(torch.cat(parts), conditions.values[:, 0], TARGET)
        return found[:, :, 0, 0]

    def generate(self, conditions: EventConditions, seed: int) -> Energies:
        """Make events from noise: shares of cells, brought to 1, times the energies of layers."""
        shares = super().generate(conditions, seed)
        total = np.abs(shares).sum(axis=(2, 3), keepdims=True)
        # A layer of which no cell was drawn has its energy where there is most, as a rule.
        empty = (total[..., 0, 0] == 0).nonzero()
        usual = self._usual_cells()
        shares[(*empty, *usual[:, empty[1]])] = 1.0
        total = np.where(total == 0, 1.0, total)
        made = shares / total * self.layer_energies(conditions, seed)[:, :, None, None]
        return np.asarray(np.where(self.grid.is_dead, 0.0, made), dtype=np.float32)

    def _usual_cells(self) -> Ints:
        """Ring and column of the cell of each layer that is null most rarely, (2, L)."""
        middle = torch.full((1,), float(self.space.calibration.mu_centres.median()))
        space = self.space
        mass = space.null_mass(middle.exp() if space.is_logarithmic else middle, TARGET)[0]
        filled = torch.where(space.is_alive(TARGET), 1 - mass, -1.0).flatten(1).argmax(dim=1)
        return np.stack(np.unravel_index(filled.numpy(), self.grid.shape[1:]))


def _before(cells: Tensor, layer: Tensor) -> Tensor:
    """Scores of the layers before, the nearest first, (n, ``N_BEFORE``, n_eta, n_phi)."""
    row, found = torch.arange(len(cells)), []
    for back in range(1, N_BEFORE + 1):
        known = (layer >= back)[:, None, None]
        found.append(torch.where(known, cells[row, (layer - back).clamp_min(0)], 0.0))
    return torch.stack(found, dim=1)
