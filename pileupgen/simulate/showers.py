"""A sample of single showers from its spec: spots of energy, voxels, file.

HDF5 in the CaloChallenge's layout (2410.21611)::

    /                      attribute pileupgen: JSON, what the file was made from
    ├── incident_energies  f8 (N, 1)       MeV
    └── showers            f4 (N, voxels)  MeV; layers, sectors, rings, the last one fastest
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Flags, Floats, Ints
from pileupgen.calo.presets import CUBE
from pileupgen.progress import Advance, silent
from pileupgen.samples.steadyfile import create_hdf5
from pileupgen.simulate.hadron_profile import (
    HadronShowers,
    draw_hadron_showers,
    draw_radii,
    median_radius,
)
from pileupgen.simulate.shower_profile import Medium, Profiles, draw_profiles
from pileupgen.simulate.shower_spec import ShowerSpec

RECORD = "pileupgen"
MEV = 1000.0
_CHUNK = 100
_STREAM = 11
_BEHIND = 6
"""Steps along an inclined axis beyond the depth of the last layer."""


@dataclass(frozen=True)
class ShowerSummary:
    """A sample of showers that was made."""

    path: Path
    fingerprint: str
    n_events: int
    mean_response: float
    """Mean of the energy in all voxels over the incident energy."""

    @property
    def note(self) -> str:
        """Describe it in one line."""
        return f"{self.n_events} showers, {self.mean_response:.1%} of the energy in the voxels"


@dataclass(frozen=True)
class Shower:
    """One shower."""

    energy: float
    """Energy of the particle, GeV."""
    voxels: Floats
    """GeV. Shape (L, n_alpha, n_r); of squares (L, n_y, n_x)."""
    outside: float
    """GeV before, behind and beside the voxels."""
    invisible: float = 0.0
    """GeV of a hadronic component that is not measured, wherever it is."""


class HadronCalorimeter(Protocol):
    """What of a calorimeter decides where hadrons deposit their energy."""

    @property
    def material(self) -> Medium:
        """What the shower develops in."""

    @property
    def layer_mm(self) -> float:
        """Depth in which all spots have one median radius, mm."""

    @property
    def upstream(self) -> float:
        """Dead material before it, X_0."""

    @property
    def angle(self) -> float:
        """Degrees between particle and axis."""

    @property
    def sampling(self) -> float:
        """√GeV."""

    @property
    def h_over_e(self) -> float:
        """Part of the long component that is measured."""


class HasFingerprint(Protocol):
    """Specification of a sample."""

    def fingerprint(self) -> str:
        """16 hex digits of all that the sample depends on."""


def are_current(spec: HasFingerprint, path: Path) -> bool:
    """Whether a file holds these very showers."""
    return path.is_file() and _record_of(path).get("fingerprint") == spec.fingerprint()


def make_showers(spec: ShowerSpec, path: Path, advance: Advance = silent) -> ShowerSummary:
    """Make showers and write them in the CaloChallenge's layout; see the module.

    A shower depends on the spec and its place alone, not on how many follow it.

    Parameters
    ----------
    spec : ShowerSpec
    path : Path
        The file; a file that is there stays untouched until the new one is whole.
    advance : callable
        Called as ``advance(n, note)`` with the showers just made.

    Raises
    ------
    OutputError
        If the disk is full or the folder cannot be written.
    """
    fingerprint, responses = spec.fingerprint(), []
    record = {"fingerprint": fingerprint, "spec": spec.model_dump(mode="json")}
    n_voxels = int(np.prod(spec.grid.shape))
    with create_hdf5(path, libver=None) as (file, _):
        file.attrs[RECORD] = json.dumps(record, sort_keys=True)
        incident = file.create_dataset("incident_energies", (spec.n_events, 1), "f8")
        showers = file.create_dataset(
            "showers",
            (spec.n_events, n_voxels),
            "f4",
            chunks=(min(_CHUNK, spec.n_events), n_voxels),
            compression="gzip",
            compression_opts=1,
            shuffle=True,
            fletcher32=True,
        )
        for begin in range(0, spec.n_events, _CHUNK):
            end = min(begin + _CHUNK, spec.n_events)
            made = [make_shower(spec, number) for number in range(begin, end)]
            incident[begin:end, 0] = [MEV * one.energy for one in made]
            showers[begin:end] = [measured(spec, one).ravel() for one in made]
            responses += [one.voxels.sum() / one.energy for one in made]
            advance(end - begin, "showers")
    return ShowerSummary(path, fingerprint, spec.n_events, float(np.mean(responses)))


def measured(spec: ShowerSpec, shower: Shower) -> NDArray[np.float32]:
    """Voxels in MeV above the threshold, shaped as those of the shower."""
    voxels = MEV * shower.voxels
    return np.where(voxels < spec.threshold, 0.0, voxels).astype(np.float32)


def make_shower(spec: ShowerSpec, number: int) -> Shower:
    """Make one shower of a sample.

    Its energy is deposited in spots (A.1.4; of pions as many as CMS has them), whose number in a
    step of the axis, or of the whole shower, is Poisson; each spot's energy is drawn from a gamma
    distribution of mean e and variance ``sampling``² e, so that the sum of all has mean E and
    variance ``sampling``² E.
    """
    rng = np.random.default_rng([spec.seed, _STREAM, number])
    low, high = np.log(spec.energy)
    energy = np.exp(rng.uniform(low, high, size=1))
    invisible = 0.0
    if spec.is_hadronic:
        hadron = draw_hadron_showers(energy, spec.material, rng)
        place, deposit, invisible = hadron_spots(spec, hadron, rng)
    else:
        place, deposit = _spots(spec, draw_profiles(energy, spec.material, rng), rng)
    index, inside = _voxel_of(spec, place)
    n_layers, n_ring, n_sector = spec.grid.shape
    voxels: Floats = np.zeros(n_layers * n_ring * n_sector)
    np.add.at(voxels, index[inside], deposit[inside])
    shape = n_layers, n_sector, n_ring
    outside = float(deposit[~inside].sum())
    return Shower(float(energy[0]), voxels.reshape(shape), outside, invisible)


def _sampled(
    spec: ShowerSpec | HadronCalorimeter, mean: Floats, rng: np.random.Generator
) -> Floats:
    """Energies of spots, (n,), as the sampling measures them."""
    variance = spec.sampling**2
    return variance * rng.standard_gamma(mean / variance) if variance else mean


def _voxel_of(spec: ShowerSpec, place: Floats) -> tuple[Ints, Flags]:
    """Voxels that places, (3, n) in mm, lie in, and whether they lie in one."""
    n_layers, n_ring, n_sector = spec.grid.shape
    layer = np.floor(place[2] / spec.layer_mm)
    if spec.grid.name == CUBE:
        ring, sector = np.floor(place[:2] / spec.ring_mm) + np.array([[n_ring // 2]])
        beside = (ring < 0) | (sector < 0) | (sector >= n_sector)
    else:
        ring = np.floor(np.hypot(place[0], place[1]) / spec.ring_mm)
        turn = (np.arctan2(place[1], place[0]) - spec.grid.phi_min) / (2 * np.pi)
        sector = np.minimum(np.floor(turn * n_sector), n_sector - 1)
        beside = np.zeros(len(ring), dtype=bool)
    inside = ~beside & (layer >= 0) & (layer < n_layers) & (ring < n_ring)
    index = (layer * n_sector + sector) * n_ring + ring
    return np.where(inside, index, 0).astype(np.int64), inside


def _spots(spec: ShowerSpec, profile: Profiles, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Places (x, y, z) in mm, (3, n), and energies in GeV, (n,), of a shower's spots."""
    medium, tilt = spec.material, np.radians(spec.angle)
    step = spec.layer_mm / np.cos(tilt) / medium.radiation_length
    n_steps = spec.grid.n_layers + (_BEHIND if tilt else 0)
    # What lies before the first and behind the last step is a step of its own.
    edges = np.concatenate([[0.0], spec.upstream + step * np.arange(n_steps + 1), [np.inf]])
    share = np.diff(profile.below(edges)[0])
    expected = profile.n_spots[0] * np.diff(profile.spots_below(edges)[0])
    count = np.maximum(rng.poisson(expected), share > 0)
    of_spot = np.repeat(np.arange(len(share)), count)
    deposit = _sampled(spec, profile.energy[0] * share[of_spot] / count[of_spot], rng)
    begin, end = (
        edges[of_spot],
        np.where(np.isinf(edges[of_spot + 1]), edges[-2], edges[of_spot + 1]),
    )
    middle = 0.5 * (edges[:-1] + np.where(np.isinf(edges[1:]), edges[:-1], edges[1:]))
    core, tail, part = (values[0][of_spot] for values in profile.radial(middle))
    radius = np.where(rng.random(len(of_spot)) < part, core, tail)
    v = rng.random(len(of_spot))
    # Eq. 28, around the axis.
    r = medium.moliere_radius * radius * np.sqrt(v / (1 - v))
    around = rng.uniform(0, 2 * np.pi, len(of_spot))
    along = medium.radiation_length * (rng.uniform(begin, end) - spec.upstream)
    behind = of_spot == len(share) - 1
    along[behind] += 1.0
    return _places(along, r, around, tilt), deposit


def hadron_spots(
    spec: HadronCalorimeter, shower: HadronShowers, rng: np.random.Generator
) -> tuple[Floats, Floats, float]:
    """Places in mm, (3, n), and energies in GeV, (n,), of a hadron's spots; what is not measured.

    The hadron enters at x = y = z = 0. Spots have equal energies and depths drawn from the
    profiles; within a layer's depth all have one median radius, which fluctuates from layer to
    layer.
    """
    medium, energy = spec.material, float(shower.energy[0])
    n_short, n_long = _parts(rng.poisson(shower.n_spots[0]), float(shower.short[0]), rng)
    is_long = np.arange(n_short + n_long) >= n_short
    which = is_long.astype(np.int64)
    scale = (shower.units / shower.beta[:, 0])[which]
    depth = scale * rng.standard_gamma(shower.alpha[:, 0][which])
    step = np.floor(depth / spec.layer_mm).astype(np.int64)
    steps = np.unique(step, return_inverse=True)
    depths: Floats = spec.layer_mm * (steps[0].astype(np.float64) + 0.5)
    median, spread = median_radius(energy, depths, medium)
    log_spread = np.sqrt(np.log1p(spread**2))
    median = median * np.exp(log_spread * rng.normal(size=len(median)) - 0.5 * log_spread**2)
    radius = draw_radii(median[steps[1]], medium, rng)
    around = rng.uniform(0, 2 * np.pi, len(depth))
    begin = shower.start[0] * medium.interaction_length - spec.upstream * medium.radiation_length
    mean = np.where(is_long, spec.h_over_e, 1.0) * energy / len(depth)
    place = _places(begin + depth, radius, around, np.radians(spec.angle))
    return place, _sampled(spec, mean, rng), energy - float(mean.sum())


def _parts(n: int, share: float, rng: np.random.Generator) -> tuple[int, int]:
    """Divide at least one spot: as many as the share says, the rest of one by chance."""
    n = max(n, 1)
    first = int(np.floor(n * share + rng.random()))
    return min(first, n), n - min(first, n)


def _places(along: Floats, r: Floats, around: Floats, tilt: float) -> Floats:
    """x, y and z, (3, n), at lengths along an inclined axis and radii around it."""
    x = along * np.sin(tilt) + r * np.cos(around) * np.cos(tilt)
    z = along * np.cos(tilt) - r * np.cos(around) * np.sin(tilt)
    return np.stack([x, r * np.sin(around), z])


def _record_of(path: Path) -> dict[str, Any]:
    # Whatever is wrong with the file, it is none that we wrote.
    with suppress(Exception), h5py.File(path, "r") as file:
        return dict(json.loads(str(file.attrs[RECORD])))
    return {}
