"""Options of a translation, one for each of its settings."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import Field
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pileupgen.cli.ui.gathered import gathered, option, parameter
from pileupgen.diffusion.settings import Settings
from pileupgen.errors import ConfigError
from pileupgen.fields import option_name, settings_of

_PANEL = "How to translate; by default as the config says"
_KINDS = get_type_hints(Settings)
Given = dict[str, Any]
"""Settings that were given as options."""


def _kind(one: Field[Any]) -> Any:
    """The type of a setting's value when it is given: None is taken out."""
    kind = _KINDS[one.name]
    if get_origin(kind) not in (Union, UnionType):
        return kind
    left = [part for part in get_args(kind) if part is not type(None)]
    return left[0] if len(left) == 1 else kind


def _option(one: Field[Any]) -> inspect.Parameter:
    kind, name = _kind(one), option_name(one)
    more: dict[str, Any] = {"rich_help_panel": _PANEL}
    if kind is bool:
        name = f"{name}/--no-{name.removeprefix('--')}"
    elif kind in (int, float):
        more |= {"min": one.metadata.get("ge"), "max": one.metadata.get("le")}
    elif get_origin(kind) is not Literal:
        kind = str
    if one.metadata["metavar"]:
        more["metavar"] = one.metadata["metavar"]
    made = option(kind | None, None, name, text=_sentence(one.metadata["description"]), **more)
    return parameter(one.name, made.annotation, None)


def _sentence(text: str) -> str:
    """Begin with a capital, unless with a symbol or a key, and end with a full stop."""
    first = text.split(maxsplit=1)[0].rstrip(":;,")
    is_word = len(first) > 1 and first.isascii() and first.isalpha()
    return f"{text[0].upper() if is_word else text[0]}{text[1:]}."


def _parsed(one: Field[Any], value: Any) -> Any:
    """Give the value of a setting that is written as text.

    Raises
    ------
    ConfigError
        Naming the option.
    """
    kind, name, example = _kind(one), option_name(one), one.metadata["example"]
    if not isinstance(value, str) or get_origin(kind) is Literal:
        return value
    try:
        if get_origin(kind) is tuple:
            return _numbers(value, get_args(kind))
        words = [word for part in get_args(kind) for word in get_args(part)]
        return value if value in words else int(value)
    except ValueError:
        takes = one.metadata["metavar"] if get_origin(kind) is tuple else "a whole number"
        words = [f" or '{word}'" for part in get_args(kind) for word in get_args(part)]
        raise ConfigError(
            f"{name} takes {takes}{''.join(words)}, not '{value}'.", f"Try {name} {example}."
        ) from None


def _numbers(text: str, kinds: tuple[Any, ...]) -> list[int]:
    found = [int(part) for part in text.split(",")]
    if Ellipsis not in kinds and len(found) != len(kinds):
        raise ValueError
    return found


def _given(values: Mapping[str, Any]) -> AbstractContextManager[Given]:
    known = {one.name: one for one in settings_of(Settings)}
    present = {name: value for name, value in values.items() if value is not None}
    return nullcontext({name: _parsed(known[name], value) for name, value in present.items()})


with_settings = gathered("given", [_option(one) for one in settings_of(Settings)], _given)
"""Decorates a command that takes ``given``: settings of a translation that are options."""
