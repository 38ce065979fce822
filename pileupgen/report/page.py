"""The report: one page that needs nothing but itself."""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from pileupgen.errors import UnreadableInputError
from pileupgen.files import write_whole
from pileupgen.report.captions import caption
from pileupgen.report.tables import (
    definitions_table,
    findings_table,
    headline_table,
    inputs_table,
    mu_table,
    observables_table,
    pileup_table,
    settings_table,
    shower_table,
)
from pileupgen.report.verdict import Judgement, judge_metrics

NAME = "report.html"
"""What the page is called in a validation's folder."""
WIDE = 1.2
"""Width over height above which a figure is scrolled, not shrunk, on a phone."""
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def write_report(metrics: Mapping[str, Any], folder: Path) -> Path:
    """Write the report of a validation from its numbers and its figures.

    Parameters
    ----------
    metrics : mapping
        What ``metrics.json`` holds.
    folder : Path
        Where the figures are that ``metrics["figures"]`` names, and where the page goes.

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
    for name in metrics.get("figures", ()):
        if name.endswith(".png"):
            try:
                pictures[name] = (folder / name).read_bytes()
            except OSError as error:
                raise UnreadableInputError(
                    f"Figure {folder / name} cannot be read: {error.strerror}.",
                    "Run 'pileupgen validate' again.",
                ) from error
    path = folder / NAME
    write_whole(path, render_report(metrics, pictures))
    return path


def render_report(metrics: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """Make the page: verdict, tables, figures, provenance.

    Parameters
    ----------
    metrics : mapping
        What ``metrics.json`` holds.
    pictures : mapping of str to bytes
        PNG files by path relative to the page, in the order of the page.

    Raises
    ------
    UnreadableInputError
        If a picture is no PNG.
    """
    source, target = metrics["rows"]["source"]["label"], metrics["target"]["label"]
    title = escape(f"Validation: {source} translated to {target}")
    style = (files("pileupgen.report") / "page.css").read_text(encoding="utf-8")
    numbers = "\n".join(
        make(metrics)
        for make in (headline_table, findings_table, shower_table, mu_table, pileup_table)
    )
    figures = "\n".join(_figure(name, data) for name, data in pictures.items())
    origin = "\n".join(make(metrics) for make in (settings_table, inputs_table, definitions_table))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p class="quiet">{_subtitle(metrics)}</p>
<nav aria-label="Contents"><ul>
<li><a href="#verdict">Verdict</a></li>
<li><a href="#numbers">Numbers</a></li>
<li><a href="#observables">Observables</a></li>
<li><a href="#figures">Figures</a></li>
<li><a href="#origin">Provenance</a></li>
</ul></nav>
</header>
<main>
{_verdict(judge_metrics(metrics))}
<section aria-labelledby="numbers">
<h2 id="numbers">Numbers</h2>
<p>Reference: real against other real events, the best that can be reached with this many.
Source: simulation as it is. Translated: simulation after translation.</p>
{numbers}
</section>
<section aria-labelledby="observables">
<h2 id="observables">Observables</h2>
{observables_table(metrics)}
</section>
<section aria-labelledby="figures">
<h2 id="figures">Figures</h2>
{figures or "<p>There are none.</p>"}
</section>
<section aria-labelledby="origin">
<h2 id="origin">Provenance</h2>
{origin}
</section>
</main>
</body>
</html>
"""


def _subtitle(metrics: Mapping[str, Any]) -> str:
    rows, how = metrics["rows"], metrics.get("translation", {})
    parts = [
        f"{rows['translated']['n_events']:,} translated events against "
        f"{metrics['target']['n_events']:,} of {metrics['target']['label']}"
    ]
    if "t_release" in how:
        parts.append(f"released at t = {how['t_release']}")
    if "w" in how:
        parts.append(f"guidance w = {how['w']}")
    parts.append(f"{'with' if metrics['settings']['weighted'] else 'without'} release weights")
    return escape(" · ".join(parts))


def _verdict(judgement: Judgement) -> str:
    sides = "\n".join(
        f'<div class="{kind}"><h3>{heading}</h3>\n<ul>{_items(texts)}</ul></div>'
        for kind, heading, texts in (
            ("good", "What agrees", judgement.for_it),
            ("bad", "What does not", judgement.against_it),
            ("caution", "Before you believe it", judgement.cautions),
        )
        if texts
    )
    state = "agrees" if judgement.agrees else "differs"
    return f"""<section aria-labelledby="verdict">
<h2 id="verdict">Verdict</h2>
<div class="verdict {state}">
<p class="lead">{escape(judgement.lead)}</p>
<p>{escape(judgement.progress)}</p>
</div>
<div class="sides">
{sides}
</div>
</section>"""


def _items(texts: tuple[str, ...]) -> str:
    return "".join(f"<li>{escape(text)}</li>" for text in texts)


def _figure(name: str, data: bytes) -> str:
    words = caption(Path(name).stem)
    width, height = _size(name, data)
    kind = "wide" if width > WIDE * height else "tall"
    encoded = b64encode(data).decode("ascii")
    pdf = escape(str(Path(name).with_suffix(".pdf")))
    return f"""<figure>
<div class="scroll" tabindex="0" role="group" aria-label="{escape(words.title)}">
<img class="{kind}" width="{width}" height="{height}" alt="{escape(words.alt)}"
 src="data:image/png;base64,{encoded}">
</div>
<figcaption><strong>{escape(words.title)}.</strong> {escape(words.see)}
<span class="quiet">For print: <code>{pdf}</code>.</span></figcaption>
</figure>"""


def _size(name: str, data: bytes) -> tuple[int, int]:
    """Width and height in pixels from a PNG's first chunk."""
    if len(data) < 24 or not data.startswith(PNG_SIGNATURE):
        raise UnreadableInputError(f"Figure {name} is no PNG.", "Run 'pileupgen validate' again.")
    width, height = struct.unpack(">II", data[16:24])
    return int(width), int(height)
