"""Small samples that the code makes: correlated fields with thresholds, in two domains."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import settings
from numpy.typing import NDArray

from pileupgen.cli.main import main
from pileupgen.compare import physics_distance, two_sample
from pileupgen.samples.store import ImageStore, assign_splits, create_store
from tests.few_draws import ALL_TREES, FPD_BATCHES
from tests.fixtures import (  # noqa: F401
    card_path,
    card_values,
    ideal_card,
    impatient_client,
    interactions,
    mc_card,
    shared_data,
)
from tests.tiny import command, few_figures, tiny_run  # noqa: F401
from tests.toys import SMALL_GRID, toy, toy_stores  # noqa: F401

torch.set_num_threads(1)

# The suite tries the same examples every time; HYPOTHESIS_PROFILE=default searches at random.
settings.register_profile("suite", derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))


_FIRST = ("real", "parallel", "integration", "zoo", "cli", "compare")
"""Folders with the longest modules, those first that wait for other processes part of the time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long, so that no process is left with it when the others are done."""
    order = {name: place for place, name in enumerate(_FIRST)}
    items.sort(key=lambda item: order.get(item.path.parent.name, len(order)))


def make_energies(
    n: int, domain: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Images (n, 2, 8, 12) in GeV and μ; data has other scales, thresholds and correlations."""
    rng = np.random.default_rng([seed, domain])
    mu = rng.poisson(60, n).astype(np.float32)
    white = rng.standard_normal((n, 2, *SMALL_GRID.shape[1:]))
    leak = 0.1 + 0.25 * domain
    field = white + leak * (np.roll(white, 1, 3) + np.roll(white, -1, 3))
    field[:, 0] += 0.3 * field[:, 1]
    scale = (1.2 if domain else 1.0) * (mu / 60)[:, None, None, None]
    energy = scale * np.exp(0.8 * field)
    return np.where(energy > 0.6, energy, 0.0).astype(np.float32), mu


def write_sample(path: Path, n: int, domain: int, seed: int = 1) -> ImageStore:
    """A store of made events with the usual columns."""
    energy, mu = make_energies(n, domain, seed)
    with create_store(path, SMALL_GRID, ("mc", "data")[domain], {"seed": seed}) as writer:
        writer.append(
            energy,
            {
                "mu": mu,
                "event_id": np.arange(n),
                "weight": np.ones(n),
                "split": assign_splits(0, n, (0.6, 0.15, 0.25), 1),
            },
        )
    return ImageStore(path)


def run_main(*arguments: str) -> tuple[int, str]:
    """Exit code and output of `pileupgen …` in this process."""
    said = io.StringIO()
    with (
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
        mock.patch.object(sys, "argv", ["pileupgen", *arguments]),
        pytest.raises(SystemExit) as done,
    ):
        main()
    return int(done.value.code or 0), said.getvalue()


@pytest.fixture(scope="module")
def thorough() -> Iterator[None]:
    """Two-sample tests with as many trees and batches as outside of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(physics_distance, "N_BATCHES", FPD_BATCHES)
        patch.setattr(two_sample, "MAX_ITER", ALL_TREES)
        yield


@pytest.fixture(scope="session")
def small_stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageStore, ImageStore]:
    folder = tmp_path_factory.mktemp("stores")
    return (
        write_sample(folder / "mc.h5", 400, 0),
        write_sample(folder / "data.h5", 400, 1),
    )
