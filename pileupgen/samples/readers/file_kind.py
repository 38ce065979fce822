"""Kind of a file by its first bytes, so that only damaged files are called damaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pileupgen.errors import InputError, MissingInputError, PileupgenError, UnreadableInputError
from pileupgen.samples.readers.remote import InputFile

_KINDS = {
    # first bytes: (what it is, what to do with it)
    b"root": ("a ROOT file", "Formats delphes, root and edm4hep read it."),
    b"\x89HDF\r\n\x1a\n": ("an HDF5 file", "Formats hdf5, calochallenge and features read it."),
    b"PAR1": (
        "a Parquet file",
        "Formats parquet and features read it, for the latter its name ends so.",
    ),
    b"PK\x03\x04": (
        "a zip archive, as NumPy's .npz is",
        "Format npz reads arrays, format cms_ig event displays.",
    ),
    b"\x93NUMPY": ("a NumPy array", "Write it as a dataset of an HDF5 file."),
    b"\x1f\x8b": ("compressed by gzip", "Unpack it first."),
    b"\xfd7zXZ": ("compressed by xz", "Unpack it first."),
    b"\x28\xb5\x2f\xfd": ("compressed by zstd", "Unpack it first."),
    b"version https://": ("a pointer of Git LFS", "Fetch the file itself: git lfs pull."),
    b"<!DOCTYPE": ("a web page", "The server answered with a page: fetch the file again."),
}
_SIGNATURES = {
    "ROOT": b"root",
    "HDF5": b"\x89HDF\r\n\x1a\n",
    "Parquet": b"PAR1",
    "a zip": b"PK\x03\x04",
}
_DAMAGED = "It may be truncated or damaged: compare its size and checksum with the original."


def unreadable(path: InputFile, wanted: str, said: str, what: str = "") -> UnreadableInputError:
    """Say why a file cannot be read: it is another kind of file, or it is damaged.

    Parameters
    ----------
    wanted : str
        ``ROOT``, ``HDF5``, ``Parquet`` or ``a zip``.

    Returns
    -------
    UnreadableInputError
        To be raised.
    """
    part = f" ({what})" if what else ""
    damaged = UnreadableInputError(f"{path} cannot be read{part}: {said.rstrip('.')}.", _DAMAGED)
    if not isinstance(path, Path):
        fault = path.fault(said)
        if fault is not None:
            return fault
    elif path.is_dir():
        return UnreadableInputError(f"{path} is a folder, not a file.", "Name the files in it.")
    try:
        with path.open("rb") if isinstance(path, Path) else path.open() as file:
            head = file.read(16)
    except (OSError, InputError):
        return damaged
    if not head:
        return UnreadableInputError(f"{path} is empty: it has 0 bytes.", "Copy or make it again.")
    if head.startswith(_SIGNATURES[wanted]):
        return damaged
    for signature, (is_what, hint) in _KINDS.items():
        if head.startswith(signature):
            return UnreadableInputError(f"{path} is {is_what}, not {wanted}.", hint)
    return UnreadableInputError(
        f"{path} is not {wanted}: it begins with {head!r}.",
        "Name another file in the card, or another format; if it was once of this format, copy it "
        "again.",
    )


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
