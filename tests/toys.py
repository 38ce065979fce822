"""Toy pileup: towers with a common activity per event, thresholds and leakage to neighbours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pileupgen.calo.geometry import Grid
from pileupgen.samples.store import Images, ImageStore, assign_splits, create_store

TOY_GRID = Grid(tuple(np.round(np.linspace(-1.0, 1.0, 11), 3)), 12, name="toy")
SMALL_GRID = Grid(tuple(np.round(np.linspace(-0.8, 0.8, 9), 3)), 12, name="small")


class Toy:
    """Makes images, records of them and stores."""

    grid = TOY_GRID

    def energies(
        self, n: int, seed: int = 0, scale: float = 1.0, leak: float = 0.0, grid: Grid = TOY_GRID
    ) -> NDArray[np.float32]:
        """Images (n, L, n_eta, n_phi) in GeV."""
        rng = np.random.default_rng([7, seed])
        activity = rng.gamma(25.0, 1.0 / 25.0, size=(n, 1, 1, 1))
        energy = rng.lognormal(0.0, 0.8, size=(n, *grid.shape)) * activity * scale
        energy += leak * (np.roll(energy, 1, 3) + np.roll(energy, -1, 3))
        return np.where(energy > 0.7, energy, 0.0).astype(np.float32)

    def images(self, energy: NDArray[np.float32], grid: Grid = TOY_GRID, **columns) -> Images:
        """A record of images with the usual columns."""
        n = len(energy)
        known = {
            "mu": np.full(n, 60.0, dtype=np.float32),
            "event_id": np.arange(n),
            "weight": np.ones(n),
            "split": assign_splits(0, n, (0.6, 0.15, 0.25), 1),
        }
        return Images(energy, grid, {**known, **columns})

    def store(
        self,
        path: Path,
        energy: NDArray[np.float32],
        domain: str,
        grid: Grid = TOY_GRID,
        provenance: dict | None = None,
        **columns,
    ) -> ImageStore:
        """An image store on disk."""
        images = self.images(energy, grid, **columns)
        with create_store(path, grid, domain, provenance or {}) as writer:
            writer.append(images.energy, images.columns)
        return ImageStore(path)

    def translated(
        self, path: Path, source: ImageStore, energy: NDArray[np.float32], **columns
    ) -> ImageStore:
        """A store of translated test events: ``energy`` belongs to the source's test events."""
        rows = source.indices("test")
        known = {
            "source_event": source.columns["event_id"][rows],
            "seed": np.zeros(len(rows), dtype=np.int64),
            "split": np.full(len(rows), 2, dtype=np.uint8),
        }
        return self.store(
            path,
            energy,
            "mc_to_data",
            provenance={"t_release": 300, "w": 2.0, "mode": "partial"},
            **{**known, **columns},
        )


@pytest.fixture(scope="session")
def toy() -> Toy:
    return Toy()


@pytest.fixture(scope="session")
def toy_stores(toy: Toy, tmp_path_factory) -> dict[str, ImageStore]:
    """Source, target of another scale, and a translation that undoes nine tenths of it."""
    folder = tmp_path_factory.mktemp("validation")
    before = toy.energies(600, seed=1)
    source = toy.store(folder / "mc.h5", before, "mc")
    target = toy.store(folder / "data.h5", toy.energies(600, seed=2, scale=1.3), "data")
    after = 1.27 * before[source.indices("test")]
    return {
        "source": source,
        "target": target,
        "translated": toy.translated(folder / "mc_to_data.h5", source, after.astype(np.float32)),
    }
