"""What systems of points share: batches of sets, calibration of what they make, cells."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pileupgen.arrays import Floats, Ints
from pileupgen.calo.constituents import n_constituents
from pileupgen.errors import ConfigError, RunError, did_you_mean
from pileupgen.models.codec import EventNoise
from pileupgen.samples.store import Images
from pileupgen.samples.weights import rows_by_weight
from pileupgen.zoo.base import FittedSystem, padded_batches
from pileupgen.zoo.constituent_space import ConstituentSpace
from pileupgen.zoo.contract import Energies, EventConditions, Symmetry, ZooSample
from pileupgen.zoo.point_space import PointSpace
from pileupgen.zoo.points import Points

COLLISIONS = ("move", "sum")
"""What becomes of points in one cell: all but one move to free cells near by, or all are summed."""
CORRECTION_EVENTS = 100
"""Events by which the marginals of the output are learned; of small sets more."""
_EVEN = torch.linspace(-3.7, 3.7, 129).double()
_SMALLEST = 16
_SEED = 77_005


class PointSystem(FittedSystem):
    """A system that makes sets of points; :class:`~pileupgen.zoo.contract.System` has its uses.

    How many hits and how much energy an event and its layers have is drawn first. Depth, ring and
    energy of points are brought to the marginals of the target's hits. Sets are calibrated to what
    was drawn as in CaloClouds (2305.04847, section 3.4): points in the order of their depth go to
    the layers, to each as many as it has hits, and energies above a layer's smallest hit are scaled
    to the layer's sum. Then they go to cells. Events of like numbers of points go through networks
    together, in batches of one size.

    Attributes
    ----------
    corrections : dict of Tensor
        Scores of its own points at the quantiles of even scores, by the number of the feature.

    Options: ``calibrated``, false to leave that out; ``collisions``, ``move`` or ``sum``. Both
    change what is done with a network, not how it is trained.
    """

    known_options: ClassVar[tuple[str, ...]] = ("calibrated", "collisions")
    batch: int = 16
    space: PointSpace

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if options.get("collisions", COLLISIONS[0]) not in COLLISIONS:
            raise ConfigError(
                f"There is no way of collisions '{options['collisions']}'.",
                did_you_mean(str(options["collisions"]), COLLISIONS),
            )
        self._is_fitted = False
        self.corrections: dict[str, Tensor] = {}

    # -- what a system has to say ---------------------------------------------------------------

    @abstractmethod
    def draw(self, mask: Tensor, known: Tensor, noise: EventNoise) -> Tensor:
        """Scores (n, P, F) of one batch from noise; what is known of the events is (n, k)."""

    # -- what all have in common ----------------------------------------------------------------

    @property
    def n_known(self) -> int:
        """Numbers of an event that networks are shown."""
        return self.conditions.width + self.space.numbers.n_known

    def a_step(self, n: int) -> int:
        """Events of a training step where n large sets are: of small ones more."""
        return n * self.space.n_together

    def make_space(self) -> PointSpace:
        """Make what turns points and numbers into scores and back."""
        kind = ConstituentSpace if n_constituents(self.grid) else PointSpace
        return kind(self.grid, is_eta_symmetric=self.symmetry.eta)

    def fit_corrections(self, sample: ZooSample, conditions: EventConditions) -> None:
        """Learn the marginals of depth, ring and energy of its points, for training events.

        As of cells of images, so that points hardly trained have them, too.
        """
        n = CORRECTION_EVENTS * self.space.n_together
        few = rows_by_weight(sample.target.weight, n)
        values = conditions.values[few]
        wanted = EventConditions(values, np.arange(len(few), dtype=np.int64), conditions.names)
        self.corrections = {}
        found = [
            x[mask] for _, x, mask in self._drawn(wanted, *self._told(wanted, _SEED)[:2], _SEED)
        ]
        levels = torch.special.ndtr(_EVEN).numpy()
        for feature in self.space.ranked if found else ():
            values_of = torch.cat(found)[:, feature].double().numpy()
            knots = np.quantile(values_of, levels) + 1e-9 * np.arange(len(levels))
            self.corrections[str(feature)] = torch.from_numpy(knots)
        self._is_fitted = True

    def _corrected(self, x: Tensor) -> Tensor:
        """Scores (n, P, F) by the rank among those that the corrections were learned from."""
        columns = list(x.unbind(dim=2))
        for name, knots in self.corrections.items():
            column = columns[int(name)].double().numpy()
            found = np.interp(column, knots.numpy(), _EVEN.numpy())
            columns[int(name)] = torch.from_numpy(found).float()
        return torch.stack(columns, dim=2)

    def _save_more(self, folder: Path) -> None:
        save_file(self.corrections, folder / "corrections.safetensors")

    def _load_more(self, folder: Path, head: dict[str, Any]) -> None:  # noqa: ARG002
        self.corrections = load_file(folder / "corrections.safetensors")
        self._is_fitted = True

    def views(self, images: Images) -> PointViews:
        """Batches of training events, which come with what is known of them."""
        shown = self.conditions(torch.from_numpy(images.mu)[:, None])
        numbers = self.space.numbers
        scores = numbers.encode(self.space.summed(images))
        known = torch.cat([shown, numbers.known(scores)], dim=1)
        points = self.space.points_of(images, _SEED)
        return PointViews(points, self.space, self.symmetry, known, images.weight)

    def generate(self, conditions: EventConditions, seed: int) -> Energies:
        """Make events from noise."""
        if not self._is_fitted:
            raise RunError("This system is not fitted.", "Fit or load it first.")
        conditions = self._learned(conditions)
        hits, known, sums = self._told(conditions, seed)
        energy = np.zeros((len(conditions), *self.grid.shape), dtype=np.float32)
        is_calibrated = self.options.get("calibrated", True)
        is_apart = self.options.get("collisions", COLLISIONS[0]) == "move"
        for own, x, mask in self._drawn(conditions, hits, known, seed):
            place, of_points = self.space.decode(self._corrected(x))
            for row, event in enumerate(own):
                found = place[row][mask[row]].numpy(), of_points[row][mask[row]].numpy()
                wanted = (hits[event], sums[event]) if is_calibrated else None
                energy[event] = self.space.image(*found, wanted, is_apart=is_apart)
        return energy

    def _told(self, conditions: EventConditions, seed: int) -> tuple[Ints, Tensor, Floats]:
        """Hits of layers, (N, L), what networks know of events, (N, k), and energies of layers."""
        numbers = self.space.numbers
        scores = numbers.draw(EventNoise(seed, conditions.event_id, 1))
        hits, sums = numbers.decode(scores, conditions.values[:, 0])
        shown = self.conditions(torch.from_numpy(conditions.values))
        return hits, torch.cat([shown, numbers.known(scores)], dim=1), sums

    @torch.no_grad()
    def _drawn(
        self, conditions: EventConditions, hits: Ints, known: Tensor, seed: int
    ) -> Iterator[tuple[Ints, Tensor, Tensor]]:
        """Rows of events of like size, their scores, (n, P, F), and which points there are."""
        count = hits.sum(axis=1)
        size = np.array([padded_size(n) for n in count], dtype=np.int64)
        for padded in np.unique(size[size > 0]):
            members = np.flatnonzero(size == padded)
            for rows, n in padded_batches(len(members), self.batch):
                own = members[rows]
                mask = torch.from_numpy(np.arange(padded) < count[own, None])
                noise = EventNoise(seed, conditions.event_id[own], 2)
                yield own[:n], self.draw(mask, known[own], noise)[:n], mask[:n]


class PointViews:
    """Batches of training sets, turned in φ and mirrored where the detector allows.

    Parameters
    ----------
    points : Points
    space : PointSpace
    symmetry : Symmetry
    known : Tensor, shape (N, k)
    weight : float64 array, shape (N,)
    """

    def __init__(
        self, points: Points, space: PointSpace, symmetry: Symmetry, known: Tensor, weight: Floats
    ) -> None:
        self._place, self._energy = torch.from_numpy(points.place), torch.from_numpy(points.energy)
        self._count, self._known = torch.from_numpy(points.count), known
        self._weight = torch.from_numpy(np.maximum(weight, 0.0) + 0.0)
        # An event without hits is no set; where there is no other, one without points comes out.
        if bool((self._weight * self._count).sum() > 0):
            self._weight = torch.where(self._count > 0, self._weight, 0.0)
        self._space, self._symmetry = space, symmetry.of(space.grid)

    def draw(
        self, n: int, rng: torch.Generator, most: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw n events in proportion to their weights.

        Parameters
        ----------
        n : int
        rng : torch.Generator
        most : int, optional
            Points of an event at most, drawn among all that it has.

        Returns
        -------
        Tensor, shape (n, P, F)
            Scores.
        Tensor, shape (n, P)
            Which points there are.
        Tensor, shape (n, k)
            What is known of the events.
        """
        rows = torch.multinomial(self._weight, n, replacement=True, generator=rng)
        count = self._count[rows]
        size = max(int(count.max()), 1)
        n_axes = self._place.shape[2]
        place, energy = torch.zeros(n, size, n_axes), torch.zeros(n, size)
        held = min(size, self._place.shape[1])
        place[:, :held], energy[:, :held] = self._place[rows, :held], self._energy[rows, :held]
        mask = torch.arange(size) < count[:, None]
        if most is not None and size > most:
            order = torch.rand(n, size, generator=rng).masked_fill(~mask, 2.0)
            chosen = order.topk(most, dim=1, largest=False).indices
            place = place.gather(1, chosen[..., None].expand(-1, -1, n_axes))
            energy, mask = energy.gather(1, chosen), mask.gather(1, chosen)
        place = self._space.moved(place, self._symmetry, rng)
        lengths = torch.rand(mask.shape, generator=rng)
        x = self._space.encode(place, energy, lengths)
        return torch.where(mask[..., None], x, 0.0), mask, self._known[rows]


def padded_size(n: int) -> int:
    """Points that a set of n is padded to: one of few sizes, so that sets share batches."""
    if n <= _SMALLEST:
        return _SMALLEST if n else 0
    power = 1 << (int(n) - 1).bit_length()
    sizes = (5 * power // 8, 3 * power // 4, 7 * power // 8, power)
    return next(size for size in sizes if size >= n)
