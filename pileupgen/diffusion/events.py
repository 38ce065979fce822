"""What goes into a translation and comes out of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pileupgen.arrays import Floats, Ints
from pileupgen.diffusion.settings import LOG_WEIGHT_LIMIT, Settings
from pileupgen.diffusion.weights import clipped_weights
from pileupgen.models.codec import EventNoise


@dataclass(frozen=True)
class Translation:
    """Translated events."""

    energy: NDArray[np.float32]
    """GeV. Shape (N, L, n_eta, n_phi)."""
    log_ratio: Floats
    """ln p_target / p_source of each event at its release; its exponential is the weight that
    removes what divergence is left there. 0 where there is none (calibrate, generate, and where
    source and target are one domain). Shape (N,)."""
    t_release: Ints
    """Timestep at which each event was released; −1 where it was not (calibrate, generate). Shape
    (N,)."""
    log_weight_limit: float = LOG_WEIGHT_LIMIT
    """Limit of the clipping."""

    @property
    def weight(self) -> Floats:
        """exp(log_ratio), log_ratio clipped to ∓ the limit."""
        return clipped_weights(self.log_ratio, self.log_weight_limit)


@dataclass(frozen=True)
class EventKeys:
    """What fixes the random numbers of events: their numbers, shape (N,), seed and draw."""

    event_id: Ints
    seed: int
    draw: int = 0

    def noise(self, rows: Ints) -> EventNoise:
        """The generators of some events, from their beginning."""
        return EventNoise(self.seed, self.event_id[rows], self.draw)


@dataclass(frozen=True)
class Events:
    """What is translated."""

    energy: NDArray[np.float32]
    """GeV. Shape (N, L, n_eta, n_phi)."""
    mu: NDArray[np.float32]
    """Number of pileup interactions; NaN where it is not known. Shape (N,)."""
    keys: EventKeys

    def of(self, rows: Ints) -> tuple[Tensor, Tensor, EventNoise]:
        """Energies, μ and the random numbers of some events, (n,)."""
        mu = np.asarray(self.mu[rows], dtype=np.float32)
        return torch.from_numpy(self.energy[rows]), torch.from_numpy(mu), self.keys.noise(rows)


@dataclass
class Trace:
    """Latents (N, C, H, W) while noised up to the release and while denoised, with their t."""

    up: list[tuple[int, Tensor]] = field(default_factory=list)
    down: list[tuple[int, Tensor]] = field(default_factory=list)


@dataclass(frozen=True)
class TranslatedPart:
    """Some translated events: rows (n,), scores, μ (n,), ln r (n,), and their release.

    ``tables`` is the domain whose quantiles the scores are decoded with, ``source`` the source
    events' scores, or None where nothing is made of them (generate).
    """

    rows: Ints
    scores: Tensor
    mu: Tensor
    log_ratio: Tensor
    t_release: int
    tables: int
    source: Tensor | None = None


@dataclass(frozen=True)
class MicroBatch:
    """Events that share a network call."""

    rows: Ints
    """Rows of at most ``settings.micro_batch`` events. Shape (n,)."""
    filled: Ints
    """The same, again and again until the batch is full. Shape (settings.micro_batch,)."""
    settings: Settings
    """Settings with the release of these events."""


def micro_batches(rows: Ints, settings: Settings) -> Iterator[MicroBatch]:
    """Cut rows into micro-batches."""
    size = settings.micro_batch
    for begin in range(0, len(rows), size):
        chosen = rows[begin : begin + size]
        yield MicroBatch(chosen, np.resize(chosen, size), settings)
