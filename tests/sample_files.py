"""Delphes-like files and the towers in them, made on the spot."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot
from numpy.typing import NDArray

from pileupgen.calo.geometry import Grid
from pileupgen.calo.imaging import images_to_towers
from pileupgen.calo.presets import get_grid
from pileupgen.calo.towers import Towers

EDGES = "Tower.Edges[4]"


def random_towers(
    n_events: int, seed: int, grid: Grid | None = None, occupancy: float = 0.02
) -> Towers:
    """Towers that are cells of a grid, float32 as in a file, with μ around 60."""
    rng = np.random.default_rng(seed)
    grid = grid or get_grid("atlas")
    energy = rng.exponential(3, (n_events, *grid.shape)).astype(np.float32)
    energy *= rng.random((n_events, 1, *grid.shape[1:])) < occupancy
    towers = images_to_towers(energy, grid, mu=rng.poisson(60, n_events).astype(np.float32))
    return Towers(
        offsets=towers.offsets,
        edges=towers.edges.astype(np.float32),
        energy=towers.energy,
        layers=towers.layers,
        mu=towers.mu,
        event_id=towers.event_id,
    )


def jagged(counts: NDArray[np.int64], values: NDArray[Any]) -> ak.Array:
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    content = ak.contents.NumpyArray(np.ascontiguousarray(values))
    return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), content))


def delphes_branches(towers: Towers) -> dict[str, ak.Array | NDArray[Any]]:
    """Branches of a Delphes file, by name."""
    counts = np.diff(towers.offsets)
    return {
        "Tower.Eta": jagged(counts, towers.edges[:, :2].mean(axis=1, dtype=np.float32)),
        "Tower.Phi": jagged(counts, towers.edges[:, 2:].mean(axis=1, dtype=np.float32)),
        "Tower.Eem": jagged(counts, towers.energy[:, 0]),
        "Tower.Ehad": jagged(counts, towers.energy[:, 1]),
        # uproot 5 writes an inner axis wrongly, but takes the [4] in the name for one on reading.
        EDGES: jagged(4 * counts, towers.edges.ravel()),
        "Vertex_size": (towers.mu + 1).astype(np.int32),
    }


def write_tree(
    path: Path,
    branches: Mapping[str, ak.Array | NDArray[Any]],
    tree: str = "Delphes",
    steps: int = 1,
    compression: uproot.compression.Compression | None = None,
) -> None:
    """Write branches in ``steps`` baskets each."""
    # Types as they are: awkward takes longer to read one in words than uproot to write a branch.
    types = {
        name: ak.types.ListType(ak.flatten(values).type.content)
        if isinstance(values, ak.Array)
        else values.dtype
        for name, values in branches.items()
    }
    with uproot.recreate(path, compression=compression) as file:
        written = file.mktree(
            tree, types, counter_name=lambda name: "n_" + name.replace("[", "_").rstrip("]")
        )
        n = len(next(iter(branches.values())))
        for begin, end in zip(
            np.arange(steps) * n // steps, np.arange(1, steps + 1) * n // steps, strict=True
        ):
            written.extend({name: values[begin:end] for name, values in branches.items()})


def write_ntuple(
    path: Path,
    fields: Mapping[str, ak.Array | NDArray[Any]],
    ntuple: str = "events",
    steps: int = 1,
    again: str | None = None,
) -> None:
    """Write fields of an RNTuple in ``steps`` clusters; ``again`` is a second one, empty."""
    n = len(next(iter(fields.values())))
    cuts = itertools.pairwise(n * step // steps for step in range(steps + 1))
    parts = [{name: values[begin:end] for name, values in fields.items()} for begin, end in cuts]
    with uproot.recreate(path, compression=None) as file:
        if again is not None:
            file.mkrntuple(again, {name: values[:0] for name, values in fields.items()})
        written = file.mkrntuple(ntuple, parts[0])
        for part in parts[1:]:
            written.extend(part)


def write_delphes(path: Path, towers: Towers, *without: str, steps: int = 1) -> None:
    """Write towers as Delphes does, leaving out the named branches."""
    branches = delphes_branches(towers)
    write_tree(path, {k: v for k, v in branches.items() if k not in without}, steps=steps)
