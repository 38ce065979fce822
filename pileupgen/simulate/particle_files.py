"""Particles of other generators: HepMC files, and the pileup files of Delphes."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Floats
from pileupgen.errors import MissingInputError, UnreadableInputError, import_extra
from pileupgen.files import written_whole
from pileupgen.progress import Advance, silent
from pileupgen.simulate.interactions import Interactions

PILEUP_SUFFIX = ".pileup"
"""End of the names of Delphes' files, which have no signature."""

_RECORD = 9
"""Words of a particle in Delphes' files: pid, x, y, z, t, px, py, pz, E; four bytes each."""
_EVENT = re.compile(rb"(?m)^E ")
_PROTON_MASS = 0.93827
_FINAL = 1
_BEAM = 4
_MEV = 1e-3


def read_particles(
    paths: Sequence[Path], n_max: int | None = None, advance: Advance = silent
) -> Interactions:
    """Read the final particles of interactions, files one after the other.

    Each interaction is taken to be at the origin, whatever vertices the file has.

    Parameters
    ----------
    paths : sequence of Path
        HepMC 3 or 2 files as text, gzip-compressed or not, or Delphes' ``.pileup`` files.

    Raises
    ------
    MissingInputError
        If a file is missing.
    UnreadableInputError
        If a file is of another kind, is truncated, or holds no interactions.
    DependencyError
        If pyhepmc or particle is not installed.
    """
    parts: list[dict[str, NDArray[np.generic]]] = []
    n = 0
    for path in paths:
        if not path.is_file():
            raise MissingInputError(f"No file of particles {path}.", "Correct its name.")
        is_pileup = path.name.endswith(PILEUP_SUFFIX)
        for events in (_pileup_events if is_pileup else _hepmc_events)(path):
            left = len(events) if n_max is None else min(len(events), n_max - n)
            parts.append(_interactions(events[:left], path).arrays())
            n += left
            advance(left)
            if n == n_max:
                return Interactions.join(parts)
    if not parts:
        names = ", ".join(str(path) for path in paths)
        raise UnreadableInputError(f"{names} holds no interactions.", "Make it again.")
    return Interactions.join(parts)


def write_hepmc(path: Path, pool: Interactions, sqrt_s: float, advance: Advance = silent) -> None:
    """Write interactions as HepMC 3: two protons, and the final particles that they make.

    Particles that no calorimeter reaches are not in a pool: energy and momentum do not add up.

    Parameters
    ----------
    path : Path
        The file, compressed if its name ends in ``.gz``; takes its name when it is whole.

    Raises
    ------
    DependencyError
        If pyhepmc is not installed.
    OutputError
        If the file cannot be written.
    """
    hepmc = import_extra("pyhepmc", "hepmc", "HepMC")
    beam = np.array([0.5, -0.5]) * sqrt_s
    with (
        written_whole(path) as aside,
        _output(aside, path) as stream,
        hepmc.open(stream, "w") as file,
    ):
        for number in range(len(pool)):
            file.write(_event(hepmc, number, pool, beam))
            advance(1)


def _event(hepmc: Any, number: int, pool: Interactions, beam: Floats) -> Any:
    rows = slice(int(pool.offsets[number]), int(pool.offsets[number + 1]))
    momentum = [p[rows].astype(np.float64) for p in (pool.px, pool.py, pool.pz)]
    energy, n = pool.energy[rows].astype(np.float64), rows.stop - rows.start
    squares = np.square(energy) - sum(np.square(p) for p in momentum)
    parents = np.tile(np.array([0, 1], dtype=np.int32), (n + 2, 1))
    parents[:2] = -1
    event = hepmc.GenEvent(hepmc.Units.GEV, hepmc.Units.MM)
    event.from_hepevt(
        number,
        *(np.append(np.zeros(2), p) for p in momentum[:2]),
        np.append(beam, momentum[2]),
        np.append(np.hypot(beam, _PROTON_MASS), energy),
        np.append(np.full(2, _PROTON_MASS), np.sqrt(np.maximum(squares, 0.0))),
        np.append([2212, 2212], pool.pid[rows]).astype(np.int32),
        np.append([_BEAM, _BEAM], np.full(n, _FINAL)).astype(np.int32),
        parents=parents,
        fortran=False,
    )
    return event


@contextmanager
def _output(aside: Path, path: Path) -> Iterator[IO[bytes]]:
    with aside.open("wb") as plain:
        if not path.name.endswith(".gz"):
            yield plain
            return
        # Without a date and a name: the same pool gives the same bytes.
        with gzip.GzipFile(filename="", mode="wb", fileobj=plain, mtime=0) as packed:
            yield cast(IO[bytes], packed)


def _interactions(events: Sequence[Floats], path: Path) -> Interactions:
    """Join events of particles, columns pid, px, py, pz, E, and give them their charges."""
    table = np.concatenate([np.empty((0, 5)), *events])
    if not np.all(np.isfinite(table)):
        raise UnreadableInputError(
            f"{path}: a particle has a momentum that is no number.", "The file is damaged."
        )
    pid = table[:, 0].astype(np.int32)
    columns = dict(zip(("px", "py", "pz", "energy"), table[:, 1:].T, strict=True))
    counts = np.array([len(event) for event in events], dtype=np.int64)
    return Interactions.select(counts, pid=pid, charge=_charges(pid), **columns)


def _charges(pid: NDArray[np.int32]) -> NDArray[np.int8]:
    """Charge by PDG code, in units of e; 0 for codes without meaning."""
    functions = import_extra("particle.pdgid", "hepmc", "Reading particles").functions
    codes, where = np.unique(pid, return_inverse=True)
    thirds = [functions.three_charge(int(code)) or 0 for code in codes]
    return np.array(np.round(np.array(thirds) / 3), dtype=np.int8)[where]


# -- HepMC ---------------------------------------------------------------------------------------


def _hepmc_events(path: Path) -> Iterator[list[Floats]]:
    """Yield events one by one, as tables with a row a final particle."""
    hepmc = import_extra("pyhepmc", "hepmc", f"{path}, a file of particles,")
    try:
        with _Watched(path) as stream:
            stream.require_hepmc()
            n = 0
            with hepmc.open(stream) as file:
                for event in file:
                    n += 1
                    yield [_final(event, hepmc)]
            # pyhepmc ends without an error where an event cannot be read or the file is cut.
            if n != stream.count_events() or not stream.is_whole:
                raise UnreadableInputError(
                    f"{path}: event {n} cannot be read, or the file ends before it should.",
                    "It is truncated or damaged: compare its size with the original.",
                )
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UnreadableInputError(
            f"{path} cannot be read as HepMC: {str(error).rstrip('.')}.",
            "It may be truncated or damaged: compare its size with the original.",
        ) from error


def _final(event: Any, hepmc: Any) -> Floats:
    particles = event.numpy.particles
    columns = (particles.pid, particles.px, particles.py, particles.pz, particles.e)
    table = np.column_stack(columns)[particles.status == _FINAL].astype(np.float64)
    if event.momentum_unit == hepmc.Units.MEV:
        table[:, 1:] *= _MEV
    return table


class _Watched:
    """A HepMC file, unpacked, that counts the events in what has been read of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        plain = path.open("rb")
        is_packed = plain.read(2) == b"\x1f\x8b"
        plain.seek(0)
        self._plain = plain
        self._file = cast(IO[bytes], gzip.GzipFile(fileobj=plain)) if is_packed else plain
        self._n, self._tail = 0, b"\n"

    def __enter__(self) -> _Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._plain.close()

    def require_hepmc(self) -> None:
        """Refuse what does not begin as HepMC does."""
        head = self._file.read(256)
        self._file.seek(0)
        if b"HepMC::" not in head:
            raise UnreadableInputError(
                f"{self._path} is not HepMC: it begins with {head[:16]!r}.",
                "Files of particles are HepMC as text (compressed by gzip or not), or Delphes' "
                f"own, whose names end in {PILEUP_SUFFIX}.",
            )

    def read(self, size: int = -1) -> bytes:
        """Read on."""
        content = self._file.read(size)
        # A line may begin in one piece and end in the next.
        seen = self._tail[-2:] + content
        self._n += len(_EVENT.findall(seen)) - len(_EVENT.findall(self._tail[-2:]))
        self._tail = (self._tail + content)[-64:]
        return content

    def readinto1(self, buffer: memoryview) -> int:
        """Read on into a buffer; what pyhepmc's stream calls."""
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def write(self, content: bytes) -> int:
        """Refuse to write; pyhepmc takes files that have this."""
        raise io.UnsupportedOperation(f"{len(content)} bytes to a file that is read")

    def seek(self, place: int) -> int:
        """Go back to the beginning."""
        self._n, self._tail = 0, b"\n"
        return self._file.seek(place)

    def seekable(self) -> bool:
        """Say that it can go back."""
        return True

    def count_events(self) -> int:
        """Read to the end and count the events of the whole file."""
        while self.read(1 << 20):
            pass
        return self._n

    @property
    def is_whole(self) -> bool:
        """Whether the file ends as HepMC files do."""
        return b"END_EVENT_LISTING" in self._tail


# -- Delphes -------------------------------------------------------------------------------------


def _pileup_events(path: Path) -> Iterator[list[Floats]]:
    """Yield the events of Delphes' pileup files (``DelphesPileUpWriter``), in batches.

    Big-endian words: of each event a count and its particles; then where each event begins, and
    the number of events, eight bytes each.
    """
    try:
        raw = np.memmap(path, dtype=np.uint8, mode="r")
    except (OSError, ValueError) as error:
        raise UnreadableInputError(f"{path} cannot be read: {error}.", "It is empty.") from error
    size = len(raw)
    n = int(raw[-8:].view(">i8")[0]) if size >= 8 else -1
    end = size - 8 * (n + 1)
    if n < 0 or end < 0 or end % 4:
        raise _no_pileup(path)
    words = raw[:end].view(">i4")
    begins = raw[end : size - 8].view(">i8").astype(np.int64)
    if np.any(begins % 4) or np.any(begins < 0) or np.any(begins > end - 4):
        raise _no_pileup(path)
    events = []
    for begin in begins // 4:
        count = int(words[begin])
        rows = words[begin + 1 : begin + 1 + _RECORD * count]
        if count < 0 or len(rows) != _RECORD * count:
            raise _no_pileup(path)
        whole = rows.reshape(count, _RECORD)
        momentum = np.ascontiguousarray(whole[:, 5:]).view(">f4").astype(np.float64)
        events.append(np.column_stack([whole[:, 0].astype(np.float64), momentum]))
        if len(events) == 256:
            yield events
            events = []
    if events:
        yield events


def _no_pileup(path: Path) -> UnreadableInputError:
    return UnreadableInputError(
        f"{path} is not a pileup file of Delphes, or is truncated.",
        "Such files are made by Delphes' hepmc2pileup, root2pileup or stdhep2pileup; compare its "
        "size with the original.",
    )
