"""Peak memory of `pileupgen preprocess` against the number of events.

python benchmarks/memory.py [FILE.root] [--events N …] [--workers N]

The Delphes file is read as often as it takes, through links with names of their own. Without one,
files of 5,000 made images of 2 × 16 × 16 cells are: quick enough for a hundred thousand events.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import uproot
import yaml

CARD = {
    "what": "a file many times over",
    "detector": {"text": "as in the file"},
    "how_made": "copies",
    "selection": "none",
    "licence": "none",
    "contact": "nobody",
}
DELPHES = {"format": "delphes"}
IMAGES = {
    "format": "hdf5",
    "options": {"dataset": "images", "eta_range": [-1.6, 1.6]},
    "units": {"energy": "GeV"},
}
GRID = {"name": "small", "eta_edges": [round(-1.6 + 0.2 * i, 1) for i in range(17)], "n_phi": 16}
N_IMAGES = 5_000


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("file", type=Path, nargs="?", help="a Delphes file")
    options.add_argument("--events", type=int, nargs="+", default=[1_000, 12_000, 100_000])
    options.add_argument("--workers", type=int, default=1)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = given.file or make_images(Path(folder) / "images.h5")
        compare(file.resolve(), given.events, given.workers)


def compare(file: Path, events: list[int], workers: int) -> None:
    """Print peak memory for each number of events."""
    is_root = file.suffix == ".root"
    n_in_file = N_IMAGES
    if is_root:
        with uproot.open(file) as opened:
            n_in_file = int(opened["Delphes"].num_entries)
    print(f"{file.name}, {n_in_file} events a copy, {workers} worker, ", end="")
    print(f"load {os.getloadavg()[0]:.1f}")
    print(f"{'events':>8} {'wall s':>8} {'peak MB':>8} {'to the first':>13}")
    first = 0.0
    for n_events in events:
        wall, peak = measure(file, n_events, n_in_file, workers)
        first = first or peak
        print(f"{n_events:8} {wall:8.1f} {peak:8.1f} {peak / first:13.3f}", flush=True)


def make_images(path: Path) -> Path:
    """Images of exponential energies, half of the cells empty."""
    rng = np.random.default_rng(1)
    images = rng.exponential(1.0, (N_IMAGES, 16, 16, 2))
    images[rng.random(images.shape) < 0.5] = 0.0
    with h5py.File(path, "w") as file:
        file["images"] = images.astype("f4")
    return path


def measure(file: Path, n_events: int, n_in_file: int, workers: int) -> tuple[float, float]:
    """Wall time in s, and peak resident memory in MB of the command's largest process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for copy in range(-(-n_events // n_in_file)):
            (folder / f"copy_{copy:04}{file.suffix}").symlink_to(file)
        how = DELPHES if file.suffix == ".root" else IMAGES
        for domain, files in (("mc", "copy_*"), ("data", f"copy_0000{file.suffix}")):
            card = {**CARD, **how, "name": domain, "domain": domain, "files": files}
            (folder / f"{domain}.yaml").write_text(yaml.safe_dump(card))
        config = {
            "name": "memory",
            "samples": {"mc": "mc.yaml", "data": "data.yaml"},
            "preprocess": {
                "max_events": n_events,
                "geometry": "atlas" if file.suffix == ".root" else GRID,
            },
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
