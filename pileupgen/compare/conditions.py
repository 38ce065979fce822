"""Conditions on a comparison's numbers, such as ``auc_features > 0.6``."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pileupgen.errors import ConfigError, did_you_mean

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_PATTERN = re.compile(r"\s*(\w+)\s*(>=|<=|>|<)\s*(\S+)\s*")


@dataclass(frozen=True)
class Condition:
    """A number of the headline compared with a limit."""

    name: str
    """Key of :meth:`~pileupgen.compare.results.Comparison.headline`."""
    symbol: str
    """One of ``>``, ``>=``, ``<``, ``<=``."""
    limit: float
    """What it is compared with."""

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read ``name > number``.

        Raises
        ------
        ConfigError
            If it is not of this form.

        Examples
        --------
        >>> Condition.parse("auc_features > 0.6")
        Condition(name='auc_features', symbol='>', limit=0.6)
        """
        match = _PATTERN.fullmatch(text)
        limit = math.nan
        if match:
            try:
                limit = float(match[3])
            except ValueError:
                match = None
        if match is None or not math.isfinite(limit):
            raise ConfigError(
                f"'{text}' is not a condition.", "Write a name, one of > >= < <=, and a number."
            )
        return cls(match[1], match[2], limit)

    def holds(self, numbers: Mapping[str, float]) -> bool:
        """Whether it is true of these numbers.

        Raises
        ------
        ConfigError
            If there is no such number; names the nearest.
        """
        if self.name not in numbers:
            raise ConfigError(
                f"This comparison has no number '{self.name}'.",
                did_you_mean(self.name, numbers),
            )
        return _OPERATORS[self.symbol](numbers[self.name], self.limit)

    def __str__(self) -> str:
        return f"{self.name} {self.symbol} {self.limit:g}"
