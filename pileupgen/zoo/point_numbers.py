"""An event's numbers: its hits and energy, and those of each layer, drawn given its conditions.

They come from a Gaussian copula: normal scores given the first condition, with the covariance of
the training events. CaloClouds (2305.04847, section 3.3) has a normalising flow for this, the
"Shower Flow"; quantiles and a covariance take no training. So it is here that the number of points
is drawn.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from pileupgen.arrays import Floats, Ints
from pileupgen.calo.geometry import Grid
from pileupgen.models.codec import EventNoise
from pileupgen.samples.store import Images
from pileupgen.zoo.scores import spans_decades

N_TOTALS = 2
"""Numbers of the event as a whole: hits and energy."""
N_SHAPES = 6
"""Principal components of the layers' numbers that networks are shown, at most."""
N_PLACES, EVENTS_A_PLACE = 8, 150
"""Places in the condition with quantiles of their own, at most, and events of each, at least."""
_KNOTS, _FARTHEST = 65, 3.0
"""Quantiles of a place, at even scores between ∓ the second."""
_SEED = 77_004
"""Seed of the random parts of the training's numbers."""
_BATCH = 500


class EventNumbers:
    """Numbers of events to normal scores and back, and from noise.

    A number v ≥ 0 is taken as t = asinh (v / s), s being its smallest, and as one evenly spread
    below 0 where it is 0. A parabola in the condition, or its logarithm where that spans more than
    a decade, is taken off; quantiles of what is left are interpolated between places in the
    condition.

    Parameters
    ----------
    grid : Grid

    Attributes
    ----------
    tables : dict of Tensor
        ``range``: mean and spread of the condition, (2,); ``scale``: s, (F,); ``trend``: the
        parabola's coefficients, (3, F); ``places``: (M,); ``knots``: (M, F, K); ``covariance`` of
        the scores, (F, F). F is 2 + 2 L: total hits and energy, hits of layers, their energies.
    is_logarithmic : bool
    """

    def __init__(self, grid: Grid) -> None:
        self.grid, self.is_logarithmic = grid, False
        n = N_TOTALS * (1 + grid.n_layers)
        even = torch.linspace(-_FARTHEST, _FARTHEST, _KNOTS).double()
        self.tables = {
            "range": torch.tensor([0.0, 1.0]).double(),
            "scale": torch.ones(n).double(),
            "trend": torch.zeros(3, n).double(),
            "places": torch.zeros(1).double(),
            "knots": even.repeat(1, n, 1),
            "covariance": torch.eye(n).double(),
        }

    @property
    def n_known(self) -> int:
        """Numbers of an event that networks are shown beside its conditions."""
        return N_TOTALS + min(N_SHAPES, N_TOTALS * self.grid.n_layers)

    def fit(self, images: Images) -> None:
        """Take quantiles and covariance of events, which count by their weights."""
        tables, values = self.tables, self._numbers_of(images)
        weight = images.weight / images.weight.sum() + 1e-15
        mu = torch.from_numpy(images.mu).double()
        self.is_logarithmic = spans_decades(mu)
        entering = mu.log() if self.is_logarithmic else mu
        known = entering[torch.isfinite(entering)]
        if len(known):
            spread = float(known.std(correction=0)) or 1.0
            tables["range"] = torch.tensor([float(known.mean()), spread]).double()
        scale = [column[column > 0].min(initial=np.inf) for column in values.T]
        tables["scale"] = torch.tensor([x if np.isfinite(x) else 1.0 for x in scale]).double()
        u, t = self._place(images.mu), self._taken(values, images)
        root = torch.from_numpy(np.sqrt(weight))[:, None]
        # A little is added, so that events of one condition have a constant.
        powers = _powers(u)
        normal = (root * powers).T @ (root * powers) + 1e-9 * torch.eye(3).double()
        tables["trend"] = torch.linalg.solve(normal, (root * powers).T @ (root * t))
        left = (t - self._trend(u)).numpy()
        n_places = max(1, min(N_PLACES, len(images) // EVENTS_A_PLACE))
        order = np.argsort(u.numpy(), kind="stable")
        parts = np.array_split(order, n_places)
        places = [float(np.average(u.numpy()[part])) for part in parts]
        tables["places"] = torch.tensor(places).double()
        levels = torch.special.ndtr(torch.linspace(-_FARTHEST, _FARTHEST, _KNOTS).double()).numpy()
        tables["knots"] = torch.from_numpy(
            np.stack([_quantiles(left[part], weight[part], levels) for part in parts])
        )
        scores = self.encode(images).double()
        by_weight = torch.from_numpy(weight)
        moved = scores - by_weight @ scores
        found = moved.T @ (by_weight[:, None] * moved)
        spreads = found.diagonal().clamp_min(1e-6).sqrt()
        # Correlations alone, with as many events more of none as there are numbers.
        mixed = found / spreads / spreads[:, None] * len(images) / (len(images) + len(found))
        mixed.fill_diagonal_(1.0)
        tables["covariance"] = mixed

    def _numbers_of(self, images: Images) -> Floats:
        """Hits and energy of events, then hits of layers, then their energies, (N, 2 + 2 L)."""
        energy = images.energy.astype(np.float64)
        hits, sums = (energy > 0).sum(axis=(2, 3)), energy.sum(axis=(2, 3))
        totals = np.stack([hits.sum(axis=1), sums.sum(axis=1)], axis=1)
        return np.concatenate([totals, hits, sums], axis=1)

    def _place(self, mu: NDArray[np.float32]) -> Tensor:
        """The condition with mean 0 and variance 1, (N,); 0 where it is not known."""
        value = torch.from_numpy(mu).double()
        value = value.clamp_min(1e-30).log() if self.is_logarithmic else value
        centre, spread = self.tables["range"]
        return torch.nan_to_num((value - centre) / spread, nan=0.0).clamp(-4, 4)

    def _taken(self, values: Floats, images: Images) -> Tensor:
        """Transform t of numbers, counts and nothing spread evenly within their bin, (N, F)."""
        n_layers = self.grid.n_layers
        uniform = EventNoise(_SEED, images.event_id, 1).uniform((values.shape[1],)).double()
        found = torch.from_numpy(values)
        is_count = torch.zeros(values.shape[1], dtype=torch.bool)
        is_count[0] = True
        is_count[N_TOTALS : N_TOTALS + n_layers] = True
        spread = torch.where(is_count, found + uniform - 0.5, found)
        return torch.where(found > 0, (spread / self.tables["scale"]).asinh(), -uniform)

    def encode(self, images: Images) -> Tensor:
        """Scores of the events' numbers, (N, 2 + 2 L)."""
        t, u = self._taken(self._numbers_of(images), images), self._place(images.mu)
        left = t - self._trend(u)
        even = torch.linspace(-_FARTHEST, _FARTHEST, _KNOTS).double()
        parts = [torch.empty(0, t.shape[1])]
        for begin in range(0, len(t), _BATCH):
            rows = slice(begin, begin + _BATCH)
            knots = self._knots_at(u[rows])
            above = torch.searchsorted(knots.contiguous(), left[rows, :, None].contiguous())
            above = above.clamp(1, _KNOTS - 1)
            low, high = knots.gather(2, above - 1), knots.gather(2, above)
            part = ((left[rows, :, None] - low) / (high - low)).clamp(0, 1)
            parts.append(torch.lerp(even[above - 1], even[above], part)[:, :, 0].float())
        return torch.cat(parts)

    def _trend(self, u: Tensor) -> Tensor:
        """The parabola at places, (n, F); no matrix product, whose last bits depend on n."""
        return (_powers(u)[:, :, None] * self.tables["trend"]).sum(dim=1)

    def _knots_at(self, u: Tensor) -> Tensor:
        """Quantiles at places, (n, F, K)."""
        places, knots = self.tables["places"], self.tables["knots"]
        if len(places) == 1:
            return knots.expand(len(u), -1, -1)
        above = torch.searchsorted(places, u).clamp(1, len(places) - 1)
        width = (places[above] - places[above - 1]).clamp_min(1e-9)
        part = ((u - places[above - 1]) / width).clamp(0, 1)
        return torch.lerp(knots[above - 1], knots[above], part[:, None, None])

    def draw(self, noise: EventNoise) -> Tensor:
        """Scores of numbers from noise, (n, 2 + 2 L)."""
        values, vectors = torch.linalg.eigh(self.tables["covariance"])
        root = vectors * values.clamp_min(0).sqrt()
        normal = noise.normal((len(self.tables["covariance"]),)).double()
        return (normal[:, None] * root).sum(dim=2).float()

    def known(self, scores: Tensor) -> Tensor:
        """What networks are shown of the scores: totals and the layers' first components."""
        of_layers = self.tables["covariance"][N_TOTALS:, N_TOTALS:]
        values, vectors = torch.linalg.eigh(of_layers)
        n = self.n_known - N_TOTALS
        axes = vectors[:, -n:] / values[-n:].clamp_min(1e-3).sqrt()
        # Vectors have either sign; the larger part of each is positive.
        axes = axes * torch.where(axes.sum(dim=0) < 0, -1.0, 1.0)
        shapes = (scores[:, N_TOTALS:, None].double() * axes).sum(dim=1)
        return torch.cat([scores[:, :N_TOTALS], shapes.float()], dim=1).clamp(-5, 5)

    def decode(self, scores: Tensor, mu: NDArray[np.float32]) -> tuple[Ints, Floats]:
        """Hits, (n, L), and energies in GeV, (n, L), of layers; their sums are the totals."""
        u, knots_at = self._place(mu), scores.double().clamp(-_FARTHEST, _FARTHEST)
        place = (knots_at + _FARTHEST) / (2 * _FARTHEST) * (_KNOTS - 1)
        below = place.floor().long().clamp(0, _KNOTS - 2)[:, :, None]
        knots = self._knots_at(u)
        left = torch.lerp(
            knots.gather(2, below), knots.gather(2, below + 1), place[..., None] - below
        )
        t = left[:, :, 0] + _powers(u) @ self.tables["trend"]
        values = torch.where(t > 0, t.sinh() * self.tables["scale"], 0.0).numpy()
        n_layers = self.grid.n_layers
        room = (~self.grid.is_dead).sum(axis=(1, 2))
        of_layers = values[:, N_TOTALS : N_TOTALS + n_layers]
        counts = np.zeros(of_layers.shape, dtype=np.int64)
        for event, total in enumerate(values[:, 0]):
            counts[event] = _rounded(of_layers[event], total, room)
        energy = np.where(counts > 0, values[:, N_TOTALS + n_layers :], 0.0)
        scale = values[:, 1] / np.maximum(energy.sum(axis=1), 1e-12)
        return counts, energy * scale[:, None]

    def save(self, folder: Path) -> None:
        """Write the tables into a folder."""
        tables = {name: table.contiguous() for name, table in self.tables.items()}
        save_file(tables, folder / "numbers.safetensors")

    def load(self, folder: Path, *, is_logarithmic: bool) -> None:
        """Read what :meth:`save` wrote."""
        self.is_logarithmic = is_logarithmic
        found = load_file(folder / "numbers.safetensors")
        if found["covariance"].shape != self.tables["covariance"].shape:
            raise ValueError(f"numbers of another grid, {tuple(found['covariance'].shape)}")
        self.tables = {name: found[name] for name in self.tables}


def _powers(u: Tensor) -> Tensor:
    """1, u and u² of places, (N, 3)."""
    return torch.stack([torch.ones_like(u), u, u.square()], dim=1)


def _quantiles(values: Floats, weight: Floats, levels: Floats) -> Floats:
    """Weighted quantiles of columns, each a little above the one before, (F, K)."""
    found = np.empty((values.shape[1], len(levels)))
    for column, own in enumerate(values.T):
        order = np.argsort(own)
        rank = np.cumsum(weight[order])
        found[column] = np.interp(levels, (rank - 0.5 * weight[order]) / rank[-1], own[order])
    return found + 1e-7 * np.arange(len(levels))


def _rounded(values: Floats, total: float, room: Ints) -> Ints:
    """Whole numbers in proportion to the values, not above the room, whose sum is the total's."""
    wanted = min(round(total), int(room.sum()))
    share = values / max(float(values.sum()), 1e-12) * wanted
    if not values.sum() > 0:
        share = wanted * room / room.sum()
    found = np.minimum(np.floor(share).astype(np.int64), room)
    for layer in np.argsort(-(share - found), kind="stable"):
        if found.sum() >= wanted:
            break
        found[layer] += found[layer] < room[layer]
    while found.sum() < wanted:
        found[int(np.argmax(room - found))] += 1
    return found
