"""The kinds of samples that can be made: pileup in a calorimeter, and jets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pileupgen.jets import produce as produce_jets
from pileupgen.jets.spec import JetSpec
from pileupgen.progress import Advance
from pileupgen.simulate import produce
from pileupgen.simulate.generators import JET_PROCESSES
from pileupgen.simulate.spec import SampleSpec

Spec = SampleSpec | JetSpec


def parse_spec(values: Mapping[str, Any], where: str, folder: Path | None = None) -> Spec:
    """Check a mapping, such as a card's ``generate:``; its ``process`` tells the kind.

    Parameters
    ----------
    values, where, folder
        As for :meth:`SampleSpec.parse`.

    Raises
    ------
    CardError
        Naming every fault and, for an unknown key, the nearest known one.
    """
    process = str(values.get("process", "")).strip().lower()
    kind = JetSpec if process in JET_PROCESSES else SampleSpec
    return kind.parse(values, where, folder)


def suffix(spec: Spec) -> str:
    """Ending of the file that a sample is kept in."""
    return ".h5" if isinstance(spec, JetSpec) else ".root"


def n_units(spec: Spec) -> int:
    """How far ``advance`` will count."""
    return spec.n_events if isinstance(spec, JetSpec) else produce.n_units(spec)


def is_current(spec: Spec, path: Path) -> bool:
    """Whether a file holds this very sample."""
    if isinstance(spec, JetSpec):
        return produce_jets.are_current(spec, path)
    return produce.is_current(spec, path)


def make(
    spec: Spec,
    path: Path,
    advance: Advance | None = None,
    *,
    cache: Path | None = None,
    workers: int | None = None,
) -> produce.SampleSummary | produce_jets.JetSummary:
    """Make a sample; see :func:`produce.make_sample` and :func:`produce_jets.make_jets`."""
    if isinstance(spec, JetSpec):
        return produce_jets.make_jets(spec, path, advance, workers=workers)
    return produce.make_sample(spec, path, advance, cache=cache, workers=workers)
