"""Numbers and labels of ``metrics.json`` as text and as HTML."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any, Literal

CLEAR = 3.0
"""Significance in σ above which a difference is told: ``significance.CLEAR``, without imports."""
LIMIT = 37.0
"""Largest significance that is computed: ``significance.LIMIT``, without its imports."""
NONE = "–"
"""What stands where there is no number."""

Standing = Literal["reference", "nearer", "farther", "unknown"]

_MACROS = {
    "Sigma": "Σ",
    "eta": "η",
    "phi": "φ",
    "pi": "π",
    "mu": "μ",
    "rho": "ρ",
    "sigma": "σ",
    "langle": "⟨",
    "rangle": "⟩",
    "sqrt": "√",
    ",": "\u2009",
    "|": "‖",
}
_UPRIGHT = ("mathrm", "text", "mathregular")


def places(metrics: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Give the parts of source correlation: keys in ``metrics.json``, and words for them."""
    if metrics.get("kind") == "features":
        return (("block", "features"),)
    return (("block", "blocks"), ("cell", "cells"))


def controls_of(metrics: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Give the translations that stay in one domain, by name; none in older files."""
    return dict(metrics["controls"].get("rows", {}))


def sigma_text(value: float) -> str:
    """Give a significance with its unit.

    >>> sigma_text(18.25), sigma_text(37.0)
    ('18.2 σ', '> 37 σ')
    """
    return f"> {LIMIT:g} σ" if value >= LIMIT else f"{value:.1f} σ"


def number(value: float | None, scale: float = 1.0, decimals: int = 3) -> str:
    """Give up to three decimals, one for large values, and a true minus sign.

    >>> number(-0.0124), number(341.234), number(None)
    ('−0.012', '341.2', '–')
    """
    if value is None:
        return NONE
    shown = scale * value
    text = f"{shown:.{decimals}f}" if abs(shown) < 100 else f"{shown:,.1f}"
    return text.replace("-", "−")


def percent(value: float) -> str:
    """Give a fraction in per cent.

    >>> percent(0.9136)
    '91 %'
    """
    return f"{100 * value:.0f} %".replace("-", "−")


def has_interval(estimate: Mapping[str, float | None]) -> bool:
    """Whether an estimate has an interval of some width."""
    low, high = estimate["low"], estimate["high"]
    return low is not None and high is not None and low != high


def standing(
    reference: Mapping[str, float | None],
    source: Mapping[str, float | None],
    translated: Mapping[str, float | None],
) -> Standing:
    """Tell where the translated sample's distance lies.

    Parameters
    ----------
    reference, source, translated : mapping
        Estimates of one distance.

    Returns
    -------
    str
        ``"reference"`` if its interval reaches down to the reference's, ``"farther"`` if it is
        above the source's, else ``"nearer"``; ``"unknown"`` if a number is missing.
    """
    value, reach, before = translated["value"], reference["high"], source["value"]
    if value is None or reach is None or before is None:
        return "unknown"
    if (translated["low"] or 0.0) <= reach:
        return "reference"
    return "farther" if value > before else "nearer"


def standings(metrics: Mapping[str, Any]) -> dict[str, Standing]:
    """Give the standing of every observable."""
    rows = metrics["rows"]
    return {
        name: standing(
            *(rows[row]["observables"][name]["w1"] for row in ("reference", "source", "translated"))
        )
        for name in metrics["observables"]
    }


def auc_error(test: Mapping[str, float]) -> float:
    """Give the error of an AUC, from events and from seeds."""
    return float((test["error"] ** 2 + test["spread"] ** 2) ** 0.5)


def physics_range(distance: Mapping[str, float | None], decimals: int) -> str:
    """Give ± the error of an FPD or KPD × 1000, or the range of a median over samples.

    >>> physics_range({"value": 0.008, "error": 0.001}, 1)
    '± 1.0'
    >>> physics_range({"value": 0.008, "error": 0.001, "lowest": 0.007, "highest": 0.3}, 1)
    '7.0 to 300.0'
    """
    low, high = distance.get("lowest"), distance.get("highest")
    if low is None or high is None:
        return f"± {number(distance['error'], 1000, decimals)}"
    return f"{number(low, 1000, decimals)} to {number(high, 1000, decimals)}"


def label_html(label: str, unit: str = "") -> str:
    r"""Turn a figure's label with simple TeX between dollars into HTML.

    >>> label_html(r"$\Sigma E_T$, em", "GeV")
    'Σ<i>E</i><sub><i>T</i></sub>, em [GeV]'
    """
    parts = label.split("$")
    html = "".join(
        _math(part, True) if place % 2 else escape(part) for place, part in enumerate(parts)
    )
    return html + (f" [{escape(unit)}]" if unit else "")


def _math(text: str, italic: bool) -> str:
    html = ""
    while text:
        tag = {"_": "sub", "^": "sup"}.get(text[0])
        if tag is not None:
            argument, text = _argument(text[1:])
            html += f"<{tag}>{_math(argument, italic)}</{tag}>"
        elif text[0] == "\\":
            name, text = _macro(text[1:])
            if name in _UPRIGHT:
                argument, text = _argument(text)
                html += _math(argument, False)
            else:
                html += _MACROS.get(name, escape(name))
        elif text[0] in "{}":
            text = text[1:]
        else:
            letter, text = text[0], text[1:]
            if letter == "-":
                html += "\u2009−\u2009" if html else "−"
            elif letter != " ":
                html += f"<i>{letter}</i>" if italic and letter.isalpha() else escape(letter)
    return html


def _macro(text: str) -> tuple[str, str]:
    """Split a macro's name off, and one space after a name of letters."""
    n = 0
    while n < len(text) and text[n].isalpha():
        n += 1
    if n == 0:
        return text[:1], text[1:]
    return text[:n], text[n:].removeprefix(" ")


def _argument(text: str) -> tuple[str, str]:
    """Split off what a macro, ``_`` or ``^`` applies to: a group, a macro or a character."""
    if text[:1] == "{":
        depth = 0
        for place, letter in enumerate(text):
            depth += {"{": 1, "}": -1}.get(letter, 0)
            if depth == 0:
                return text[1:place], text[place + 1 :]
        return text[1:], ""
    if text[:1] == "\\":
        name, rest = _macro(text[1:])
        if name in _UPRIGHT:
            argument, rest = _argument(rest)
            return f"\\{name}{{{argument}}}", rest
        return f"\\{name}", rest
    return text[:1], text[1:]
