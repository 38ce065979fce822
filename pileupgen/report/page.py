"""The report: one self-contained page."""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pileupgen.compare.headline import glossary
from pileupgen.compare.results import Comparison
from pileupgen.errors import UnreadableInputError
from pileupgen.files import write_whole
from pileupgen.report.captions import Caption, caption
from pileupgen.report.measurements import measurement_tables
from pileupgen.report.overlay import overlay_table
from pileupgen.report.tables import (
    findings_table,
    headline_table,
    inputs_table,
    ladder_details_table,
    ladder_table,
    mu_table,
    observables_table,
    pileup_table,
    settings_table,
    shower_table,
    source_table,
)
from pileupgen.report.text import label_with_w1
from pileupgen.report.verdict import judge_comparison

NAME = "report.html"
"""File name of the page in a validation's folder."""
NUMBER_TABLES = (
    headline_table,
    overlay_table,
    ladder_table,
    ladder_details_table,
    findings_table,
    shower_table,
    mu_table,
    pileup_table,
)
"""Tables of the section of numbers, in their order."""
FIRST_TERMS = (
    "target",
    "reference",
    "source",
    "translated",
    "w1",
    "shift_removed",
    "significance",
    "source_correlation_block",
)
"""Terms that a reader meets in the verdict, defined above it."""
WIDE = 1.2
"""Width over height above which a figure is scrolled, not shrunk, on a phone."""
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Picture:
    """A figure on the page."""

    words: Caption
    """What is said of it."""
    width: int
    height: int
    """Width and height in pixels."""
    kind: str
    """``"wide"`` or ``"tall"``."""
    data: str
    """The PNG in base 64."""
    pdf: str
    """The same for print, relative to the page."""


def write_report(comparison: Comparison, folder: Path) -> Path:
    """Write the report of a validation from its numbers and its figures.

    Parameters
    ----------
    comparison : Comparison
        What ``metrics.json`` holds.
    folder : Path
        Where the figures are that the comparison names, and where the page goes.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    UnreadableInputError
        If a figure is missing or no PNG.
    OutputError
        If the page cannot be written.
    """
    pictures = {}
    for name in comparison.figures:
        if name.endswith(".png"):
            try:
                pictures[name] = (folder / name).read_bytes()
            except OSError as error:
                raise UnreadableInputError(
                    f"Figure {folder / name} cannot be read: {error.strerror}.",
                    "Run 'pileupgen validate' again.",
                ) from error
    path = folder / NAME
    write_whole(path, render_report(comparison, pictures))
    return path


def render_report(comparison: Comparison, pictures: Mapping[str, bytes]) -> str:
    """Make the page: terms, verdict, source events, tables, figures, glossary, provenance.

    Parameters
    ----------
    comparison : Comparison
        What ``metrics.json`` holds.
    pictures : mapping of str to bytes
        PNG files by path relative to the page, in the order of the page.

    Raises
    ------
    UnreadableInputError
        If a picture is no PNG.
    """
    judgement = judge_comparison(comparison)
    terms = {term.name: term for term in glossary(comparison.kind)}
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            title=f"Validation: {comparison.source.label} translated to {comparison.target.label}",
            subtitle=_subtitle(comparison),
            style=page_style(),
            terms=[terms[name] for name in FIRST_TERMS],
            judgement=judgement,
            sides=(
                ("good", "What agrees", judgement.for_it),
                ("bad", "What differs", judgement.against_it),
                ("caution", "What to know before relying on it", judgement.cautions),
            ),
            numbers=[make(comparison) for make in NUMBER_TABLES],
            source=source_table(comparison),
            measurements=measurement_tables(comparison),
            observables=observables_table(comparison),
            figures=[
                picture_of(name, data, caption(Path(name).stem)) for name, data in pictures.items()
            ],
            glossary=list(terms.values()),
            origin=[settings_table(comparison), inputs_table(comparison)],
        )
    )


def _subtitle(comparison: Comparison) -> str:
    how, target = comparison.translation, comparison.target
    parts = [
        f"{comparison.translated.n_events:,} translated events compared with "
        f"{target.n_events:,} events of {target.label}"
    ]
    if "t_release" in how:
        parts.append(f"release at diffusion time t = {how['t_release']}")
    if "w" in how:
        parts.append(f"guidance strength w = {how['w']}")
    parts.append(f"{'with' if comparison.settings.weighted else 'without'} release weights")
    if comparison.kind == "images" and any(
        name.startswith("negative_") for name in comparison.observables
    ):
        parts.append("energies of either sign")
    return " · ".join(parts)


def environment() -> Environment:
    """Templates of the report's pages."""
    made = Environment(
        loader=PackageLoader("pileupgen", "report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    made.filters["w1"] = label_with_w1
    return made


def page_style() -> Markup:
    """Style sheet of all pages, to be put into them."""
    return Markup((files("pileupgen.report") / "page.css").read_text(encoding="utf-8"))


def picture_of(name: str, data: bytes, words: Caption) -> Picture:
    """Describe a figure; its size is in the PNG's first chunk.

    Raises
    ------
    UnreadableInputError
        If it is no PNG.
    """
    if len(data) < 24 or not data.startswith(PNG_SIGNATURE):
        raise UnreadableInputError(f"Figure {name} is no PNG.", "Run 'pileupgen validate' again.")
    width, height = struct.unpack(">II", data[16:24])
    return Picture(
        words=words,
        width=int(width),
        height=int(height),
        kind="wide" if width > WIDE * height else "tall",
        data=b64encode(data).decode("ascii"),
        pdf=str(Path(name).with_suffix(".pdf")),
    )
