"""Files on a server, by their URL: XRootD (`root://…`), or whatever fsspec knows."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, cached_property
from pathlib import Path
from typing import IO, Any, NamedTuple

from pileupgen.errors import (
    DependencyError,
    InputError,
    MissingInputError,
    PileupgenError,
    UnreadableInputError,
    first_line,
)
from pileupgen.run import hash_file, hash_stream

_URL = re.compile(r"[a-z][a-z0-9+.-]+://.+")
_WILD = re.compile(r"[*\[]")
_XROOTD = "root"
_OTHER_XROOTD = ("roots", "xroot", "xroots")
_PACKAGES = {_XROOTD: ("fsspec", "fsspec-xrootd", "xrootd")}
"""Packages that reading depends on, besides fsspec itself."""
_NOT_FOUND = ("[3011]", "no such file")
_DENIED = ("[3010]", "permission denied", "not authorized", "forbidden")
_UNREACHABLE = (
    "connection error",
    "connection refused",
    "socket",
    "timeout",
    "timed out",
    "expired",
    "invalid address",
    "unknown host",
    "not open",
)
"""Parts of what servers and their clients say."""
_OBJECT = re.compile(r"^.*request: |<[^<>]* object at 0x[0-9a-f]+>")
"""Words of fsspec-xrootd before those of the client."""
_LIMITS = {
    "ConnectionWindow": 15,
    "ConnectionRetry": 2,
    "RequestTimeout": 60,
    "StreamTimeout": 60,
    "StreamErrorWindow": 60,
}
"""Seconds and tries of XRootD's client where neither the environment (``XRD_CONNECTIONWINDOW`` …)
nor the process says otherwise; its own defaults wait for minutes, and take a server that was lost
for lost half an hour."""
_OPTIONS: dict[str, dict[str, Any]] = {
    # A listing that is kept makes files that came later unfindable; other sources than the first
    # are looked for without their port, and what the first one said is lost.
    _XROOTD: {"use_listings_cache": False, "locate_all_sources": False},
}
READAHEAD: dict[str, Any] = {"block_size": 1 << 18}
"""Buffering of files that are read in pieces of their own size, such as Parquet's columns."""
BLOCKS: dict[str, Any] = {"cache_type": "blockcache", "block_size": 1 << 20}
"""Buffering of HDF5 files, whose library jumps between chunks and their indices."""


class Stat(NamedTuple):
    """Size and time of a file on a server."""

    st_size: int
    """Bytes."""
    st_mtime_ns: int
    """Time of the last change; 0 where the server does not tell."""


@dataclass(frozen=True)
class RemoteFile:
    """A file on a server, with what readers need of a :class:`pathlib.Path`."""

    url: str
    """Protocol, host and path."""

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

    def open(self, buffering: Mapping[str, Any] = READAHEAD) -> IO[bytes]:
        """Open it for reading, with seeks, buffered by fsspec.

        Raises
        ------
        InputError
            As :meth:`stat`.
        """
        self.stat()
        with _asking(self.url):
            system, path = _file_system(self.url)
            opened: IO[bytes] = system.open(path, "rb", **buffering)
            return _closing_quietly(opened)

    def fault(self, said: str) -> UnreadableInputError | None:
        """Find out whether the server is to blame where reading failed.

        Parameters
        ----------
        said : str
            Message of the library that was reading. If that tells nothing of the server, it is
            asked again.

        Returns
        -------
        UnreadableInputError or None
            None if the server serves the file as it should.
        """
        found = _server_fault(self.url, said)
        if found is not None:
            return found
        try:
            with RemoteFile(self.url).open() as file, _asking(self.url):
                file.read(1)
        except UnreadableInputError as error:
            return error
        except InputError as error:
            return UnreadableInputError(error.message, error.hint)
        return None

    @cached_property
    def _found(self) -> Stat | PileupgenError:
        try:
            with _asking(self.url):
                system, path = _file_system(self.url)
                found = system.info(path)
                if found.get("type") == "directory":
                    folder = self.url.rstrip("/")
                    # What follows a host begins with two slashes.
                    between = "//" if folder.endswith(f"://{_host(folder)}") else "/"
                    raise UnreadableInputError(
                        f"{self.url} is a folder.",
                        f"Name its files, or a pattern: {folder}{between}*.root.",
                    )
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


def missing_file(path: InputFile | str) -> MissingInputError:
    """Say that a file of a card is not there."""
    about = " Wildcards are * and […]; what follows a ? is a question to the server."
    is_asking = is_url(str(path)) and "?" in str(path)
    return MissingInputError(
        f"No input file {path}.", f"Check the card's files.{about if is_asking else ''}"
    )


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


def is_pattern(url: str) -> bool:
    """Whether a URL's path has wildcards; what follows a ``?`` is a question to the server.

    >>> is_pattern("root://h//a/*.root?svcClass=x"), is_pattern("root://h//a/b.root?svcClass=x")
    (True, False)
    """
    return _WILD.search(url.partition("?")[0]) is not None


def match_url(pattern: str) -> list[RemoteFile]:
    """Files on a server that a glob matches, sorted; none if the folder has no such file.

    Parameters
    ----------
    pattern : str
        URL with ``*`` or ``[…]`` in its path; what follows a ``?`` goes to every file's URL.

    Raises
    ------
    MissingInputError
        If there is no such folder.
    InputError
        If the server cannot be reached, or does not let the folder be listed.
    """
    plain, question, opaque = pattern.partition("?")
    with _asking(pattern):
        system, path = _file_system(plain)
        if pattern.startswith(f"{_XROOTD}://") and not path.startswith("/"):
            raise _relative(pattern)
        hits = sorted(_glob(system, path))
        if not hits:
            _require_folder(system, path, plain)
        host = plain[: len(plain) - len(path)] if plain.endswith(path) else ""
        urls = [host + hit if host else system.unstrip_protocol(hit) for hit in hits]
        return [RemoteFile(url + question + opaque) for url in urls]


def _glob(system: Any, path: str) -> list[str]:
    """Paths that a pattern matches."""
    if path.startswith("/") and path.count("/") == 1:
        # fsspec-xrootd 0.5.5 lists the files of the root folder with two slashes.
        names = [name.rsplit("/", 1)[-1] for name in system.ls("/", detail=False)]
        return [f"/{name}" for name in names if fnmatchcase(name, path[1:])]
    return [str(hit) for hit in system.glob(path)]


def _require_folder(system: Any, path: str, url: str) -> None:
    """Find out why a glob matches nothing: fsspec takes every failure for an empty folder."""
    parts = path.split("/")
    wild = next(index for index, part in enumerate(parts) if _WILD.search(part))
    folder = "/".join(parts[:wild]) or "/"
    shown = url[: len(url) - len(path)] + folder
    with _asking(shown):
        found = system.ls(folder, detail=True)
    is_itself = len(found) == 1 and found[0]["name"].rstrip("/") == folder.rstrip("/")
    if is_itself and found[0]["type"] == "directory":
        raise _denied(shown, "its files may not be listed")


def packages_of(files: Iterable[InputFile]) -> tuple[str, ...]:
    """Packages that reading some files takes, besides those that all files take."""
    protocols = {file.url.split("://", 1)[0] for file in files if isinstance(file, RemoteFile)}
    found = [name for key in sorted(protocols) for name in _PACKAGES.get(key, ("fsspec",))]
    return tuple(dict.fromkeys(found))


def uproot_options(path: InputFile) -> dict[str, Any]:
    """Options of the file system that uproot opens a file with."""
    if isinstance(path, RemoteFile):
        return _OPTIONS.get(path.url.split("://", 1)[0], {})
    from uproot import MultithreadedFileSource

    # In the thread that asks: by default each piece is read by the event loop of another one.
    return {"handler": MultithreadedFileSource, "use_threads": False}


def for_library(path: InputFile, buffering: Mapping[str, Any] = READAHEAD) -> Any:
    """Return what h5py, pyarrow and zipfile open: a path, or an open file."""
    return path if isinstance(path, Path) else path.open(buffering)


def for_uproot(path: InputFile) -> Any:
    """Return what uproot opens: a path, or a URL, of which it reads many pieces at once."""
    if isinstance(path, RemoteFile):
        path.stat()
        return str(path)
    return path


def _file_system(url: str) -> tuple[Any, str]:
    import fsspec

    protocol = url.split("://", 1)[0]
    if protocol in _OTHER_XROOTD:
        raise UnreadableInputError(
            f"{url}: {protocol}:// is not known here.",
            "Write root://; where the server wants TLS, XRootD's client takes it.",
        )
    if protocol == _XROOTD:
        _limit_waiting()
        # XRootD's client looks at every object of the process when that ends, torch's among them.
        warnings.filterwarnings("ignore", module=r"XRootD\.client\.finalize")
    system, path = fsspec.url_to_fs(url, **_OPTIONS.get(protocol, {}))
    return system, path


@cache
def _limit_waiting() -> None:
    """Set the client's limits, once: it may have read its environment before it was asked here."""
    from XRootD import client

    for name, value in _LIMITS.items():
        if str(client.EnvGetInt(name)) == client.EnvGetDefault(name):
            client.EnvPutInt(name, value)


def _closing_quietly(opened: IO[bytes]) -> IO[bytes]:
    """Let a file on a server that is lost be closed, and collected, without an error."""
    close = opened.close

    def close_quietly() -> None:
        try:
            close()
        except OSError:
            opened.closed = True  # type: ignore[misc]

    opened.close = close_quietly  # type: ignore[method-assign]
    return opened


@contextmanager
def _asking(url: str) -> Iterator[None]:
    """Turn what a server or a missing package makes fsspec raise into an error of ours."""
    protocol = url.split("://", 1)[0]
    try:
        yield
    except PileupgenError:
        raise
    except ImportError as error:
        extra = "pip install 'pileupgen[xrootd]'" if protocol == _XROOTD else str(error)
        raise DependencyError(
            f"{url} takes a package for {protocol}:// that is not installed.", extra
        ) from error
    except FileNotFoundError as error:
        raise missing_file(url) from error
    except Exception as error:
        said = _words(error)
        if any(words in said.lower() for words in _NOT_FOUND):
            raise missing_file(url) from error
        if isinstance(error, ValueError):
            raise UnreadableInputError(
                f"{url} cannot be read: {said}.", "Correct the URL in the card."
            ) from error
        raise (_server_fault(url, said) or _unserved(url, said)) from error


def _words(error: BaseException) -> str:
    """First line of what a server or its client says, without objects of Python."""
    return _OBJECT.sub("", first_line(error)).strip().rstrip(".") or type(error).__name__


def _server_fault(url: str, said: str) -> UnreadableInputError | None:
    """Say what is wrong with a server, if it is that which was said."""
    said = _OBJECT.sub("", said).strip().rstrip(".")
    low, host = said.lower(), _host(url)
    if "relative path" in low:
        return _relative(url)
    if any(words in low for words in _DENIED):
        return _denied(url, "permission denied")
    if any(words in low for words in _UNREACHABLE):
        return UnreadableInputError(
            f"{url} cannot be read: {host} cannot be reached ({said}).",
            "Check the address and the network; when the server is back, run the same command "
            "again.",
        )
    return None


def _relative(url: str) -> UnreadableInputError:
    host, _, path = url.split("://", 1)[1].partition("/")
    return UnreadableInputError(
        f"{url} has one slash after the host, which {host} takes for a relative path.",
        f"Write two: {_XROOTD}://{host}//{path}",
    )


def _unserved(url: str, said: str) -> UnreadableInputError:
    return UnreadableInputError(
        f"{url} cannot be read: {_host(url)} does not serve it ({said}).",
        "Check the address, and ask those who run the server.",
    )


def _denied(url: str, why: str) -> UnreadableInputError:
    return UnreadableInputError(
        f"{url} cannot be read: {why} by {_host(url)}.",
        "Check your credentials (a proxy or token) and the rights of file and folder.",
    )


def _host(url: str) -> str:
    return url.split("://", 1)[1].split("/", 1)[0]


def _time_ns(found: dict[str, Any]) -> int:
    time = found.get("mtime") or found.get("created") or 0
    seconds = time.timestamp() if hasattr(time, "timestamp") else time
    return int(float(seconds) * 1e9) if isinstance(seconds, int | float) else 0
