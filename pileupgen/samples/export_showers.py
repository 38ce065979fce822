"""Showers as point clouds, in the HDF5 layout of the showerdata library."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Ints
from pileupgen.calo.imaging import images_to_towers
from pileupgen.files import written_whole
from pileupgen.progress import Advance, silent
from pileupgen.samples.store import Images, ImageStore

BATCH_EVENTS = 256
_PHOTON = 22


def export_showerdata(store: ImageStore, rows: Ints, path: Path, advance: Advance = silent) -> None:
    """Write showers as points x, y, layer and energy in GeV, one for every voxel with energy.

    A point is at the middle of its voxel, x and y in units of rings. ``energies`` has what the
    networks were conditioned on, ``shower_ids`` the store's ``event_id``; a store does not know the
    incident particle, ``pdg`` is a photon's. Beside them, the attribute ``pileupgen`` has geometry
    and provenance as JSON.

    Parameters
    ----------
    rows : int64 array, shape (n,)
        Which of them.
    path : Path
        The file to write; takes its name when it is whole.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    n, most = len(rows), 0
    record = {"geometry": store.grid.to_dict(), "provenance": store.provenance}
    with written_whole(path) as aside, h5py.File(aside, "w") as file:
        showers = file.create_dataset("showers", (n,), dtype=h5py.vlen_dtype(np.float32))
        counts = np.zeros(n, dtype=np.int32)
        done = 0
        for images in store.batches(rows, BATCH_EVENTS):
            for points in _points(images):
                # One by one: assigned together, lists of equal length become one array.
                showers[done] = points.ravel()
                counts[done] = len(points)
                done += 1
            advance(len(images))
        most = int(counts.max(initial=0))
        file["energies"] = store.columns["mu"][rows].astype(np.float32)[:, None]
        file["directions"] = np.tile(np.array([0, 0, 1], dtype=np.float32), (n, 1))
        file["pdg"] = np.full(n, _PHOTON, dtype=np.int32)
        file["shower_ids"] = store.columns["event_id"][rows].astype(np.int32)
        file["num_points"] = counts
        file["shape"] = np.array([n, most, 4])
        file.attrs["showerdata_version"] = "0.6.1"
        file.attrs["pileupgen"] = json.dumps(record, sort_keys=True)


def _points(images: Images) -> list[NDArray[np.float32]]:
    """Points x, y, layer, energy of each shower, the most energetic first."""
    towers = images_to_towers(images.energy, images.grid)
    r, alpha = towers.edges[:, :2].mean(axis=1), towers.edges[:, 2:].mean(axis=1)
    found = []
    for begin, end in zip(towers.offsets[:-1], towers.offsets[1:], strict=True):
        tower, layer = np.nonzero(towers.energy[begin:end])
        rows = begin + tower
        energy = towers.energy[rows, layer]
        points = [r[rows] * np.cos(alpha[rows]), r[rows] * np.sin(alpha[rows]), layer, energy]
        order = np.argsort(-energy, kind="stable")
        found.append(np.stack(points, axis=1).astype(np.float32)[order])
    return found
