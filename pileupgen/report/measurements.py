"""Tables of the section that looks at published measurements."""

from __future__ import annotations

from pileupgen.compare.results import Comparison
from pileupgen.measure.bootstrap import Estimate
from pileupgen.report.tables import Table
from pileupgen.report.text import NONE


def measurement_tables(comparison: Comparison) -> list[Table]:
    """What the source's generator does against publications, and what the samples do there."""
    found = comparison.measurements
    if found is None:
        return []
    published = Table(
        f"Single interactions of the source's generator ({found.generator}) against published "
        "tables, before any detector.",
        ["table", "publication", "found"],
        [[one.title, one.source, one.found] for one in found.published],
        "words",
    )
    if not found.bins:
        return [published]
    beside = Table(
        "By how much the measured E_T density asks for more than the generator has, and by how "
        "much ΣE_T of an interaction in the calorimeter is above the source's. The first is of "
        "particles, the others hold the detectors too.",
        ["|η|", "measured / generated", "target / source", "translated / source"],
        [
            [f"{b.low:g} to {b.high:g}", *map(_text, (b.asked, b.target, b.translated))]
            for b in found.bins
        ],
    )
    return [published, beside]


def _text(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ± {estimate.error:.3f}" if estimate.is_known else NONE
