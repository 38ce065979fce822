"""What a translation's settings may be, alone and together."""

from __future__ import annotations

import functools
import math
import operator
from dataclasses import Field
from itertools import pairwise
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pileupgen.diffusion.settings import WITHOUT_NETWORK, Settings, is_stochastic
from pileupgen.errors import ConfigError, did_you_mean
from pileupgen.fields import settings_of

_SYMBOLS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def check_settings(of: Settings, num_train_timesteps: int) -> None:
    """Refuse what makes no sense, or what a model with T timesteps cannot follow.

    Raises
    ------
    ConfigError
        Naming the setting.
    """
    for one in settings_of(of):
        _require_known(one.name, getattr(of, one.name), _choices().get(one.name))
        _require_within(one, getattr(of, one.name))
    last = num_train_timesteps - 1
    if not 0 <= of.release_timestep <= last:
        raise ConfigError(
            f"t_release {of.t_release} is outside 0 … {last}.",
            "Small values keep the event, large ones remove more of the difference.",
        )
    _check_interval(of, last)
    _check_timesteps(of, last)
    _check_combination(of)


def _check_interval(of: Settings, last: int) -> None:
    if of.guidance_interval is None:
        return
    low, high = of.guidance_interval
    if not 0 <= low <= high <= last:
        raise ConfigError(
            f"The guidance interval {low},{high} is not within 0,{last} and ascending.",
            "Give --guidance-interval two timesteps, as in 50,400.",
        )


def _check_timesteps(of: Settings, last: int) -> None:
    steps = of.timesteps
    if steps is None or of.mode in WITHOUT_NETWORK:
        return
    shown = ",".join(map(str, steps))
    descends = all(first > second for first, second in pairwise(steps))
    if not (steps and descends and min(steps) >= 0 and max(steps) <= last):
        raise ConfigError(
            f"The timesteps {shown} are not descending within {last} … 0.",
            "Give them from the release down, as in 300,200,100,40,10.",
        )
    if of.release == "per-event":
        raise ConfigError(
            "Explicit timesteps begin at one release, so they do not go with one per event.",
            "Leave out one of the two.",
        )
    start = last if of.mode == "generate" else of.t_release
    if steps[0] != start:
        raise ConfigError(
            f"The timesteps {shown} begin at {steps[0]}, the decoding at {start}.",
            f"Begin them with {start}, or release at {steps[0]}.",
        )


def _check_combination(of: Settings) -> None:
    if of.mode == "invert+sde" and not is_stochastic(of.decoding_sampler, of.eta):
        raise ConfigError(
            f"Mode invert+sde with '{of.sampler}' and η = {of.eta:g} has no noise.",
            "Choose --sampler sde-dpmsolver++ or ancestral, or --mode invert.",
        )
    if of.release == "per-event" and of.fresh_noise < 1:
        raise ConfigError(
            "A per-event release noises clean events; it does not go with fresh_noise below 1.",
            "Choose --fresh-noise 1, or one release for all.",
        )
    if of.release == "per-event" and of.mode != "partial":
        raise ConfigError(
            f"A per-event release goes with mode partial, not {of.mode}.",
            "Its ln r is that of the event noised to each time.",
        )


def _require_known(what: str, value: object, known: tuple[str, ...] | None) -> None:
    if known is not None and value not in known:
        raise ConfigError(
            f"No {what.replace('_', ' ')} '{value}'.", did_you_mean(str(value), known)
        )


def _require_within(one: Field[Any], value: object) -> None:
    """Refuse numbers outside the limits of their field."""
    if not isinstance(value, int | float):
        return
    for name, symbol in _SYMBOLS.items():
        limit = one.metadata.get(name)
        if limit is not None and not getattr(operator, name)(value, limit):
            raise ConfigError(f"{one.name} must be {symbol} {limit}, not {value:g}.")
    if not math.isfinite(value):
        raise ConfigError(f"{one.name} must be finite, not {value}.")


@functools.cache
def _choices() -> dict[str, tuple[str, ...]]:
    """Settings that are one of some words, with these."""
    hints = get_type_hints(Settings)
    return {name: get_args(kind) for name, kind in hints.items() if get_origin(kind) is Literal}
