"""A sample of jets from its spec: collisions in chunks, jets, file."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pileupgen.errors import GeneratorError
from pileupgen.jets.jetnet_file import (
    JETS,
    PARTICLES,
    create_jetnet_file,
    read_jetnet_record,
)
from pileupgen.jets.spec import JetSpec
from pileupgen.measure.pileup_jets import import_fastjet
from pileupgen.parallel.chunks import run_chunks
from pileupgen.progress import Advance, silent
from pileupgen.simulate.generators import require
from pileupgen.simulate.produce import default_workers, scratch_folder

CHUNK = 50
"""Collisions made from one seed; a part of what a sample depends on."""
MIN_YIELD = 0.05
"""Jets a collision has at least on average, or the spec is given up."""
JET_STREAM = 7


@dataclass(frozen=True)
class JetSummary:
    """A sample of jets that was made."""

    path: Path
    """The file."""
    fingerprint: str
    """Fingerprint of the spec."""
    n_jets: int
    n_collisions: int
    """Jets in the file, and collisions looked at."""
    median_mass: float
    median_pt: float
    """Medians over the jets, GeV."""

    @property
    def note(self) -> str:
        """Describe it in one line."""
        return (
            f"{self.n_jets} jets of {self.n_collisions} collisions, median mass "
            f"{self.median_mass:.1f} GeV, median p_T {self.median_pt:.0f} GeV"
        )


def are_current(spec: JetSpec, path: Path) -> bool:
    """Whether a file holds these very jets."""
    return path.is_file() and read_jetnet_record(path).get("fingerprint") == spec.fingerprint()


def make_jets(
    spec: JetSpec, path: Path, advance: Advance = silent, *, workers: int | None = None
) -> JetSummary:
    """Make jets and write them as HDF5 in JetNet's layout.

    The jets depend on the spec alone, not on ``workers``, and a jet not on how many follow it.

    Parameters
    ----------
    path : Path
        The file; a file that is there stays untouched until the new one is whole.
    advance : callable
        Called as ``advance(n, note)`` with the jets just made.
    workers : int, optional
        Processes at a time; None takes all cores.

    Raises
    ------
    DependencyError
        If Pythia 8 or FastJet is not installed.
    GeneratorError
        If Pythia fails, or too few jets pass the selection.
    OutputError
        If the disk is full or a folder cannot be written.
    """
    require(spec.generator)
    import_fastjet()
    fingerprint = spec.fingerprint()
    values = spec.model_dump(mode="json")
    record = {"fingerprint": fingerprint, "spec": values, "versions": spec.versions()}
    found: list[NDArray[np.float32]] = []
    n_collisions = 0
    with (
        scratch_folder(path.parent) as scratch,
        closing(_chunks(spec, workers or default_workers(), scratch)) as parts,
        create_jetnet_file(path, spec.n_constituents, record) as writer,
    ):
        for part in parts:
            n_collisions += CHUNK
            n = min(len(part[JETS]), spec.n_events - writer.n_jets)
            writer.append(part[PARTICLES][:n], part[JETS][:n])
            found.append(part[JETS][:n])
            advance(n, f"{spec.process} jets")
            if writer.n_jets == spec.n_events:
                break
        if writer.n_jets < spec.n_events:
            raise GeneratorError(
                f"{n_collisions} collisions gave {writer.n_jets} of {spec.n_events} jets.",
                "Widen jet_pt, or take a larger radius.",
            )
    pt, _, mass, _ = np.median(np.concatenate(found), axis=0)
    return JetSummary(path, fingerprint, spec.n_events, n_collisions, float(mass), float(pt))


def _chunks(
    spec: JetSpec, workers: int, scratch: Path
) -> Generator[dict[str, NDArray[np.float32]], None, None]:
    """Jets of chunk after chunk, as long as they are asked for."""
    n_chunks = int(np.ceil(spec.n_events / (MIN_YIELD * CHUNK)))
    chunks = [{"n": CHUNK, "seed": _seed(spec.seed, number)} for number in range(n_chunks)]
    task = {"task": "pileupgen.jets.generate:prepare_jets", "spec": spec.model_dump(mode="json")}
    yield from run_chunks(task, chunks, workers, scratch)


def _seed(seed: int, chunk: int) -> int:
    state = np.random.SeedSequence([seed, JET_STREAM, chunk]).generate_state(1)
    return int(state[0])
