"""What every row of the table is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pileupgen.calo.geometry import Grid
from pileupgen.compare.quality import MethodOutput
from pileupgen.measure.features import observables_of
from pileupgen.run import RunDirectory
from pileupgen.samples.store import Images
from pileupgen.zoo.contract import Symmetry

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """What a baseline may learn from: training events of both domains, no other.

    Attributes
    ----------
    mc, data : Images
        Training events.
    run : RunDirectory
        A trained run; only our own rows look into it.
    device : str
        Torch device.
    seconds : float
        Wall time that a baseline which could train for ever may train for.
    seed : int
    symmetry : Symmetry
        What the data cards of both domains allow.
    """

    mc: Images
    data: Images
    run: RunDirectory
    device: str
    seconds: float
    seed: int
    symmetry: Symmetry = field(default_factory=Symmetry)

    @property
    def grid(self) -> Grid:
        """Of the images."""
        return self.mc.grid


class Baseline(Protocol):
    """One method to make mc look like data."""

    n_evaluations: int
    """Network evaluations an event takes; known once it is fitted."""
    is_slow: bool
    """Whether it takes so long that it is judged on fewer events than the others."""

    def fit(self, problem: Problem) -> None:
        """Learn from training events."""

    def translate(self, images: Images) -> MethodOutput:
        """Translate source events."""

    @property
    def n_parameters(self) -> int:
        """Trained numbers."""


@runtime_checkable
class Corrected(Protocol):
    """A baseline whose images have passed a residual correction, and can be had without it."""

    def translate_plain(self, images: Images) -> MethodOutput:
        """Translate source events without the correction after the decode."""


def measured(images: Images, batch: int = 128) -> Floats:
    """Observables of images, shape (N, k)."""
    observables = observables_of(images.grid)
    parts = []
    for begin in range(0, len(images), batch):
        rows = slice(begin, begin + batch)
        found = observables.measure(images.energy[rows], images.event_id[rows])
        parts.append(np.stack([found[name] for name in observables.names], axis=1))
    return np.concatenate(parts)
