"""A sample's events as images, in their order: read and drawn by one process or by several."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Flags, Floats, Ints
from pileupgen.calo.geometry import Grid
from pileupgen.calo.imaging import Imager
from pileupgen.calo.towers import Towers
from pileupgen.errors import InputError
from pileupgen.parallel import Executor, Serial
from pileupgen.parallel.ahead import read_ahead
from pileupgen.samples.census import TowerCensus
from pileupgen.samples.dead_cells import count_hits
from pileupgen.samples.readers import InputFile, Reader, Span
from pileupgen.samples.readers.remote import RemoteFile

_SPAN_CHUNKS = 6
"""Chunks that a process reads at a time; the baskets at their ends are unpacked twice."""


@dataclass(frozen=True)
class Drawn:
    """Images of consecutive events, and sums over their towers."""

    images: NDArray[np.float32]
    """GeV, after the zero suppression. Shape (n, L, n_eta, n_phi)."""
    mu: NDArray[np.float32]
    """Number of pileup interactions; NaN where unknown. Shape (n,)."""
    event_id: Ints
    """Position in the sample. Shape (n,)."""
    weight: Floats
    """Event weights, of either sign; 1 where the sample has none. Shape (n,)."""
    outside: Floats
    before: Floats
    energy: Floats
    """GeV of all events, by weight: outside the acceptance, inside it, and after the zero
    suppression. Shape (L,)."""
    filled: Floats
    """Cells with energy after it, by weight. Shape (L,)."""
    layer_energy: Floats
    """Energy of each event in GeV, after it. Shape (n, L)."""
    signature: Floats
    """A number that only events with the same energy in every ring share; 0 of empty ones. Shape
    (n,)."""
    census: TowerCensus
    """Census of the towers."""
    n_before: Ints
    """Cells with energy before the zero suppression. Shape (L,)."""
    hits: Ints
    """Events in which each cell has energy after it. Shape (L, n_eta, n_phi)."""
    sum_et: Floats
    """ΣE_T in GeV, with E_T = E / cosh η at the cell's centre. Shape (n,)."""
    n_towers: int
    n_shared: int
    """Towers, and those that shared their energy among cells."""
    group: NDArray[np.int64] | None
    """Number that events share which belong together. Shape (n,)."""
    known: Mapping[str, NDArray[np.float32]]
    """What else is known of each event, by the names of stores. Shape (n,) each."""


@dataclass(frozen=True)
class Skipped:
    """A file left out."""

    path: InputFile
    """The file."""
    error: InputError
    """What is wrong with it."""
    n_events: int
    """Events before the fault; they are kept."""


@dataclass
class Stream:
    """Reads, draws and suppresses the events of a sample.

    Parameters
    ----------
    zero_suppression : float
        GeV; cells with less |energy| in a layer become 0. At 0 nothing is touched.
    executor : Executor
        Where towers are read and drawn. The images do not depend on it.
    skip_bad : bool
        Leave out what cannot be read of a file, and go on with the next.
    """

    reader: Reader
    grid: Grid
    zero_suppression: float = 0.0
    max_events: int | None = None
    executor: Executor = field(default_factory=Serial)
    skip_bad: bool = False
    skipped: list[Skipped] = field(default_factory=list)
    """Files left out so far."""

    def __iter__(self) -> Iterator[Drawn]:
        """Yield images in the order of the sample.

        Raises
        ------
        InputError
            If a file cannot be used, unless it is to be skipped.
        GeometryError
            If the towers do not have the grid's layers.
        """
        with closing(self.reader):
            is_alone = isinstance(self.executor, Serial)
            yield from self._in_turn() if is_alone else self._spread(self.executor)

    def _files(self) -> Iterator[tuple[int, int, int]]:
        """Yield number, events and first event of each file that opens."""
        first_id = 0
        for file, path in enumerate(self.reader.files):
            rest = None if self.max_events is None else self.max_events - first_id
            if rest is not None and rest <= 0:
                return
            try:
                n = self.reader.n_events(file)
            except InputError as error:
                self._skip(Skipped(path, error, 0))
                continue
            n = n if rest is None else min(n, rest)
            yield file, n, first_id
            first_id += n

    def _skip(self, skipped: Skipped) -> None:
        if not self.skip_bad:
            raise skipped.error
        self.skipped.append(skipped)

    def _in_turn(self) -> Iterator[Drawn]:
        drawer = _Drawer(self.reader, self.grid, self.zero_suppression)
        towers = self._towers()
        # A server may let a thread wait for a minute, in which Ctrl-C would do nothing.
        is_near = not any(isinstance(path, RemoteFile) for path in self.reader.files)
        with closing(read_ahead(towers) if is_near else towers) as pieces:
            yield from map(drawer.image, pieces)

    def _towers(self) -> Generator[Towers, None, None]:
        """Yield the towers of all files that can be read, as far as they can."""
        for file, n, first_id in self._files():
            n_done = 0
            try:
                for towers in self.reader.read(Span(file, 0, n, first_id)):
                    yield towers
                    n_done += towers.n_events
            except InputError as error:
                self._skip(Skipped(self.reader.files[file], error, n_done))

    def _spread(self, executor: Executor) -> Iterator[Drawn]:
        drawing = _Drawing(self.reader, self.grid, self.zero_suppression)
        for result in executor.map(_draw, drawing, self._spans()):
            yield from self._keep(result)

    def _spans(self) -> Iterator[Span]:
        for file, n, first_id in self._files():
            step = _SPAN_CHUNKS * self.reader.step(file) if n else 1
            for begin in range(0, n, step):
                yield Span(file, begin, min(begin + step, n), first_id)

    def _keep(self, result: _Result) -> Iterator[Drawn]:
        path = self.reader.files[result.span.file]
        if any(skipped.path == path for skipped in self.skipped):
            return
        yield from result.drawn
        if result.error is not None:
            n_done = result.span.begin + sum(len(drawn.images) for drawn in result.drawn)
            self._skip(Skipped(path, result.error, n_done))


class _Drawer:
    """Turns spans of a sample into images."""

    def __init__(self, reader: Reader, grid: Grid, zero_suppression: float) -> None:
        self._reader = reader
        self._imager = Imager(grid)
        self._zero_suppression = zero_suppression
        # A cell of the detector is compared as a whole, its energy spread over so many.
        self._limits = (zero_suppression * grid.cell_shares[..., None]).astype(np.float32)
        self._per_energy = grid.transverse_shares
        self._mix = np.random.default_rng(1).uniform(0.5, 1.5, (grid.n_layers, grid.n_eta))

    def draw(self, span: Span) -> Iterator[Drawn]:
        """Read a span and draw it."""
        yield from map(self.image, self._reader.read(span))

    def image(self, towers: Towers) -> Drawn:
        """Draw towers."""
        imager = self._imager
        n_towers, n_shared = imager.n_towers, imager.n_shared
        images, outside = imager.draw(towers)
        before = _rings(images)
        hits = count_hits(images)
        n_before, rings = hits.sum(axis=(1, 2)), before
        if self._zero_suppression > 0:
            _keep_where(images, np.abs(images) >= self._limits)
            rings, hits = _rings(images), count_hits(images)
        layer_energy = rings.sum(axis=2)
        if towers.weight is None:
            weight, filled = np.ones(len(images)), hits.sum(axis=(1, 2)).astype(np.float64)
        else:
            weight = towers.weight
            filled = weight @ np.count_nonzero(images, axis=(2, 3))
        return Drawn(
            images=images,
            mu=towers.mu,
            event_id=towers.event_id,
            weight=weight,
            outside=weight @ outside,
            before=weight @ before.sum(axis=2),
            energy=weight @ layer_energy,
            layer_energy=layer_energy,
            filled=filled,
            signature=(before * self._mix).sum(axis=(1, 2)),
            census=TowerCensus.of(towers),
            n_before=n_before,
            hits=hits,
            sum_et=rings.sum(axis=1) @ self._per_energy,
            n_towers=imager.n_towers - n_towers,
            n_shared=imager.n_shared - n_shared,
            group=towers.group,
            known=towers.known,
        )


def _keep_where(images: NDArray[np.float32], keep: Flags) -> None:
    """Empty all other cells, through their bits: several times faster than by a mask."""
    bits = images.view(np.int32)
    bits *= keep


def _rings(images: NDArray[np.float32]) -> Floats:
    """Energy per ring in GeV, shape (N, L, n_eta)."""
    return (images @ np.ones(images.shape[-1], dtype=np.float32)).astype(np.float64)


@dataclass(frozen=True)
class _Result:
    """What a task makes of a span: images up to its end or to the first fault."""

    span: Span
    drawn: list[Drawn]
    error: InputError | None


@dataclass
class _Drawing:
    """What a worker draws with; pickled without its drawer, which it makes itself."""

    reader: Reader
    grid: Grid
    zero_suppression: float

    @cached_property
    def drawer(self) -> _Drawer:
        return _Drawer(self.reader, self.grid, self.zero_suppression)


def _draw(drawing: _Drawing, span: Span) -> _Result:
    drawn: list[Drawn] = []
    try:
        drawn.extend(drawing.drawer.draw(span))
    except InputError as error:
        return _Result(span, drawn, error)
    return _Result(span, drawn, None)
