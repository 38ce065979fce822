"""Places of cells: centres, corners or Cartesian points become edges in η and φ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.calo.rowtable import RowMemo
from pileupgen.errors import UnreadableInputError
from pileupgen.samples.readers.collection import Collection
from pileupgen.samples.readers.columns import native
from pileupgen.samples.readers.source import Source

Columns = Mapping[str, NDArray[Any]]


class Places:
    """Turns the columns with a collection's places into edges.

    Parameters
    ----------
    collection : Collection
        What the card says of it.
    """

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._kind: np.dtype[Any] = np.dtype(np.float32)
        self._memo = RowMemo()

    def edges(
        self, columns: Columns
    ) -> tuple[NDArray[np.float32] | NDArray[np.float64], NDArray[np.floating[Any]]]:
        """Find the edges, and η of the centres, shape (n,).

        Edges are ``eta_min, eta_max, phi_min, phi_max``, shape (n, 4); where the card gives no
        widths η and φ, shape (n, 2).
        """
        collection = self._collection
        if collection.corners is not None:
            edges = corner_edges(np.stack([columns[name] for name in collection.corners], axis=1))
            return edges, edges[:, :2].mean(axis=1)
        if collection.x is not None:
            points = self._of_points(*(columns[str(getattr(collection, at))] for at in "xyz"))
            if collection.eta_width is None and collection.phi_width is None:
                return points, points[:, 0]
            eta: NDArray[Any] = points[:, 0]
            phi: NDArray[Any] = points[:, 1]
        else:
            eta, phi = (native(columns[str(name)]) for name in (collection.eta, collection.phi))
        if collection.eta_width is None and collection.phi_width is None:
            return np.stack([eta, phi], axis=1), eta
        sides: list[NDArray[Any]] = []
        for centre, width in ((eta, collection.eta_width), (phi, collection.phi_width)):
            half: Any = 0.0
            if width is not None:
                half = 0.5 * columns[width] if isinstance(width, str) else width / 2
            sides += [centre - half, centre + half]
        return native(np.stack(sides, axis=1)), eta

    def _of_points(self, x: NDArray[Any], y: NDArray[Any], z: NDArray[Any]) -> NDArray[np.float64]:
        """η and φ of points, shape (n, 2); each place of a detector is computed once."""
        kind = np.result_type(*(native(column[:0]) for column in (x, y, z)))
        if kind != self._kind:
            self._kind, self._memo = kind, RowMemo()
        # A fourth column of zeros: rows of whole words.
        rows = np.zeros((len(x), 4), dtype=kind)
        for column, values in enumerate((x, y, z)):
            rows[:, column] = values
        return self._memo.of(rows, lambda index: _eta_phi(rows[index]))


def _eta_phi(rows: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    x, y, z = rows[:, :3].T.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.stack([np.arcsinh(z / np.hypot(x, y)), np.arctan2(y, x)], axis=1)


def corner_edges(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """``eta_min, eta_max, phi_min, phi_max`` of points (n, k, 3); φ may pass π."""
    x, y, z = np.moveaxis(corners, -1, 0)
    rho = np.hypot(x, y)
    with np.errstate(divide="ignore", invalid="ignore"):
        eta = np.arcsinh(z / rho)
    phi = np.arctan2(y, x)
    first = phi[:, :1]
    phi = first + (phi - first + np.pi) % (2 * np.pi) - np.pi
    return np.stack([eta.min(axis=1), eta.max(axis=1), phi.min(axis=1), phi.max(axis=1)], axis=1)


def read_once(
    source: Source, names: Sequence[str], points: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """Read columns as one number a cell, whatever their axes are."""
    once = {}
    for name in dict.fromkeys(names):
        column = source.column(name)
        flat = column.read_at(0, column.n_entries)
        once[name] = flat.values.reshape(-1, 3) if name in points else flat.values.reshape(-1)
    sizes = {name: len(values) for name, values in once.items()}
    if len(set(sizes.values())) > 1:
        raise UnreadableInputError(
            f"{source}: the positions differ in number: "
            + ", ".join(f"'{name}' has {size}" for name, size in sizes.items())
            + ".",
            "Name columns of one table of cells.",
        )
    return once


def place_columns(collection: Collection) -> list[str]:
    """Names of the columns that :class:`Places` takes."""
    names = [collection.eta, collection.phi, collection.x, collection.y, collection.z]
    names += collection.corners or ()
    widths = (collection.eta_width, collection.phi_width)
    return [name for name in (*names, *widths) if isinstance(name, str)]
