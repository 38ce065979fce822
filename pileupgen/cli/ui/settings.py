"""Options of a translation, a comparison and an overlay, one for each of their settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import Field
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pileupgen.cli.ui.gathered import Command, gathered, option, parameter
from pileupgen.compare.settings import ComparisonSettings
from pileupgen.diffusion.settings import Settings
from pileupgen.errors import ConfigError
from pileupgen.fields import option_name, settings_of
from pileupgen.overlay.settings import OverlaySettings

Given = dict[str, Any]
"""Settings that were given as options."""


def _kind(kind: Any) -> Any:
    """The type of a setting's value when it is given: None is taken out."""
    if get_origin(kind) not in (Union, UnionType):
        return kind
    left = [part for part in get_args(kind) if part is not type(None)]
    return left[0] if len(left) == 1 else kind


def _option(one: Field[Any], kind: Any, panel: str) -> inspect.Parameter:
    name = option_name(one)
    more: dict[str, Any] = {"rich_help_panel": panel}
    if kind is bool and "/" not in name:
        name = f"{name}/--no-{name.removeprefix('--')}"
    elif kind in (int, float):
        more |= {"min": one.metadata.get("ge"), "max": one.metadata.get("le")}
    elif kind is not bool and get_origin(kind) is not Literal:
        kind = str
    if one.metadata["metavar"]:
        more["metavar"] = one.metadata["metavar"]
    made = option(kind | None, None, name, text=_sentence(one.metadata["description"]), **more)
    return parameter(one.name, made.annotation, None)


def _sentence(text: str) -> str:
    """Begin with a capital, unless with a symbol or a key, and end with a full stop."""
    first = text.split(maxsplit=1)[0].rstrip(":;,")
    is_word = len(first) > 1 and first.isascii() and first.replace("-", "").isalpha()
    return f"{text[0].upper() if is_word else text[0]}{text[1:]}."


def _parsed(one: Field[Any], kind: Any, value: Any) -> Any:
    """Give the value of a setting that is written as text.

    Raises
    ------
    ConfigError
        Naming the option.
    """
    name, example = option_name(one), one.metadata["example"]
    if not isinstance(value, str) or kind is str or get_origin(kind) is Literal:
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


def with_options_of(
    settings: type, verb: str, source: str = "; by default as the config says"
) -> Callable[[Command], Command]:
    """Put an option for every field of a settings class in place of a command's ``given``.

    Parameters
    ----------
    settings : type
        A settings class, see :mod:`pileupgen.fields`.
    verb, source : str
        Words of the heading in the help: what the settings are of, and where the defaults are.
    """
    known = {one.name: one for one in settings_of(settings)}
    kinds = {name: _kind(kind) for name, kind in get_type_hints(settings).items()}
    panel = f"How to {verb}{source}"

    def given(values: Mapping[str, Any]) -> AbstractContextManager[Given]:
        present = {name: value for name, value in values.items() if value is not None}
        return nullcontext({n: _parsed(known[n], kinds[n], v) for n, v in present.items()})

    options = [_option(one, kinds[name], panel) for name, one in known.items()]
    return gathered("given", options, given)


with_settings = with_options_of(Settings, "translate")
"""Decorates a command that takes ``given``: settings of a translation that are options."""
with_comparison = with_options_of(ComparisonSettings, "compare")
"""Decorates a command that takes ``given``: settings of a comparison that are options."""
with_overlay = with_options_of(OverlaySettings, "overlay", "")
"""Decorates a command that takes ``given``: settings of an overlay that are options."""
