"""Every error that pileupgen raises on purpose.

::

    PileupgenError                 anything below; the command line turns it into one message
    ├── ConfigError                a setting is unknown, ill-typed or out of range
    ├── CardError                  a data card is malformed or contradicts its files
    ├── InputError                 an input file cannot be used
    │   ├── MissingInputError      no such file, or a glob without a match
    │   ├── UnreadableInputError   truncated, corrupted or not of the format it claims
    │   ├── MissingFieldError      no such tree, branch, dataset or column
    │   └── ImplausibleInputError  readable, but its numbers cannot be physics
    ├── GeometryError              grids that are ill-formed or do not match
    ├── StoreError                 an image store is of another schema or lacks something
    ├── RunError                   a run directory does not fit the request
    ├── TrainingError              training cannot go on
    ├── DependencyError            an optional package is needed and not installed
    ├── GeneratorError             an event generator failed or needs a download that failed
    ├── OutputError                a result cannot be written (permission, space)
    ├── FarmError                  workers that cannot be reached, differ or die
    └── InterruptedRunError        Ctrl-C, SIGTERM or SIGHUP

Every message says what is wrong, where, and (in ``hint``) how to correct it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib import import_module
from typing import Any


class PileupgenError(Exception):
    """Base of all errors raised on purpose.

    Parameters
    ----------
    message : str
        What is wrong and where.
    hint : str
        How to correct it; printed on a line of its own.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class ConfigError(PileupgenError):
    """A setting is unknown, ill-typed or out of range."""

    exit_code = 2


class CardError(PileupgenError):
    """A data card is malformed or contradicts its files."""

    exit_code = 2


class InputError(PileupgenError):
    """An input file cannot be used."""

    exit_code = 3


class MissingInputError(InputError):
    """No such file, or a glob without a match."""


class UnreadableInputError(InputError):
    """A file is truncated, corrupted or not of the format it claims."""


class MissingFieldError(InputError):
    """A tree, branch, dataset or column is not there."""


class ImplausibleInputError(InputError):
    """A sample can be read, but its numbers cannot be physics."""


class GeometryError(PileupgenError):
    """Grids that are ill-formed or do not match."""

    exit_code = 4


class StoreError(PileupgenError):
    """An image store is of another schema or lacks something."""

    exit_code = 3


class RunError(PileupgenError):
    """A run directory does not fit the request."""

    exit_code = 5


class TrainingError(PileupgenError):
    """Training cannot go on."""

    exit_code = 6


class DependencyError(PileupgenError):
    """An optional package is needed and not installed."""

    exit_code = 7


class GeneratorError(PileupgenError):
    """An event generator failed, or needs a download that failed."""

    exit_code = 8


class OutputError(PileupgenError):
    """A result cannot be written."""

    exit_code = 9


class FarmError(PileupgenError):
    """Workers cannot be reached, differ from this process, or die repeatedly."""

    exit_code = 11


class InterruptedRunError(PileupgenError):
    """Ctrl-C, SIGTERM or SIGHUP; the exit code is 128 and the signal's number."""

    exit_code = 130


def import_extra(module: str, extra: str, need: str) -> Any:
    """Import a package that an extra of the installation brings.

    Parameters
    ----------
    module, extra : str
        What to import, and the extra that has it.
    need : str
        What needs it; begins the message.

    Raises
    ------
    DependencyError
        If it cannot be imported.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        raise DependencyError(
            f"{need} needs {package}, which is not installed.", f"pip install 'pileupgen[{extra}]'"
        ) from error


def first_line(error: BaseException | str) -> str:
    """Give the first line of what an error says, or its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def did_you_mean(name: str, known: Iterable[str], n: int = 3) -> str:
    """Name the known words nearest to ``name``.

    >>> did_you_mean("trian", ["train", "translate"])
    "Did you mean 'train'?"
    >>> did_you_mean("x", ["train", "translate"])
    'Known: train, translate.'
    """
    words = sorted(set(known))
    near = difflib.get_close_matches(name, words, n=n, cutoff=0.6)
    if near:
        return "Did you mean " + " or ".join(f"'{word}'" for word in near) + "?"
    if not words:
        return "There is none."
    shown = ", ".join(words[:20])
    return f"Known: {shown}{', …' if len(words) > 20 else ''}."
