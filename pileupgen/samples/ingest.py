"""A card's towers become an image store."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.calo.geometry import Grid
from pileupgen.errors import CardError, UnreadableInputError, did_you_mean
from pileupgen.parallel import Executor, Serial
from pileupgen.progress import Advance
from pileupgen.run import versions
from pileupgen.samples.cards import DataCard
from pileupgen.samples.dead_cells import count_dead, count_silent
from pileupgen.samples.readers import InputFile, Reader
from pileupgen.samples.readers.remote import RemoteFile, hash_input, size_of
from pileupgen.samples.store import assign_splits, create_store
from pileupgen.samples.stream import Drawn, Stream

_log = logging.getLogger("pileupgen")


@dataclass(frozen=True)
class IngestSummary:
    """What went into a store.

    Attributes
    ----------
    n_events, n_towers, n_shared : int
        Events, towers, and towers that shared their energy among several cells.
    layers : tuple of str
        Order of the numbers per layer.
    energy, energy_outside, energy_suppressed : tuple of float
        Mean per event and layer in GeV: in the images, outside the grid's acceptance, and taken
        away by the zero suppression.
    occupancy : tuple of float
        Fraction of cells with energy, per layer.
    suppressed : tuple of float
        Fraction of the cells with energy that the zero suppression emptied, per layer.
    mean_sum_et, sd_sum_et : float
        Mean and standard deviation over events of ΣE_T in GeV, with E_T = E / cosh η at the
        cell's centre.
    mean_mu, sd_mu : float
        Mean and standard deviation of μ over events; NaN where it is not known.
    skipped : tuple of str
        Names of the files left out, wholly or from a fault on.
    units : tuple of str
        Units of the features, where the layers are such; else empty. ``energy`` is then the mean
        of each feature in its unit.
    sd : tuple of float
        Standard deviation over events of each feature; empty for calorimeters.
    n_dead, n_silent : tuple of int
        Cells of the detector per layer that the geometry calls dead, and that it does not call so
        yet never had energy though their ring had; empty for features.
    silent_places : tuple of str
        Some of the latter.
    """

    n_events: int
    n_towers: int
    n_shared: int
    layers: tuple[str, ...]
    energy: tuple[float, ...]
    energy_outside: tuple[float, ...]
    energy_suppressed: tuple[float, ...]
    occupancy: tuple[float, ...]
    suppressed: tuple[float, ...]
    mean_sum_et: float
    sd_sum_et: float
    mean_mu: float
    sd_mu: float
    skipped: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    sd: tuple[float, ...] = ()
    n_dead: tuple[int, ...] = ()
    n_silent: tuple[int, ...] = ()
    silent_places: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a stage's record."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> IngestSummary:
        """Inverse of :meth:`to_dict`; lists become tuples."""
        known: dict[str, Any] = {
            key: tuple(item) if isinstance(item, list) else item for key, item in values.items()
        }
        return cls(**known)


def describe_inputs(card: DataCard, files: Sequence[InputFile]) -> list[dict[str, Any]]:
    """Name, size and SHA-256 of the files, verified against the card's checksums.

    Files on a server are hashed only where the card has a checksum: it would read them twice.

    Raises
    ------
    CardError
        If a checksum does not fit its file, or is for a file that the card does not name.
    """
    names = [path.name for path in files]
    for name in card.checksum:
        if name not in names:
            raise CardError(
                f"Card '{card.name}' has a checksum of '{name}', which is not among its files.",
                did_you_mean(name, names),
            )
    inputs = []
    for path in files:
        if isinstance(path, RemoteFile) and path.name not in card.checksum:
            inputs.append({"name": path.name, "bytes": size_of(path), "url": path.url})
            continue
        digest, expected = hash_input(path), card.checksum.get(path.name)
        if expected is not None and digest != expected:
            raise CardError(
                f"{path} is not the file that card '{card.name}' describes: its SHA-256 is "
                f"{digest}, the card has {expected}.",
                "Fetch it again, or correct the card.",
            )
        inputs.append({"name": path.name, "bytes": path.stat().st_size, "sha256": digest})
    return inputs


def ingest(
    reader: Reader,
    grid: Grid,
    path: Path,
    *,
    domain: str,
    card: DataCard,
    inputs: Sequence[Mapping[str, Any]],
    zero_suppression: float = 0.0,
    fractions: tuple[float, float, float] = (0.6, 0.15, 0.25),
    seed: int = 0,
    max_events: int | None = None,
    executor: Executor | None = None,
    skip_bad: bool = False,
    advance: Advance | None = None,
) -> IngestSummary:
    """Read towers, draw them on the grid, suppress zeros, write the store; in a stream.

    Parameters
    ----------
    reader : Reader
        Yields the towers.
    grid : Grid
        Axes of the images.
    path : Path
        The store to write; takes its name when it is whole.
    domain : str
        ``"mc"`` or ``"data"``: the sample's role.
    card : DataCard
        Goes into the store's provenance.
    inputs : sequence of mappings
        From :func:`describe_inputs`, or what a generated sample was made from.
    zero_suppression : float
        GeV; cells with less |energy| in a layer become 0. At 0 nothing is touched.
    fractions : three floats
        Train, validation and test.
    seed : int
        Of the split.
    max_events : int or None
        Stop after so many.
    executor : Executor, optional
        Where towers are read and drawn; the store does not depend on it.
    skip_bad : bool
        Leave out what cannot be read of a file, say so in the provenance, and go on.
    advance : callable, optional
        Told of the events done.

    Returns
    -------
    IngestSummary

    Raises
    ------
    InputError
        If a file cannot be used, or there are no events.
    GeometryError
        If the towers do not have the grid's layers.
    OutputError
        If the store cannot be written.
    """
    settings = {
        "zero_suppression": zero_suppression,
        "fractions": list(fractions),
        "seed": seed,
        "max_events": max_events,
    }
    provenance = {
        "stage": "preprocess",
        "card": card.to_dict(),
        "inputs": [dict(item) for item in inputs],
        "settings": settings,
        "versions": versions("numpy", "uproot", "awkward", "h5py", "hdf5plugin"),
    }
    stream = Stream(reader, grid, zero_suppression, max_events, executor or Serial(), skip_bad)
    tally = _Tally(grid)
    with create_store(path, grid, domain, provenance) as writer:
        for drawn in stream:
            n = len(drawn.images)
            tally.add(drawn)
            columns: dict[str, NDArray[Any]] = {
                "mu": drawn.mu,
                "event_id": drawn.event_id,
                "weight": drawn.weight,
                "split": assign_splits(writer.n_events, n, fractions, seed),
            }
            writer.append(drawn.images, columns)
            if advance is not None:
                advance(n)
        if writer.n_events == 0:
            why = f" {stream.skipped[0].error.message}" if stream.skipped else ""
            raise UnreadableInputError(
                f"Card '{card.name}' holds no events "
                f"({', '.join(item['name'] for item in inputs)}).{why}",
                "None of its files can be read." if why else "Its trees are empty.",
            )
        if stream.skipped:
            skipped = [
                {
                    "name": item.path.name,
                    "error": type(item.error).__name__,
                    "n_events": item.n_events,
                }
                for item in stream.skipped
            ]
            writer.replace_provenance({**provenance, "skipped": skipped})
    for item in stream.skipped:
        _log.warning("skipped from event %d on: %s", item.n_events, item.error.message)
    return tally.summary(tuple(item.path.name for item in stream.skipped))


class _Tally:
    """Sums over the events of a stream."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._energy, self._before, self._outside = np.zeros((3, grid.n_layers))
        self._n_before = np.zeros(grid.n_layers)
        self._hits = np.zeros(grid.shape, dtype=np.int64)
        self._n_towers = self._n_shared = 0
        self._sum_et = _Moments()
        self._mu = _Moments()
        self._features = [_Moments() for _ in grid.units or ()]

    def add(self, drawn: Drawn) -> None:
        self._energy += drawn.energy
        self._before += drawn.before
        self._outside += drawn.outside
        self._hits += drawn.hits
        self._n_before += drawn.n_before
        self._n_towers += drawn.n_towers
        self._n_shared += drawn.n_shared
        self._sum_et.add(drawn.sum_et)
        self._mu.add(drawn.mu.astype(np.float64))
        for feature, moments in enumerate(self._features):
            moments.add(drawn.images[:, feature, 0, 0].astype(np.float64))

    def summary(self, skipped: tuple[str, ...]) -> IngestSummary:
        n = self._sum_et.n
        n_cells = n * self._grid.n_eta * self._grid.n_phi
        n_filled = self._hits.sum(axis=(1, 2))
        lost = 1.0 - n_filled / np.maximum(self._n_before, 1)
        is_image = self._grid.units is None
        n_silent, places = count_silent(self._grid, self._hits) if is_image else ((), ())
        return IngestSummary(
            n_events=n,
            n_towers=self._n_towers,
            n_shared=self._n_shared,
            layers=self._grid.layers,
            energy=_floats(self._energy / n),
            energy_outside=_floats(self._outside / n),
            energy_suppressed=_floats((self._before - self._energy) / n),
            occupancy=_floats(n_filled / n_cells),
            suppressed=_floats(np.where(self._n_before > 0, lost, 0.0)),
            mean_sum_et=self._sum_et.mean,
            sd_sum_et=self._sum_et.sd,
            mean_mu=self._mu.mean,
            sd_mu=self._mu.sd,
            skipped=skipped,
            units=self._grid.units or (),
            sd=tuple(moments.sd for moments in self._features),
            n_dead=count_dead(self._grid) if is_image else (),
            n_silent=n_silent,
            silent_places=places,
        )


class _Moments:
    """Mean and standard deviation of a stream (Chan et al., STAN-CS-79-773, eq. 2.1)."""

    def __init__(self) -> None:
        self.n = 0
        self.mean = 0.0
        self._squares = 0.0

    def add(self, values: NDArray[np.float64]) -> None:
        n = len(values)
        if n == 0:
            return
        mean = float(values.mean())
        shift, total = mean - self.mean, self.n + n
        self._squares += float(np.sum((values - mean) ** 2)) + shift**2 * self.n * n / total
        self.mean += shift * n / total
        self.n = total

    @property
    def sd(self) -> float:
        return float(np.sqrt(self._squares / (self.n - 1))) if self.n > 1 else 0.0


def _floats(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
