"""ROOT trees through uproot: found, checked, and read as flat arrays of bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pileupgen.errors import (
    MissingFieldError,
    MissingInputError,
    PileupgenError,
    UnreadableInputError,
    did_you_mean,
)
from pileupgen.samples.readers.file_kind import unreadable
from pileupgen.samples.readers.remote import InputFile, for_uproot, uproot_options

_READ_BYTES = 1 << 20


@contextmanager
def reading(path: InputFile, what: str = "", wanted: str = "ROOT") -> Iterator[None]:
    """Turn whatever a damaged file makes a library raise into an UnreadableInputError."""
    try:
        yield
    except (PileupgenError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise MissingInputError(f"No input file {path}.") from error
    except Exception as error:
        # Decoders of a damaged file raise almost anything.
        said = str(error).strip().split("\n", 1)[0] or type(error).__name__
        raise unreadable(path, wanted, said, what) from error


class RootTree:
    """A tree of a ROOT file, opened for reading; of several cycles the highest.

    Parameters
    ----------
    path : Path
        A ROOT file.
    name : str
        The tree, with its folder where it is in one.

    Raises
    ------
    MissingInputError
        If there is no such file.
    UnreadableInputError
        If it is not ROOT, or is truncated.
    MissingFieldError
        If it has no such tree; names the near ones.
    """

    def __init__(self, path: InputFile, name: str) -> None:
        import uproot

        if not path.exists():
            raise MissingInputError(f"No input file {path}.", "Check the card's files.")
        self.path = path
        with reading(path):
            # As a mapping: a colon in the path is a colon, not the beginning of a tree's name.
            self._file = uproot.open(
                {for_uproot(path): None},
                array_cache=None,
                object_cache=None,
                **uproot_options(path),
            )
        try:
            self._tree = self._find(name)
            with reading(path, f"tree '{name}'"):
                self._leaves = [
                    branch
                    for branch in self._tree.itervalues(recursive=True)
                    if not branch.branches
                ]
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def n_entries(self) -> int:
        """Number of entries."""
        return int(self._tree.num_entries)

    @property
    def name(self) -> str:
        """Name of the tree."""
        return str(self._tree.name)

    def event_branches(self) -> list[str]:
        """Names of the branches that hold one number an event."""
        return [name for name, kind in self._kinds().items() if kind == "event"]

    def list_branches(self) -> list[str]:
        """Names of the branches that hold several numbers an event."""
        return [name for name, kind in self._kinds().items() if kind == "tower"]

    def _kinds(self) -> dict[str, str]:
        """Content of branches by their type: a number an event, or several."""
        kinds = {}
        for branch in self._leaves:
            with reading(self.path, f"branch '{branch.name}'"):
                kind = type(branch.interpretation).__name__
                is_one = kind == "AsDtype" and not branch.interpretation.to_dtype.shape
            if kind in ("AsDtype", "AsJagged"):
                kinds[_bare(branch.name)] = "event" if is_one else "tower"
        return kinds

    def has(self, name: str) -> bool:
        """Whether there is a branch of this name; ``name[4]`` is found as ``name``."""
        return bool(self._named(name))

    def branch(self, name: str) -> RootBranch:
        """Open a branch; of several with the same name the first that is filled.

        Parameters
        ----------
        name : str
            As in the file, in any case if that is unambiguous, ``[…]`` at its end left out.

        Raises
        ------
        MissingFieldError
            If there is none; names the near ones.
        """
        found = self._named(name)
        if not found:
            # Towers are asked for: what holds one number an event, or objects, cannot be meant.
            known = self.list_branches()
            raise MissingFieldError(
                f"{self.path}: tree '{self._tree.name}' has no branch '{name}'.",
                did_you_mean(name, known or self._kinds()),
            )
        filled = [branch for branch in found if branch.num_entries == self.n_entries]
        if not filled:
            raise UnreadableInputError(
                f"{self.path}: branch '{name}' has {found[0].num_entries} entries, "
                f"its tree {self.n_entries}.",
                "The file was not closed properly; make it anew.",
            )
        return RootBranch(self, filled[0])

    def _find(self, name: str) -> Any:
        with reading(self.path):
            classes: dict[str, str] = self._file.classnames(recursive=True)
        trees = sorted({key.split(";")[0] for key, kind in classes.items() if kind == "TTree"})
        if name not in trees:
            others = {key.split(";")[0]: kind for key, kind in classes.items()}
            if name in others:
                raise MissingFieldError(
                    f"{self.path}: '{name}' is a {others[name]}, not a TTree.",
                    did_you_mean(name, trees) if trees else "Write it as a TTree.",
                )
            raise MissingFieldError(f"{self.path} has no tree '{name}'.", did_you_mean(name, trees))
        with reading(self.path):
            return self._file[name]

    def _named(self, name: str) -> list[Any]:
        wanted = _bare(name)
        exact = [branch for branch in self._leaves if _bare(branch.name) == wanted]
        if exact:
            return exact
        alike = [branch for branch in self._leaves if _bare(branch.name).lower() == wanted.lower()]
        return alike if len({branch.name for branch in alike}) == 1 else []


@dataclass(frozen=True)
class Flat:
    """Entries of a branch without nesting."""

    values: NDArray[Any]
    """Numbers of all entries, one after another. Shape (n,) or (n, k)."""
    counts: NDArray[np.int64] | None
    """Numbers per entry; None where each entry is one. Shape (n_entries,)."""


class RootBranch:
    """A branch, read from its first entry to its last in steps, each basket unpacked once.

    Parameters
    ----------
    tree : RootTree
        The tree it belongs to.
    branch : uproot.TBranch
        The branch.

    Attributes
    ----------
    name : str
        Without an array suffix.
    uncompressed_bytes : int
        Size of all its numbers.
    """

    def __init__(self, tree: RootTree, branch: Any) -> None:
        self.name = _bare(branch.name)
        self._path = tree.path
        self._branch = branch
        with reading(self._path, f"branch '{self.name}'"):
            self._kind = str(branch.interpretation)
            self._ends = [int(end) for end in branch.entry_offsets]
            self.uncompressed_bytes = int(branch.uncompressed_bytes)
        self._basket = 0
        self._begin = self._end = 0
        self._held: list[Flat] = []

    def read(self, begin: int, end: int) -> Flat:
        """Entries ``begin … end − 1``; successive calls go forward.

        Raises
        ------
        UnreadableInputError
            If a basket cannot be unpacked, or it does not hold numbers.
        """
        if begin > self._end:
            self._skip_to(begin)
        while self._end < end:
            self._fetch()
        flat = _join(self._held)
        wanted = _slice(flat, begin - self._begin, end - self._begin)
        self._held = [_slice(flat, end - self._begin, self._end - self._begin)]
        self._begin = end
        return wanted

    def read_at(self, begin: int, end: int) -> Flat:
        """Entries ``begin … end − 1``, whatever was read before."""
        return self._unpack(begin, end)

    def _skip_to(self, begin: int) -> None:
        """Leave out baskets that end before an entry."""
        self._basket = int(np.searchsorted(self._ends, begin, side="right")) - 1
        self._begin = self._end = self._ends[self._basket]
        self._held = []

    def _fetch(self) -> None:
        """Read whole baskets, so that none is unpacked twice."""
        begin = end = self._ends[self._basket]
        per_entry = self.uncompressed_bytes / max(self._ends[-1], 1)
        while self._basket < len(self._ends) - 1 and (end - begin) * per_entry < _READ_BYTES:
            self._basket += 1
            end = self._ends[self._basket]
        if end <= self._end:
            raise UnreadableInputError(
                f"{self._path}: branch '{self.name}' ends at entry {self._end}.",
                "The file was not closed properly; make it anew.",
            )
        self._held.append(self._unpack(begin, end))
        self._end = end

    def _unpack(self, begin: int, end: int) -> Flat:
        import awkward as ak

        what = f"branch '{self.name}', entries {begin} to {end - 1}"
        with reading(self._path, what):
            try:
                array = self._branch.array(entry_start=begin, entry_stop=end, library="ak")
            except NotImplementedError as error:
                raise self._not_numbers(self._kind) from error
            kind, counts = str(array.type.content), None
            if array.ndim > 1:
                counts = ak.to_numpy(ak.num(array)).astype(np.int64, copy=False)
                array = ak.flatten(array, axis=1)
        try:
            values = ak.to_numpy(array, allow_missing=False)
        except (ValueError, TypeError) as error:
            raise self._not_numbers(kind) from error
        if values.dtype.kind not in "fiub":
            raise self._not_numbers(kind)
        return Flat(values, counts)

    def _not_numbers(self, kind: str) -> UnreadableInputError:
        return UnreadableInputError(
            f"{self._path}: branch '{self.name}' holds {kind}, which is neither one number nor a "
            "list of numbers an event.",
            "Name a branch with plain numbers; lists of lists and objects have to be flattened.",
        )


def _bare(name: str) -> str:
    """Name of a branch without its array suffix: ``Tower.Edges[4]`` is ``Tower.Edges``."""
    return name.split("[", 1)[0]


def _slice(flat: Flat, begin: int, end: int) -> Flat:
    if flat.counts is None:
        return Flat(flat.values[begin:end], None)
    first = int(flat.counts[:begin].sum())
    counts = flat.counts[begin:end]
    return Flat(flat.values[first : first + int(counts.sum())], counts)


def _join(parts: list[Flat]) -> Flat:
    if len(parts) == 1:
        return parts[0]
    counts = [part.counts for part in parts if part.counts is not None]
    return Flat(
        np.concatenate([part.values for part in parts]),
        np.concatenate(counts) if counts else None,
    )
