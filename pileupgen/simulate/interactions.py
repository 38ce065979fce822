"""Stable particles of many interactions, as flat arrays with offsets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Ints

ETA_MAX = 6.0
"""Particles beyond this |η| are not kept: no calorimeter here reaches them."""

PT2_MIN = 1e-9
"""GeV². Delphes' ParticlePropagator drops particles below it."""

ARRAYS = ("offsets", "pid", "charge", "px", "py", "pz", "energy")


@dataclass(frozen=True)
class Interactions:
    """Stable particles of N interactions, each with its vertex at the origin."""

    offsets: Ints
    """Interaction i owns particles ``offsets[i]:offsets[i + 1]``. Shape (N + 1,)."""
    pid: NDArray[np.int32]
    """PDG code. Shape (n_particles,)."""
    charge: NDArray[np.int8]
    """Charge in units of e. Shape (n_particles,)."""
    px: NDArray[np.float32]
    py: NDArray[np.float32]
    pz: NDArray[np.float32]
    energy: NDArray[np.float32]
    """Momentum and energy in GeV. Shape (n_particles,)."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Give the arrays by name, for files."""
        return {name: getattr(self, name) for name in ARRAYS}

    @classmethod
    def select(cls, counts: Ints, **columns: NDArray[np.generic]) -> Interactions:
        """Keep what a calorimeter may see of particles in event order.

        Parameters
        ----------
        counts : int64 array, shape (N,)
            Particles per interaction.
        **columns
            ``pid, charge, px, py, pz, energy``, each of shape ``(sum(counts),)``.
        """
        px, py, pz = (np.asarray(columns[name], dtype=np.float64) for name in ("px", "py", "pz"))
        pt2 = px * px + py * py
        kept = (pt2 > PT2_MIN) & (np.abs(pz) < np.sqrt(pt2) * np.sinh(ETA_MAX))
        event = np.repeat(np.arange(len(counts)), counts)[kept]
        offsets = np.zeros(len(counts) + 1, dtype=np.int64)
        np.cumsum(np.bincount(event, minlength=len(counts)), out=offsets[1:])
        return cls(
            offsets=offsets,
            pid=columns["pid"][kept].astype(np.int32),
            charge=columns["charge"][kept].astype(np.int8),
            px=px[kept].astype(np.float32),
            py=py[kept].astype(np.float32),
            pz=pz[kept].astype(np.float32),
            energy=columns["energy"][kept].astype(np.float32),
        )

    @classmethod
    def join(cls, parts: Sequence[Mapping[str, NDArray[np.generic]]]) -> Interactions:
        """One after the other; each part as :meth:`arrays` gives it."""
        counts = np.concatenate([np.diff(part["offsets"].astype(np.int64)) for part in parts])
        offsets = np.zeros(len(counts) + 1, dtype=np.int64)
        np.cumsum(counts, out=offsets[1:])
        rest = {name: np.concatenate([part[name] for part in parts]) for name in ARRAYS[1:]}
        return cls(offsets=offsets, **rest)
