"""Whether the codec is the limit, asked before a denoiser is trained on its latents."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Ints
from pileupgen.files import write_whole
from pileupgen.models.codec import Codec
from pileupgen.models.reconstruction import ReconstructionTest, reconstruct
from pileupgen.samples.store import ImageStore

MAX_EVENTS = 1000
"""Held-out events per domain that are looked at."""
Judge = Callable[[str, NDArray[np.float32], NDArray[np.float32], Ints], ReconstructionTest]
"""Domain, original and reconstructed energies and event numbers to a two-sample test."""


def judge_reconstruction(
    codec: Codec,
    stores: tuple[ImageStore, ImageStore],
    judge: Judge,
    seed: int,
    is_sampled: bool,
    log: Path,
) -> list[ReconstructionTest]:
    """Reconstruct validation events of both domains and log how they are told apart.

    Parameters
    ----------
    stores : two ImageStores
        mc and data.
    judge : callable
        The two-sample test.

    Raises
    ------
    OutputError
        If the log cannot be written.
    """
    tests = []
    for domain, store in enumerate(stores):
        images = store.read(store.indices("validation", MAX_EVENTS))
        event_id = np.asarray(images.event_id)
        again = reconstruct(codec, images.energy, domain, images.mu, event_id, seed, is_sampled)
        tests.append(judge(("mc", "data")[domain], images.energy, again, event_id))
    decode = "sample" if is_sampled else "mean"
    record = {"decode": decode, "tests": [test.to_dict() for test in tests]}
    write_whole(log, json.dumps(record, indent=2))
    return tests
