"""Files and folders that are written aside and take their name when they are whole.

Everything that pileupgen writes goes through this module: whoever finds a file under its final name
finds all of it, and what stood there before stays until the new one is complete.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pileupgen.errors import OutputError

HINT = "Check space and permission; nothing was put under the final name."


@contextmanager
def output_errors(path: Path, hint: str = HINT) -> Iterator[None]:
    """Turn a failure to write into an error that names the final file.

    Parameters
    ----------
    path : Path
        The final name.

    Raises
    ------
    OutputError
        If there is no space or permission.
    """
    try:
        yield
    except Exception as error:
        # safetensors reports a full disk as an error of its own.
        if not isinstance(error, OSError) and type(error).__name__ != "SafetensorError":
            raise
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"Cannot write {path}: {reason}.", hint) from error


def require_no_folder(path: Path) -> None:
    """Check, before there is work to lose, that a file can have its name.

    Raises
    ------
    OutputError
        If there is a folder of that name.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder.", "Give the name of a file.")


def require_writable(folder: Path) -> None:
    """Check, before there is work to lose, that a folder takes files; it is made if it is missing.

    Raises
    ------
    OutputError
        If there is no space or permission, or a file has its name.
    """
    trial = folder / f".{secrets.token_hex(4)}.part"
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        trial.write_bytes(b"-")
        trial.unlink()


def require_not_read(path: Path, inputs: Iterable[Path]) -> None:
    """Check that what is written does not take the place of what is read.

    Parameters
    ----------
    path : Path
        File to write.
    inputs : iterable of Path
        Files that are read, or that other stages still need; some may be missing.

    Raises
    ------
    OutputError
        If it is one of them, by whatever name.
    """
    if path.resolve() in {given.resolve() for given in inputs}:
        raise OutputError(
            f"{path} is read by this command or by later ones, and would be lost.",
            "Choose another --output.",
        )


@contextmanager
def written_whole(path: Path, hint: str = HINT) -> Iterator[Path]:
    """Give the name aside under which a file or folder is written; rename it when it is whole.

    Parameters
    ----------
    path : Path
        The final name; its folder is made. What is there stays untouched until the new one is
        whole, and altogether if there is an error.

    Yields
    ------
    Path
        A name beside the final one that no other process uses; nothing exists there yet.

    Raises
    ------
    OutputError
        If there is no space or permission.
    """
    # Random and not the process's number: machines that share a file system share these too.
    mark = secrets.token_hex(4)
    aside = path.with_name(f".{path.name}.{mark}.part")
    replaced = path.with_name(f".{path.name}.{mark}.replaced.part")
    try:
        with output_errors(path, hint):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield aside
            if aside.is_dir() and path.is_dir():
                # A folder with content cannot be replaced in one go.
                path.rename(replaced)
            os.replace(aside, path)
    finally:
        if replaced.exists() and not path.exists():
            replaced.rename(path)
        for left in (aside, replaced):
            _remove(left)


@contextmanager
def folder_written_whole(path: Path, hint: str = HINT) -> Iterator[Path]:
    """Fill a folder aside and give it its name, in place of an earlier one, when it is whole.

    Parameters
    ----------
    path, hint
        As for :func:`written_whole`.

    Raises
    ------
    OutputError
        If there is no space or permission; the earlier folder stays.
    """
    with written_whole(path, hint) as aside:
        aside.mkdir()
        yield aside


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a small file aside and rename it when it is whole.

    Parameters
    ----------
    path : Path
        The final name; its folder is made.
    content : str or bytes
        All of the file; text is written as UTF-8.

    Raises
    ------
    OutputError
        If the disk is full or the folder cannot be written.
    """
    with written_whole(path) as aside:
        aside.write_bytes(content.encode() if isinstance(content, str) else content)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
