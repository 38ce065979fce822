"""Training batches: Gaussian scores of both domains, drawn again for every step."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pileupgen.arrays import Floats, Ints
from pileupgen.errors import TrainingError
from pileupgen.models.calibration.space import CellSpace
from pileupgen.samples.store import ImageStore, usable_weights
from pileupgen.samples.weights import rows_by_weight

_log = logging.getLogger("pileupgen")

MIN_EVENTS = 4
"""Events without which a split says nothing at all."""
FEW_EVENTS = 100
"""Events below which training goes on with a warning."""
DOMAINS = ("mc", "data")
_ENCODE = 256


@dataclass(frozen=True)
class Batch:
    """Events of both domains."""

    scores: Tensor
    """Gaussian scores of the cells; where ``is_encoded``, latents (N, C, H, W) made of them. Shape
    (N, L, n_eta, n_phi)."""
    label: Tensor
    """0 mc, 1 data. Shape (N,)."""
    mu: Tensor
    """Number of pileup interactions; NaN where it is not known. Shape (N,)."""
    event_id: Tensor
    """Position of the event in its sample. Shape (N,)."""
    is_encoded: bool = False
    """Whether the codec has been applied already."""
    ceiling: Tensor | None = None
    """Where a cell is null or tied, the score that its own was drawn below, as of N(0, 1); NaN
    where it is another hit. None where it is not known. Shape of ``scores``."""
    floor: Tensor | None = None
    """The score that it was drawn above, of the same cells; None where there is no lowest."""

    def __len__(self) -> int:
        return len(self.scores)

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return replace(
            self,
            scores=self.scores.to(device),
            label=self.label.to(device),
            mu=self.mu.to(device),
            ceiling=None if self.ceiling is None else self.ceiling.to(device),
            floor=None if self.floor is None else self.floor.to(device),
        )

    def rows(self, part: slice | Tensor) -> Batch:
        """Some of the events."""
        return replace(
            self,
            scores=self.scores[part],
            label=self.label[part],
            mu=self.mu[part],
            event_id=self.event_id[part],
            ceiling=None if self.ceiling is None else self.ceiling[part],
            floor=None if self.floor is None else self.floor[part],
        )

    def names(self, n: int = 5) -> str:
        """Domain and number of the first events, as a message names them."""
        pairs = zip(self.label[:n].tolist(), self.event_id[:n].tolist(), strict=True)
        shown = [f"{DOMAINS[label]} {event}" for label, event in pairs]
        return ", ".join(shown) + (", …" if len(self) > n else "")


@dataclass(frozen=True)
class Augmentation:
    """Symmetries of the detector: rolls in φ by multiples of ``phi_step`` cells, η mirror."""

    phi_step: int = 0
    eta_mirror: bool = False


class Training(Protocol):
    """Events to learn from."""

    def batch(
        self, step: int, batch_size: int, seed: int, augmentation: Augmentation | None = None
    ) -> Batch:
        """The global batch of a step, a function of (seed, step) alone; mc and data in turn."""


class HeldOut(Protocol):
    """Events to judge by."""

    def in_order(self, n_per_domain: int, seed: int) -> Batch:
        """The first events of each domain, for judging; mc first."""


class ScoreSample:
    """Scores of one split of both domains, ranks of null and tied cells drawn again each time.

    Batches are a function of (seed, step) alone: half mc, half data, each domain shuffled again
    every pass. Events of unequal weights come in proportion to them, so that every network learns
    the weighted distribution without a weight in its loss. So a resumed run continues with the same
    batch, and processes share a global batch without communication.

    Parameters
    ----------
    stores : two ImageStores
        mc and data.
    split : str
        ``train``, ``validation`` or ``test``.
    calibrate_mc : bool
        Whether mc is encoded with its own quantiles, or with those of data.

    Raises
    ------
    TrainingError
        If a domain has fewer than ``MIN_EVENTS`` events in the split, or NaN or infinite cells.
    """

    def __init__(
        self,
        stores: tuple[ImageStore, ImageStore],
        calibration: CellSpace,
        split: str,
        calibrate_mc: bool = True,
    ) -> None:
        self._hits: list[Tensor] = []
        # Null and tied cells have ranks from a bottom on, within a mass; hits have no mass.
        self._bottom: list[Tensor] = []
        self._mass: list[Tensor] = []
        self._ceiling: list[Tensor] = []
        self._mu: list[Tensor] = []
        self._event_id: list[Tensor] = []
        self._weight: list[Floats] = []
        self._is_plain = calibration.is_plain
        for quantiles, store in zip((0 if calibrate_mc else 1, 1), stores, strict=True):
            require_events(store, split)
            rows = store.indices(split)
            self._weight.append(np.asarray(usable_weights(store.columns), dtype=np.float64)[rows])
            require_weight(self._weight[-1], store, split)
            hits, bottoms, masses, mus, event_ids = [], [], [], [], []
            for images in store.batches(rows, _ENCODE):
                require_finite(images.energy, images.event_id, str(store.path))
                energy, mu = torch.from_numpy(images.energy), torch.from_numpy(images.mu)
                score, bottom, mass = _spread(calibration, energy, quantiles, mu)
                hits.append(torch.where(mass > 0, 0.0, score).half())
                bottoms.append(bottom)
                masses.append(mass)
                mus.append(mu)
                event_ids.append(torch.from_numpy(images.event_id))
            self._hits.append(torch.cat(hits))
            self._mass.append(torch.cat(masses))
            nothing = torch.zeros(()).expand_as(self._mass[-1])
            self._bottom.append(nothing if calibration.is_plain else torch.cat(bottoms))
            top = torch.special.ndtri(self._bottom[-1] + self._mass[-1].float())
            ceiling = torch.where(self._mass[-1] > 0, top, torch.nan)
            # Tied values may have limits that differ by less than half precision tells.
            self._ceiling.append(ceiling.half() if calibration.is_plain else ceiling)
            self._mu.append(torch.cat(mus))
            self._event_id.append(torch.cat(event_ids))

    @property
    def n_events(self) -> tuple[int, int]:
        """Events of mc and of data."""
        return len(self._hits[0]), len(self._hits[1])

    def batch(
        self, step: int, batch_size: int, seed: int, augmentation: Augmentation | None = None
    ) -> Batch:
        """The global batch of a step, mc and data in turn."""
        rng = np.random.default_rng([seed, 1, step])
        rows = self.rows(step, batch_size, seed)
        scores = [self.scores(domain, rows[domain], rng) for domain in (0, 1)]
        # Limits as further channels, so that they are rolled and mirrored with the scores.
        joined = [
            torch.cat([values, *self.limits(domain, rows[domain])], dim=1)
            for domain, values in enumerate(scores)
        ]
        batch = self.in_turn(rows, joined, augmentation, rng)
        n_parts = joined[0].shape[1] // scores[0].shape[1]
        values, ceiling, *floor = batch.scores.chunk(n_parts, dim=1)
        return replace(batch, scores=values, ceiling=ceiling, floor=floor[0] if floor else None)

    def rows(self, step: int, batch_size: int, seed: int) -> list[Ints]:
        """Rows of mc and of data in the batch of a step."""
        return [self._rows(d, step, (batch_size + 1 - d) // 2, seed) for d in (0, 1)]

    def in_turn(
        self,
        rows: Sequence[Ints],
        values: Sequence[Tensor],
        augmentation: Augmentation | None,
        rng: np.random.Generator,
        is_encoded: bool = False,
    ) -> Batch:
        """A batch of the rows of mc and of data in turn, of which ``values`` are scores or latents.

        Parameters
        ----------
        rows : two int arrays
            As :meth:`rows` gives them.
        values : two Tensors
            First axis the row.
        augmentation : Augmentation or None
            Applied to the values; of latents ``phi_step`` counts positions.
        is_encoded : bool
            Whether ``values`` are latents.
        """
        labels = np.arange(len(rows[0]) + len(rows[1])) % 2
        order = np.argsort(labels, kind="stable").argsort(kind="stable")
        joined = torch.cat(list(values))[order]
        if augmentation is not None:
            joined = augmented(joined, augmentation, rng)
        mu, event_id = (
            torch.cat([of[d][rows[d]] for d in (0, 1)])[order] for of in (self._mu, self._event_id)
        )
        return Batch(joined, torch.from_numpy(labels), mu, event_id, is_encoded)

    def conditions(self, domain: int, rows: slice) -> tuple[Tensor, Tensor]:
        """μ and event numbers of rows of a domain, shape (n,)."""
        return self._mu[domain][rows], self._event_id[domain][rows]

    def in_order(self, n_per_domain: int, seed: int) -> Batch:
        """The first events of each domain, or an even choice by their weights; mc first."""
        rng = np.random.default_rng([seed, 2])
        rows = [rows_by_weight(self._weight[d], n_per_domain) for d in (0, 1)]
        scores = [self.scores(d, rows[d], rng) for d in (0, 1)]
        labels = torch.cat([torch.full((len(rows[d]),), d) for d in (0, 1)])
        mu, event_id = (
            torch.cat([values[d][rows[d]] for d in (0, 1)]) for values in (self._mu, self._event_id)
        )
        limits = zip(*(self.limits(d, rows[d]) for d in (0, 1)), strict=True)
        ceiling, *floor = (torch.cat(of_both) for of_both in limits)
        return Batch(
            torch.cat(scores),
            labels,
            mu,
            event_id,
            ceiling=ceiling,
            floor=floor[0] if floor else None,
        )

    def _rows(self, domain: int, step: int, n: int, seed: int) -> Ints:
        """Rows of a domain at a step: consecutive pieces of one endless shuffled sequence."""
        total = len(self._hits[domain])
        first = step * n
        passes = range(first // total, (first + n - 1) // total + 1)
        orders = [self._order(domain, np.random.default_rng([seed, 3, domain, k])) for k in passes]
        offset = first - passes[0] * total
        return np.concatenate(orders)[offset : offset + n]

    def _order(self, domain: int, rng: np.random.Generator) -> Ints:
        """Rows of one pass: each once, or in proportion to their weights, shuffled."""
        weight = self._weight[domain]
        if np.ptp(weight) == 0:
            return rng.permutation(len(weight))
        # Where the comb begins changes from pass to pass, so that small weights have their turn.
        return rng.permutation(rows_by_weight(weight, start=rng.random()))

    def scores(self, domain: int, rows: Ints, rng: np.random.Generator) -> Tensor:
        """Scores of rows of a domain, (n, L, n_eta, n_phi), ranks within a mass from ``rng``."""
        hits, mass = self._hits[domain][rows].float(), self._mass[domain][rows].float()
        bottom = self._bottom[domain][rows]
        uniform = torch.from_numpy(rng.random(hits.shape, dtype=np.float32))
        drawn = torch.special.ndtri((bottom + mass * uniform).clamp(1e-7, 1 - 1e-6))
        return torch.where(mass > 0, drawn, hits)

    def limits(self, domain: int, rows: Ints) -> tuple[Tensor, ...]:
        """Scores that those of null and tied cells are drawn below and above, NaN of other hits.

        Returns
        -------
        tuple of Tensors, shape (n, L, n_eta, n_phi)
            One where there are no hits below the null cells.
        """
        ceiling = self._ceiling[domain][rows].float()
        if self._is_plain:
            return (ceiling,)
        return ceiling, torch.special.ndtri(self._bottom[domain][rows])


def _spread(
    calibration: CellSpace, energy: Tensor, domain: int, mu: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of a batch, and lowest rank and mass of the cells that have any within a mass."""
    # At uniform = 1 a null or tied cell is at the top of its mass, at 0 at the bottom.
    top = calibration.encode(energy, domain, mu, torch.ones_like(energy))
    if calibration.is_plain:
        mass = torch.where(energy <= 0, torch.special.ndtr(top), 0.0).half()
        return top, torch.zeros_like(mass), mass
    bottom = calibration.encode(energy, domain, mu, torch.zeros_like(energy))
    is_spread = top > bottom
    low = torch.special.ndtr(bottom)
    mass = torch.where(is_spread, torch.special.ndtr(top) - low, 0.0)
    return top, torch.where(is_spread, low, 0.0), mass


def require_events(store: ImageStore, split: str) -> None:
    """Refuse samples that are too small to learn from.

    Raises
    ------
    TrainingError
        If the split has fewer than ``MIN_EVENTS`` events.
    """
    n = len(store.indices(split))
    if n < MIN_EVENTS:
        raise TrainingError(
            f"{store.path} has {n} {split} events; {MIN_EVENTS} are needed.",
            "Preprocess more events.",
        )


def require_weight(weight: Floats, store: ImageStore, split: str) -> None:
    """Refuse events that cannot be drawn by their weights.

    Raises
    ------
    TrainingError
        If a weight is negative or not finite, or all are 0.
    """
    if not np.all(np.isfinite(weight)) or np.any(weight < 0) or not np.any(weight > 0):
        raise TrainingError(
            f"{store.path}: the {split} events' weights are negative, not finite or all 0, so that "
            "no event can be drawn by them.",
            "Preprocess the sample again, which shares negative weights out among alike events.",
        )


def warn_of_few(store: ImageStore, split: str) -> None:
    """Log a warning where a split has fewer than ``FEW_EVENTS`` events."""
    n = len(store.indices(split))
    if n < FEW_EVENTS:
        _log.warning(
            "%s has only %d %s events: what is learned from them is rough, intervals will be wide, "
            "and a good result may be chance.",
            store.path,
            n,
            split,
        )


def require_finite(energy: NDArray[np.float32], event_id: Ints, where: str) -> None:
    """Refuse NaN and infinite cells.

    Raises
    ------
    TrainingError
        Naming the first events that have them.
    """
    bad = ~np.isfinite(energy).all(axis=(1, 2, 3))
    if bad.any():
        n, named = int(bad.sum()), ", ".join(str(event) for event in event_id[bad][:5])
        what = f"event {named} holds" if n == 1 else f"{n} events ({named}{', …' * (n > 5)}) hold"
        raise TrainingError(
            f"{where}: {what} NaN or infinite cells.",
            "Preprocess the sample again.",
        )


def augmented(scores: Tensor, augmentation: Augmentation, rng: np.random.Generator) -> Tensor:
    """Events (N, C, n_eta, n_phi), each rolled and mirrored at random."""
    out = scores
    if augmentation.phi_step:
        n_phi = scores.shape[3]
        shifts = rng.integers(n_phi // augmentation.phi_step, size=len(scores))
        columns = torch.arange(n_phi)[None] - torch.from_numpy(shifts)[:, None] * (
            augmentation.phi_step
        )
        index = (columns % n_phi)[:, None, None, :].expand_as(scores)
        out = torch.gather(scores, 3, index)
    if augmentation.eta_mirror:
        mirrored = torch.from_numpy(rng.random(len(scores)) < 0.5)
        out = torch.where(mirrored[:, None, None, None], out.flip(2), out)
    return out
