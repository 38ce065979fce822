"""Plain values to a strict model, with faults in words."""

from __future__ import annotations

from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from pileupgen.errors import CardError, did_you_mean

Model = TypeVar("Model", bound=BaseModel)


def parse_model(
    model: type[Model], values: object, where: str, context: dict[str, Any] | None = None
) -> Model:
    """Check plain values against a model.

    Parameters
    ----------
    model : type
        A pydantic model that forbids unknown keys.
    values : object
        What a YAML file held; must be a mapping.
    where : str
        Begins every message: a file, a card's key, a command.
    context : dict, optional
        Handed to the model's validators.

    Raises
    ------
    CardError
        Naming every fault and, for an unknown key, the nearest known one.
    """
    if not isinstance(values, dict):
        raise CardError(f"{where} must be a mapping, not {type(values).__name__}.")
    try:
        return model.model_validate(values, context=context)
    except ValidationError as error:
        faults = [_describe(dict(fault), model) for fault in error.errors()]
        raise CardError(f"{where}: " + "; ".join(faults)) from None


def _describe(fault: dict[str, Any], model: type[BaseModel]) -> str:
    location = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        known = _keys_at(model, fault["loc"][:-1])
        return f"unknown key '{location}'. {did_you_mean(str(fault['loc'][-1]), known)}"
    message = fault["msg"].removeprefix("Value error, ")
    prefix = f"{location}: " if location else ""
    if fault["type"] in ("missing", "value_error"):
        return f"{prefix}{message}"
    return f"{prefix}{message[0].lower()}{message[1:]} (got {fault['input']!r})"


def _keys_at(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    for part in location:
        if isinstance(part, int) or part not in model.model_fields:
            continue
        inner = _model_in(model.model_fields[part].annotation)
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Find the model that an annotation is, or holds as an item."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = _model_in(argument)
        if found is not None:
            return found
    return None
