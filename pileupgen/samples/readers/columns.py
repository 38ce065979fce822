"""Branches of a ROOT tree as numbers per tower and per event."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.errors import UnreadableInputError
from pileupgen.samples.readers.base import MuSource
from pileupgen.samples.readers.files import Place
from pileupgen.samples.readers.root import Flat, RootBranch


def one_per_tower(
    flat: Flat, branch: RootBranch, where: Place, counts: NDArray[np.int64] | None
) -> Flat:
    """Check that a branch holds one number a tower.

    Parameters
    ----------
    flat : Flat
        What was read.
    branch : RootBranch
        Where from.
    where : Place
        For the message.
    counts : int64 array, shape (n,), or None
        Towers per event that its siblings have.

    Raises
    ------
    UnreadableInputError
        If it does not, or has another number of towers.
    """
    if flat.counts is None or flat.values.ndim != 1:
        raise UnreadableInputError(
            f"{where.path}: branch '{branch.name}' is not one number a tower.",
            "Name the branch with the towers' energies in the card's options.",
        )
    if counts is not None and not np.array_equal(flat.counts, counts):
        raise UnreadableInputError(
            f"{where.path}: branch '{branch.name}' has another number of towers than its siblings.",
            "The file is damaged, or the card mixes branches of two collections.",
        )
    return flat


def counts_of(flat: Flat) -> NDArray[np.int64]:
    """Numbers per event, shape (n,)."""
    return np.ones(len(flat.values), dtype=np.int64) if flat.counts is None else flat.counts


def native(values: NDArray[Any]) -> NDArray[np.float32] | NDArray[np.float64]:
    """Floats of this machine: float32 stays, all else becomes float64."""
    if values.dtype.kind == "f" and values.dtype.itemsize == 4:
        single: NDArray[np.float32] = np.ascontiguousarray(values, dtype=np.float32)
        return single
    double: NDArray[np.float64] = np.ascontiguousarray(values, dtype=np.float64)
    return double


def read_mu(
    source: MuSource, branch: RootBranch | None, begin: int, end: int, where: Place
) -> NDArray[np.float32]:
    """Number of pileup interactions per event, shape (end − begin,).

    Raises
    ------
    UnreadableInputError
        If the branch is not one number an event.
    """
    if branch is None:
        return np.full(end - begin, source.offset, dtype=np.float32)
    flat = branch.read(begin, end)
    if flat.values.shape != (end - begin,) or (
        flat.counts is not None and np.any(flat.counts != 1)
    ):
        raise UnreadableInputError(
            f"{where.path}: branch '{branch.name}' is not one number an event.",
            "It cannot be μ: name another in the card's mu, or set a constant.",
        )
    return (flat.values + source.offset).astype(np.float32)
