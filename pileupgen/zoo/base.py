"""What all systems of the collection share: options, conditions, batches of one size, files."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pileupgen.calo.geometry import Grid
from pileupgen.errors import (
    ConfigError,
    GeometryError,
    RunError,
    StoreError,
    TrainingError,
    did_you_mean,
)
from pileupgen.files import folder_written_whole
from pileupgen.samples.store import Images
from pileupgen.zoo.contract import Budget, Energies, EventConditions, Symmetry, ZooSample
from pileupgen.zoo.fitting import FitRecord
from pileupgen.zoo.layers import PlacedModule
from pileupgen.zoo.scores import ConditionInput

_DAMAGED = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError),
    *(SafetensorError, ConfigError, GeometryError),
)


class EventSpace(Protocol):
    """What turns events into numbers that networks learn, and back."""

    @property
    def is_logarithmic(self) -> bool:
        """Whether its tables are even in the logarithm of the first condition."""

    @property
    def is_by_place(self) -> bool:
        """Whether cells of a ring differ."""

    def fit(self, sample: ZooSample) -> None:
        """Take its tables from the training events."""

    def save(self, folder: Path) -> None:
        """Write its tables into a folder."""

    def load(self, folder: Path, *, is_logarithmic: bool) -> None:
        """Read what :meth:`save` wrote."""


class FittedSystem(ABC):
    """Skeleton of a system; :class:`~pileupgen.zoo.contract.System` has its uses.

    Attributes
    ----------
    space : EventSpace
    symmetry : Symmetry
        What the training's cards and grid allow.
    network : nn.Module
    conditions : ConditionInput
    trained : FitRecord

    Raises
    ------
    ConfigError
        If an option is unknown.
    """

    citation: ClassVar[str]
    can_translate: ClassVar[bool] = False
    can_generate: ClassVar[bool] = True
    needs_pairs: ClassVar[bool] = False
    """Whether it learns from source and target events that are the same events."""
    takes_several: ClassVar[bool] = False
    """Whether events may have more conditions than μ, or what stands for it."""
    known_options: ClassVar[tuple[str, ...]] = ()
    batch: int = 32
    """Events that go through the networks together."""
    space: EventSpace

    def __init__(self, **options: Any) -> None:
        for name in options:
            if name not in self.known_options:
                raise ConfigError(
                    f"{type(self).__name__} has no option '{name}'.",
                    did_you_mean(name, self.known_options),
                )
        self.options = options
        self.trained = FitRecord(0, 0.0, ())

    # -- what a system has to say ---------------------------------------------------------------

    @abstractmethod
    def make_space(self) -> EventSpace:
        """Make what turns events into numbers and back, for the grid that is set."""

    @abstractmethod
    def make_network(self) -> nn.Module:
        """Its networks, for the grid and the conditions that are set."""

    @abstractmethod
    def train(self, sample: ZooSample, budget: Budget, seed: int) -> FitRecord:
        """Train them."""

    @abstractmethod
    def fit_corrections(self, sample: ZooSample, conditions: EventConditions) -> None:
        """Learn what depends on its own output, again where the options have changed."""

    @abstractmethod
    def generate(self, conditions: EventConditions, seed: int) -> Energies:
        """Make events from noise."""

    @property
    @abstractmethod
    def n_evaluations(self) -> int:
        """Passes through a network that an event takes, one after another."""

    # -- what all have in common ----------------------------------------------------------------

    @property
    def n_parameters(self) -> int:
        """Trained numbers of the networks."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    @property
    def training_seconds(self) -> float:
        """CPU time of the training steps."""
        return self.trained.seconds

    def fit(
        self, sample: ZooSample, conditions: EventConditions, budget: Budget, seed: int
    ) -> None:
        """Learn from training events; see :class:`~pileupgen.zoo.contract.System`."""
        _require_usable(sample, conditions)
        conditions = conditions.varying()
        self._require_source(sample)
        self._require_taken(conditions)
        self._prepare(sample.grid, conditions.names, sample.symmetry)
        self.space.fit(sample)
        self.conditions.standardise(conditions)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = self._built()
            self.trained = self.train(sample, budget, seed)
        self.fit_corrections(sample, conditions)

    def translate(
        self,
        images: Images,  # noqa: ARG002
        mu: NDArray[np.float32],  # noqa: ARG002
        seed: int,  # noqa: ARG002
    ) -> Energies:
        """Refuse, unless a system can."""
        raise RunError("This system only generates.", "Choose one that translates.")

    def _require_source(self, sample: ZooSample) -> None:
        """Refuse a sample without the source events that the system cannot do without."""
        name = type(self).__name__
        if not self.can_generate and sample.source is None:
            raise TrainingError(f"{name} only translates.", "Give it source events, too.")
        if self.needs_pairs and not sample.is_paired:
            raise TrainingError(
                f"{name} learns from pairs: source and target events that are the same events.",
                "Give --pairs with samples that differ in the detector's response alone.",
            )

    def _require_taken(self, conditions: EventConditions) -> None:
        """Refuse several conditions where the system knows one."""
        if len(conditions.names) > 1 and not self.takes_several:
            raise TrainingError(
                f"{type(self).__name__} knows one condition; these events have "
                f"{len(conditions.names)}: {', '.join(conditions.names)}.",
                "Choose marginals, a GAN, cvae, a flow, DDPM, DDIM or flow matching.",
            )

    def _learned(self, conditions: EventConditions) -> EventConditions:
        """Take the conditions of the training, and refuse those that lack some."""
        missing = [name for name in self.names if name not in conditions.names]
        if missing:
            raise ConfigError(
                f"Conditions {', '.join(conditions.names)}; the system learned "
                f"{', '.join(self.names)}."
            )
        return conditions.named(self.names)

    def shown(self, images: Images, mu: NDArray[np.float32] | None = None) -> Tensor:
        """Conditions of events as networks see them, (N, 2 k).

        Parameters
        ----------
        images : Images
        mu : float32 array, shape (N,), optional
            In place of their μ.
        """
        values = self._learned(EventConditions.of_images(images)).values
        if mu is not None:
            values = np.concatenate([mu[:, None], values[:, 1:]], axis=1)
        return self.conditions(torch.from_numpy(values))

    def _built(self) -> nn.Module:
        """Networks, which are told where a cell is if places are not alike."""
        network = self.make_network()
        if self.space.is_by_place:
            for module in network.modules():
                if isinstance(module, PlacedModule):
                    module.tell_places(self.grid.n_phi)
        return network

    def _prepare(self, grid: Grid, names: tuple[str, ...], symmetry: Symmetry) -> None:
        # An event is not turned or mirrored without its vertex and momentum.
        allowed = symmetry.of(grid) if len(names) == 1 else Symmetry()
        self.grid, self.names, self.symmetry = grid, names, allowed
        self.space = self.make_space()
        self.conditions = ConditionInput(len(names))

    # -- files ----------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write it as a folder, whole or not at all.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        head = {
            "kind": type(self).__name__,
            "options": self.options,
            "names": self.names,
            "grid": self.grid.to_dict(),
            "symmetry": [self.symmetry.phi, self.symmetry.eta],
            "is_logarithmic": self.space.is_logarithmic,
            "steps": self.trained.steps,
            "seconds": self.trained.seconds,
            "losses": self.trained.losses,
            **self._more_of_head(),
        }
        with folder_written_whole(folder) as part:
            parts = {"network": self.network, "conditions": self.conditions}
            tensors = {
                f"{name}.{key}": value.contiguous()
                for name, module in parts.items()
                for key, value in module.state_dict().items()
            }
            save_file(tensors, part / "weights.safetensors")
            self.space.save(part)
            self._save_more(part)
            (part / "system.json").write_text(json.dumps(head), encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Read what :meth:`save` wrote; where that fails, this system stays as it was.

        Raises
        ------
        StoreError
            If the folder does not hold this system.
        """
        try:
            found = self._read(folder)
        except _DAMAGED as error:
            raise StoreError(
                f"{folder} holds no such system: {error}.", "Delete it and train again."
            ) from error
        self.__dict__.update(found.__dict__)

    @classmethod
    def _read(cls, folder: Path) -> Self:
        head = json.loads((folder / "system.json").read_text(encoding="utf-8"))
        if head["kind"] != cls.__name__:
            raise ValueError(f"it is a {head['kind']}, not a {cls.__name__}")
        found = cls(**head["options"])
        found._prepare(
            Grid.from_dict(head["grid"]), tuple(head["names"]), Symmetry(*head["symmetry"])
        )
        found.space.load(folder, is_logarithmic=head["is_logarithmic"])
        # Weights are drawn before they are loaded: that is not to change anybody's random numbers.
        with torch.random.fork_rng(devices=[]):
            found.network = found._built()
        tensors = load_file(folder / "weights.safetensors")
        for name, module in (("network", found.network), ("conditions", found.conditions)):
            start = f"{name}."
            module.load_state_dict(
                {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
            )
        found.trained = FitRecord(head["steps"], head["seconds"], tuple(head["losses"]))
        found._load_more(folder, head)
        found.network.eval()
        return found

    def _more_of_head(self) -> dict[str, Any]:
        """What a kind of system adds to ``system.json``."""
        return {}

    def _save_more(self, folder: Path) -> None:  # noqa: B027 - most have nothing more
        """Write what a kind of system has beside tables and weights."""

    def _load_more(self, folder: Path, head: dict[str, Any]) -> None:  # noqa: B027
        """Read what :meth:`_save_more` wrote."""


def _require_usable(sample: ZooSample, conditions: EventConditions) -> None:
    """Refuse what cannot be learned from."""
    names, shape = conditions.names, conditions.values.shape
    if names[:1] != ("mu",) or shape != (len(sample.target), len(names)):
        raise ConfigError(
            f"Conditions {', '.join(names)} of shape {shape} for {len(sample.target)} target "
            "events.",
            "Systems know mu of every target event, and what follows it.",
        )
    if sample.source is not None and sample.source.grid != sample.grid:
        raise GeometryError(
            f"Source events on {sample.source.grid.shape}, target events on {sample.grid.shape}.",
            "Preprocess both on one grid.",
        )
    for name, images in (("target", sample.target), ("source", sample.source)):
        if images is None:
            continue
        weight = images.weight
        if not len(images) or not np.isfinite(images.energy).all():
            what = "There are no" if not len(images) else "NaN or infinite cells in"
            raise TrainingError(f"{what} {name} events.", "Preprocess the sample again.")
        if not np.isfinite(weight).all() or (weight < 0).any() or not (weight > 0).any():
            raise TrainingError(
                f"The weights of the {name} events are negative, not finite or all 0.",
                "Preprocess the sample again.",
            )


def rows_of(images: Images, rows: NDArray[np.int64]) -> Images:
    """Some of the events."""
    columns = {name: values[rows] for name, values in images.columns.items()}
    return Images(images.energy[rows], images.grid, columns)


def padded_batches(n: int, size: int) -> list[tuple[NDArray[np.int64], int]]:
    """Rows of batches of one size, the last filled with its first row; how many are meant."""
    found = []
    for begin in range(0, n, size):
        rows = np.arange(begin, min(begin + size, n), dtype=np.int64)
        filled = np.concatenate([rows, np.full(size - len(rows), begin, dtype=np.int64)])
        found.append((filled, len(rows)))
    return found
