"""Distillation: a student learns from pairs of events before and after its teacher's translation.

A deterministic translation is a map of latents, and of the noise at the release where some is
drawn. It is close to what the closed form makes of them, and nothing in it is random: the
student's target has no noise. Every pair has ranks of null cells, and noise, of its own; rolls in
φ, and mirrored events where the teacher is symmetric, make more of each.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pileupgen.arrays import Ints
from pileupgen.config import DistillConfig, TrainingConfig
from pileupgen.diffusion.direction import Direction
from pileupgen.diffusion.events import EventKeys, Events, MicroBatch, micro_batches
from pileupgen.diffusion.pipeline import TranslationPipeline
from pileupgen.diffusion.settings import Settings
from pileupgen.diffusion.teacher import is_mirrored
from pileupgen.files import written_whole
from pileupgen.models.networks.layers import patchify, unpatchify
from pileupgen.models.networks.student import END, RELEASE, Student
from pileupgen.parallel.threads import torch_threads
from pileupgen.progress import SILENT, Advance, Listener, silent
from pileupgen.samples.store import ImageStore, usable_weights
from pileupgen.samples.weights import rows_by_weight
from pileupgen.training.checkpoints import Making
from pileupgen.training.data import Augmentation, Batch, augmented
from pileupgen.training.loop import Stage, StageResult, train_stage
from pileupgen.training.step import new_accelerator

CHUNK = 500
"""Pairs of a file, after each of which an interrupted distillation continues."""
N_HELD_OUT = 200
"""Pairs of validation events by which a student is judged while it learns."""
_STREAM = 1 << 20
"""First stream of an event's random numbers that pairs take, one for each pass over the events."""


@dataclass(frozen=True)
class Teacher:
    """A pipeline and the settings by which it is to be learned from, on a run's events."""

    pipeline: TranslationPipeline
    settings: Settings
    store: ImageStore
    """Events of the source."""
    seed: int

    def write_pairs(self, folder: Path, n: int, advance: Advance = silent) -> list[Path]:
        """Translate training events, each pass over them in another order, unless that is done.

        Parameters
        ----------
        folder : Path
            Receives a file for each ``CHUNK`` of pairs, under its name when it is whole.

        Returns
        -------
        list of Path
            The files, float16 arrays (n, 3 C or 4 C, H, W); see :meth:`Translator.lesson`.
        """
        paths = []
        for number, (rows, stream) in enumerate(self._chunks("train", n)):
            paths.append(folder / f"{number:06d}.npy")
            if not paths[-1].is_file():
                self._write(paths[-1], rows, stream, advance)
            else:
                advance(len(rows))
        return paths

    def write_held_out(self, folder: Path, advance: Advance = silent) -> Path:
        """Translate validation events, unless that is done; see :meth:`write_pairs`."""
        path = folder / "held_out.npy"
        rows, stream = next(self._chunks("validation", N_HELD_OUT))
        if not path.is_file():
            self._write(path, rows, stream, advance)
        return path

    def mu(self, split: str, n: int) -> Tensor:
        """μ of the pairs of a split, (n,)."""
        rows = np.concatenate([rows for rows, _ in self._chunks(split, n)])
        return torch.from_numpy(self.store.columns["mu"][rows].astype(np.float32))

    def _chunks(self, split: str, n: int) -> Iterator[tuple[Ints, int]]:
        """Rows of the store, and the stream of random numbers, of each file."""
        rows = self.store.indices(split)
        weight = np.asarray(usable_weights(self.store.columns), dtype=np.float64)[rows]
        left, turn = n, 0
        while left > 0:
            rng = np.random.default_rng([self.seed, 6, turn])
            order = rows[rng.permutation(rows_by_weight(weight, start=rng.random()))][:left]
            for begin in range(0, len(order), CHUNK):
                yield order[begin : begin + CHUNK], _STREAM + turn
            left, turn = left - len(order), turn + 1

    def _write(self, path: Path, rows: Ints, stream: int, advance: Advance) -> None:
        translator = self.pipeline.translator(Direction())
        sorted_rows, back = np.unique(rows, return_inverse=True)
        images = self.store.read(sorted_rows)
        keys = EventKeys(images.event_id[back], self.seed, stream)
        events = Events(images.energy[back], images.mu[back], keys)

        def lesson(batch: MicroBatch) -> NDArray[np.float16]:
            return np.asarray(translator.lesson(events, batch).half().numpy())

        parts = []
        with torch_threads(torch.get_num_threads()) as over:
            for part in over(lesson, micro_batches(np.arange(len(rows)), self.settings)):
                parts.append(part)
                advance(len(part))
        with written_whole(path) as aside, aside.open("wb") as file:
            np.save(file, np.concatenate(parts))


class Pairs:
    """Pairs on disk under the interface of training and of held-out events.

    Parameters
    ----------
    paths : sequence of Path
        As :meth:`Teacher.write_pairs` gives them.
    mu : Tensor, shape (N,)
    patch : (int, int)
        Latents are patches of p × q positions, of which rolls and mirrored events are made.
    """

    def __init__(self, paths: list[Path], mu: Tensor, patch: tuple[int, int]) -> None:
        self._parts = [np.load(path, mmap_mode="r") for path in paths]
        self._begins = np.cumsum([0, *map(len, self._parts)])
        self._mu, self._patch = mu, patch

    def __len__(self) -> int:
        return int(self._begins[-1])

    def batch(
        self, step: int, batch_size: int, seed: int, augmentation: Augmentation | None = None
    ) -> Batch:
        """The global batch of a step, a function of (seed, step) alone."""
        first = step * batch_size
        passes = range(first // len(self), (first + batch_size - 1) // len(self) + 1)
        orders = [np.random.default_rng([seed, 7, k]).permutation(len(self)) for k in passes]
        begin = first - passes[0] * len(self)
        chosen = np.concatenate(orders)[begin : begin + batch_size]
        batch = self._of(chosen)
        if augmentation is None:
            return batch
        rng = np.random.default_rng([seed, 8, step])
        cells = augmented(unpatchify(batch.scores, self._patch), augmentation, rng)
        return replace(batch, scores=patchify(cells, self._patch))

    def in_order(self, n_per_domain: int, seed: int) -> Batch:  # noqa: ARG002 - all, always
        """All of them."""
        return self._of(np.arange(len(self)))

    def _of(self, rows: Ints) -> Batch:
        part = np.searchsorted(self._begins, rows, side="right") - 1
        values = [self._parts[k][row - self._begins[k]] for k, row in zip(part, rows, strict=True)]
        numbers = torch.from_numpy(rows)
        latents = torch.from_numpy(np.stack(values).astype(np.float32))
        return Batch(latents, torch.zeros_like(numbers), self._mu[numbers], numbers, True)


@dataclass(frozen=True)
class Distillation:
    """Squared distance of the student from its teacher, at the end and at the release.

    Each in units of what the closed form leaves there, so that a student that has learned nothing
    has a loss of 2.
    """

    left: tuple[float, float]
    """Mean squares of what the closed form leaves at the release and at the end."""
    has_noise: bool
    name: str = "student"

    @classmethod
    def of(cls, student: Student, held_out: Pairs) -> Distillation:
        """Measure what the closed form leaves of held-out pairs."""
        batch = held_out.in_order(len(held_out), 0)
        inputs, wanted = _taken_apart(batch, student.has_noise)
        found = (student.in_closed_form(which, *inputs) for which in (RELEASE, END))
        squares = [float(((own - its) ** 2).mean()) for own, its in zip(found, wanted, strict=True)]
        return cls((max(squares[0], 1e-12), max(squares[1], 1e-12)), student.has_noise)

    def draw(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:  # noqa: ARG002
        """Nothing is random."""
        return {}

    def loss(self, network: nn.Module, batch: Batch, drawn: dict[str, Tensor]) -> Tensor:  # noqa: ARG002
        """Loss of each event, shape (N,)."""
        inputs, wanted = _taken_apart(batch, self.has_noise)
        found = network(inputs[0], batch.mu, *inputs[1:])
        parts = [
            ((own - its) ** 2).flatten(1).mean(1) / left
            for own, its, left in zip(found, wanted, self.left, strict=True)
        ]
        return torch.stack(parts).sum(dim=0)


def _taken_apart(batch: Batch, has_noise: bool) -> tuple[list[Tensor], list[Tensor]]:
    """Latents, and noise where some is drawn; latents at the release and at the end."""
    *inputs, release, end = batch.scores.chunk(3 + has_noise, dim=1)
    return inputs, [release, end]


@dataclass(frozen=True)
class Apprenticeship:
    """Where a distillation keeps what it has done, and all that determines its result."""

    checkpoints: Path
    log: Path
    making: Making
    augmentation: Augmentation
    """Symmetries of the detector, in cells."""


def distil(
    teacher: Teacher,
    student: Student,
    config: DistillConfig,
    training: TrainingConfig,
    place: Apprenticeship,
    listener: Listener = SILENT,
) -> StageResult:
    """Write the pairs and train the student on them; either continues where it was interrupted.

    Parameters
    ----------
    student : Student
        As :func:`pileupgen.diffusion.teacher.new_student` makes it; trained in place.
    training : TrainingConfig
        Settings of the loop that the former does not have.

    Raises
    ------
    TrainingError
        If a loss is not finite.
    OutputError
        If pairs or checkpoints cannot be written.
    """
    folder, patch = place.checkpoints / "pairs", student.modes.patch
    begun = time.perf_counter()
    with listener.progress("pairs       ", config.pairs + N_HELD_OUT) as advance:
        paths = teacher.write_pairs(folder, config.pairs, advance)
        held_out = teacher.write_held_out(folder, advance)
    judged = Pairs([held_out], teacher.mu("validation", N_HELD_OUT), patch)
    objective = Distillation.of(student, judged)
    pipeline = teacher.pipeline
    in_phi = pipeline.autoencoder.patch[1] // patch[1]
    stage = Stage(
        student,
        objective,
        Pairs(paths, teacher.mu("train", config.pairs), patch),
        judged,
        config.steps,
        Augmentation(
            place.augmentation.phi_step // in_phi,
            place.augmentation.eta_mirror and is_mirrored(pipeline),
        ),
        place.checkpoints / "student",
        place.log,
        place.making,
        time.perf_counter() - begun,
    )
    given = training.model_copy(
        update={
            "batch_size": config.batch_size,
            "learning_rate": config.learning_rate,
            "keep": "last",
            "patience": 0,
        }
    )
    accelerator = new_accelerator(str(pipeline.denoiser.device), training.mixed_precision)
    with listener.stage("student", config.steps) as advance:
        result = train_stage(stage, given, teacher.seed, accelerator, advance)
    student.to("cpu").requires_grad_(False)
    return result
