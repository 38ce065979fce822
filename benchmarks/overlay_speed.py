"""Events per second and memory of `overlay`, beside the known rate of Delphes' pileup merging.

python -m benchmarks.overlay_speed [--library 100000] [--events 10000,100000] [--workers 2]

The library and the hard scatters are made up, with the occupancy of the demo's: what counts is how
many cells are read, added and written. Each point is measured in a process of its own, so that its
peak of memory is its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from pileupgen.calo.presets import get_grid
from pileupgen.overlay.settings import OverlaySettings
from pileupgen.parallel.farm import Farm
from pileupgen.samples.overlay_library import export_overlay
from pileupgen.samples.store import ImageStore, create_store
from pileupgen.workflow.overlay import OverlayRequest, overlay

DELPHES = 10.0
"""Events per second and core of Delphes with its PileUpMerger and calorimeter at ⟨μ⟩ = 50 … 60, a
known figure and not measured here; it simulates each interaction again where this adds images."""
CHUNK = 2000
OCCUPANCY = {"pileup": 0.2, "signal": 0.06}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--library", type=int, default=100_000, help="events of the library")
    options.add_argument("--events", default="10000,100000", help="overlaid events, with commas")
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--kind", choices=("store", "overlay"), default="store")
    options.add_argument("--folder", type=Path, help="where files go (default: a temporary one)")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as scratch:
        folder = Path(scratch)
        write(folder / "pileup.h5", given.library, "pileup")
        write(folder / "signal.h5", 10_000, "signal")
        library = folder / "pileup.h5"
        if given.kind == "overlay":
            store, library = ImageStore(library), folder / "library.h5"
            export_overlay(store, store.indices(), library)
        print(f"library of {given.library:,} events, {library.stat().st_size / 1e6:.0f} MB")
        print("| events | workers | wall s | CPU s | events/s | × Delphes a core | peak MB |")
        print("|---|---|---|---|---|---|---|")
        for n in map(int, given.events.split(",")):
            for workers in sorted({1, given.workers}):
                wall, used, peak = apart(folder, library, n, workers)
                # What processes of the pool used cannot be told; one process tells all of it.
                spent = f"{used:.1f}" if workers == 1 else "–"
                rate = n / used if workers == 1 else n / wall
                versus = f"{rate / DELPHES / (1 if workers == 1 else workers):,.0f}"
                print(
                    f"| {n:,} | {workers} | {wall:.1f} | {spent} | {n / wall:,.0f} | {versus} | "
                    f"{peak:.0f} |",
                    flush=True,
                )
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def write(path: Path, n: int, kind: str) -> None:
    """Write n events of exponential energies over a threshold in some of the cells."""
    grid = get_grid("atlas")
    rng = np.random.default_rng(len(kind))
    some = 0.6 + rng.exponential(1.5, (min(n, CHUNK), *grid.shape)).astype(np.float32)
    some *= rng.random(some.shape) < OCCUPANCY[kind]
    with create_store(path, grid, "mc", {"settings": {"zero_suppression": 0.6}}) as writer:
        for number, begin in enumerate(range(0, n, CHUNK)):
            size = min(CHUNK, n - begin)
            writer.append(
                # The same events turned in φ: to draw all of them would take longest.
                np.roll(some[:size], number, axis=-1),
                {
                    "mu": rng.poisson(60, size) if kind == "pileup" else np.zeros(size),
                    "event_id": np.arange(begin, begin + size),
                    "weight": np.ones(size),
                    "split": np.zeros(size),
                },
            )


def apart(folder: Path, library: Path, n: int, workers: int) -> tuple[float, float, float]:
    """Wall and CPU seconds, and peak of memory in MB of the largest process, in one of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    job = context.Process(target=measure, args=(folder, library, n, workers, theirs))
    job.start()
    theirs.close()
    try:
        found: tuple[float, float, float] = ours.recv()
    except EOFError:
        raise SystemExit("The overlay ended without a result: see its message above.") from None
    job.join()
    return found


def measure(folder: Path, library: Path, n: int, workers: int, pipe: object) -> None:
    """Overlay n events, copies of the 10,000 hard scatters beyond that number."""
    target, copies = folder / f"out-{n}.h5", max(1, n // 10_000)
    request = OverlayRequest(str(folder / "signal.h5"), str(library), target, max_events=n)
    settings = OverlaySettings(
        # The library's own profile is Poisson too: its tails are used up first.
        copies=copies,
        max_reuse=5 * copies,
        mu_profile="poisson:60",
        mu_tolerance=9,
    )
    begin = time.perf_counter()
    with Farm(workers) as farm:
        overlay(request, settings, farm=farm)
    wall = time.perf_counter() - begin
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, -1))
    used = sum(one.ru_utime + one.ru_stime for one in (own, children))
    target.unlink()
    pipe.send((wall, used, max(own.ru_maxrss, children.ru_maxrss) / 1024))  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
