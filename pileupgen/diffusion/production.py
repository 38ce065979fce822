"""Translating whole stores: shards, blocks that survive a kill, draws and ensembles.

The bytes of a translated store depend on the models, the settings, the seed and the source events,
not on batches, shards, or where a job was interrupted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pileupgen.arrays import Ints
from pileupgen.diffusion.direction import Direction
from pileupgen.diffusion.events import Translation
from pileupgen.diffusion.input_range import InputRange, input_range, require_within
from pileupgen.diffusion.pipeline import Correction, TranslationPipeline
from pileupgen.diffusion.settings import MICRO_BATCH, WITHOUT_NETWORK, Settings
from pileupgen.diffusion.shard import PRECISION, append_evenly, joined_precision
from pileupgen.diffusion.weights import WeightSummary
from pileupgen.models.networks.precision import precision_of
from pileupgen.parallel import Executor, Serial
from pileupgen.progress import Advance, silent
from pileupgen.samples.blocks import StoreBlocks
from pileupgen.samples.store import Images, ImageStore, create_store

BLOCK_EVENTS = 10 * MICRO_BATCH
"""Translated events after which a job can be resumed, about."""


@dataclass(frozen=True)
class Member:
    """A model of an ensemble, or the only one, ready to translate."""

    pipeline: TranslationPipeline
    settings: Settings
    correction: Correction | None = None


@dataclass(frozen=True)
class Production:
    """The events to translate, and the settings."""

    source: ImageStore
    rows: Ints
    """Source events, ascending. Shape (N,)."""
    members: Sequence[Member]
    """One model, or an ensemble, of the same settings."""
    seed: int
    direction: Direction = field(default_factory=Direction)
    """Domains of the source and of what it becomes."""

    @property
    def n_copies(self) -> int:
        """Translated events of each source event."""
        return len(self.members) * self.n_draws

    @property
    def precision(self) -> str:
        """Precision of the networks' products on this machine, ``bfloat16`` or ``float32``."""
        has_network = self.members[0].settings.mode not in WITHOUT_NETWORK
        return precision_of(self.members[0].pipeline.denoiser.device, has_network)

    @property
    def n_draws(self) -> int:
        """Translations of each event by each member."""
        return self.members[0].settings.n_draws

    def translate(
        self, rows: Ints, advance: Advance = silent
    ) -> Iterator[tuple[NDArray[np.float32], dict[str, NDArray[Any]]]]:
        """Translated images and columns of some rows: by event, then member, then draw."""
        size = self.members[0].settings.batch_size
        if any(member.settings.release == "per-event" for member in self.members):
            # Events of one release time share their network calls: many at once fill them.
            size = max(size, BLOCK_EVENTS)
        for images in self.source.batches(rows, size):
            found = self._range(images)
            copies = [
                member.pipeline(
                    images.energy,
                    images.mu,
                    images.event_id,
                    self.seed,
                    member.settings,
                    member.correction,
                    draw,
                    self.direction.source,
                    self.direction.target,
                    advance,
                )
                for member in self.members
                for draw in range(self.n_draws)
            ]
            energy = np.stack([copy.energy for copy in copies], axis=1)
            yield energy.reshape(-1, *energy.shape[2:]), self._columns(images, copies, found)

    def _range(self, images: Images) -> InputRange:
        pipeline, settings = self.members[0].pipeline, self.members[0].settings
        label = self.direction.source_label
        found = input_range(images, pipeline.calibration, pipeline.event_check, label)
        require_within(found, images, settings.out_of_range)
        return found

    def _columns(
        self, images: Images, copies: list[Translation], found: InputRange
    ) -> dict[str, NDArray[Any]]:
        n, k = len(images), self.n_copies
        released = [images.weight * copy.weight for copy in copies]
        return {
            "mu": np.repeat(images.mu, k),
            "event_id": np.repeat(images.event_id, k),
            "weight": np.repeat(images.weight, k),
            "release_weight": np.stack(released, axis=1).ravel(),
            "split": np.repeat(images.columns["split"], k),
            "source_event": np.repeat(images.event_id, k),
            "seed": np.full(n * k, self.seed, dtype=np.int64),
            "log_ratio": np.stack([copy.log_ratio for copy in copies], axis=1).ravel(),
            "t_release": np.stack([copy.t_release for copy in copies], axis=1).ravel(),
            "draw": np.tile(np.tile(np.arange(self.n_draws), len(self.members)), n),
            "member": np.tile(np.repeat(np.arange(len(self.members)), self.n_draws), n),
            **{name: np.repeat(values, k) for name, values in found.columns().items()},
        }


class Blocks(StoreBlocks):
    """The finished blocks of a translation; see :class:`StoreBlocks`.

    Parameters
    ----------
    target, made_from, rows
        As for :class:`StoreBlocks`.
    n_copies : int
        Translated events of each row.
    """

    def __init__(self, target: Path, made_from: str, rows: Ints, n_copies: int) -> None:
        step = max(MICRO_BATCH, BLOCK_EVENTS // n_copies // MICRO_BATCH * MICRO_BATCH)
        super().__init__(target, made_from, rows, step, n_copies)


def produce(
    production: Production,
    blocks: Blocks,
    target: Path,
    provenance: Mapping[str, Any],
    advance: Advance = silent,
    executor: Executor | None = None,
) -> WeightSummary:
    """Translate the blocks that are missing, then write them all as one store.

    Parameters
    ----------
    executor : Executor, optional
        Where blocks are translated, each a task; the store does not depend on it.

    Raises
    ------
    OutputError
        If the disk is full or the folder cannot be written; finished blocks stay.
    """
    missing = [(path, rows) for path, rows in blocks if not blocks.is_finished(path, rows)]
    if executor is None or isinstance(executor, Serial):
        for path, rows in missing:
            _write_block(production, path, rows, advance)
    elif missing:
        _spread(production, missing, executor, advance)
        # To put the blocks together takes one process, and long.
        executor.release()
    limit = production.members[0].settings.log_weight_limit
    domain = production.direction.name
    summary = _join([path for path, _ in blocks], target, domain, provenance, limit)
    blocks.delete()
    return summary


def _write_block(production: Production, path: Path, rows: Ints, advance: Advance) -> None:
    # Blocks may be of different machines, which have bfloat16 or not.
    made_in = {PRECISION: production.precision}
    with create_store(path, production.source.grid, production.direction.name, made_in) as writer:
        for energy, columns in production.translate(rows, advance):
            writer.append(energy, columns)


def _spread(
    production: Production,
    blocks: Sequence[tuple[Path, Ints]],
    executor: Executor,
    advance: Advance,
) -> None:
    folder = blocks[0][0].parent.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    source = copy(production.source)
    source.path = source.path.absolute()
    executor.require_visible([source.path, folder])
    n_threads = None
    if not executor.is_remote:
        n_threads = max(1, torch.get_num_threads() // executor.n_workers)
    # Each task has its own rows: those of all, 8 bytes an event, need not go to every worker.
    work = _Work(replace(production, source=source, rows=production.rows[:0]), n_threads)
    tasks = [(folder / path.name, rows) for path, rows in blocks]
    for n in executor.map(_translate_block, work, tasks, ordered=False):
        advance(n * production.n_copies)


@dataclass(frozen=True)
class _Work:
    """A production elsewhere, with its share of this machine's threads, or all of another's."""

    production: Production
    n_threads: int | None


def _translate_block(work: _Work, block: tuple[Path, Ints]) -> int:
    path, rows = block
    if work.n_threads is not None:
        torch.set_num_threads(work.n_threads)
    _write_block(work.production, path, rows, silent)
    return len(rows)


def _join(
    paths: Sequence[Path], target: Path, domain: str, provenance: Mapping[str, Any], limit: float
) -> WeightSummary:
    """Write stores one after another as one."""
    stores = [ImageStore(path) for path in paths]
    log_ratio = np.concatenate([store.columns["log_ratio"] for store in stores])
    summary = WeightSummary.of(log_ratio, limit)
    full = {**provenance, PRECISION: joined_precision(stores), "weights": summary.to_dict()}
    with create_store(target, stores[0].grid, domain, full) as writer:
        append_evenly(writer, stores)
    return summary
