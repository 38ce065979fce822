"""What a check finds, and what becomes of it: an error unless its name is allowed, or a warning."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pileupgen.errors import ConfigError, ImplausibleInputError, did_you_mean

ERRORS = (
    "phi_beyond_turn",
    "phi_whole",
    "eta_beyond",
    "empty_events",
    "layer_dropped",
    "energy_scale",
    "sentinel",
    "mu_negative",
    "weights",
    "unit_of_format",
)
"""Checks whose findings may be errors, and which may be allowed by name."""


@dataclass(frozen=True)
class Finding:
    """What a check found."""

    name: str
    """Name of the check, by which it is allowed."""
    message: str
    hint: str
    """What and where, with numbers; how to correct it."""
    is_error: bool = False
    """Whether it cannot be physics; else it is a warning."""

    def __str__(self) -> str:
        return f"{self.name}: {self.message}. {self.hint}"


def require_known(allow: Collection[str]) -> None:
    """Refuse names that no check has.

    Raises
    ------
    ConfigError
        Naming the near ones.
    """
    for name in allow:
        if name not in ERRORS:
            raise ConfigError(f"No check '{name}' can be allowed.", did_you_mean(name, ERRORS))


def judge(findings: Sequence[Finding], allow: Collection[str] = ()) -> list[Finding]:
    """Refuse what cannot be physics, unless it is allowed.

    Returns
    -------
    list of Finding
        Warnings, and errors that are allowed.

    Raises
    ------
    ImplausibleInputError
        Names all errors that are not allowed.
    """
    errors = [found for found in findings if found.is_error and found.name not in allow]
    if errors:
        message = "; ".join(f"{found.name}: {found.message}" for found in errors)
        hints = " ".join(dict.fromkeys(found.hint for found in errors))
        names = " ".join(f"--allow {name}" for name in dict.fromkeys(e.name for e in errors))
        raise ImplausibleInputError(f"{message}.", f"{hints} If it is meant so: {names}.")
    return list(findings)
