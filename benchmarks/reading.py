"""How fast towers become images, against plainly reading the same branches with uproot.

python benchmarks/reading.py FILE.root [--repeat N]
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import uproot

from pileupgen.calo.presets import get_grid
from pileupgen.parallel import local_executor
from pileupgen.samples.cards import DataCard
from pileupgen.samples.ingest import ingest
from pileupgen.samples.readers import FORMATS, MuSource, Reader
from pileupgen.samples.stream import Stream

ENERGIES = ("Tower.Eem", "Tower.Ehad", "Vertex_size")
CARD = {
    "name": "benchmark",
    "what": "a file",
    "domain": "mc",
    "files": "benchmark.root",
    "detector": {"text": "as in the file"},
    "how_made": "as it came",
    "selection": "none",
    "licence": "none",
    "contact": "nobody",
}
PLACES = ("Tower.Edges[4]",), ("Tower.Eta", "Tower.Phi")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("file", type=Path, help="a Delphes file")
    options.add_argument("--repeat", type=int, default=3, help="the best of so many is shown")
    options.add_argument("--copies", type=int, default=1, help="read the file so many times over")
    given = options.parse_args()
    files = [given.file] * given.copies
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, load {load:.1f}; {given.file.name} × {given.copies}")
    print(f"{'':28} {'wall s':>7} {'CPU s':>7} {'events/s':>9} {'CPU, × plain':>13}")
    n_events = read_plainly(files)
    plain = 0.0
    for name, work in {
        "plain uproot": lambda: read_plainly(files),
        "reader": lambda: read_towers(files),
        "reader and images": lambda: draw(files, 1),
        "the whole store": lambda: write(files, 1),
        "the same, 2 workers": lambda: write(files, 2),
    }.items():
        wall, used = best(work, given.repeat)
        plain = plain or used
        rate = n_events / wall
        print(f"{name:28} {wall:7.2f} {used:7.2f} {rate:9.0f} {used / plain:13.2f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:.0f} MB")


def best(work: Callable[[], int], repeat: int) -> tuple[float, float]:
    """Least wall time, and least CPU time of this process and its threads."""
    walls, uses = [], []
    for _ in range(repeat):
        begin, used = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - begin)
        uses.append(time.process_time() - used)
    return min(walls), min(uses)


def read_plainly(files: list[Path]) -> int:
    n_events = 0
    for path in files:
        with uproot.open({path: None}) as file:
            tree = file["Delphes"]
            places = next(names for names in PLACES if all(name in tree for name in names))
            wanted = [*places, *ENERGIES]
            for arrays in tree.iterate(wanted, step_size="4 MB", library="ak"):
                n_events += len(arrays)
    return n_events


def reader_of(files: list[Path]) -> Reader:
    kind = FORMATS["delphes"]
    return kind.open(files, kind.options(), MuSource.parse(kind.mu), 1.0)


def read_towers(files: list[Path]) -> int:
    return sum(towers.n_events for towers in reader_of(files).chunks())


def draw(files: list[Path], workers: int) -> int:
    stream = Stream(reader_of(files), get_grid("atlas"), 0.5, executor=local_executor(workers))
    return sum(len(drawn.images) for drawn in stream)


def write(files: list[Path], workers: int) -> int:
    card = DataCard.model_validate(CARD)
    with tempfile.TemporaryDirectory() as folder:
        return ingest(
            reader_of(files),
            get_grid("atlas"),
            Path(folder) / "images.h5",
            domain="mc",
            card=card,
            inputs=[],
            zero_suppression=0.5,
            executor=local_executor(workers),
        ).n_events


if __name__ == "__main__":
    main()
