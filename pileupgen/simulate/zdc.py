"""A sample of particles in a zero-degree calorimeter: photons in every fibre.

A particle flies straight from its vertex to the face; what would miss it is drawn again. Its
shower is that of :mod:`~pileupgen.simulate.hadron_profile`, whose spots lie behind the face; the
photons of a fibre are Poisson around what the spots nearest to it have deposited. HDF5::

    /                 attribute pileupgen: JSON, what the file was made from
    ├── photons       f4 (N, n_x, n_y)
    ├── energy        f4 (N)  GeV, of the particle
    ├── vertex_x …    f4 (N)  mm
    ├── momentum_x …  f4 (N)  GeV
    ├── mass          f4 (N)  GeV
    └── charge        f4 (N)  e
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Floats
from pileupgen.progress import Advance, silent
from pileupgen.samples.columns import PARTICLE
from pileupgen.samples.steadyfile import create_hdf5
from pileupgen.simulate.hadron_profile import draw_hadron_showers
from pileupgen.simulate.showers import RECORD, hadron_spots
from pileupgen.simulate.zdc_spec import CHARGES, MASSES, ZdcSpec

CONDITIONS = ("energy", *PARTICLE)
"""What is known of a particle: nine numbers."""
_CHUNK = 100
_STREAM = 12


@dataclass(frozen=True)
class ZdcSummary:
    """A sample that was made."""

    path: Path
    fingerprint: str
    n_events: int
    mean_photons: float

    @property
    def note(self) -> str:
        """Describe it in one line."""
        return f"{self.n_events} particles, {self.mean_photons:.0f} photons each"


@dataclass(frozen=True)
class ZdcEvent:
    """A particle and the light that it makes."""

    known: dict[str, float]
    """Values of ``CONDITIONS``."""
    impact: tuple[float, float]
    """Where it hits the face, x and y in mm from its middle."""
    photons: NDArray[np.float32]
    """Shape (n_x, n_y)."""


def make_zdc_sample(spec: ZdcSpec, path: Path, advance: Advance = silent) -> ZdcSummary:
    """Make events and write them; see the module.

    An event depends on the spec and its place alone, not on how many follow it.

    Raises
    ------
    OutputError
        If the disk is full or the folder cannot be written.
    """
    fingerprint, total = spec.fingerprint(), 0.0
    record = {"fingerprint": fingerprint, "spec": spec.model_dump(mode="json")}
    shape = spec.n_events, *spec.grid.shape[1:]
    with create_hdf5(path, libver=None) as (file, _):
        file.attrs[RECORD] = json.dumps(record, sort_keys=True)
        photons = file.create_dataset(
            "photons",
            shape,
            "f4",
            chunks=(min(_CHUNK, spec.n_events), *shape[1:]),
            compression="gzip",
            compression_opts=1,
            shuffle=True,
            fletcher32=True,
        )
        known = {name: file.create_dataset(name, (spec.n_events,), "f4") for name in CONDITIONS}
        for begin in range(0, spec.n_events, _CHUNK):
            end = min(begin + _CHUNK, spec.n_events)
            made = [make_zdc_event(spec, number) for number in range(begin, end)]
            images = np.stack([one.photons for one in made])
            photons[begin:end] = images
            for name in CONDITIONS:
                known[name][begin:end] = [one.known[name] for one in made]
            total += float(images.sum())
            advance(end - begin, "particles")
    return ZdcSummary(path, fingerprint, spec.n_events, total / spec.n_events)


def make_zdc_event(spec: ZdcSpec, number: int) -> ZdcEvent:
    """Make one event of a sample."""
    rng = np.random.default_rng([spec.seed, _STREAM, number])
    low, high = np.log(spec.energy)
    energy = np.exp(rng.uniform(low, high, size=1))
    vertex, momentum, impact = _flight(spec, float(energy[0]), rng)
    hadron = draw_hadron_showers(energy, spec.material, rng)
    place, deposit, _ = hadron_spots(spec, hadron, rng)
    n_x, n_y = spec.grid.shape[1:]
    column, row = np.floor((place[:2] + impact[:, None]) / spec.pitch_mm + [[n_x / 2], [n_y / 2]])
    inside = (place[2] >= 0) & (place[2] < spec.depth_mm)
    inside &= (column >= 0) & (column < n_x) & (row >= 0) & (row < n_y)
    index = (column * n_y + row)[inside].astype(np.int64)
    light = np.bincount(index, deposit[inside], minlength=n_x * n_y)
    photons = rng.poisson(spec.photons * light).reshape(n_x, n_y).astype(np.float32)
    values = (energy[0], *vertex, *momentum, MASSES[spec.particle], CHARGES[spec.particle])
    known = dict(zip(CONDITIONS, map(float, values), strict=True))
    return ZdcEvent(known, (float(impact[0]), float(impact[1])), photons)


def _flight(
    spec: ZdcSpec, energy: float, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    """Vertex in mm, momentum in GeV, and where on the face in mm, of a particle that hits it."""
    size = np.sqrt(energy**2 - MASSES[spec.particle] ** 2)
    while True:
        vertex = rng.normal(0.0, spec.vertex)
        slope = rng.normal(0.0, 1e-6 * spec.divergence, size=2)
        impact = vertex[:2] + slope * (1000 * spec.distance - vertex[2])
        if (np.abs(impact) < spec.half_width).all():
            direction = np.array([*slope, 1.0])
            return vertex, size * direction / np.linalg.norm(direction), impact
