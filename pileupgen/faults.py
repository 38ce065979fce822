"""Plain values to a strict model, with every fault in words."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_args, get_type_hints

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from pileupgen.errors import CardError, ConfigError, did_you_mean

Model = TypeVar("Model", bound=BaseModel)


class StrictModel(BaseModel):
    """Content of a file: immutable; unknown keys and infinite numbers are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _UniqueKeys(yaml.SafeLoader):
    """Reads YAML in which no key of a mapping is named twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name is not None and name in seen:
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"'{name}' is there twice; one of them would be lost",
                    key.start_mark,
                )
            seen.add(name)
        return super().construct_mapping(node, deep=deep)


def read_yaml(text: str) -> Any:
    """Read YAML as plain values.

    Raises
    ------
    yaml.YAMLError
        If it is not YAML, or a mapping has a key twice, of which YAML readers keep the last.
    """
    return yaml.load(text, _UniqueKeys)


def parse_model(
    model: type[Model],
    values: object,
    where: str,
    *,
    error: type[CardError] | type[ConfigError] = CardError,
    hint: str = "",
    section: str = "",
    context: dict[str, Any] | None = None,
) -> Model:
    """Check plain values against a model.

    Parameters
    ----------
    model : type
        A pydantic model that forbids unknown keys.
    where : str
        Begins every message: a file, a card's key, a command.
    section : str
        The key under which the values stand.

    Raises
    ------
    CardError or ConfigError
        Naming every fault and, for an unknown key, the nearest known one.
    """
    if not isinstance(values, dict):
        raise error(f"{where} must be a mapping of settings, not {type(values).__name__}.", hint)
    try:
        return model.model_validate(values, context=context)
    except ValidationError as invalid:
        faults = [describe_fault(dict(fault), model, section) for fault in invalid.errors()]
        raise error(f"{where}: " + "; ".join(faults), hint) from None


def describe_fault(fault: dict[str, Any], model: type[BaseModel], section: str = "") -> str:
    """Describe one of pydantic's faults: where, what, and the nearest known key."""
    location = fault["loc"]
    name = ".".join(str(part) for part in ((section, *location) if section else location))
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        known = _keys_at(model, location[:-1])
        return f"unknown key '{name}'. {did_you_mean(str(location[-1]), known)}"
    if fault["type"] == "missing":
        return f"'{name}' is missing"
    message = str(fault["msg"]).removeprefix("Value error, ")
    message = f"{message[:1].lower()}{message[1:]}"
    if fault["type"] != "value_error":
        message = f"{message} (got {fault['input']!r})"
    return f"{name}: {message}" if name else message


def _keys_at(model: Any, location: tuple[Any, ...]) -> list[str]:
    for part in location:
        annotation = _annotations(model).get(part)
        if annotation is None:
            continue  # the index of a list, or the name of a union's member
        inner = _model_in(annotation)
        if inner is None:
            return []
        model = inner
    return list(_annotations(model))


def _annotations(model: Any) -> dict[str, Any]:
    """Keys of a model as a file spells them, with the types of their values."""
    if is_dataclass(model):
        hints = get_type_hints(model)
        return {one.name: hints[one.name] for one in fields(model)}
    found: dict[str, Any] = {
        one.alias or name: one.annotation for name, one in model.model_fields.items()
    }
    return found


def _model_in(annotation: Any) -> Any:
    """Find the model that an annotation is, or holds as an item."""
    if isinstance(annotation, type) and (
        issubclass(annotation, BaseModel) or is_dataclass(annotation)
    ):
        return annotation
    found = (_model_in(argument) for argument in get_args(annotation))
    return next((one for one in found if one is not None), None)
