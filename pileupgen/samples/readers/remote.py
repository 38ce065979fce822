"""Files on a server, by their URL: XRootD (`root://…`), or whatever fsspec knows."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, NamedTuple

from pileupgen.errors import (
    DependencyError,
    InputError,
    MissingInputError,
    PileupgenError,
    UnreadableInputError,
)
from pileupgen.run import hash_file, hash_stream

_URL = re.compile(r"[a-z][a-z0-9+.-]+://.+")
_XROOTD = ("root", "roots", "xroot", "xroots")
_NOT_FOUND = ("[3011]", "no such file")
"""Answers of an XRootD server for a file that it does not have."""
_LIMITS = {
    "XRD_CONNECTIONWINDOW": "15",
    "XRD_CONNECTIONRETRY": "2",
    "XRD_REQUESTTIMEOUT": "60",
    "XRD_STREAMTIMEOUT": "60",
}
"""Seconds and tries of XRootD's client unless the environment says otherwise; its own defaults
wait for minutes."""


class Stat(NamedTuple):
    """Size and time of a file on a server.

    Attributes
    ----------
    st_size : int
        Bytes.
    st_mtime_ns : int
        Time of the last change; 0 where the server does not tell.
    """

    st_size: int
    st_mtime_ns: int


@dataclass(frozen=True)
class RemoteFile:
    """A file on a server, with what readers need of a :class:`pathlib.Path`.

    Parameters
    ----------
    url : str
        Protocol, host and path.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.url.split("?", 1)[0].rstrip("/").rsplit("/", 1)[-1]

    def exists(self) -> bool:
        """Whether the server has it.

        Raises
        ------
        UnreadableInputError
            If the server cannot be reached or does not answer.
        DependencyError
            If the protocol needs a package that is not installed.
        """
        try:
            self.stat()
        except MissingInputError:
            return False
        return True

    def stat(self) -> Stat:
        """Size and time, asked for once.

        Raises
        ------
        InputError
            If there is no such file, or the server cannot be reached.
        """
        if isinstance(self._found, PileupgenError):
            raise self._found
        return self._found

    def open(self) -> IO[bytes]:
        """Open it for reading, with seeks.

        Raises
        ------
        InputError
            As :meth:`stat`.
        """
        self.stat()
        with _asking(self.url):
            system, path = _file_system(self.url)
            opened: IO[bytes] = system.open(path, "rb")
            return opened

    @cached_property
    def _found(self) -> Stat | PileupgenError:
        try:
            with _asking(self.url):
                system, path = _file_system(self.url)
                found = system.info(path)
                return Stat(int(found["size"] or 0), _time_ns(found))
        except PileupgenError as error:
            return error


InputFile = Path | RemoteFile
"""A file of a sample: here, or on a server."""


def size_of(path: InputFile) -> int:
    """Bytes of a file; 0 where it is not there or its server cannot be reached."""
    try:
        return path.stat().st_size
    except (OSError, InputError):
        return 0


def hash_input(path: InputFile) -> str:
    """SHA-256 of a file's bytes, in hex."""
    if isinstance(path, Path):
        return hash_file(path)
    with path.open() as file, _asking(path.url):
        return hash_stream(file)


def is_url(pattern: str) -> bool:
    """Whether a card's file is on a server.

    >>> is_url("root://eospublic.cern.ch//eos/a.root"), is_url("C://a"), is_url("data/a.root")
    (True, False, False)
    """
    return _URL.fullmatch(pattern) is not None


def match_url(pattern: str) -> list[RemoteFile]:
    """Files on a server that a glob matches, sorted.

    Raises
    ------
    MissingInputError
        If none does.
    InputError
        If the server cannot be reached.
    """
    with _asking(pattern):
        system, path = _file_system(pattern)
        host = pattern[: len(pattern) - len(path)] if pattern.endswith(path) else ""
        if not host:
            return [RemoteFile(system.unstrip_protocol(hit)) for hit in sorted(system.glob(path))]
        return [RemoteFile(host + hit) for hit in sorted(system.glob(path))]


def for_library(path: InputFile) -> Any:
    """Return what h5py, pyarrow and zipfile open: a path, or an open file."""
    return path if isinstance(path, Path) else path.open()


def for_uproot(path: InputFile) -> Any:
    """Return what uproot opens: a path, or a URL, of which it reads many pieces at once."""
    if isinstance(path, RemoteFile):
        path.stat()
        return str(path)
    return path


def _file_system(url: str) -> tuple[Any, str]:
    import fsspec

    if url.split("://", 1)[0] in _XROOTD:
        for name, value in _LIMITS.items():
            os.environ.setdefault(name, value)
    system, path = fsspec.url_to_fs(url)
    return system, path


@contextmanager
def _asking(url: str) -> Iterator[None]:
    """Turn what a server or a missing package makes fsspec raise into an error of ours."""
    protocol = url.split("://", 1)[0]
    host = url.split("://", 1)[1].split("/", 1)[0]
    try:
        yield
    except PileupgenError:
        raise
    except ImportError as error:
        extra = "pip install 'pileupgen[xrootd]'" if protocol in _XROOTD else str(error)
        raise DependencyError(
            f"{url} takes a package for {protocol}:// that is not installed.", extra
        ) from error
    except FileNotFoundError as error:
        raise MissingInputError(f"No input file {url}.", "Check the card's files.") from error
    except Exception as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        if any(words in said.lower() for words in _NOT_FOUND):
            raise MissingInputError(f"No input file {url}.", "Check the card's files.") from error
        if isinstance(error, ValueError):
            raise UnreadableInputError(
                f"{url} cannot be read: {said}.", "Correct the URL in the card."
            ) from error
        raise UnreadableInputError(
            f"{url} cannot be read: {host} does not serve it ({said}).",
            "Check the address, the network and your credentials (a proxy or token).",
        ) from error


def _time_ns(found: dict[str, Any]) -> int:
    time = found.get("mtime") or found.get("created") or 0
    seconds = time.timestamp() if hasattr(time, "timestamp") else time
    return int(float(seconds) * 1e9) if isinstance(seconds, int | float) else 0
