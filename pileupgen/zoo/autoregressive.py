"""The autoregressive translator: the Knothe–Rosenblatt map through all cells.

In an order of the cells each has a rank u = F_mc(x | earlier ones) in the source; the translated
cell is the value of the same rank in the target, x' = F_data⁻¹(u | earlier translated ones)
(Rosenblatt 1952; Knothe 1957). With all conditionals right the map is exact. Uniform ranks from
noise make new events.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pileupgen.models.codec import EventNoise
from pileupgen.samples.store import Images
from pileupgen.zoo.cells import cell_features, gained_of_cells, null_given, of_rank, rank_of
from pileupgen.zoo.contract import Budget, ZooSample
from pileupgen.zoo.fitting import FitRecord, TrainingStep, train
from pileupgen.zoo.image_system import SOURCE, TARGET, ImageSystem, padded_batches, rows_of
from pileupgen.zoo.masked import CellOrder, MaskedCells
from pileupgen.zoo.scores import joined_scores, split_scores

EVENTS_A_STEP = 8
"""Events of each domain in a step."""
GROUPS_A_STEP = 6
_RATE = 4e-3
_ENCODING_SEED = 31


class Autoregressive(ImageSystem):
    """Cells in groups, each given the earlier ones; see the module."""

    citation = "Knothe 1957; Rosenblatt 1952; MADE, Germain et al. 1502.03509"
    can_translate = True
    known_options = ("width",)
    network: MaskedCells

    @property
    def is_exact(self) -> bool:
        """Whether null cells are cells of their own kind, not scores of random ranks."""
        return self.space.has_nulls or self.space.is_one_to_one

    @property
    def n_evaluations(self) -> int:
        """One a group."""
        return len(self.network.order)

    def make_network(self) -> MaskedCells:
        """One network for all groups and both domains."""
        grid = self.grid
        shape = grid.n_layers, grid.n_eta, grid.n_phi
        order = CellOrder(shape, is_periodic=grid.is_periodic)
        return MaskedCells(
            order,
            self.conditions.width,
            self.options.get("width", 48),
            is_eta_symmetric=self.symmetry.eta,
        )

    def train(self, sample: ZooSample, budget: Budget, seed: int) -> FitRecord:
        """Maximise the likelihood of both domains, some groups of some events at a time."""
        network, views, arrays, masses = self.network, {}, {}, {}
        domains = {TARGET: sample.target}
        if sample.source is not None:
            domains[SOURCE] = sample.source
        for domain, images in domains.items():
            mu = torch.from_numpy(images.mu)
            scores = self.space.encode(images, images.mu, domain, _ENCODING_SEED)
            alive = self.space.is_alive(domain).float().expand_as(scores)
            masses[domain] = self.space.null_mass(mu, domain)
            arrays[domain] = scores, alive, masses[domain].float().expand_as(scores)
            views[domain] = self.views(images)

        def loss(step: TrainingStep) -> Tensor:
            parts = []
            for domain in domains:
                drawn = views[domain].draw(arrays[domain], EVENTS_A_STEP, step.rng)
                parts.append([*drawn, torch.full((EVENTS_A_STEP,), domain)])
            scores, alive, mass, condition, label = (
                torch.cat(column) for column in zip(*parts, strict=True)
            )
            mass = mass[..., :1].double()
            hit, z, _ = split_scores(scores, mass)
            cells = cell_features(hit, z, mass, alive)
            chosen = torch.randperm(len(network.order), generator=step.rng)[:GROUPS_A_STEP]
            total, n = torch.zeros(()), torch.zeros(())
            for number in chosen.tolist():
                found = network(cells, number, label, condition)
                at = network.order.cells(number)
                gained = gained_of_cells(
                    found, hit[at], z[at], mass[at[:3]], has_nulls=self.space.has_nulls
                )
                total = total - (gained * alive[at]).sum()
                n = n + alive[at].sum()
            return total / n.clamp_min(1.0)

        return train(network, [network], [loss], budget, seed, rates=[_RATE])

    # -- the map --------------------------------------------------------------------------------

    def draw(self, conditions: Tensor, mu: Tensor, noise: EventNoise) -> Tensor:
        """Events of uniform ranks."""
        rank = noise.uniform(self.grid.shape).double()
        return self._of_ranks(rank, mu, conditions, TARGET)

    def move(self, images: Images, mu: Tensor, seed: int) -> Tensor:
        """Keep the conditional ranks, change the domain."""
        return self.mapped(images, mu, seed, SOURCE, TARGET)

    @torch.no_grad()
    def mapped(self, images: Images, mu: Tensor, seed: int, source: int, target: int) -> Tensor:
        """Scores of events moved from one domain to another, or to the same: then as they were."""
        conditions = self.conditions(mu[:, None])
        scores = self.space.encode(images, mu.numpy(), source, seed)
        rank = self._ranks(scores, mu, conditions, source)
        # A dead cell of the source says nothing: any rank will do.
        anything = EventNoise(seed, images.event_id, stream=3).uniform(self.grid.shape).double()
        rank = torch.where(self.space.is_alive(source), rank, anything)
        return self._of_ranks(rank, mu, conditions, target)

    def _ranks(self, scores: Tensor, mu: Tensor, conditions: Tensor, domain: int) -> Tensor:
        """Rank of each cell given the earlier ones: all groups are known at once."""
        network, mass = self.network, self.space.null_mass(mu, domain)
        alive = self.space.is_alive(domain).expand_as(scores)
        hit, z, among_null = split_scores(scores, mass)
        cells = cell_features(hit, z, mass, alive)
        label = torch.full((len(scores),), domain)
        rank = torch.zeros_like(scores, dtype=torch.float64)
        for number in range(len(network.order)):
            logit, *mixture = network(cells, number, label, conditions)
            at = network.order.cells(number)
            null = null_given(logit, mass[at[:3]], has_nulls=self.space.has_nulls)
            rank[at] = rank_of(hit[at], z[at], among_null[at], null, mixture)
        return rank

    def _of_ranks(self, rank: Tensor, mu: Tensor, conditions: Tensor, domain: int) -> Tensor:
        """Inverse of :meth:`_ranks`: group after group, from what is there already."""
        network, mass = self.network, self.space.null_mass(mu, domain)
        alive = self.space.is_alive(domain).expand(rank.shape)
        hit = torch.zeros(rank.shape, dtype=torch.bool)
        z, among_null = torch.zeros_like(rank), torch.zeros_like(rank)
        cells = cell_features(hit, z, mass, torch.zeros_like(alive))
        label = torch.full((len(rank),), domain)
        for number, (layer, _, _) in enumerate(network.order.groups):
            logit, *mixture = network(cells, number, label, conditions)
            at = network.order.cells(number)
            null = null_given(logit, mass[at[:3]], has_nulls=self.space.has_nulls)
            hit[at], z[at], among_null[at] = of_rank(rank[at], null, mixture)
            one = slice(layer, layer + 1)
            part = (slice(None), one, *at[2:])
            shown = cell_features(hit[part], z[part], mass[:, one, at[2]], alive[part])
            cells[:, 2 * layer : 2 * layer + 2, at[2], at[3]] = shown
        return joined_scores(hit, z, among_null, mass)

    # -- the likelihood -------------------------------------------------------------------------

    @torch.no_grad()
    def nats_gained(
        self, images: Images, mu: NDArray[np.float32], seed: int, domain: int = TARGET
    ) -> NDArray[np.float64]:
        """Ln p of each image above that of independent cells, nats a live cell, (N,)."""
        found = [torch.empty(0)]
        for rows, n in padded_batches(len(images), self.batch):
            own = torch.from_numpy(mu[rows])
            scores = self.space.encode(rows_of(images, rows), mu[rows], domain, seed)
            found.append(self._log_ratio(scores, own, domain)[:n])
        return np.asarray(torch.cat(found).double().numpy())

    def _log_ratio(self, scores: Tensor, mu: Tensor, domain: int) -> Tensor:
        network, mass = self.network, self.space.null_mass(mu, domain)
        alive = self.space.is_alive(domain).expand_as(scores)
        hit, z, _ = split_scores(scores, mass)
        cells = cell_features(hit, z, mass, alive)
        label, condition = torch.full((len(scores),), domain), self.conditions(mu[:, None])
        total = torch.zeros(len(scores))
        for number in range(len(network.order)):
            at = network.order.cells(number)
            found = network(cells, number, label, condition)
            gained = gained_of_cells(
                found, hit[at], z[at], mass[at[:3]], has_nulls=self.space.has_nulls
            )
            total += (gained * alive[at]).sum(dim=(1, 2))
        return total / self.space.n_alive(domain)
