"""Numbers and labels of a comparison as text and as HTML."""

from __future__ import annotations

import math
from html import escape
from typing import Literal

from markupsafe import Markup

from pileupgen.compare.headline import HeadlineColumn, HeadlineNumber
from pileupgen.compare.records import SIGMA_LIMIT
from pileupgen.compare.results import Comparison
from pileupgen.measure.bootstrap import Estimate

NONE = "–"
"""Text in place of a missing number."""

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


def places(comparison: Comparison) -> str:
    """Name the energies that the block source correlation is computed from."""
    return "features" if comparison.kind == "features" else "blocks"


def sigma_text(value: float) -> str:
    """Give a significance with its unit.

    >>> sigma_text(18.25), sigma_text(37.0)
    ('18.2 σ', '> 37 σ')
    """
    return f"> {SIGMA_LIMIT:g} σ" if value >= SIGMA_LIMIT else f"{value:.1f} σ"


def number(value: float, scale: float = 1.0, decimals: int = 3) -> str:
    """Give up to three decimals, one for large values, and a true minus sign.

    >>> number(-0.0124), number(341.234), number(float("nan"))
    ('−0.012', '341.2', '–')
    """
    shown = scale * value
    if not math.isfinite(shown):
        return NONE
    text = f"{shown:.{decimals}f}" if abs(shown) < 100 else f"{shown:,.1f}"
    return text.replace("-", "−")


def percent(value: float) -> str:
    """Give a fraction in per cent.

    >>> percent(0.9136)
    '91 %'
    """
    return f"{100 * value:.0f} %".replace("-", "−")


def estimate_text(found: Estimate | None, scale: float = 1.0, decimals: int = 3) -> str:
    """Give a value with half the width of its interval, or the interval where it is lopsided.

    >>> estimate_text(Estimate(0.5, 0.4, 0.6)), estimate_text(Estimate(1.0, 0.9, 30.0))
    ('0.500 ± 0.100', '1.000 (0.900 to 30.000)')
    """
    if found is None:
        return NONE
    value, low, high = (number(v, scale, decimals) for v in (found.value, found.low, found.high))
    if not found.is_known or not found.has_interval:
        return value
    arms = sorted((found.value - found.low, found.high - found.value))
    if arms[1] > 4 * arms[0]:
        return f"{value} ({low} to {high})"
    return f"{value} ± {number(found.error, scale, decimals)}"


def estimate_html(found: Estimate | None, scale: float = 1.0, decimals: int = 3) -> Markup:
    """Give a value with its interval in small print.

    >>> estimate_html(Estimate(0.5, 0.4, 0.6))
    Markup('0.500 <small>0.400 to 0.600</small>')
    """
    if found is None or not found.has_interval:
        return Markup(number(found.value if found else math.nan, scale, decimals))
    texts = (number(v, scale, decimals) for v in (found.value, found.low, found.high))
    return Markup("{} <small>{} to {}</small>").format(*texts)


def headline_text(number: HeadlineNumber, column: HeadlineColumn) -> str:
    """Give a headline number of a column as plain text."""
    return _without_unit(number, column) or estimate_text(
        number.get(column), number.scale, number.decimals
    )


def headline_html(number: HeadlineNumber, column: HeadlineColumn) -> Markup:
    """Give a headline number of a column as HTML."""
    plain = _without_unit(number, column)
    if plain:
        return Markup.escape(plain.replace(" ", "\u00a0"))
    return estimate_html(number.get(column), number.scale, number.decimals)


def _without_unit(number: HeadlineNumber, column: HeadlineColumn) -> str:
    """Give what has no interval; empty where the number is an estimate."""
    found = number.get(column)
    if number.unit == "σ":
        return NONE if found is None else sigma_text(found.value)
    if number.unit == "events":
        return count_text(column)
    return ""


def count_text(column: HeadlineColumn) -> str:
    """Give the number of events of a row, with that of its samples."""
    times = f"{column.row.n_samples} × " if column.row.n_samples > 1 else ""
    return f"{times}{column.row.n_events:,}"


def standing(reference: Estimate, source: Estimate, translated: Estimate) -> Standing:
    """Tell where the translated sample's distance lies.

    Returns
    -------
    str
        ``"reference"`` if its interval reaches down to the reference's, ``"farther"`` if it is
        above the source's, else ``"nearer"``; ``"unknown"`` if a number is missing.
    """
    if not all(map(math.isfinite, (translated.value, reference.high, source.value))):
        return "unknown"
    low = translated.low if math.isfinite(translated.low) else 0.0
    if low <= reference.high:
        return "reference"
    return "farther" if translated.value > source.value else "nearer"


def standings(comparison: Comparison) -> dict[str, Standing]:
    """Give the standing of every observable."""
    rows = (comparison.reference, comparison.source, comparison.translated)
    return {
        name: standing(*(row.observables[name].w1 for row in rows))
        for name in comparison.observables
    }


def label_with_w1(text: str) -> Markup:
    """Escape a plain label and set the Wasserstein distance's index low.

    >>> label_with_w1("mean W1/σ")
    Markup('mean W<sub>1</sub>/σ')
    """
    return Markup(escape(text).replace("W1", "W<sub>1</sub>"))


def label_html(label: str, unit: str = "") -> Markup:
    r"""Turn a figure's label with simple TeX between dollars into HTML.

    >>> str(label_html(r"$\Sigma E_T$, em", "GeV"))
    'Σ<i>E</i><sub><i>T</i></sub>, em [GeV]'
    """
    parts = label.split("$")
    html = "".join(
        _math(part, True) if place % 2 else escape(part) for place, part in enumerate(parts)
    )
    return Markup(html + (f" [{escape(unit)}]" if unit else ""))


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
