"""How fast files of each format become stores, against plainly reading the same columns.

python -m benchmarks.reading_formats DELPHES.root [--events 2400] [--repeat 3]
python -m benchmarks.reading_formats DELPHES.root --memory 1000,10000,100000

The towers of a Delphes file are written in every format with its usual compression, over and over
where more events are asked for. CPU time of one process; "plain" is the format's own library
(uproot, pyarrow, h5py, numpy) reading the same columns in steps. For memory every point is a
process of its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import uproot

from benchmarks.reading import CARD, best
from pileupgen.calo.presets import get_grid
from pileupgen.samples.cards import DataCard
from pileupgen.samples.ingest import ingest
from pileupgen.samples.readers import FORMATS, MuSource, Reader
from pileupgen.samples.stream import Stream

BATCH = 500
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
        whole = file["Delphes"].arrays(names)
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
        with uproot.open({path: None}) as file:
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
    card = DataCard.model_validate(CARD)
    with tempfile.TemporaryDirectory() as folder:
        store, grid = Path(folder) / "images.h5", get_grid("atlas")
        return ingest(
            reader_of(kind, path), grid, store, domain="mc", card=card, inputs=[]
        ).n_events


WORKS: dict[str, Callable[[str, Path], int]] = {
    "plain": read_plainly,
    "towers": read_towers,
    "images": draw,
    "store": write_store,
}
"""What is timed, from reading alone to all there is to do."""


def compare(source: Path, kinds: list[str], n_events: int, repeat: int) -> None:
    print(f"{n_events:,} events; load {os.getloadavg()[0]:.1f}; CPU s, then over plain")
    heads = [*WORKS, *(f"{name} / plain" for name in WORKS if name != "plain")]
    print(f"{'':10} " + " ".join(f"{head:>15}" for head in heads))
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds:
            path = Path(folder) / f"events.{kind}"
            make(kind, path, source, n_events)
            used = dict.fromkeys(WORKS, float("inf"))
            # In turn, so that what else the machine does weighs on all of them alike.
            for _ in range(repeat):
                for name, work in WORKS.items():
                    used[name] = min(used[name], best(partial(work, kind, path), 1)[1])
            row = [*used.values(), *(used[n] / used["plain"] for n in WORKS if n != "plain")]
            print(f"{kind:10} " + " ".join(f"{number:15.3f}" for number in row), flush=True)


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
    options.add_argument("--memory", help="numbers of events by commas: measure memory instead")
    given = options.parse_args()
    kinds = given.formats.split(",")
    if given.memory is None:
        compare(given.file, kinds, given.events, given.repeat)
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
