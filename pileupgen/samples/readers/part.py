"""Cells of a collection in some events, and several collections as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.calo.towers import four_edges
from pileupgen.samples.readers.base import GEV
from pileupgen.samples.readers.collection import Collection


@dataclass(frozen=True)
class Part:
    """Cells of one collection in some events."""

    offsets: NDArray[np.int64]
    """Event i owns cells ``offsets[i]:offsets[i + 1]``. Shape (n_events + 1,)."""
    edges: NDArray[np.float32] | NDArray[np.float64]
    """``eta_min, eta_max, phi_min, phi_max``, shape (n, 4); of points η and φ, shape (n, 2)."""
    energy: NDArray[np.float32]
    """GeV by the collection's layers. Shape (n, L)."""
    factor: NDArray[np.float64] | None = None
    """What energies are over the file's numbers in the card's unit; None for 1. Shape (n,)."""
    left_out: Mapping[str, float] = field(default_factory=dict)
    """Σ|E| in GeV of cells that the card leaves out, by what they are called in the file."""


def join_parts(
    parts: Mapping[str, Part], layers_of: Mapping[str, Sequence[str]], layers: Sequence[str]
) -> Part:
    """One collection after the other in each event; layers that one lacks are 0 there.

    Parameters
    ----------
    parts : mapping of Part
        By the collection's name; of the same events.
    layers_of : mapping of sequences
        Layers of each.
    layers : sequence of str
        Layers of all.
    """
    counts = np.array([np.diff(part.offsets) for part in parts.values()])
    offsets = np.zeros(counts.shape[1] + 1, dtype=np.int64)
    np.cumsum(counts.sum(axis=0), out=offsets[1:])
    # Where each event's cells of a collection begin among all: by event, and by collection.
    after = offsets[:-1] + np.cumsum(counts, axis=0) - counts
    sizes = [len(part.edges) for part in parts.values()]
    before = np.cumsum([0, *sizes[:-1]])[:, None] + [part.offsets[:-1] for part in parts.values()]
    order = np.repeat((before - after).T.ravel(), counts.T.ravel())
    order += np.arange(offsets[-1])
    edges = [part.edges for part in parts.values()]
    if len({one.shape[1] for one in edges}) > 1:
        edges = [four_edges(one) for one in edges]
    energy = np.empty((len(layers), offsets[-1]), dtype=np.float32).T
    for column, layer in enumerate(layers):
        pieces = [
            part.energy[:, list(layers_of[name]).index(layer)]
            if layer in layers_of[name]
            else np.zeros(len(part.edges), dtype=np.float32)
            for name, part in parts.items()
        ]
        energy[:, column] = np.concatenate(pieces).take(order)
    factor = None
    if any(part.factor is not None for part in parts.values()):
        factors = [
            np.ones(len(part.edges)) if part.factor is None else part.factor
            for part in parts.values()
        ]
        factor = np.concatenate(factors).take(order)
    left_out = {
        f"{name} {what}": size
        for name, part in parts.items()
        for what, size in part.left_out.items()
    }
    joined: NDArray[Any] = np.concatenate(edges).take(order, axis=0)
    return Part(offsets, joined, energy, factor, left_out)


def scale_of(collection: Collection, gev: float) -> float:
    """What a collection's energies are multiplied by beyond the card's unit of ``gev``."""
    return collection.scale * (1.0 if collection.unit is None else GEV[collection.unit] / gev)


def factor_of(
    collection: Collection, scale: float, eta: NDArray[np.floating[Any]]
) -> NDArray[np.float64] | None:
    """Scale of each cell, times cosh η where the file has E_T; None where that is 1. Shape (n,)."""
    if collection.quantity == "ET":
        return scale * np.cosh(eta.astype(np.float64))
    return None if scale == 1.0 else np.full(len(eta), scale)
