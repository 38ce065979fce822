"""Time and memory of `translate` and of measuring, against the number of events and image size.

python -m benchmarks.growth [--events 1000,10000,100000,1000000] [--out FOLDER]

Stores are made up and networks untrained, which costs what trained ones cost: what counts is how
cost grows. Every point is measured in a process of its own, so that its peak of memory is its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pileupgen.calo.geometry import Grid

SMALL = (1, 10, 8)
SIZES = ((2, 50, 36), (2, 76, 36), (2, 100, 64), (4, 100, 64))
"""Layers, rings, cells in φ: the demo's |η| < 2.5, |η| < 3.8, and |η| < 5 at 0.1 × 0.1."""
SIZE_EVENTS = 100
STEPS = 2
CHUNK = 1000
PRELOADED = ["torch", "diffusers", "pileupgen.diffusion.pipeline", "pileupgen.measure.sample"]


@dataclass(frozen=True)
class Job:
    """One point: events of a shape (L, n_eta, n_phi), for networks of a width."""

    n_events: int
    shape: tuple[int, int, int]
    width: int


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--events", default="1000,10000,100000", help="with commas")
    options.add_argument("--no-sizes", action="store_true", help="leave image sizes out")
    options.add_argument("--out", type=Path, default=Path("runs/growth"))
    given = options.parse_args()
    jobs = [Job(int(n), SMALL, 8) for n in given.events.split(",")]
    if not given.no_sizes:
        jobs += [Job(SIZE_EVENTS, shape, 32) for shape in SIZES]
    points = []
    print("| events | image | translate s | events/s | measure s | peak GB, translate | measure |")
    print("|---|---|---|---|---|---|---|")
    for job in jobs:
        point = {**asdict(job), **apart(job), "load": os.getloadavg()[0]}
        points.append(point)
        print(row(point), flush=True)
    write(points, given.out)


def row(point: dict[str, Any]) -> str:
    image = " × ".join(map(str, point["shape"]))
    return (
        f"| {point['n_events']:,} | {image} | {point['translate_s']:.1f} | "
        f"{point['n_events'] / point['translate_s']:.3g} | {point['measure_s']:.1f} | "
        f"{point['translate_gb']:.2f} | {point['measure_gb']:.2f} |"
    )


def write(points: list[dict[str, Any]], folder: Path) -> None:
    from pileupgen.files import write_whole
    from pileupgen.report.figures import write_figure

    write_whole(folder / "growth.json", json.dumps(points, indent=2))
    for path in [folder / "growth.json", *write_figure(figure_of(points), folder, "growth")]:
        print(f"wrote {path}")


def apart(job: Job) -> dict[str, float]:
    """Translate and measure a made-up store, each in a fresh process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seconds = {"make_s": _fresh(make, job, folder)[0]}
        for what, work in (("translate", translate), ("measure", measure)):
            seconds[f"{what}_s"], seconds[f"{what}_gb"] = _fresh(work, job, folder)
    return seconds


def _fresh(work: Any, job: Job, folder: Path) -> tuple[float, float]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with context.Pool(1) as pool:
        return pool.apply(_timed, (work, job, folder))


def _timed(work: Any, job: Job, folder: Path) -> tuple[float, float]:
    from benchmarks.cost import peak_memory

    return float(work(job, folder)), peak_memory()


def grid_of(shape: tuple[int, int, int]) -> Grid:
    n_layers, n_eta, n_phi = shape
    half = 0.05 * n_eta
    return Grid(
        eta_edges=tuple(np.linspace(-half, half, n_eta + 1)),
        n_phi=n_phi,
        layers=tuple(f"layer{i}" for i in range(n_layers)),
    )


def energies(shape: tuple[int, int, int], n: int, seed: int) -> np.ndarray:
    """Cells of which a third is hit."""
    normal = np.random.default_rng(seed).standard_normal((n, *shape), dtype=np.float32)
    return np.where(normal > 0.4, np.exp(normal), 0).astype(np.float32)


def make(job: Job, folder: Path) -> float:
    from pileupgen.samples.store import create_store

    begin = time.perf_counter()
    with create_store(folder / "mc.h5", grid_of(job.shape), "mc", {}) as writer:
        for first in range(0, job.n_events, CHUNK):
            n = min(CHUNK, job.n_events - first)
            columns = {
                "mu": np.full(n, 60.0),
                "event_id": np.arange(first, first + n),
                "weight": np.ones(n),
                "split": np.full(n, 2),
            }
            writer.append(energies(job.shape, n, first), columns)
    return time.perf_counter() - begin


def translate(job: Job, folder: Path) -> float:
    """Seconds from store to store, models made beforehand."""
    from pileupgen.diffusion.production import Blocks, Member, Production, produce
    from pileupgen.diffusion.settings import Settings
    from pileupgen.samples.store import ImageStore

    member = Member(untrained(job), Settings("partial", 300, 2.0, STEPS))
    store = ImageStore(folder / "mc.h5")
    begin = time.perf_counter()
    rows = store.indices("all")
    target = folder / "translated.h5"
    produce(Production(store, rows, [member], 1), Blocks(target, "growth", rows, 1), target, {})
    return time.perf_counter() - begin


def measure(_job: Job, folder: Path) -> float:
    """Seconds that measuring all observables takes."""
    from pileupgen.measure.sample import measure_store
    from pileupgen.samples.store import ImageStore

    store = ImageStore(folder / "translated.h5")
    begin = time.perf_counter()
    measure_store("translated", "translated", store, store.indices("all"))
    return time.perf_counter() - begin


def untrained(job: Job) -> Any:
    """A pipeline whose networks add nothing to the closed form."""
    import torch

    from pileupgen.diffusion.for_diffusers import PileupTranslationPipeline
    from pileupgen.diffusion.schedule import make_scheduler
    from pileupgen.models.calibration.calibration import CellCalibration
    from pileupgen.models.networks.cell_patches import CellPatches
    from pileupgen.models.networks.denoiser import Denoiser
    from pileupgen.models.networks.ratio import RatioClassifier

    torch.manual_seed(1)
    calibration = CellCalibration(*job.shape)
    samples = [energies(job.shape, 100, seed) for seed in (1, 2)]
    calibration.fit(samples, [np.full(100, 60.0, dtype=np.float32)] * 2)
    codec = CellPatches(*job.shape)
    patch = codec.field_patch
    return PileupTranslationPipeline(
        calibration,
        codec,
        Denoiser(*codec.latent_shape, width=job.width, n_blocks=3, patch=patch),
        RatioClassifier(*codec.latent_shape, width=job.width, n_blocks=2, patch=patch),
        make_scheduler(1000),
        grid_of(job.shape).to_dict(),
    )


def figure_of(points: list[dict[str, Any]]) -> Any:
    """Time and memory against events, and time against cells."""
    from pileupgen.report.figures.style import new_figure, style

    by_events = [point for point in points if tuple(point["shape"]) == SMALL]
    by_size = [point for point in points if tuple(point["shape"]) != SMALL]
    with style():
        n_panes = 3 if by_size else 2
        figure = new_figure(4.0 * n_panes, 4.0)
        panes = figure.subplots(1, n_panes)
        events = np.array([point["n_events"] for point in by_events])
        for what, colour in (("translate", "C0"), ("measure", "C1")):
            seconds = np.array([point[f"{what}_s"] for point in by_events])
            panes[0].plot(events, seconds, "o-", color=colour, label=what)
            panes[1].plot(
                events,
                [point[f"{what}_gb"] for point in by_events],
                "o-",
                color=colour,
                label=what,
            )
            if by_size:
                cells = [int(np.prod(point["shape"])) for point in by_size]
                per_event = [1e3 * point[f"{what}_s"] / point["n_events"] for point in by_size]
                panes[2].plot(cells, per_event, "o", color=colour, label=what)
        if len(events):
            first = by_events[0]["translate_s"]
            panes[0].plot(events, first * events / events[0], "--", color="0.6", label="linear")
        panes[0].set_yscale("log")
        for pane in panes[:2]:
            pane.set_xscale("log")
            pane.set_xlabel("events")
        panes[0].set_ylabel("time [s]")
        panes[1].set_ylabel("peak memory [GB]")
        panes[1].set_ylim(bottom=0)
        if by_size:
            panes[2].set_xlabel("cells per image")
            panes[2].set_ylabel("time per event [ms]")
            panes[2].set_ylim(bottom=0)
        for pane in panes:
            pane.margins(x=0.06)
            pane.legend()
    return figure


if __name__ == "__main__":
    main()
