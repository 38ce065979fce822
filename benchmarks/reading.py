"""How fast towers become images, against plainly reading the same branches with uproot.

python benchmarks/reading.py FILE.root [--repeat N]
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import uproot

from pileupgen.calo.geometry import get_grid
from pileupgen.farm import local_executor
from pileupgen.samples.readers import FORMATS, MuSource, Reader
from pileupgen.samples.stream import Stream

BRANCHES = ("Tower.Edges[4]", "Tower.Eem", "Tower.Ehad", "Vertex_size")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("file", type=Path, help="a Delphes file with Tower.Edges")
    options.add_argument("--repeat", type=int, default=3, help="the best of so many is shown")
    options.add_argument("--copies", type=int, default=1, help="read the file so many times over")
    given = options.parse_args()
    files = [given.file] * given.copies
    print(f"{os.cpu_count()} cores; {given.file.name} × {given.copies}")
    print(f"{'':28} {'wall s':>7} {'CPU s':>7} {'events/s':>9} {'CPU, × plain':>13}")
    n_events = read_plainly(files)
    plain = 0.0
    for name, work in {
        "plain uproot": lambda: read_plainly(files),
        "reader": lambda: read_towers(files),
        "reader and images": lambda: draw(files, 1),
        "the same, 2 workers": lambda: draw(files, 2),
    }.items():
        wall, used = best(work, given.repeat)
        plain = plain or used
        rate = n_events / wall
        print(f"{name:28} {wall:7.2f} {used:7.2f} {rate:9.0f} {used / plain:13.2f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:.0f} MB")


def best(work: Callable[[], int], repeat: int) -> tuple[float, float]:
    """Wall and CPU time of the quickest run, the processes it started included."""
    runs = []
    for _ in range(repeat):
        begin, used = time.perf_counter(), sum(os.times()[:4])
        work()
        runs.append((time.perf_counter() - begin, sum(os.times()[:4]) - used))
    return min(runs)


def read_plainly(files: list[Path]) -> int:
    n_events = 0
    for path in files:
        with uproot.open({path: None}) as file:
            tree = file["Delphes"]
            wanted = [name for name in BRANCHES if name in tree]
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


if __name__ == "__main__":
    main()
