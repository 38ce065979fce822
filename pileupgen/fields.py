"""Fields of settings classes and of records, from which all else that is written is derived.

A settings class is a frozen dataclass whose fields are made by :func:`setting`. Pydantic reads the
limits and the description where the class is a section of the config; the command line reads the
same, and the names of the options, where it is given as options.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import Field, asdict, field, fields
from typing import Any, Self

SECTION = {"extra": "forbid", "allow_inf_nan": False}
"""What pydantic is told of a settings class: unknown keys and infinite numbers are refused."""


def setting(
    default: Any,
    text: str,
    *,
    option: str | None = "",
    metavar: str = "",
    example: str = "",
    **more: Any,
) -> Any:
    """Give a field of a settings class its default and what is known of it.

    Parameters
    ----------
    default : object
        Immutable.
    text : str
        What it is: the description in the config's schema and the help of its option.
    option : str
        Name of the option, ``--`` and the field's name with hyphens if not given; None where there
        is no option.
    metavar : str
        What the help shows for the value.
    example : str
        A value that is accepted, for the hint of an error.
    **more
        ``ge``, ``gt``, ``le``, ``lt``: limits of a number; and whatever the class reads itself.
    """
    metadata = {"description": text, "metavar": metavar, "example": example, **more}
    if option is not None:
        metadata["option"] = option
    return field(default=default, metadata=metadata)


def settings_of(kind: Any) -> Iterator[Field[Any]]:
    """Yield the fields of a settings class that are options of a command."""
    return (one for one in fields(kind) if "option" in one.metadata)


def option_name(one: Field[Any]) -> str:
    """Give the name of a field's option.

    >>> from dataclasses import dataclass, fields
    >>> @dataclass(frozen=True)
    ... class Example:
    ...     n_draws: int = setting(1, "translations of each event", option="--draws")
    ...     batch_size: int = setting(500, "events held in memory")
    >>> [option_name(one) for one in fields(Example)]
    ['--draws', '--batch-size']
    """
    return one.metadata["option"] or f"--{one.name.replace('_', '-')}"


class PlainRecord:
    """Base of dataclasses of plain values that are written as JSON and read back."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Inverse of :meth:`to_dict`, after JSON too; each value is brought to its field's type.

        Raises
        ------
        ValueError
            If a field is missing or a value does not fit.
        """
        from pydantic import TypeAdapter

        return TypeAdapter(cls).validate_python(dict(values))
