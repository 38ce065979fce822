"""Peak memory of `pileupgen preprocess` against the number of events.

python benchmarks/memory.py FILE.root [--events N …] [--workers N]

The Delphes file is read as often as it takes, through links with names of their own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import uproot
import yaml

CARD = {
    "what": "a file many times over",
    "format": "delphes",
    "detector": {"text": "as in the file"},
    "how_made": "copies",
    "selection": "none",
    "licence": "none",
    "contact": "nobody",
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("file", type=Path, help="a Delphes file")
    options.add_argument("--events", type=int, nargs="+", default=[1_000, 12_000, 100_000])
    options.add_argument("--workers", type=int, default=1)
    given = options.parse_args()
    with uproot.open(given.file) as file:
        n_in_file = int(file["Delphes"].num_entries)
    print(f"{given.file.name}, {n_in_file} events a copy, {given.workers} worker")
    print(f"{'events':>8} {'wall s':>8} {'peak MB':>8} {'to the first':>13}")
    first = 0.0
    for n_events in given.events:
        wall, peak = measure(given.file.resolve(), n_events, n_in_file, given.workers)
        first = first or peak
        print(f"{n_events:8} {wall:8.1f} {peak:8.1f} {peak / first:13.3f}", flush=True)


def measure(file: Path, n_events: int, n_in_file: int, workers: int) -> tuple[float, float]:
    """Wall time in s, and peak resident memory in MB of the command's largest process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for copy in range(-(-n_events // n_in_file)):
            (folder / f"copy_{copy:04}.root").symlink_to(file)
        for domain, files in (("mc", "copy_*.root"), ("data", "copy_0000.root")):
            card = {**CARD, "name": domain, "domain": domain, "files": files}
            (folder / f"{domain}.yaml").write_text(yaml.safe_dump(card))
        config = {
            "name": "memory",
            "samples": {"mc": "mc.yaml", "data": "data.yaml"},
            "preprocess": {"max_events": n_events},
        }
        (folder / "memory.yaml").write_text(yaml.safe_dump(config))
        command = ["preprocess", "--config", "memory.yaml", "--workers", str(workers)]
        begin = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "pileupgen", *command],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )
        _, status, used = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"preprocess ended with {os.waitstatus_to_exitcode(status)}")
        return time.perf_counter() - begin, used.ru_maxrss / 1024


if __name__ == "__main__":
    main()
