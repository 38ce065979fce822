"""Training events encoded once: latents on disk, keyed by all that made them.

With a learned codec an event is encoded again at every step, only for the ranks of its null cells.
A few draws of them, encoded beforehand, do as well; rolls in φ by whole latent positions commute
with the encoder and are drawn at every step still.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from numpy.typing import NDArray
from torch import Tensor, nn

from pileupgen.errors import OutputError, TrainingError
from pileupgen.files import output_errors, written_whole
from pileupgen.models.codec import LatentModel
from pileupgen.progress import Advance, silent
from pileupgen.training.data import Batch, ScoreSample

CHUNK = 64
"""Events encoded at once."""
_STREAM = 4
"""Random stream of the ranks of null cells, apart from the streams of :class:`ScoreSample`."""


def fingerprint_of(
    autoencoder: nn.Module, calibration: nn.Module, facts: Mapping[str, Any] | Sequence[Any]
) -> str:
    """SHA-256, first 16 hex digits, of two models' tensors and of anything JSON can hold."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for model in (autoencoder, calibration):
        for name, tensor in sorted(model.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def cached_latents(
    folder: Path,
    key: str,
    sample: ScoreSample,
    autoencoder: LatentModel,
    *,
    n_draws: int,
    mirror: bool,
    seed: int,
    accelerator: Accelerator,
    advance: Advance = silent,
) -> NDArray[np.float16]:
    """Open the cache of this key, or make it: written aside, renamed when whole.

    Processes share the work and need a common file system. Caches of other keys are deleted.

    Parameters
    ----------
    key : str
        Fingerprint of everything that determines the latents; the file's name.
    autoencoder : LatentModel
        On the accelerator's device; applied in float32, as translation does.
    n_draws : int
        Latents per event, null cells ranked again in each.
    advance : callable
        Told the events encoded, by this process and the others alike.

    Returns
    -------
    float16 array, shape (N, copies, C, H, W)
        Memory-mapped; mc first, and after each draw its mirrored copy if there is one.

    Raises
    ------
    OutputError
        If there is no space or permission.
    TrainingError
        If a latent is not finite; names the events.
    """
    path = folder / f"{key}.npy"
    n_copies = n_draws * (2 if mirror else 1)
    shape = (sum(sample.n_events), n_copies, *autoencoder.latent_shape)
    accelerator.wait_for_everyone()
    latents = _opened(path, shape)
    accelerator.wait_for_everyone()
    if latents is None:
        writing = _Writing(sample, autoencoder, n_draws, mirror, seed)
        _write(path, shape, writing, accelerator, advance)
        latents = _opened(path, shape)
    if latents is None:
        raise OutputError(
            f"{path} cannot be read again.",
            "Put the run on a file system that all processes share.",
        )
    return latents


def encode(autoencoder: LatentModel, batch: Batch, device: torch.device) -> Tensor:
    """Latents of a batch in float32, on the CPU, (N, C, H, W)."""
    moved = batch.to(device)
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        return autoencoder.encode(moved.scores, moved.label, moved.mu).float().cpu()


def drawn_scores(
    sample: ScoreSample, domain: int, rows: slice, draw: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, μ and event numbers of consecutive rows, as the cache has them in a draw."""
    rng = np.random.default_rng([seed, _STREAM, domain, draw, rows.start])
    mu, event_id = sample.conditions(domain, rows)
    return sample.scores(domain, np.arange(rows.start, rows.start + len(mu)), rng), mu, event_id


@dataclass(frozen=True)
class _Writing:
    """Content of the cache."""

    sample: ScoreSample
    autoencoder: LatentModel
    n_draws: int
    mirror: bool
    seed: int

    def chunks(self) -> Iterator[tuple[int, int, slice]]:
        """Domain, first row in the file and rows in the domain of each piece."""
        first = 0
        for domain, n in enumerate(self.sample.n_events):
            for begin in range(0, n, CHUNK):
                yield domain, first + begin, slice(begin, min(begin + CHUNK, n))
            first += n

    def block(self, domain: int, rows: slice, device: torch.device) -> NDArray[np.float16]:
        """Latents of some rows, all copies, (n, copies, C, H, W)."""
        copies = []
        for draw in range(self.n_draws):
            scores, mu, event_id = drawn_scores(self.sample, domain, rows, draw, self.seed)
            label = torch.full_like(event_id, domain)
            for values in (scores, scores.flip(2)) if self.mirror else (scores,):
                batch = Batch(values, label, mu, event_id)
                latents = encode(self.autoencoder, batch, device).half()
                is_bad = ~torch.isfinite(latents).flatten(1).all(1)
                if is_bad.any():
                    raise TrainingError(
                        f"The autoencoder's latents are not finite for events "
                        f"{batch.rows(is_bad).names()}.",
                        "Lower training.learning_rate, or look at these events.",
                    )
                copies.append(latents.numpy())
        return np.stack(copies, axis=1)


def _opened(path: Path, shape: tuple[int, ...]) -> NDArray[np.float16] | None:
    """The file, memory-mapped, or None if there is none that is whole."""
    with suppress(OSError, ValueError):
        found = np.load(path, mmap_mode="r")
        if found.shape == shape and found.dtype == np.float16:
            return np.asarray(found)
    return None


def _write(
    path: Path,
    shape: tuple[int, ...],
    writing: _Writing,
    accelerator: Accelerator,
    advance: Advance,
) -> None:
    size = int(np.prod(shape[1:])) * np.dtype(np.float16).itemsize
    hint = (
        f"It takes {size * shape[0] / 1e9:.2g} GB: free space, lower training.latent_draws, or set "
        "training.cache_latents: false."
    )
    is_main = accelerator.is_main_process
    if is_main:
        with output_errors(path, hint):
            for old in (*path.parent.glob("*.npy"), *path.parent.glob(".*.part")):
                old.unlink()
    # One process makes and renames the file, under a name that it tells the others.
    making = written_whole(path, hint) if is_main else nullcontext(path)
    with output_errors(path, hint), making as chosen:
        aside = Path(broadcast_object_list([str(chosen)])[0])
        if is_main:
            with aside.open("wb") as file:
                _write_header(file, shape)
        accelerator.wait_for_everyone()
        with aside.open("r+b") as file:
            begin = file.seek(0, 2)
            # Headers are as long in all processes, but another's rows may stand after it already.
            accelerator.wait_for_everyone()
            for number, (domain, first, rows) in enumerate(writing.chunks()):
                if number % accelerator.num_processes == accelerator.process_index:
                    block = writing.block(domain, rows, accelerator.device)
                    file.seek(begin + first * size)
                    file.write(block.tobytes())
                advance(rows.stop - rows.start)
        accelerator.wait_for_everyone()
    accelerator.wait_for_everyone()


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    header = {"descr": "<f2", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
