"""Hard scatters and pileup that tests of the overlay make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pileupgen.calo.geometry import Grid
from pileupgen.samples.store import ImageStore, create_store

GRID = Grid(tuple(np.linspace(-2, 2, 9).tolist()), 12, name="small")


def write_events(
    path: Path,
    n: int,
    seed: int,
    *,
    mu: Any = 0.0,
    floor: float = 0.0,
    scale: float = 2.0,
    noise: float = 0.0,
    draws: int = 1,
    grid: Grid = GRID,
    provenance: dict[str, Any] | None = None,
    **columns: Any,
) -> ImageStore:
    """A store of n × draws events: exponential energies in a third of the cells, Gaussian noise."""
    rng = np.random.default_rng(seed)
    size = n * draws
    energy = rng.exponential(scale, (size, *grid.shape))
    energy *= rng.random(energy.shape) < 0.4
    energy += noise * rng.standard_normal(energy.shape)
    energy[np.abs(energy) < floor] = 0.0
    source = np.repeat(np.arange(n), draws)
    known = {
        "mu": np.broadcast_to(np.repeat(np.broadcast_to(mu, n), draws), size),
        "event_id": source + 1000 * (draws == 1),
        "weight": np.ones(size),
        "split": np.arange(size) % 3,
    }
    if draws > 1:
        known |= {
            "source_event": source,
            "draw": np.tile(np.arange(draws), n),
            "member": np.zeros(size),
            "seed": np.full(size, 7),
        }
    with create_store(path, grid, "mc", provenance or {}) as writer:
        writer.append(energy.astype(np.float32), {**known, **columns})
    return ImageStore(path)
