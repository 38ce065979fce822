"""ROOT trees and RNTuples through uproot: found, checked, and read in steps of bounded size."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import Any, Protocol

import numpy as np

from pileupgen.errors import (
    MissingFieldError,
    UnreadableInputError,
    did_you_mean,
)
from pileupgen.samples.readers.file_kind import reading
from pileupgen.samples.readers.flat import BlockColumn, Column, Flat, flat_of
from pileupgen.samples.readers.ntuple import field_leaves
from pileupgen.samples.readers.remote import InputFile, for_uproot, missing_file, uproot_options

_NTUPLE = "ROOT::RNTuple"


class Leaf(Protocol):
    """What a tree or RNTuple keeps as a column of its own."""

    @property
    def name(self) -> str:
        """Name in the file, without an array suffix."""

    @property
    def n_entries(self) -> int:
        """Number of entries that are there."""

    @property
    def kind(self) -> str:
        """``event`` for one number an event, ``tower`` for lists of numbers, else nothing."""

    def open(self, path: InputFile) -> Column:
        """Open it for reading."""


class RootTree:
    """A tree or an RNTuple of a ROOT file, opened for reading; of several cycles the highest.

    Parameters
    ----------
    name : str
        The tree or RNTuple, with its folder where it is in one.

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

        _unpack_quickly()
        if not path.exists():
            raise missing_file(path)
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
            self._tree, self.is_ntuple = self._find(name)
            self.word = "field" if self.is_ntuple else "branch"
            self.kind = "RNTuple" if self.is_ntuple else "tree"
            with reading(path, f"{self.kind} '{name}'"):
                self.n_entries = int(self._tree.num_entries)
                self._leaves: list[Leaf] = (
                    list(field_leaves(self._tree))
                    if self.is_ntuple
                    else [
                        BranchLeaf(branch)
                        for branch in self._tree.itervalues(recursive=True)
                        if not branch.branches
                    ]
                )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def name(self) -> str:
        """Name of the tree."""
        return str(self._tree.name)

    def __str__(self) -> str:
        return f"{self.path}: {self.kind} '{self.name}'"

    def event_columns(self) -> list[str]:
        """Names of what holds one number an event."""
        return self._of_kind("event")

    def list_columns(self) -> list[str]:
        """Names of what holds several numbers an event."""
        return self._of_kind("tower")

    def _of_kind(self, *kinds: str) -> list[str]:
        found = []
        for leaf in self._leaves:
            with reading(self.path, f"{self.word} '{leaf.name}'"):
                if leaf.kind in kinds:
                    found.append(leaf.name)
        return found

    def has(self, name: str) -> bool:
        """Whether there is a branch or field of this name; ``name[4]`` is found as ``name``."""
        return bool(self._named(name))

    def column(self, name: str) -> Column:
        """Open a branch or field; of several with the same name the first that is filled.

        Parameters
        ----------
        name : str
            As in the file, in any case if that is unambiguous, ``[…]`` at its end left out. In an
            RNTuple ``Tower.Eta`` is found as ``Tower_Eta`` too, since ROOT allows no dots there.

        Raises
        ------
        MissingFieldError
            If there is none; names the near ones.
        """
        found = self._named(name)
        if not found:
            # Towers are asked for: what holds one number an event, or objects, cannot be meant.
            known = self.list_columns() or self.event_columns()
            raise MissingFieldError(
                f"{self} has no {self.word} '{name}'.", did_you_mean(name, known)
            )
        filled = [leaf for leaf in found if leaf.n_entries == self.n_entries]
        if not filled:
            raise UnreadableInputError(
                f"{self.path}: {self.word} '{name}' has {found[0].n_entries} entries, "
                f"its {self.kind} {self.n_entries}.",
                "The file was not closed properly; make it again.",
            )
        with reading(self.path, f"{self.word} '{name}'"):
            return filled[0].open(self.path)

    def cell_encoding(self, name: str) -> str | None:
        """What cell identifiers of a collection are made up of, by podio's metadata, if any."""
        wanted = f"{name.rpartition('.')[0]}__CellIDEncoding"
        with reading(self.path, "podio's metadata"):
            if "metadata" not in self._file:
                return None
            keys, values = (
                self._file["metadata"][f"GPString{part}"].array() for part in ("Keys", "Values")
            )
            for key, texts in zip(keys[0], values[0], strict=True):
                if str(key) == wanted and len(texts):
                    return str(texts[0])
        return None

    def _find(self, name: str) -> tuple[Any, bool]:
        with reading(self.path):
            classes: dict[str, str] = self._file.classnames(recursive=True)
        kinds = {key.split(";")[0]: kind for key, kind in classes.items()}
        if kinds.get(name) not in ("TTree", _NTUPLE):
            trees = [key for key, kind in kinds.items() if kind in ("TTree", _NTUPLE)]
            if name in kinds:
                raise MissingFieldError(
                    f"{self.path}: '{name}' is a {kinds[name]}, not a TTree or an RNTuple.",
                    did_you_mean(name, trees) if trees else "Write it as one of these.",
                )
            raise MissingFieldError(f"{self.path} has no tree '{name}'.", did_you_mean(name, trees))
        with reading(self.path):
            return self._file[name], kinds[name] == _NTUPLE

    def _named(self, name: str) -> list[Leaf]:
        wanted = bare(name)
        spellings = [wanted, wanted.replace(".", "_")] if self.is_ntuple else [wanted]
        for spelling in spellings:
            exact = [leaf for leaf in self._leaves if leaf.name == spelling]
            if exact:
                return exact
        alike = [leaf for leaf in self._leaves if leaf.name.lower() == wanted.lower()]
        return alike if len({leaf.name for leaf in alike}) == 1 else []


class BranchLeaf:
    """A branch of a tree that has no branches of its own."""

    def __init__(self, branch: Any) -> None:
        self._branch = branch
        self.name = bare(branch.name)
        self.n_entries = int(branch.num_entries)

    @property
    def kind(self) -> str:
        """``event`` for one number an event, ``tower`` for lists of numbers, else nothing."""
        kind = type(self._branch.interpretation).__name__
        if kind == "AsDtype" and not self._branch.interpretation.to_dtype.shape:
            return "event"
        return "tower" if kind in ("AsDtype", "AsJagged") else ""

    def open(self, path: InputFile) -> Column:
        """Open it for reading."""
        return RootBranch(path, self._branch)


class RootBranch(BlockColumn):
    """A branch, each basket unpacked once."""

    def __init__(self, path: InputFile, branch: Any) -> None:
        ends = [int(end) for end in branch.entry_offsets]
        super().__init__(path, bare(branch.name), "branch", ends, int(branch.uncompressed_bytes))
        self._branch = branch
        self._kind = str(branch.interpretation)

    def read_at(self, begin: int, end: int) -> Flat:
        """Entries ``begin … end − 1``, whatever was read before."""
        with reading(self.path, f"branch '{self.name}', entries {begin} to {end - 1}"):
            try:
                array = self._branch.array(entry_start=begin, entry_stop=end, library="ak")
            except NotImplementedError as error:
                raise self.not_numbers(self._kind) from error
            return flat_of(array, self)


@cache
def _unpack_quickly() -> None:
    """Let uproot unpack zlib by ISA-L where it is installed, and zstd without a detour.

    Each takes a half to two thirds of the time. ``uproot.ZLIB.library`` is what it packs with, and
    for zstd it has no setting.
    """
    from uproot import compression

    with suppress(ImportError, AttributeError):
        import isal.isal_zlib  # noqa: F401 - whether it can be imported

        compression._decompress_ZLIB.library = "isal"
    with suppress(ImportError, AttributeError):
        from cramjam import zstd

        def unpack(packed: Any, n_bytes: int) -> Any:
            unpacked: Any = np.empty(n_bytes, dtype=np.uint8)
            return unpacked[: zstd.decompress_into(packed, unpacked)]

        compression._decompress_ZSTD.decompress = unpack


def bare(name: str) -> str:
    """Name of a branch without its array suffix: ``Tower.Edges[4]`` is ``Tower.Edges``."""
    return name.split("[", 1)[0]
