"""The finished parts of a store that is being made, kept until all of them are there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from pileupgen.arrays import Ints
from pileupgen.errors import PileupgenError
from pileupgen.samples.store import ImageStore


class StoreBlocks:
    """The finished blocks of a job, each a store of its own beside the target until all are there.

    Parameters
    ----------
    made_from : str
        Fingerprint of everything that its content depends on; blocks of other jobs for the same
        target are deleted.
    rows : int64 array, shape (N,)
    step : int
        Rows of a block.
    """

    def __init__(
        self, target: Path, made_from: str, rows: Ints, step: int, n_copies: int = 1
    ) -> None:
        self.folder = target.with_name(f".{target.name}.blocks-{made_from}")
        for other in target.parent.glob(f".{target.name}.blocks-*"):
            if other != self.folder:
                shutil.rmtree(other, ignore_errors=True)
        self._rows = [rows[begin : begin + step] for begin in range(0, len(rows), step)]
        self._n_copies = n_copies

    def __iter__(self) -> Iterator[tuple[Path, Ints]]:
        for number, rows in enumerate(self._rows):
            yield self.folder / f"{number:06d}.h5", rows

    def is_finished(self, path: Path, rows: Ints) -> bool:
        """Whether a block is there and whole."""
        if not path.is_file():
            return False
        try:
            return len(ImageStore(path)) == len(rows) * self._n_copies
        except PileupgenError:
            return False

    @property
    def n_finished(self) -> int:
        """Rows of finished blocks."""
        return sum(len(rows) for path, rows in self if self.is_finished(path, rows))

    def delete(self) -> None:
        """Remove the blocks, once the target is whole."""
        shutil.rmtree(self.folder, ignore_errors=True)
