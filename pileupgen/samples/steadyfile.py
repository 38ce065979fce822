"""A file that HDF5 writes to, and that survives a full disk.

When a write fails, HDF5 cannot close its file any more: it prints an error for each of its objects
and may crash the interpreter at exit. This file takes the failed writes into memory instead, keeps
the first error, and leaves it to the writer to look for it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from pileupgen.files import written_whole


class SteadyFile(io.RawIOBase):
    """A new file, for writing and reading back.

    Attributes
    ----------
    error : OSError or None
        What went wrong first.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        self._position = 0
        self._kept: list[tuple[int, bytes]] = []
        self.error: OSError | None = None

    def check(self) -> None:
        """Raise what went wrong, if anything did."""
        if self.error is not None:
            raise self.error

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
        """Write all of ``data`` at the position, or keep it in memory after an error."""
        view = memoryview(data).cast("B")
        done = 0
        try:
            while self.error is None and done < len(view):
                done += os.pwrite(self._descriptor, view[done:], self._position + done)
        except OSError as error:
            self.error = error
        if done < len(view):
            self._kept.append((self._position + done, bytes(view[done:])))
        self._position += len(view)
        return len(view)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read from the position; what is not there reads as zeros."""
        view = memoryview(buffer).cast("B")
        begin, end = self._position, self._position + len(view)
        data = bytearray(os.pread(self._descriptor, len(view), begin).ljust(len(view), b"\0"))
        for offset, kept in self._kept:
            low, high = max(begin, offset), min(end, offset + len(kept))
            if low < high:
                data[low - begin : high - begin] = kept[low - offset : high - offset]
        view[:] = data
        self._position = end
        return len(view)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._end()}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """Position in bytes from the beginning."""
        return self._position

    def truncate(self, size: int | None = None) -> int:
        """Cut or extend the file."""
        size = self._position if size is None else size
        try:
            if self.error is None:
                os.ftruncate(self._descriptor, size)
        except OSError as error:
            self.error = error
        return size

    def _end(self) -> int:
        kept = (offset + len(data) for offset, data in self._kept)
        return max(os.fstat(self._descriptor).st_size, *kept, 0)

    def readable(self) -> bool:
        """Whether it can be read: yes."""
        return True

    def writable(self) -> bool:
        """Whether it can be written: yes."""
        return True

    def seekable(self) -> bool:
        """Whether the position can be moved: yes."""
        return True

    def close(self) -> None:
        """Close the file; an error of the delayed kind is kept like the others."""
        if self.closed:
            return
        super().close()
        try:
            os.close(self._descriptor)
        except OSError as error:
            self.error = self.error or error


@contextmanager
def create_hdf5(path: Path, libver: str | None = "v110") -> Iterator[tuple[h5py.File, SteadyFile]]:
    """Make an HDF5 file aside; it takes its name once it is whole.

    Parameters
    ----------
    path : Path
        Final name. A file that is there stays untouched until the new one is whole.
    libver : str, optional
        Newest version of the HDF5 library whose format is used; None for the oldest possible.

    Yields
    ------
    tuple of h5py.File and SteadyFile
        The file, and what it is written to, whose ``check`` finds a full disk early.

    Raises
    ------
    OutputError
        If the disk is full or the folder cannot be written.
    """
    with written_whole(path) as aside:
        with (
            SteadyFile(aside) as sink,
            h5py.File(sink, "w", libver=libver, track_order=True) as file,
        ):
            yield file, sink
        sink.check()
