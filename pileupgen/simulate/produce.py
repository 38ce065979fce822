"""A sample from its spec: pool, overlay, towers, file."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pileupgen.errors import OutputError, UnreadableInputError
from pileupgen.parallel.chunks import run_chunks
from pileupgen.progress import Advance, silent
from pileupgen.run import versions
from pileupgen.samples.delphes_file import Container, create_delphes_file, read_record
from pileupgen.simulate.calorimeter import TowerGrid
from pileupgen.simulate.interactions import Interactions
from pileupgen.simulate.particle_files import read_particles
from pileupgen.simulate.pool import make_pool, pool_path, read_pool, write_pool
from pileupgen.simulate.spec import SampleSpec
from pileupgen.simulate.writer import BRANCHES, PERIOD, POOL, append_events

CHUNK = 100
"""Events made by one process at a time; the events do not depend on it."""


@dataclass(frozen=True)
class SampleSummary:
    """A sample that was made."""

    path: Path
    """The file."""
    fingerprint: str
    """Fingerprint of the spec, see :meth:`SampleSpec.fingerprint`."""
    n_events: int
    """Events in the file."""
    n_towers: int
    """Towers of all events together."""
    mean_mu: float
    """Mean number of interactions per event."""
    mean_sum_et: float
    """Mean ΣE_T per event in GeV, in the whole acceptance."""
    pools: tuple[tuple[Path, bool], ...]
    """Pools in the cache, and whether each was there already; empty if they were not kept."""

    @property
    def note(self) -> str:
        """Describe it in one line."""
        return (
            f"{self.n_events} events, μ {self.mean_mu:.2f}, "
            f"{self.n_towers / self.n_events:.0f} towers and "
            f"ΣE_T {self.mean_sum_et:.0f} GeV an event"
        )


def default_cache() -> Path:
    """Folder for pools: ``$PILEUPGEN_CACHE``, else pileupgen's folder in the user's cache."""
    own = os.environ.get("PILEUPGEN_CACHE")
    if own:
        return Path(own)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "pileupgen"


def default_workers() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def n_units(spec: SampleSpec) -> int:
    """Total that ``advance`` counts to: interactions of the pools, then events."""
    return sum(pool.pool_size for pool in spec.pools().values()) + spec.n_events


def is_current(spec: SampleSpec, path: Path, container: Container = "ttree") -> bool:
    """Whether a file holds this very sample, in a container."""
    if not path.is_file():
        return False
    found = read_record(path)
    same = found.get("container", "ttree") == container
    return same and found.get("fingerprint") == spec.fingerprint()


def make_sample(
    spec: SampleSpec,
    path: Path,
    advance: Advance = silent,
    *,
    cache: Path | None = None,
    workers: int | None = None,
    container: Container = "ttree",
) -> SampleSummary:
    """Make a sample and write it as a Delphes-like ROOT file.

    The towers depend on the spec alone: not on ``workers``, nor on what the cache holds. An event
    does not depend on how many follow it, unless pools are separate.

    Parameters
    ----------
    path : Path
        The file; a file that is there stays untouched until the new one is whole.
    advance : callable
        Called as ``advance(n, note)`` with the units just done, see :func:`n_units`.
    cache : Path, optional
        Folder that keeps pools; None keeps none. Separate pools, which are large and used a few
        times only, are not kept.
    workers : int, optional
        Processes at a time; None takes all cores.
    container : str
        ``ttree`` or ``rntuple``.

    Raises
    ------
    CardError
        If the response card is malformed.
    DependencyError
        If the generator is not installed.
    GeneratorError
        If the generator fails, or needs tables that cannot be fetched.
    InputError
        If a file of particles cannot be read, or has too few hard scatters.
    OutputError
        If the disk is full or a folder cannot be written.
    """
    if spec.separate_pools is not None:
        # Another sample drawn from the same pool would have interactions in common with this one.
        cache = None
    card = spec.load_response()
    grid = TowerGrid(card.ring_edges(), card.ring_n_phi())
    fingerprint = spec.fingerprint()
    n_workers = workers or default_workers()
    with scratch_folder(path.parent) as scratch:
        pools = {
            kind: provide_pool(one, cache, scratch, n_workers, advance)
            for kind, one in spec.pools().items()
        }
        task = {
            "task": "pileupgen.simulate.overlay:prepare_overlay",
            "spec": spec.model_dump(mode="json"),
            "response": card.model_dump(mode="json"),
            "pools": {kind: str(pool.resolve()) for kind, (pool, _) in pools.items()},
        }
        chunks = [
            {"first": first, "n": min(CHUNK, spec.n_events - first)}
            for first in range(0, spec.n_events, CHUNK)
        ]
        record = {
            "fingerprint": fingerprint,
            "spec": spec.model_dump(mode="json"),
            "response": card.model_dump(mode="json"),
            "versions": versions(*spec.packages),
        }
        if container != "ttree":
            record["container"] = container
        events_folder = scratch / "events"
        events_folder.mkdir()
        n_towers, n_vertices, sum_et = 0, 0, 0.0
        branches = {
            **BRANCHES,
            **(PERIOD if card.periods else {}),
            **({} if spec.separate_pools is None else POOL),
        }
        with create_delphes_file(path, branches, record, container=container) as file:
            for events in run_chunks(task, chunks, n_workers, events_folder):
                append_events(file, grid, events)
                energy = events["em"] + events["had"]
                sum_et += float(np.sum(energy / np.cosh(grid.eta[events["cell"]])))
                n_towers += len(energy)
                n_vertices += int(events["n_vertices"].sum())
                advance(len(events["n_towers"]), "events")
    return SampleSummary(
        path=path,
        fingerprint=fingerprint,
        n_events=spec.n_events,
        n_towers=n_towers,
        mean_mu=n_vertices / spec.n_events - 1,
        mean_sum_et=sum_et / spec.n_events,
        pools=tuple(pools.values()) if cache is not None else (),
    )


def provide_pool(
    spec: SampleSpec, cache: Path | None, scratch: Path, workers: int, report: Advance
) -> tuple[Path, bool]:
    """File of a spec's pool, and whether it was in the cache; made where it is not, or damaged.

    Parameters
    ----------
    spec : SampleSpec
        Whose pool.
    cache : Path, optional
        Folder that keeps pools; None has the pool in ``scratch``.
    scratch : Path
        An existing folder.

    Raises
    ------
    DependencyError
        If the generator is not installed.
    GeneratorError
        If it fails, or needs tables that cannot be fetched.
    InputError
        If a file of particles cannot be read, or has too few hard scatters.
    OutputError
        If the disk is full or a folder cannot be written.
    """
    path = pool_path(spec, cache if cache is not None else scratch)
    with suppress(UnreadableInputError):
        read_pool(path)
        report(spec.pool_size, "pool from the cache")
        return path, True
    folder = scratch / f"pool-{spec.process}"
    folder.mkdir()

    def advance(n: int = 1, _note: str = "", /, **_: float) -> None:
        what = spec.process if spec.is_hard else "minimum bias"
        report(n, f"{what}, {spec.files[0].name if spec.files else spec.generator}")

    pool = _read_pool(spec, advance) if spec.files else make_pool(spec, folder, workers, advance)
    _make_folder(path.parent)
    write_pool(path, pool)
    return path, False


def _read_pool(spec: SampleSpec, advance: Advance) -> Interactions:
    """Read a pool from files of particles: as many as there are, for hard scatters one an event."""
    pool = read_particles(spec.files, spec.pool_size, advance)
    if spec.hard_scatter and len(pool) < spec.pool_size:
        raise UnreadableInputError(
            f"{', '.join(spec.hard_scatter)}: {len(pool)} hard scatters for {spec.n_events} "
            "events.",
            f"Ask for {len(pool)} events (n_events, --n-events), or name more files.",
        )
    advance(spec.pool_size - len(pool))
    return pool


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"Cannot make the folder {folder}: {error.strerror or error}.", "Check permission."
        ) from error


@contextmanager
def scratch_folder(beside: Path) -> Iterator[Path]:
    """Make a temporary folder, which is removed afterwards."""
    _make_folder(beside)
    try:
        folder = Path(tempfile.mkdtemp(dir=beside, prefix=".simulate.", suffix=".part"))
    except OSError as error:
        raise OutputError(
            f"Cannot write in {beside}: {error.strerror or error}.", "Check space and permission."
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
