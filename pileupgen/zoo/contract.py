"""What every system of the collection is given, and what it gives."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pileupgen.calo.constituents import n_constituents
from pileupgen.calo.geometry import Grid
from pileupgen.samples.columns import PARTICLE
from pileupgen.samples.provenance import has_symmetry
from pileupgen.samples.store import Images, ImageStore
from pileupgen.zoo.pairs import paired_images

Energies = NDArray[np.float32]
DEFAULT_SECONDS = 120.0


@dataclass(frozen=True)
class EventConditions:
    """What is known of N events before their images are made."""

    values: NDArray[np.float32]
    """One column a condition; NaN where it is not known. Shape (N, k)."""
    event_id: NDArray[np.int64]
    """Fixes, with the seed, the random numbers of an event. Shape (N,)."""
    names: tuple[str, ...] = ("mu",)
    """Names of the columns. Length k."""

    def __len__(self) -> int:
        return len(self.event_id)

    @classmethod
    def of_pileup(cls, images: Images) -> EventConditions:
        """Take μ, the one condition of a pileup image."""
        return cls(images.mu[:, None], images.event_id)

    @classmethod
    def of_images(cls, images: Images) -> EventConditions:
        """Take μ, or what stands for it, and what else is known of a particle."""
        names = tuple(name for name in PARTICLE if name in images.columns)
        known = [images.mu, *(images.columns[name] for name in names)]
        return cls(np.stack(known, axis=1).astype(np.float32), images.event_id, ("mu", *names))

    def taken(self, rows: NDArray[np.int64]) -> EventConditions:
        """Some of the events."""
        return EventConditions(self.values[rows], self.event_id[rows], self.names)

    def named(self, names: tuple[str, ...]) -> EventConditions:
        """Some of the conditions; names that there are not raise a ValueError."""
        columns = [self.names.index(name) for name in names]
        return EventConditions(self.values[:, columns], self.event_id, names)

    def varying(self) -> EventConditions:
        """The first condition, and of the others those that differ between the events."""
        known = np.where(np.isfinite(self.values), self.values, np.nan)
        kept = [self.names[0]] + [
            name
            for name, values in zip(self.names[1:], known.T[1:], strict=True)
            if len(np.unique(values[~np.isnan(values)])) > 1
        ]
        return self.named(tuple(kept))


@dataclass(frozen=True)
class Symmetry:
    """In what places of a detector are alike; what is not said is not taken for granted."""

    phi: bool = False
    """All φ: events may be turned, and mirrored in φ."""
    eta: bool = False
    """η and −η: they share tables and weights, and events may be mirrored."""

    @classmethod
    def of_stores(cls, *stores: ImageStore) -> Symmetry:
        """What the data cards of all of them allow."""
        return cls(
            *(
                all(has_symmetry(store.provenance, name) for store in stores)
                for name in ("phi_symmetric", "eta_symmetric")
            )
        )

    def of(self, grid: Grid) -> Symmetry:
        """What of it a grid has, too; the places of jets' constituents are in no grid."""
        if n_constituents(grid):
            return self
        return Symmetry(self.phi and grid.is_phi_uniform, self.eta and grid.is_eta_symmetric)


@dataclass(frozen=True)
class ZooSample:
    """Training events."""

    target: Images
    """What generated events should look like: data."""
    source: Images | None = None
    """What translations start from: mc. None where there is nothing to translate."""
    symmetry: Symmetry = Symmetry()
    """Symmetry of the detector; where the grid is not alike, that counts."""
    is_paired: bool = False
    """Whether source and target are the same events in the same order, seen differently."""

    @classmethod
    def of_stores(
        cls, data: ImageStore, mc: ImageStore | None = None, *, is_paired: bool = False
    ) -> ZooSample:
        """Take the training events of stores, and the symmetries that all their cards allow.

        Parameters
        ----------
        data, mc : ImageStore
        is_paired : bool
            Whether events of the same number are the same event; others are then left out.

        Raises
        ------
        ConfigError
            If they are said to be and are not.
        """
        stores = [data] if mc is None else [data, mc]
        images = [store.read(store.indices("train")) for store in stores]
        if is_paired and mc is not None:
            images = list(paired_images(*images))
        return cls(
            images[0],
            None if mc is None else images[1],
            Symmetry.of_stores(*stores),
            is_paired and mc is not None,
        )

    @property
    def grid(self) -> Grid:
        """Grid of the images of both."""
        return self.target.grid


@dataclass(frozen=True)
class Budget:
    """How long a system may train.

    The time is CPU time of all threads, so that what a system learns does not depend on what else
    the machine does. Two trainings with a limit in seconds may differ by a few steps; with a limit
    in steps they are the same.
    """

    seconds: float = DEFAULT_SECONDS
    """CPU seconds of the training steps. Reading, calibration and the fit of the marginals that
    follows come on top."""
    max_steps: int | None = None
    """Steps, at most."""
    state: Path | None = None
    """File in which an interrupted training is kept and from which it goes on."""

    def shared(self, share: float, name: str) -> tuple[Budget, Budget]:
        """Divide seconds and steps between two networks that are trained one after the other.

        Parameters
        ----------
        share : float
            Part of the first.
        name : str
            Of the first: its state has a file of its own, beside that of the second.
        """
        state = self.state and self.state.with_suffix(f".{name}{self.state.suffix}")
        steps = None if self.max_steps is None else math.ceil(share * self.max_steps)
        first = Budget(share * self.seconds, steps, state)
        rest = None if self.max_steps is None or steps is None else self.max_steps - steps
        return first, Budget((1 - share) * self.seconds, rest, self.state)


@runtime_checkable
class System(Protocol):
    """A generator or translator of calorimeter images.

    All random numbers of an event follow from the seed and its number: what becomes of it does not
    depend on the other events, bit for bit.
    """

    citation: str
    """The paper that it follows."""
    can_translate: bool
    """Whether :meth:`translate` is there."""
    can_generate: bool
    """Whether :meth:`generate` is there."""

    @property
    def n_parameters(self) -> int:
        """Trained numbers of the networks; those of calibration and marginals not counted."""

    @property
    def n_evaluations(self) -> int:
        """Passes through a network that an event takes, one after another."""

    @property
    def training_seconds(self) -> float:
        """CPU time of the training steps."""

    def fit(
        self, sample: ZooSample, conditions: EventConditions, budget: Budget, seed: int
    ) -> None:
        """Learn from training events; ``conditions`` are those of the target's.

        Raises
        ------
        TrainingError
            If there are no events, their energies are not finite, or their weights are negative,
            not finite or all 0; if it needs source events, or pairs, and there are none; if events
            have several conditions and it knows one; or if a loss is not finite.
        GeometryError
            If source and target are on different grids.
        ConfigError
            If the conditions are not those of the target's events.
        """

    def generate(self, conditions: EventConditions, seed: int) -> Energies:
        """Make events from noise: energies in GeV, (N, L, n_eta, n_phi).

        Raises
        ------
        RunError
            If it only translates, or is not fitted.
        ConfigError
            If conditions of the training are missing.
        """

    def translate(self, images: Images, mu: NDArray[np.float32], seed: int) -> Energies:
        """Make source events look like the target's: energies in GeV, (N, L, n_eta, n_phi).

        Raises
        ------
        RunError
            If it only generates, is not fitted, or was fitted without source events.
        GeometryError
            If the events are on another grid than those of the training.
        """

    def save(self, folder: Path) -> None:
        """Write it as a folder, whole or not at all."""

    def load(self, folder: Path) -> None:
        """Read what :meth:`save` wrote."""


@runtime_checkable
class HasLikelihood(Protocol):
    """A system that knows the density of an image."""

    @property
    def is_exact(self) -> bool:
        """False where what it gives is a lower bound."""

    def nats_gained(
        self, images: Images, mu: NDArray[np.float32], seed: int
    ) -> NDArray[np.float64]:
        """Ln p of each target image above that of independent cells, nats a live cell, (N,)."""


@runtime_checkable
class HasControl(Protocol):
    """A generator whose events have wanted properties."""

    properties: tuple[str, ...]
    """Names of :data:`~pileupgen.zoo.properties.PROPERTIES`."""

    def property_range(self, name: str) -> tuple[float, float]:
        """Smallest and largest value of a property that can be asked for."""

    def controlled(
        self, conditions: EventConditions, name: str, values: NDArray[np.float64], seed: int
    ) -> Energies:
        """Make events of wanted values, (N,), of one property: GeV, (N, L, n_eta, n_phi)."""
