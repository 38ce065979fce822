"""HDF5 files of jets in the layout of JetNet (2106.11535, Zenodo 6975118).

::

    /                      attribute pileupgen: JSON, what the file was made from
    ├── particle_features  f4 (N, 30, 4)  η_rel, φ_rel, p_T,rel, mask; in order of p_T,
    │                                     absent particles all 0
    └── jet_features       f4 (N, 4)      p_T (GeV), η, mass (GeV), number of particles kept

η_rel = η − η_jet, φ_rel = φ − φ_jet in [−π, π), p_T,rel = p_T / p_T,jet.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pileupgen.samples.steadyfile import create_hdf5

PARTICLES, JETS = "particle_features", "jet_features"
PARTICLE_FEATURES = ("etarel", "phirel", "ptrel", "mask")
JET_FEATURES = ("pt", "eta", "mass", "num_particles")
RECORD = "pileupgen"
_CHUNK = 512


class JetNetWriter:
    """Appends jets to a file that is being written; made by :func:`create_jetnet_file`."""

    def __init__(self, file: h5py.File) -> None:
        self._file = file

    @property
    def n_jets(self) -> int:
        """Number of jets so far."""
        return int(self._file[JETS].shape[0])

    def append(self, particles: NDArray[np.float32], jets: NDArray[np.float32]) -> None:
        """Add jets: (n, n_constituents, 4) and (n, 4)."""
        begin = self.n_jets
        for name, values in ((PARTICLES, particles), (JETS, jets)):
            self._file[name].resize(begin + len(values), axis=0)
            self._file[name][begin:] = values


@contextmanager
def create_jetnet_file(
    path: Path, n_constituents: int, record: Mapping[str, Any]
) -> Iterator[JetNetWriter]:
    """Write a file aside and give it its name once it is whole.

    Parameters
    ----------
    path : Path
        Final name. A file that is there stays untouched until the new one is whole.
    n_constituents : int
        Particles per jet; 30 in JetNet.
    record : mapping
        What the file is made from; anything JSON can hold.

    Raises
    ------
    OutputError
        If the disk is full or the folder cannot be written.
    """
    with create_hdf5(path, libver=None) as (file, _):
        file.attrs[RECORD] = json.dumps(record, sort_keys=True)
        shapes = (
            (PARTICLES, (n_constituents, len(PARTICLE_FEATURES)), PARTICLE_FEATURES),
            (JETS, (len(JET_FEATURES),), JET_FEATURES),
        )
        for name, shape, features in shapes:
            data = file.create_dataset(
                name,
                shape=(0, *shape),
                maxshape=(None, *shape),
                dtype="f4",
                chunks=(_CHUNK, *shape),
                compression="gzip",
                compression_opts=1,
                shuffle=True,
                fletcher32=True,
            )
            data.attrs["features"] = list(features)
        yield JetNetWriter(file)


def read_jetnet_record(path: Path) -> dict[str, Any]:
    """Read what :func:`create_jetnet_file` recorded; empty for any other file."""
    # Whatever is wrong with the file, it is none that we wrote.
    with suppress(Exception), h5py.File(path, "r") as file:
        return dict(json.loads(str(file.attrs[RECORD])))
    return {}
