"""Columns as numbers per tower and per event."""

from __future__ import annotations

import difflib
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.arrays import Floats, Ints
from pileupgen.errors import MissingFieldError, UnreadableInputError
from pileupgen.samples.readers.base import MuSource
from pileupgen.samples.readers.files import EntryPlace, EventNumbers
from pileupgen.samples.readers.flat import Column, Flat
from pileupgen.samples.readers.remote import InputFile
from pileupgen.samples.readers.source import Source, has_events, open_events

_MAY_BE_MU = re.compile(
    r"(?i)vert(ex|ices)|n_?pu|pile_?up|interact|intper|true_?(int|pu)"
    r"|(^|[^a-z])(mu|npv|nvtx)($|[^a-z])"
)
_WEIGHTS_OF_EVENT = re.compile(r"(?i)(event|mc|gen|lhe)_?(weight|wgt)s?$|(^|\.)weights?$")
_ONE_OF_SEVERAL = re.compile(r"(?P<name>.+)\[(?P<index>\d+)\]")
_SAME_BUT_FOR_A_SLIP = 0.79
"""Likeness of names above which one is the other mistyped: 'Jet_size' is no 'Vertex_size'."""


def one_per_tower(flat: Flat, branch: Column, where: EntryPlace, counts: Ints | None) -> Flat:
    """Check that a branch holds one number a tower.

    Parameters
    ----------
    counts : int64 array, shape (n,), or None
        Towers per event that its siblings have.

    Raises
    ------
    UnreadableInputError
        If it does not, or has another number of towers.
    """
    if flat.counts is None or flat.inner is not None or flat.values.ndim != 1:
        raise UnreadableInputError(
            f"{where.path}: {branch.word} '{branch.name}' is not one number a tower.",
            "Name the branch with the towers' energies in the card's options.",
        )
    if counts is not None and not np.array_equal(flat.counts, counts):
        raise UnreadableInputError(
            f"{where.path}: {branch.word} '{branch.name}' has another number of towers than its "
            "siblings.",
            "The card mixes branches of two collections: name branches of one.",
        )
    return flat


def counts_of(flat: Flat) -> Ints:
    """Numbers per event, shape (n,)."""
    return np.ones(len(flat.values), dtype=np.int64) if flat.counts is None else flat.counts


def native(values: NDArray[Any]) -> NDArray[np.float32] | Floats:
    """Floats of this machine: float32 stays, all else becomes float64."""
    if values.dtype.kind == "f" and values.dtype.itemsize == 4:
        single: NDArray[np.float32] = np.ascontiguousarray(values, dtype=np.float32)
        return single
    double: Floats = np.ascontiguousarray(values, dtype=np.float64)
    return double


def read_mu(
    source: MuSource, branch: Column | None, begin: int, end: int, where: EntryPlace
) -> NDArray[np.float32]:
    """Number of pileup interactions per event, shape (end − begin,).

    Raises
    ------
    UnreadableInputError
        If the branch is not one number an event.
    """
    if branch is None:
        return np.full(end - begin, source.offset, dtype=np.float32)
    values = one_per_event(
        branch,
        begin,
        end,
        where.path,
        "It cannot be μ: name another in the card's mu, or a number.",
    )
    return (values + source.offset).astype(np.float32)


def one_per_event(branch: Column, begin: int, end: int, path: InputFile, hint: str) -> NDArray[Any]:
    """Read one number an event, shape (end − begin,).

    Raises
    ------
    UnreadableInputError
        If the branch is not one number an event.
    """
    flat = branch.read(begin, end)
    is_one = flat.counts is None or not np.any(flat.counts != 1)
    if flat.values.size != end - begin or len(flat.values) != end - begin or not is_one:
        raise UnreadableInputError(
            f"{path}: {branch.word} '{branch.name}' is not one number an event.", hint
        )
    return flat.values.reshape(-1)


def event_names(tree: Source) -> list[str]:
    """Name branches with one number an event, and lists of event weights as ``name[0]``."""
    lists = (name for name in tree.list_columns() if _WEIGHTS_OF_EVENT.search(name))
    return [*tree.event_columns(), *(f"{name}[0]" for name in lists)]


def event_numbers(tree: Source, name: str) -> EventNumbers | None:
    """Open a branch with one number an event; None where the tree has none of this name.

    ``name[i]`` is the number i of a branch that holds several an event.
    """
    match = _ONE_OF_SEVERAL.fullmatch(name)
    name, index = (match["name"], int(match["index"])) if match else (name, None)
    if not has_events(tree, name):
        return None
    branch = open_events(tree, name)

    def read(begin: int, end: int) -> NDArray[Any]:
        hint = (
            "Event weights are one number an event: name another branch in the card's weight, or "
            f"one of its numbers, as {branch.name}[0]."
        )
        if index is None:
            return one_per_event(branch, begin, end, tree.path, hint)
        flat = branch.read(begin, end)
        values, counts = flat.values.ravel(), counts_of(flat)
        if flat.values.ndim == 2:
            counts = counts * flat.values.shape[1]
        if len(counts) != end - begin or np.any(counts <= index):
            raise UnreadableInputError(
                f"{tree.path}: {branch.word} '{branch.name}' has no number {index} in every event.",
                hint,
            )
        return values[np.cumsum(counts) - counts + index]

    return read


def open_mu(tree: Source, source: MuSource) -> Column | None:
    """Open the branch that μ is in; None where it is a constant.

    Raises
    ------
    MissingFieldError
        If there is none; names those branches that hold one number an event and are called like a
        number of interactions, since any other count would be taken for μ without a word.
    """
    if source.branch is None:
        return None
    if not has_events(tree, source.branch):
        single = tree.event_columns()
        near = difflib.get_close_matches(source.branch, single, n=2, cutoff=_SAME_BUT_FOR_A_SLIP)
        near += [name for name in single if _MAY_BE_MU.search(name) and name not in near]
        meant = f"Did you mean {' or '.join(repr(name) for name in near[:3])}? " if near else ""
        raise MissingFieldError(
            f"{tree} has no {tree.word} '{source.branch}', from which μ is taken.",
            f"{meant}Name the branch with the number of pileup interactions under mu in the card; "
            "or write mu: unknown, or a number that holds for all events (0 without pileup).",
        )
    return open_events(tree, source.branch)
