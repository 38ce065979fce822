"""``metrics.json`` read back, and checked against its schema.

The schema is ``metrics.schema.json`` beside this module, JSON Schema 2020-12. The check knows the
keywords that it uses, so that no package is needed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from pileupgen.errors import MissingInputError, UnreadableInputError

SCHEMA_NAME = "pileupgen-metrics"
MAKE_IT = "Run 'pileupgen validate --run {run}' to make it."

_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    ),
}
KEYWORDS = frozenset(
    {
        "$schema",
        "$id",
        "$defs",
        "$ref",
        "title",
        "description",
        "type",
        "const",
        "enum",
        "anyOf",
        "minimum",
        "maximum",
        "properties",
        "required",
        "additionalProperties",
        "items",
    }
)
"""What :func:`faults` understands."""


@cache
def metrics_schema() -> dict[str, Any]:
    """Give the schema of ``metrics.json``."""
    text = (files("pileupgen.report") / "metrics.schema.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def faults(value: Any, schema: Mapping[str, Any] | None = None) -> list[str]:
    """Find where a value does not fit a schema.

    Parameters
    ----------
    value : object
        What JSON can hold.
    schema : mapping, optional
        A schema of the keywords in ``KEYWORDS``; that of ``metrics.json`` by default.

    Returns
    -------
    list of str
        ``place: what is wrong``; empty where all is well.
    """
    root = metrics_schema() if schema is None else schema
    return list(_faults(value, root, root, ""))


def read_metrics(path: Path) -> dict[str, Any]:
    """Read the numbers of a validation.

    Parameters
    ----------
    path : Path
        A run directory, a validation's folder, or a ``metrics.json``.

    Raises
    ------
    MissingInputError
        If there is none.
    UnreadableInputError
        If it is damaged, not ours, or of another version of pileupgen.
    """
    place = metrics_path(path)
    make_it = MAKE_IT.format(run=run_of(place))
    try:
        metrics = json.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingInputError(f"No metrics at {place}.", make_it) from error
    except OSError as error:
        raise UnreadableInputError(f"{place} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UnreadableInputError(f"{place} is not JSON: {error}.", make_it) from error
    if not isinstance(metrics, dict) or metrics.get("schema") != SCHEMA_NAME:
        raise UnreadableInputError(f"{place} is not a metrics.json of pileupgen.", make_it)
    found = faults(metrics)
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise UnreadableInputError(
            f"{place} does not fit this version of pileupgen: {found[0]}{more}.", make_it
        )
    return metrics


def metrics_path(path: Path) -> Path:
    """Tell which file a run directory, a validation's folder or a file stands for."""
    if path.is_file() or (path.suffix == ".json" and not path.is_dir()):
        return path
    within = path / "validation" / "metrics.json"
    is_validation = "validation" in (path.name, path.parent.name) and not within.is_file()
    if (path / "metrics.json").is_file() or is_validation:
        return path / "metrics.json"
    return within


def run_of(path: Path) -> Path:
    """Tell which run directory a ``metrics.json`` is, or would be, in."""
    # A validation's folder, or one in it; a folder farther up may be called so by chance.
    for folder in path.parents[:2]:
        if folder.name == "validation":
            return folder.parent
    return path.parent


def _faults(
    value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], place: str
) -> Iterator[str]:
    where = place or "the whole"
    if "$ref" in schema:
        yield from _faults(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root, place)
    if "anyOf" in schema:
        tried = [list(_faults(value, option, root, place)) for option in schema["anyOf"]]
        if all(tried):
            # The option that lies deepest is the one that was meant.
            yield from max(tried, key=lambda found: len(found[0].partition(":")[0]))
    if "const" in schema and value != schema["const"]:
        yield f"{where}: {value!r} instead of {schema['const']!r}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: {value!r} is none of {', '.join(map(str, schema['enum']))}"
        return
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_TYPES[kind](value) for kind in kinds):
        yield f"{where}: {_short(value)} is no {' or '.join(kinds)}"
        return
    if _TYPES["number"](value):
        if value < schema.get("minimum", -math.inf):
            yield f"{where}: {value} is below {schema['minimum']}"
        if value > schema.get("maximum", math.inf):
            yield f"{where}: {value} is above {schema['maximum']}"
    if isinstance(value, dict):
        yield from _members(value, schema, root, place)
    if isinstance(value, list) and "items" in schema:
        for number, item in enumerate(value):
            yield from _faults(item, schema["items"], root, f"{place}[{number}]")


def _members(
    value: dict[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any], place: str
) -> Iterator[str]:
    known = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    prefix = f"{place}." if place else ""
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{prefix}{name}: missing"
    for name, item in value.items():
        if name in known:
            yield from _faults(item, known[name], root, prefix + name)
        elif others is False:
            yield f"{prefix}{name}: unknown"
        elif isinstance(others, dict):
            yield from _faults(item, others, root, prefix + name)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:39] + "…"
