"""The minimum-bias pool: made once, kept in a cache folder, drawn from with replacement."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.errors import UnreadableInputError
from pileupgen.parallel.chunks import Work, run_chunks, save
from pileupgen.progress import Advance, silent
from pileupgen.simulate.generators import make_generator, require
from pileupgen.simulate.interactions import ARRAYS, Interactions
from pileupgen.simulate.spec import SampleSpec

POOL_STREAM = 0
CHUNK = 500
"""Interactions made from one seed; a part of what a pool depends on."""


def pool_path(spec: SampleSpec, cache: Path) -> Path:
    """Path of a spec's pool in the cache."""
    if spec.files:
        return cache / f"pool-{spec.files[0].name.split('.')[0]}-{spec.pool_fingerprint()}.npz"
    tune = "" if spec.tune is None else f"-tune{spec.tune}"
    name = f"{spec.generator}{tune}-{spec.process}-{spec.sqrt_s:g}GeV-{spec.pool_size}"
    return cache / f"pool-{name}-{spec.pool_fingerprint()}.npz"


def make_pool(
    spec: SampleSpec, scratch: Path, workers: int, advance: Advance = silent
) -> Interactions:
    """Generate a spec's pool.

    Parameters
    ----------
    spec : SampleSpec
        Generator, process, tune, energy, pool size and seed are used.
    scratch : Path
        An existing, empty folder.
    workers : int
        Processes at a time; the pool does not depend on it.

    Raises
    ------
    DependencyError
        If the generator is not installed.
    GeneratorError
        If it fails, or needs tables that cannot be fetched.
    """
    require(spec.generator)
    task = {
        "task": "pileupgen.simulate.pool:prepare_pool",
        "generator": spec.generator,
        "process": spec.process,
        "tune": spec.tune,
        "sqrt_s": spec.sqrt_s,
        "pt_min": spec.pt_min,
    }
    parts = []
    for part in run_chunks(task, pool_chunks(spec), workers, scratch):
        parts.append(part)
        advance(len(part["offsets"]) - 1)
    return Interactions.join(parts)


def pool_chunks(spec: SampleSpec) -> list[dict[str, int]]:
    """Chunks ``{"n": …, "seed": …}`` that a spec's interactions are made in."""
    return [
        {"n": min(CHUNK, spec.pool_size - first), "seed": _seed(spec.seed, number)}
        for number, first in enumerate(range(0, spec.pool_size, CHUNK))
    ]


def _seed(seed: int, chunk: int) -> int:
    state = np.random.SeedSequence([seed, POOL_STREAM, chunk]).generate_state(1)
    return int(state[0])


def write_pool(path: Path, pool: Interactions) -> None:
    """Write a pool; the name appears when the file is whole.

    Raises
    ------
    OutputError
        If the disk is full or the folder cannot be written.
    """
    save(path, pool.arrays())


def read_pool(path: Path) -> Interactions:
    """Read a pool.

    Raises
    ------
    UnreadableInputError
        If it is missing, truncated or something else.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            pool = Interactions(**{name: arrays[name] for name in ARRAYS})
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UnreadableInputError(
            f"{path} cannot be read as a minimum-bias pool: {error}.", "Delete it."
        ) from error
    if pool.offsets[-1] != len(pool.pid):
        raise UnreadableInputError(f"{path}: offsets and particles do not fit.", "Delete it.")
    return pool


def prepare_pool(job: Mapping[str, Any]) -> Work:
    """Initialise a generator in a process of its own; a chunk is ``{"n": …, "seed": …}``."""
    generator = make_generator(
        job["generator"], job["process"], job["tune"], job["sqrt_s"], job["pt_min"]
    )

    def work(chunk: Mapping[str, Any]) -> Mapping[str, NDArray[Any]]:
        return generator.generate(chunk["n"], chunk["seed"]).arrays()

    return work
