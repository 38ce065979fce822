"""What image systems share: scores, conditions, batches of a fixed size, marginals, files."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

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
from pileupgen.models.calibration.limits import kept_beyond
from pileupgen.models.codec import EventNoise
from pileupgen.models.correction.marginals import MarginalCorrection
from pileupgen.samples.store import Images
from pileupgen.samples.weights import rows_by_weight
from pileupgen.zoo.contract import Budget, Energies, EventConditions, Symmetry, ZooSample
from pileupgen.zoo.fitting import FitRecord
from pileupgen.zoo.scores import SOURCE, TARGET, ConditionInput, ScoreSpace, Views

Task = Literal["generate", "translate"]
RENEWAL_EVENTS = 400
"""Events by which the marginals of the output are learned."""
_RENEWAL_SEED = 424_243
_DAMAGED = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError),
    *(SafetensorError, ConfigError, GeometryError),
)


class ImageSystem(ABC):
    """A system that makes scores of cells; :class:`~pileupgen.zoo.contract.System` has its uses.

    What it makes is brought to N(0, 1) ring by ring, by a map learned on its own output for the
    training events' conditions, and decoded with the target's quantiles. Events go through
    networks in batches of one size, padded where there are fewer, so that no event depends on how
    many others there are.

    Attributes
    ----------
    space : ScoreSpace
    symmetry : Symmetry
        What the training's cards and grid allow.
    network : nn.Module
    conditions : ConditionInput
    trained : FitRecord
    renewal : dict of MarginalCorrection
        By what is done: ``generate`` or ``translate``.

    Raises
    ------
    ConfigError
        If an option is unknown.
    """

    citation: ClassVar[str]
    can_translate: ClassVar[bool] = False
    known_options: ClassVar[tuple[str, ...]] = ()
    batch: int = 32
    """Events that go through the networks together."""

    def __init__(self, **options: Any) -> None:
        for name in options:
            if name not in self.known_options:
                raise ConfigError(
                    f"{type(self).__name__} has no option '{name}'.",
                    did_you_mean(name, self.known_options),
                )
        self.options = options
        self.trained = FitRecord(0, 0.0, ())
        self.renewal: dict[str, MarginalCorrection] = {}

    # -- what a system has to say ---------------------------------------------------------------

    def make_space(self) -> ScoreSpace:
        """Make what turns energies into scores and back, for the grid that is set."""
        return ScoreSpace(self.grid, is_eta_symmetric=self.symmetry.eta)

    @abstractmethod
    def make_network(self) -> nn.Module:
        """Its networks, for the grid and the conditions that are set."""

    @abstractmethod
    def train(self, sample: ZooSample, budget: Budget, seed: int) -> FitRecord:
        """Train them."""

    @abstractmethod
    def draw(self, conditions: Tensor, mu: Tensor, noise: EventNoise) -> Tensor:
        """Scores (n, L, n_eta, n_phi) of one batch from noise; conditions (n, 2 k), μ (n,)."""

    def move(self, images: Images, mu: Tensor, seed: int) -> Tensor:
        """Scores (n, L, n_eta, n_phi) of a batch of translated source events; μ has the shape (n,).

        Called of systems alone for which :attr:`can_translate` holds.
        """
        raise NotImplementedError

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
        self._prepare(sample.grid, conditions.names, sample.symmetry)
        self.space.fit(sample)
        self.conditions.standardise(conditions)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = self.make_network()
            self.trained = self.train(sample, budget, seed)
        self.renew(sample, conditions)

    def renew(self, sample: ZooSample, conditions: EventConditions) -> None:
        """Learn the marginals of its output, again where the options have changed.

        They are of training events in proportion to their weights, as the quantiles are.
        """
        few = rows_by_weight(sample.target.weight, RENEWAL_EVENTS)
        values = conditions.values[few]
        # A heavy event comes more than once, with other noise each time.
        wanted = EventConditions(values, np.arange(len(few), dtype=np.int64), conditions.names)
        self._learn_marginals("generate", self._drawn(wanted, _RENEWAL_SEED))
        if self.can_translate and sample.source is not None:
            source = rows_of(sample.source, rows_by_weight(sample.source.weight, RENEWAL_EVENTS))
            self._learn_marginals("translate", self._moved(source, source.mu, _RENEWAL_SEED))

    def generate(self, conditions: EventConditions, seed: int) -> Energies:
        """Make events from noise."""
        if "generate" not in self.renewal:
            raise RunError("This system is not fitted.", "Fit or load it first.")
        if conditions.names != self.names:
            raise ConfigError(
                f"Conditions {', '.join(conditions.names)}; the system learned {self.names[0]}."
            )
        mu = conditions.values[:, 0]
        scores = self.renewal["generate"](self._drawn(conditions, seed))
        return self.space.decode(scores, mu, TARGET)

    def translate(self, images: Images, mu: NDArray[np.float32], seed: int) -> Energies:
        """Make source events look like the target's."""
        if not self.can_translate:
            raise RunError("This system only generates.", "Choose one that translates.")
        if "translate" not in self.renewal:
            raise RunError(
                "This system has not learned to translate.", "Fit it with source events."
            )
        if images.grid != self.grid:
            raise GeometryError(
                f"Events on the grid '{images.grid.name}' {images.grid.shape}; the system learned "
                f"'{self.grid.name}' {self.grid.shape}.",
                "Preprocess them on that grid.",
            )
        scores = self.renewal["translate"](self._moved(images, mu, seed))
        own, limits = self.space.encode(images, mu, SOURCE, seed), self.space.limits
        # Cells beyond all that was learned from are calibrated, no more: ranks out there are all 1.
        scores = kept_beyond(own, scores, limits, self.grid.n_layers)
        return self.space.decode(scores, mu, TARGET)

    def views(self, images: Images) -> Views:
        """Batches of training events, which come with their conditions."""
        conditions = self.conditions(torch.from_numpy(images.mu)[:, None])
        return Views(self.grid, self.symmetry, conditions, images.weight)

    def _prepare(self, grid: Grid, names: tuple[str, ...], symmetry: Symmetry) -> None:
        self.grid, self.names, self.symmetry = grid, names, symmetry.of(grid)
        self.space = self.make_space()
        self.conditions = ConditionInput(len(names))

    def _learn_marginals(self, task: Task, scores: Tensor) -> None:
        correction = MarginalCorrection(self.grid.n_layers, self.grid.n_eta, self.symmetry.eta)
        correction.fit(scores)
        self.renewal[task] = correction

    @torch.no_grad()
    def _drawn(self, conditions: EventConditions, seed: int) -> Tensor:
        parts = [torch.empty(0, *self.grid.shape)]
        for rows, n in padded_batches(len(conditions), self.batch):
            some = conditions.taken(rows)
            values = torch.from_numpy(some.values)
            noise = EventNoise(seed, some.event_id)
            parts.append(self.draw(self.conditions(values), values[:, 0], noise)[:n])
        return torch.cat(parts)

    @torch.no_grad()
    def _moved(self, images: Images, mu: NDArray[np.float32], seed: int) -> Tensor:
        parts = [torch.empty(0, *self.grid.shape)]
        for rows, n in padded_batches(len(images), self.batch):
            parts.append(self.move(rows_of(images, rows), torch.from_numpy(mu[rows]), seed)[:n])
        return torch.cat(parts)

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
            "renewal": list(self.renewal),
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
            for task, correction in self.renewal.items():
                correction.save_pretrained(part / task)
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
            found.network = found.make_network()
        tensors = load_file(folder / "weights.safetensors")
        for name, module in (("network", found.network), ("conditions", found.conditions)):
            start = f"{name}."
            module.load_state_dict(
                {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
            )
        found.trained = FitRecord(head["steps"], head["seconds"], tuple(head["losses"]))
        found.renewal = {
            task: MarginalCorrection.from_pretrained(folder / task) for task in head["renewal"]
        }
        found.network.eval()
        return found


def _require_usable(sample: ZooSample, conditions: EventConditions) -> None:
    """Refuse what cannot be learned from."""
    if conditions.names != ("mu",) or conditions.values.shape != (len(sample.target), 1):
        raise ConfigError(
            f"Conditions {', '.join(conditions.names)} of shape {conditions.values.shape} for "
            f"{len(sample.target)} target events.",
            "Image systems know one condition, mu, of every target event.",
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


__all__ = ["SOURCE", "TARGET", "ImageSystem", "padded_batches", "rows_of"]
