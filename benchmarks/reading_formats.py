"""How fast files of each format become stores, against plainly reading the same columns.

python -m benchmarks.reading_formats DELPHES.root [--events 2400] [--repeat 3]
python -m benchmarks.reading_formats DELPHES.root --steps
python -m benchmarks.reading_formats DELPHES.root --memory 1000,10000,100000
python -m benchmarks.reading_formats DELPHES.root --check

The towers of a Delphes file are written in every format with its usual compression, over and over
where more events are asked for, by the format's own library and not by pileupgen. "Plain" is that
library (uproot, pyarrow, h5py, numpy) reading the same columns in steps, in the same process; for
uproot with zlib of Python's own library, though pileupgen uses ISA-L where it is installed. Wall
times are of quiet rounds, in which other processes took hardly any CPU, if there were such. --steps
gives CPU time a tower by step, one after another, beside that of the whole in its threads. For
memory every point is a process of its own. --check compares what stores hold with what numpy makes
of the same towers.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import uproot
from numpy.typing import NDArray

from benchmarks.reading import CARD, best
from pileupgen.arrays import Floats
from pileupgen.calo.imaging import Imager
from pileupgen.calo.presets import get_grid
from pileupgen.samples.cards import DataCard
from pileupgen.samples.census import TowerCensus
from pileupgen.samples.ingest import ingest
from pileupgen.samples.readers import FORMATS, MuSource, Reader
from pileupgen.samples.store import ImageStore, create_store
from pileupgen.samples.stream import Stream

BATCH = 500
QUIET = 0.15
"""Cores that other processes may take in a round whose wall times count."""
STEP = "4 MB"
LISTS = ("eta", "phi", "em", "had")
HITS = ("energy", "position.x", "position.y", "position.z")
TREE_OPTIONS: dict[str, Any] = {
    "tree": "events",
    "eta": "eta",
    "phi": "phi",
    "layers": {"em": "em", "had": "had"},
}
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "tree": ("root", TREE_OPTIONS),
    "rntuple": ("root", TREE_OPTIONS),
    "edm4hep": (
        "edm4hep",
        {"collections": {"ECal": {"layers": "em"}, "HCal": {"layers": "had"}}},
    ),
    "parquet": (
        "parquet",
        {"eta": "eta", "phi": "phi", "layers": {"em": "em", "had": "had"}},
    ),
    "npz": (
        "npz",
        {"energy": "images", "channels": "first", "grid": "atlas", "layers": ["em", "had"]},
    ),
    "hdf5": ("hdf5", {"dataset": "images", "channels": "first", "grid": "atlas"}),
}
"""Format and options of the files that :func:`make` makes."""


def towers(source: Path, n_events: int) -> Iterator[dict[str, Any]]:
    """Yield batches of towers, as lists and as images."""
    grid = get_grid("atlas")
    with uproot.open({source: None}) as file:
        names = [f"Tower.{name}" for name in ("Eta", "Phi", "Eem", "Ehad")]
        whole = file["Delphes"].arrays(names, entry_stop=n_events)
    whole = ak.zip({name: whole[f] for name, f in zip(LISTS, names, strict=True)})
    whole = whole[abs(whole.eta) < grid.eta_edges[-1]]
    for first in range(0, n_events, BATCH):
        rows = np.arange(first, min(first + BATCH, n_events)) % len(whole)
        batch = whole[rows]
        event = np.repeat(np.arange(len(rows)), ak.num(batch))
        flat = ak.flatten(batch)
        ring = np.searchsorted(grid.eta_edges, flat.eta.to_numpy()) - 1
        column = np.searchsorted(grid.phi_edges, flat.phi.to_numpy()) - 1
        images = np.zeros((len(rows), *grid.shape), dtype=np.float32)
        for layer, name in enumerate(("em", "had")):
            images[event, layer, ring, column] = flat[name].to_numpy()
        yield {**{name: batch[name] for name in LISTS}, "images": images}


def make(kind: str, path: Path, source: Path, n_events: int) -> None:
    """Write a file of a kind."""
    batches = towers(source, n_events)
    if kind in ("tree", "edm4hep", "rntuple"):
        codec = uproot.ZSTD(5) if kind == "rntuple" else uproot.ZLIB(1)
        with uproot.recreate(path, compression=codec) as file:
            written = None
            for batch in batches:
                columns = _hits(batch) if kind == "edm4hep" else {n: batch[n] for n in LISTS}
                if written is None and kind == "rntuple":
                    written = file.mkrntuple("events", columns)
                    continue
                if written is None:
                    written = file.mktree("events", dict.fromkeys(columns, "var * float32"))
                written.extend(columns)
    elif kind == "parquet":
        schema = pa.schema([pa.field(name, pa.list_(pa.float32())) for name in LISTS])
        with parquet.ParquetWriter(path, schema, compression="zstd") as file:
            for batch in batches:
                columns = {n: ak.to_arrow(batch[n], extensionarray=False) for n in LISTS}
                columns = {n: v.cast(pa.list_(pa.float32())) for n, v in columns.items()}
                file.write_table(pa.table(columns, schema=schema))
    elif kind == "hdf5":
        with h5py.File(path, "w") as file:
            shape = (n_events, 2, 50, 36)
            made = file.create_dataset(
                "images", shape, "f4", chunks=(16, *shape[1:]), compression="gzip", shuffle=True
            )
            for number, batch in enumerate(batches):
                made[number * BATCH : number * BATCH + len(batch["images"])] = batch["images"]
    else:
        with (
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file,
            file.open("images.npy", "w", force_zip64=True) as member,
        ):
            header = {"descr": "<f4", "fortran_order": False, "shape": (n_events, 2, 50, 36)}
            np.lib.format.write_array_header_1_0(member, header)
            for batch in batches:
                member.write(batch["images"].tobytes())


def _hits(batch: dict[str, Any]) -> dict[str, Any]:
    radius = 1500.0
    place = {
        "x": radius * np.cos(batch["phi"]),
        "y": radius * np.sin(batch["phi"]),
        "z": radius * np.sinh(batch["eta"]),
    }
    hits = {}
    for name, layer in (("ECal", "em"), ("HCal", "had")):
        hits[f"{name}.energy"] = batch[layer]
        for axis, values in place.items():
            hits[f"{name}.position.{axis}"] = ak.values_astype(values, np.float32)
    return hits


def read_plainly(kind: str, path: Path) -> int:
    """Read the same columns with the format's own library."""
    if kind in ("tree", "edm4hep", "rntuple"):
        names = [f"{c}.{h}" for c in ("ECal", "HCal") for h in HITS] if kind == "edm4hep" else LISTS
        with as_uproot_unpacks(), uproot.open({path: None}) as file:
            events = file["events"]
            steps = events.iterate(list(names), step_size=STEP, library="ak")
            return sum(len(arrays) for arrays in steps)
    if kind == "parquet":
        with parquet.ParquetFile(path) as file:
            names = list(LISTS)
            return sum(batch.num_rows for batch in file.iter_batches(BATCH, columns=names))
    if kind == "hdf5":
        with h5py.File(path) as file:
            images = file["images"]
            return sum(len(images[i : i + 256]) for i in range(0, len(images), 256))
    return len(np.load(path)["images"])


@contextmanager
def as_uproot_unpacks() -> Iterator[None]:
    """Let uproot unpack as it does unless told otherwise, and as pileupgen tells it after."""
    kept = []
    for unpacks in (uproot.compression._decompress_ZLIB, uproot.compression._decompress_ZSTD):
        kept.append((unpacks, dict(vars(unpacks))))
        vars(unpacks).pop("decompress", None)
        if "library" in vars(unpacks):
            unpacks.library = "zlib"
    try:
        yield
    finally:
        for unpacks, told in kept:
            vars(unpacks).update(told)


def reader_of(kind: str, path: Path) -> Reader:
    name, options = OPTIONS[kind]
    found = FORMATS[name]
    reader: Reader = found.open([path], found.options(**options), MuSource.parse("unknown"), 1.0)
    return reader


def read_towers(kind: str, path: Path) -> int:
    return sum(towers.n_events for towers in reader_of(kind, path).chunks())


def draw(kind: str, path: Path) -> int:
    stream = Stream(reader_of(kind, path), get_grid("atlas"))
    return sum(len(drawn.images) for drawn in stream)


def write_store(kind: str, path: Path) -> int:
    with tempfile.TemporaryDirectory() as folder:
        return _write(kind, path, Path(folder) / "images.h5")


def _write(kind: str, path: Path, store: Path) -> int:
    card, grid = DataCard.model_validate(CARD), get_grid("atlas")
    return ingest(reader_of(kind, path), grid, store, domain="mc", card=card, inputs=[]).n_events


WORKS: dict[str, Callable[[str, Path], int]] = {
    "plain": read_plainly,
    "towers": read_towers,
    "images": draw,
    "store": write_store,
}
"""What is timed, from reading alone to all there is to do."""


def compare(source: Path, kinds: list[str], n_events: int, repeat: int) -> None:
    print(f"{n_events:,} events; load {os.getloadavg()[0]:.1f}; s of plain, others over plain")
    heads = [f"{what} {name}" for what in ("wall", "CPU") for name in WORKS]
    print(f"{'':10} " + " ".join(f"{head:>12}" for head in heads) + "  quiet rounds")
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds:
            path = Path(folder) / f"events.{kind}"
            make(kind, path, source, n_events)
            # In turn, so that what else the machine does weighs on all of them alike.
            rounds = [_round(kind, path) for _ in range(repeat)]
            quiet = [one for one in rounds if one["others"].max() < QUIET]
            walls = np.min([one["wall"] for one in quiet or rounds], axis=0)
            used = np.min([one["used"] for one in rounds], axis=0)
            found = [*walls[:1], *walls[1:] / walls[0], *used[:1], *used[1:] / used[0]]
            row = " ".join(f"{number:12.3f}" for number in found)
            print(f"{kind:10} {row}  {len(quiet)} of {repeat}", flush=True)


def compare_steps(source: Path, kinds: list[str], n_events: int, repeat: int) -> None:
    heads = ("plain", "towers", "draw", "census", "write", "store")
    print(f"{n_events:,} events; load {os.getloadavg()[0]:.1f}; CPU ns a tower, the least of each")
    print(f"{'':10} " + " ".join(f"{head:>8}" for head in heads))
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds:
            path = Path(folder) / f"events.{kind}"
            make(kind, path, source, n_events)
            rounds = [_steps(kind, path, Path(folder) / "images.h5") for _ in range(repeat + 1)]
            # What is learned of a detector's towers and of the file is there from the second on.
            found = np.min(rounds[1:], axis=0)
            print(f"{kind:10} " + " ".join(f"{number:8.1f}" for number in found), flush=True)


def _steps(kind: str, path: Path, store: Path) -> list[float]:
    """CPU nanoseconds a tower of plain reading, of each step, and of all that a store takes."""
    grid = get_grid("atlas")
    imager = Imager(grid)
    pieces, images = list(reader_of(kind, path).chunks()), []
    for towers in pieces:
        imager.draw(towers)

    def draw() -> int:
        images[:] = [imager.draw(towers)[0] for towers in pieces]
        return 0

    def census() -> int:
        return len([TowerCensus.of(towers) for towers in pieces])

    def write() -> int:
        with create_store(store, grid, "mc", {}) as writer:
            for energy, towers in zip(images, pieces, strict=True):
                ones = np.ones(len(energy))
                columns = {"mu": towers.mu, "event_id": towers.event_id, "weight": ones}
                writer.append(energy, columns)
        return 0

    works = [partial(read_plainly, kind, path), partial(read_towers, kind, path)]
    used = [best(work, 1)[1] for work in (*works, draw, census, write)]
    n_towers = sum(towers.n_towers for towers in pieces)
    return [1e9 * one / n_towers for one in (*used, best(partial(write_store, kind, path), 1)[1])]


def _round(kind: str, path: Path) -> dict[str, Floats]:
    """Wall and CPU seconds of all works, and cores that other processes took meanwhile."""
    taken: dict[str, list[float]] = {"wall": [], "used": [], "others": []}
    for work in WORKS.values():
        busy = _busy()
        wall, used = best(partial(work, kind, path), 1)
        taken["wall"].append(wall)
        taken["used"].append(used)
        taken["others"].append((_busy() - busy - used) / wall)
    return {name: np.array(values) for name, values in taken.items()}


def _busy() -> float:
    """CPU seconds of the whole machine since it started."""
    numbers = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    return (sum(map(int, numbers[:3])) + sum(map(int, numbers[5:8]))) / os.sysconf("SC_CLK_TCK")


def check(source: Path, kinds: list[str], n_events: int) -> None:
    """Print what stores hold beside what numpy makes of the same towers."""
    own = np.concatenate([batch["images"] for batch in towers(source, n_events)])
    print(f"{'':10} {'ΣE / GeV':>14} {'occupancy':>10} {'largest difference / GeV':>26}")
    print(f"{'numpy':10} {_energy(own):14.5f} {np.mean(own != 0):10.6f}")
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds:
            path = Path(folder) / f"events.{kind}"
            make(kind, path, source, n_events)
            images = images_of(kind, path)
            far = float(np.abs(images - own).max())
            print(f"{kind:10} {_energy(images):14.5f} {np.mean(images != 0):10.6f} {far:26.1e}")


def images_of(kind: str, path: Path) -> NDArray[np.float32]:
    """Images that the store of a file has, shape (n, 2, 50, 36)."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "images.h5"
        _write(kind, path, store)
        return ImageStore(store).read().energy


def _energy(images: NDArray[np.float32]) -> float:
    return float(images.sum(axis=(1, 2, 3), dtype=np.float64).mean())


def peak_memory(kind: str, path: Path) -> float:
    """Peak of a process that reads a file through, in MB."""
    # Not ru_maxrss: a process begins with that of the one that started it.
    code = (
        "from pathlib import Path; from benchmarks.reading_formats import read_towers; "
        f"read_towers({kind!r}, Path({str(path)!r})); "
        "status = Path('/proc/self/status').read_text(); "
        "print(int(status.split('VmHWM:')[1].split()[0]) / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("file", type=Path, help="a Delphes file")
    options.add_argument("--events", type=int, default=2400)
    options.add_argument("--repeat", type=int, default=3, help="the best of so many is shown")
    options.add_argument("--formats", default=",".join(OPTIONS), help="by commas")
    options.add_argument("--check", action="store_true", help="compare energies, measure no time")
    options.add_argument("--steps", action="store_true", help="CPU time of each step instead")
    options.add_argument("--memory", help="numbers of events by commas: measure memory instead")
    given = options.parse_args()
    kinds = given.formats.split(",")
    if given.check:
        check(given.file, kinds, given.events)
        return
    if given.memory is None:
        measure = compare_steps if given.steps else compare
        measure(given.file, kinds, given.events, given.repeat)
        return
    sizes = [int(size) for size in given.memory.split(",")]
    print(f"{'peak memory / MB':18}" + "".join(f"{size:>10,}" for size in sizes))
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds:
            row = []
            for size in sizes:
                path = Path(folder) / f"events.{kind}"
                make(kind, path, given.file, size)
                row.append(peak_memory(kind, path))
                path.unlink()
            print(f"{kind:18}" + "".join(f"{peak:10.0f}" for peak in row), flush=True)


if __name__ == "__main__":
    main()
