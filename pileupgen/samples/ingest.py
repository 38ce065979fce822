"""A card's towers become an image store."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Floats
from pileupgen.calo.geometry import Grid
from pileupgen.errors import CardError, InputError, UnreadableInputError, did_you_mean
from pileupgen.parallel import Executor, Serial
from pileupgen.progress import Advance, silent
from pileupgen.run import versions
from pileupgen.samples.cards import DataCard
from pileupgen.samples.census import EventTally
from pileupgen.samples.checks import check_sample, judge
from pileupgen.samples.dead_cells import count_dead, count_silent
from pileupgen.samples.readers import InputFile, Reader
from pileupgen.samples.readers.remote import RemoteFile, hash_input, size_of
from pileupgen.samples.splits import assign_group_splits, assign_splits
from pileupgen.samples.store import create_store
from pileupgen.samples.stream import Drawn, Stream
from pileupgen.samples.summary import IngestSummary
from pileupgen.samples.weights import share_out_negative

__all__ = ["IngestSummary", "describe_inputs", "examine", "ingest"]

_log = logging.getLogger("pileupgen")


def describe_inputs(card: DataCard, files: Sequence[InputFile]) -> list[dict[str, Any]]:
    """Name, size and SHA-256 of the files, verified against the card's checksums.

    Files that hold the cells' positions are among them.

    Files on a server are hashed only where the card has a checksum: it would read them twice.

    Raises
    ------
    CardError
        If a checksum does not fit its file, or is for a file that the card does not name.
    """
    files = [*files, *card.position_files()]
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
    allow: Collection[str] = (),
    advance: Advance = silent,
) -> IngestSummary:
    """Read towers, draw them on the grid, suppress zeros, write the store; in a stream.

    Parameters
    ----------
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
        Seed of the split; where the reader says which events belong together, they lie in one.
    executor : Executor, optional
        Where towers are read and drawn; the store does not depend on it.
    skip_bad : bool
        Leave out what cannot be read of a file, say so in the provenance, and go on.

    Raises
    ------
    InputError
        If a file cannot be used, there are no events, or their numbers cannot be physics.
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
    # Before the rest: the stream begins with the file that this opens.
    unread_weights = _unread_weights(reader)
    stream = Stream(reader, grid, zero_suppression, max_events, executor or Serial(), skip_bad)
    tally = _Tally(grid)
    # Of each event what tells which are alike, should there be weights below 0.
    alike: list[NDArray[np.float32]] = []
    splits: list[NDArray[np.uint8]] = []
    groups: list[NDArray[np.int64]] = []
    with closing(reader), create_store(path, grid, domain, provenance) as writer:
        for drawn in stream:
            n = len(drawn.images)
            tally.add(drawn)
            columns: dict[str, NDArray[Any]] = {
                # What is no number of interactions is not known; how often it is is said below.
                "mu": np.where(np.isfinite(drawn.mu) & (drawn.mu >= 0), drawn.mu, np.nan),
                "event_id": drawn.event_id,
                "weight": drawn.weight,
                **drawn.known,
            }
            if (drawn.group is None) != (not groups) and writer.n_events:
                raise UnreadableInputError(
                    f"Card '{card.name}': some files say which events belong together, some do "
                    "not.",
                    "Set group: none in the card, or leave those files out.",
                )
            if drawn.group is None:
                columns["split"] = assign_splits(writer.n_events, n, fractions, seed)
                splits.append(columns["split"])
            else:
                columns["group"] = drawn.group
                groups.append(drawn.group)
            alike.append(np.column_stack([drawn.layer_energy, drawn.sum_et]).astype(np.float32))
            writer.append(drawn.images, columns)
            advance(n)
        if writer.n_events == 0:
            why = f" {stream.skipped[0].error.message}" if stream.skipped else ""
            raise UnreadableInputError(
                f"Card '{card.name}' holds no events "
                f"({', '.join(item['name'] for item in inputs)}).{why}",
                "None of its files can be read." if why else "Its files have no entries.",
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
        skipped_names = tuple(item.path.name for item in stream.skipped)
        summary = tally.summary(skipped_names, unread_weights)
        # Before the store takes its name: what is refused leaves none behind.
        judge(check_sample(summary, card, grid, f"{domain} (card '{card.name}')"), allow)
        if groups:
            splits = [assign_group_splits(np.concatenate(groups), fractions, seed)]
            writer.add_column("split", splits[0])
        weight = tally.weights
        if np.any(weight < 0):
            features = np.concatenate(alike).astype(np.float64)
            shared = share_out_negative(weight, features, np.concatenate(splits))
            writer.add_column("weight_positive", shared)
    for item in stream.skipped:
        _log.warning("skipped from event %d on: %s", item.n_events, item.error.message)
    return summary


def examine(reader: Reader, grid: Grid, max_events: int) -> IngestSummary:
    """Summarise the first events of a sample as :func:`ingest` does, and write nothing.

    Raises
    ------
    InputError
        If a file cannot be used.
    GeometryError
        If the towers do not have the grid's layers.
    """
    tally, unread_weights = _Tally(grid), _unread_weights(reader)
    for drawn in Stream(reader, grid, 0.0, max_events):
        tally.add(drawn)
    return tally.summary((), unread_weights)


def _unread_weights(reader: Reader) -> tuple[str, ...]:
    """What looks like weights in the first file; nothing where that cannot be read."""
    with suppress(InputError):
        return reader.unread_weights()
    return ()


class _Tally:
    """Sums over the events of a stream."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._energy, self._before, self._outside, self._filled = np.zeros((4, grid.n_layers))
        self._n_before = np.zeros(grid.n_layers)
        self._hits = np.zeros(grid.shape, dtype=np.int64)
        self._n_towers = self._n_shared = 0
        self._events = EventTally()
        self._features = [_Moments() for _ in grid.units or ()]

    def add(self, drawn: Drawn) -> None:
        self._energy += drawn.energy
        self._before += drawn.before
        self._outside += drawn.outside
        self._hits += drawn.hits
        self._n_before += drawn.n_before
        self._n_towers += drawn.n_towers
        self._n_shared += drawn.n_shared
        self._filled += drawn.filled
        self._events.add(
            drawn.census,
            mu=drawn.mu,
            sum_et=drawn.sum_et,
            weight=drawn.weight,
            signature=drawn.signature,
        )
        for feature, moments in enumerate(self._features):
            moments.add(drawn.images[:, feature, 0, 0].astype(np.float64), drawn.weight)

    @property
    def weights(self) -> Floats:
        """Event weights, shape (N,)."""
        return self._events.column("weight")

    def summary(self, skipped: tuple[str, ...], unread_weights: tuple[str, ...]) -> IngestSummary:
        weight, mu = self._events.column("weight"), self._events.column("mu")
        # Of weights that add up to nothing there are no means; the checks refuse them.
        total = float(weight.sum()) or 1.0
        n_cells = self._grid.n_eta * self._grid.n_phi
        n_filled = self._hits.sum(axis=(1, 2))
        sum_et, pileup = _Moments(), _Moments()
        sum_et.add(self._events.column("sum_et"), weight)
        is_known = np.isfinite(mu) & (mu >= 0)
        pileup.add(mu[is_known], weight[is_known])
        has_mu = bool(is_known.any())
        lost = 1.0 - n_filled / np.maximum(self._n_before, 1)
        is_image = self._grid.units is None
        n_silent, places = count_silent(self._grid, self._hits) if is_image else ((), ())
        return IngestSummary(
            n_events=len(weight),
            n_towers=self._n_towers,
            n_shared=self._n_shared,
            layers=self._grid.layers,
            energy=_floats(self._energy / total),
            energy_outside=_floats(self._outside / total),
            energy_suppressed=_floats((self._before - self._energy) / total),
            occupancy=_floats(self._filled / total / n_cells),
            suppressed=_floats(np.where(self._n_before > 0, lost, 0.0)),
            mean_sum_et=sum_et.mean,
            sd_sum_et=sum_et.sd,
            mean_mu=pileup.mean if has_mu else float("nan"),
            sd_mu=pileup.sd if has_mu else float("nan"),
            skipped=skipped,
            units=self._grid.units or (),
            sd=tuple(moments.sd for moments in self._features),
            n_dead=count_dead(self._grid) if is_image else (),
            n_silent=n_silent,
            silent_places=places,
            census=self._events.census(self._hits),
            is_transverse=not self._grid.is_shower,
            unread_weights=unread_weights,
        )


class _Moments:
    """Weighted mean and standard deviation of a stream (Chan et al., STAN-CS-79-773, eq. 2.1)."""

    def __init__(self) -> None:
        self.mean = 0.0
        self._n = 0
        self._weight = 0.0
        self._squares = 0.0

    def add(self, values: Floats, weight: Floats) -> None:
        now = float(weight.sum())
        total = self._weight + now
        if now == 0 or total == 0:
            return
        mean = float(weight @ values) / now
        shift = mean - self.mean
        self._squares += float(weight @ np.square(values - mean))
        self._squares += shift**2 * self._weight * now / total
        self.mean += shift * now / total
        self._n, self._weight = self._n + len(values), total

    @property
    def sd(self) -> float:
        if self._n < 2 or self._squares <= 0 or self._weight <= 0:
            return 0.0
        return float(np.sqrt(self._squares / self._weight * self._n / (self._n - 1)))


def _floats(values: Floats) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
