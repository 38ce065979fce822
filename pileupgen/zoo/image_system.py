"""What image systems share: scores, conditions, batches of a fixed size, marginals, files."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pileupgen.calo.geometry import Grid
from pileupgen.errors import RunError, StoreError
from pileupgen.files import folder_written_whole
from pileupgen.models.calibration.calibration import CellCalibration
from pileupgen.models.codec import EventNoise
from pileupgen.models.correction.marginals import MarginalCorrection
from pileupgen.samples.store import Images
from pileupgen.zoo.contract import Budget, Energies, EventConditions, ZooSample
from pileupgen.zoo.fitting import FitRecord
from pileupgen.zoo.scores import SOURCE, TARGET, ConditionInput, ScoreSpace, Views

Way = Literal["generate", "translate"]
RENEWAL_EVENTS = 400
"""Events by which the marginals of the output are learned."""
_RENEWAL_SEED = 424_243
_DAMAGED = (OSError, ValueError, KeyError, TypeError, RuntimeError)


class ImageSystem(ABC):
    """A system that makes scores of cells; :class:`~pileupgen.zoo.contract.System` has its uses.

    What it makes is brought to N(0, 1) ring by ring, by a map learned on its own output for the
    training events' conditions, and decoded with the target's quantiles. Events go through
    networks in batches of one size, padded where there are fewer, so that no event depends on how
    many others there are.

    Attributes
    ----------
    space : ScoreSpace
    network : nn.Module
    conditions : ConditionInput
    trained : FitRecord
    renewal : dict of MarginalCorrection
        By what is done: ``generate`` or ``translate``.
    """

    citation: ClassVar[str]
    can_translate: ClassVar[bool] = False
    can_generate: ClassVar[bool] = True
    batch: ClassVar[int] = 32
    """Events that go through the networks together."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.trained = FitRecord(0, 0.0, ())
        self.renewal: dict[str, MarginalCorrection] = {}

    # -- what a system has to say ---------------------------------------------------------------

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
        """Scores of one batch of translated source events."""
        raise NotImplementedError

    @property
    @abstractmethod
    def n_evaluations(self) -> int:
        """Passes through a network that an event takes, one after another."""

    # -- what all have in common ----------------------------------------------------------------

    @property
    def n_parameters(self) -> int:
        """FitRecord numbers of the networks."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    @property
    def training_seconds(self) -> float:
        """CPU time of the training steps."""
        return self.trained.seconds

    def fit(
        self, sample: ZooSample, conditions: EventConditions, budget: Budget, seed: int
    ) -> None:
        """Learn from training events; see :class:`~pileupgen.zoo.contract.System`."""
        self._prepare(sample.grid, conditions.names)
        self.space.fit(sample)
        self.conditions.standardise(conditions)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = self.make_network()
            self.trained = self.train(sample, budget, seed)
        self.renew(sample, conditions)

    def renew(self, sample: ZooSample, conditions: EventConditions) -> None:
        """Learn the marginals of its output, again where the options have changed."""
        few = np.arange(min(RENEWAL_EVENTS, len(conditions)), dtype=np.int64)
        if self.can_generate:
            made = self._drawn(conditions.taken(few), _RENEWAL_SEED)
            self._learn_marginals("generate", made)
        if self.can_translate and sample.source is not None:
            source = rows_of(sample.source, np.arange(min(RENEWAL_EVENTS, len(sample.source))))
            self._learn_marginals("translate", self._moved(source, source.mu, _RENEWAL_SEED))

    def generate(self, conditions: EventConditions, seed: int) -> Energies:
        """Make events from noise."""
        if not self.can_generate:
            raise RunError("This system only translates.", "Give it source events.")
        mu = conditions.values[:, 0]
        scores = self.renewal["generate"](self._drawn(conditions, seed))
        return self.space.decode(scores, mu, TARGET)

    def translate(self, images: Images, mu: NDArray[np.float32], seed: int) -> Energies:
        """Make source events look like the target's."""
        if "translate" not in self.renewal:
            raise RunError("This system only generates.", "Choose one that translates.")
        scores = self.renewal["translate"](self._moved(images, mu, seed))
        return self.space.decode(scores, mu, TARGET)

    def views(self, images: Images) -> Views:
        """Batches of training events, which come with their conditions."""
        conditions = self.conditions(torch.from_numpy(images.mu)[:, None])
        return Views(self.grid, conditions, images.weight)

    def _prepare(self, grid: Grid, names: tuple[str, ...]) -> None:
        self.grid, self.names = grid, names
        self.space = ScoreSpace(grid)
        self.conditions = ConditionInput(len(names))

    def _learn_marginals(self, way: Way, scores: Tensor) -> None:
        correction = MarginalCorrection(
            self.grid.n_layers, self.grid.n_eta, self.grid.is_eta_symmetric
        )
        correction.fit(scores)
        self.renewal[way] = correction

    @torch.no_grad()
    def _drawn(self, conditions: EventConditions, seed: int) -> Tensor:
        parts = []
        for rows, n in padded_batches(len(conditions), self.batch):
            some = conditions.taken(rows)
            values = torch.from_numpy(some.values)
            noise = EventNoise(seed, some.event_id)
            parts.append(self.draw(self.conditions(values), values[:, 0], noise)[:n])
        return torch.cat(parts)

    @torch.no_grad()
    def _moved(self, images: Images, mu: NDArray[np.float32], seed: int) -> Tensor:
        parts = []
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
            "options": self.options,
            "names": self.names,
            "grid": self.grid.to_dict(),
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
            self.space.calibration.save_pretrained(part / "calibration")
            for way, correction in self.renewal.items():
                correction.save_pretrained(part / way)
            (part / "system.json").write_text(json.dumps(head), encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Read what :meth:`save` wrote.

        Raises
        ------
        StoreError
            If the folder does not hold this system.
        """
        try:
            head = json.loads((folder / "system.json").read_text(encoding="utf-8"))
            self.options = head["options"]
            self._prepare(Grid.from_dict(head["grid"]), tuple(head["names"]))
            self.space.calibration = CellCalibration.from_pretrained(folder / "calibration")
            self.network = self.make_network()
            tensors = load_file(folder / "weights.safetensors")
            for name, module in (("network", self.network), ("conditions", self.conditions)):
                start = f"{name}."
                module.load_state_dict(
                    {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
                )
            self.trained = FitRecord(head["steps"], head["seconds"], tuple(head["losses"]))
            self.renewal = {
                way: MarginalCorrection.from_pretrained(folder / way) for way in head["renewal"]
            }
        except _DAMAGED as error:
            raise StoreError(
                f"{folder} holds no such system: {error}.", "Delete it and train again."
            ) from error
        self.network.eval()


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
