"""Cost of what pileupgen does by itself, where a library does the same.

``python -m benchmarks.libraries FILE`` takes a ROOT file of Delphes. Times are CPU times in
seconds, the least of three runs, and over the first row; those of training are wall-clock times of
interleaved runs. Reading from a server is counted in requests and bytes.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pyarrow as pa
import torch
import uproot
from accelerate import Accelerator
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractBufferedFile
from numpy.typing import NDArray
from pyarrow import parquet

from pileupgen.calo.presets import get_grid
from pileupgen.calo.rowtable import RowTable
from pileupgen.models.networks.local import LocalDenoiser
from pileupgen.samples.readers.remote import BLOCKS, READAHEAD
from pileupgen.samples.readers.root import RootTree
from pileupgen.training.replicas import Replicas

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
    with suppress(ImportError):
        works["`pandas.MultiIndex`"] = _indexed(batches)
    table(f"{n_batches * n_rows:,} lookups among {len(towers):,} towers", works)


def _indexed(batches: Sequence[NDArray[np.float32]]) -> Callable[[], object]:
    import pandas as pd

    def work() -> None:
        known = pd.MultiIndex.from_arrays([np.empty(0, np.uint64)] * 2)
        for batch in batches:
            rows = pd.MultiIndex.from_arrays(list(batch.view(np.uint64).T))
            known = known.append(rows[known.get_indexer(rows) < 0].unique())
            known.get_indexer(rows)

    return work


class CountedFile(AbstractBufferedFile):  # type: ignore[misc]
    """A local file that counts what would be asked of a server."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.n_requests = self.n_bytes = 0
        self._plain = path.open("rb")
        super().__init__(LocalFileSystem(), str(path), "rb", **options)

    def _fetch_range(self, start: int, end: int) -> bytes:
        self.n_requests, self.n_bytes = self.n_requests + 1, self.n_bytes + end - start
        self._plain.seek(start)
        return self._plain.read(end - start)


CACHES: dict[str, dict[str, Any]] = {
    "`READAHEAD` of `samples/readers/remote.py`: readahead, 0.25 MiB": READAHEAD,
    "`BLOCKS`: blockcache, 1 MiB": BLOCKS,
    "readahead, 5 MiB: fsspec's default": {},
    "bytes, 0.25 MiB": {"cache_type": "bytes", "block_size": 1 << 18},
    "blockcache, 5 MiB": {"cache_type": "blockcache"},
    "background, 5 MiB": {"cache_type": "background"},
    "none": {"cache_type": "none"},
}


def requests(n_events: int = 4000) -> None:
    """Count what reading one part of a file, and all of it in pieces, asks of a server."""
    rng = np.random.default_rng(1)
    towers = rng.random((n_events, 2, 50, 36), dtype=np.float32)
    with TemporaryDirectory() as folder:
        arrays, lists = Path(folder) / "images.h5", Path(folder) / "images.parquet"
        with h5py.File(arrays, "w") as file:
            file.create_dataset("cells", data=towers, chunks=(64, 2, 50, 36))
            file.create_dataset("mu", data=rng.random(n_events), chunks=(512,))
        columns = {
            f"cells_{layer}": pa.array(list(towers[:, layer].reshape(n_events, -1)))
            for layer in range(2)
        }
        parquet.write_table(pa.table(columns), lists, row_group_size=500)

        def read_arrays(file: CountedFile, part: int) -> None:
            with h5py.File(file, "r") as opened:
                for begin in range(0, n_events // part, 200):
                    opened["cells"][begin : begin + 200]
                    opened["mu"][begin : begin + 200]

        def read_lists(file: CountedFile, part: int) -> None:
            opened = parquet.ParquetFile(file)
            for group in range(opened.num_row_groups // part):
                opened.read_row_group(group, columns=["cells_0"])

        for path, read in ((arrays, read_arrays), (lists, read_lists)):
            print(f"\n{path.name}, {path.stat().st_size / 1e6:.1f} MB\n")
            for name, options in CACHES.items():
                counts = []
                for part in (1, 8):
                    with CountedFile(path, **options) as file:
                        read(file, part)
                        counts += [f"{file.n_requests}", f"{file.n_bytes / 1e6:.1f}"]
                print(f"| {name} | {' | '.join(counts)} |")


def threads(n_steps: int = 6, n_rounds: int = 9) -> None:
    """Time steps of the demo's denoiser: replicas, threads within operations, and neither."""
    torch.set_num_threads(2)
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    network = accelerator.prepare(LocalDenoiser(8, 16, 18, patch=(2, 2)))
    pieces = [torch.randn(32, 8, 16, 18) for _ in range(2)]

    def piece(copy: torch.nn.Module, number: int) -> None:
        x, n = pieces[number], len(pieces[number])
        t, label = torch.full((n,), 300), torch.arange(n) % 3
        mu, level = torch.full((n,), 60.0), (torch.full((n,), 0.8), torch.full((n,), 0.6))
        copy(x, t, label, mu, torch.zeros_like(x), *level).square().mean().backward()

    def steps(replicas: Replicas) -> tuple[float, float]:
        begun = time.perf_counter(), time.process_time()
        for _ in range(n_steps):
            replicas.gradients(piece, len(pieces))
        return time.perf_counter() - begun[0], time.process_time() - begun[1]

    times: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for _ in range(n_rounds):
        with Replicas.of(network, accelerator, 2) as replicas:
            times["two replicas: `training/replicas.py`"].append(steps(replicas))
        for name, n in (("two threads within operations", 2), ("one thread", 1)):
            torch.set_num_threads(n)
            times[name].append(steps(Replicas(network, [], map)))
        torch.set_num_threads(2)
    print(f"\n{n_steps} steps of 64 events, {n_rounds} interleaved rounds: wall clock, CPU\n")
    for name, found in times.items():
        wall, cpu = np.median(found, axis=0)
        low, high = np.quantile([one for one, _ in found], (0.16, 0.84))
        print(f"| {name} | {wall:.3f} ({low:.3f} … {high:.3f}) | {cpu:.3f} |")


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
    requests()
    threads()
    baskets(Path(sys.argv[1]))
