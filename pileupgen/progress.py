"""Messages of the work in progress: bars, files read and written, the command to run next.

Nothing below the command line prints. Work is given a :class:`Listener`, which is silent; the
command line's draws bars and prints messages. The library's warnings are logged, so that a script
or a notebook sees them without a listener.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol

_log = logging.getLogger("pileupgen")


def is_main_process() -> bool:
    """Whether this is the first of the processes that a launcher has started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


class Advance(Protocol):
    """Called with the number of units just done."""

    def __call__(self, n: int = 1, note: str = "", /, **figures: float) -> object:
        """Advance by ``n``, with a short note or named figures such as the latest ``loss``."""


Progress = Callable[[str, int, str], AbstractContextManager[Advance]]
"""Opens a progress bar from a description, a total and a unit."""


def silent(n: int = 1, note: str = "", /, **figures: float) -> None:
    """Do nothing: the :class:`Advance` of work whose progress is not shown."""


class Listener:
    """Hears what work tells. This one is silent, other than that it logs warnings."""

    def progress(
        self,
        description: str,  # noqa: ARG002 - the silent listener shows nothing
        total: int | None,  # noqa: ARG002
        unit: str = "events",  # noqa: ARG002
    ) -> AbstractContextManager[Advance]:
        """Open a progress bar of ``total`` units, None where the number is unknown."""
        return nullcontext(silent)

    def stage(self, name: str, total: int) -> AbstractContextManager[Advance]:
        """Open the bar of a training stage, which shows losses too."""
        return self.progress(name, total, "steps")

    def read(self, what: object, note: str = "") -> None:
        """Tell what is read."""

    def wrote(self, path: Path, note: str = "") -> None:
        """Tell what was written."""

    def current(self, stage: str, path: Path) -> None:
        """Tell that nothing had to be done."""

    def tell(self, label: str, text: str) -> None:
        """Tell a fact found on the way, under a label of one word."""

    def next(self, command: str) -> None:
        """Tell what to run next."""

    def warn(self, message: str) -> None:
        """Warn."""
        _log.warning("%s", message)


SILENT = Listener()
"""The listener of work whose progress is not shown."""
