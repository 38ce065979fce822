"""CPU time of what pileupgen does by itself, where a library does the same.

``python -m benchmarks.libraries FILE`` takes a ROOT file of Delphes. The numbers are the least of
three runs, in seconds and over the first row.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import awkward as ak
import numpy as np
import uproot

from pileupgen.calo.presets import get_grid
from pileupgen.calo.rowtable import RowTable
from pileupgen.samples.readers.root import RootTree

LEAVES = ("Tower.Edges", "Tower.Eem", "Tower.Ehad")


def least(work: Callable[[], object], repeat: int = 3) -> float:
    """Least CPU time of some runs in seconds."""
    times = []
    for _ in range(repeat):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return min(times)


def table(title: str, works: dict[str, Callable[[], object]]) -> None:
    """Print a table of CPU times."""
    found = {name: least(work) for name, work in works.items()}
    first = next(iter(found.values()))
    print(f"\n{title}\n")
    for name, seconds in found.items():
        print(f"| {name} | {seconds:.3f} | {seconds / first:.2f} |")


def lookups(n_batches: int = 20, n_rows: int = 100_000) -> None:
    """Number the towers of events, a few thousand distinct ones in batches."""
    grid = get_grid("atlas")
    eta, phi = np.asarray(grid.eta_edges), grid.phi_edges
    corners = [(*pair, *turn) for pair in pairwise(eta) for turn in pairwise(phi)]
    towers, rng = np.array(corners, dtype=np.float32), np.random.default_rng(1)
    batches = [towers[rng.integers(len(towers), size=n_rows)] for _ in range(n_batches)]

    def own() -> None:
        known = RowTable()
        for batch in batches:
            new = np.flatnonzero(known.find(batch) < 0)
            if len(new):
                known.add(batch[new])
                known.find(batch)

    def dictionary() -> None:
        known: dict[bytes, int] = {}
        for batch in batches:
            [known.setdefault(bytes(row), len(known)) for row in batch.view("V16").ravel()]

    def unique() -> None:
        known = np.empty(0, dtype="V16")
        for batch in batches:
            values, place = np.unique(batch.view("V16").ravel(), return_inverse=True)
            known = np.union1d(known, values)
            np.searchsorted(known, values)[place]

    works = {"`calo.rowtable`": own, "`numpy.unique`": unique, "`dict`": dictionary}
    table(f"{n_batches * n_rows:,} lookups among {len(towers):,} towers", works)


def baskets(path: Path, step: int = 50) -> None:
    """Read three branches of a file in pieces."""

    def own() -> None:
        tree = RootTree(path, "Delphes")
        columns = [tree.column(name) for name in LEAVES]
        for begin in range(0, tree.n_entries, step):
            for column in columns:
                column.read(begin, min(begin + step, tree.n_entries))
        tree.close()

    def iterate() -> None:
        with uproot.open({path: None}) as file:
            chosen = lambda name: name.split("[")[0] in LEAVES  # noqa: E731
            for part in file["Delphes"].iterate(filter_name=chosen, step_size=step):
                for name in part.fields:
                    ak.to_numpy(ak.flatten(part[name], axis=None))

    def piece_by_piece() -> None:
        with uproot.open({path: None}, array_cache=None) as file:
            tree = file["Delphes"]
            chosen = [
                branch
                for branch in tree.itervalues(recursive=True)
                if branch.name.split("[")[0] in LEAVES
            ]
            for begin in range(0, tree.num_entries, step):
                for branch in chosen:
                    branch.array(entry_start=begin, entry_stop=begin + step)

    works = {
        "`samples.readers.root`": own,
        "`uproot.iterate`": iterate,
        "`TBranch.array`, a piece at a time": piece_by_piece,
    }
    table(f"three branches of {path.name}, {step} events at a time", works)


if __name__ == "__main__":
    lookups()
    baskets(Path(sys.argv[1]))
