"""What the library logs, on the console."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from pileupgen.cli.ui.console import terminal
from pileupgen.progress import is_main_process


class _ConsoleHandler(logging.Handler):
    """Hands the library's warnings to the console."""

    def emit(self, record: logging.LogRecord) -> None:
        terminal.warn(record.getMessage())


@contextmanager
def warnings_on_console() -> Iterator[None]:
    """Show the library's warnings while a command runs, of the first process if there are more."""
    logger = logging.getLogger("pileupgen")
    handler = _ConsoleHandler(logging.WARNING) if is_main_process() else logging.NullHandler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
