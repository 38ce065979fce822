"""Cells and notes of the table of systems that its tests of real trainings do not meet."""

from __future__ import annotations

from dataclasses import replace

from pileupgen.compare.quality import Quality
from pileupgen.compare.systems import SystemRow, SystemTable
from pileupgen.measure.bootstrap import Estimate
from pileupgen.report.systems import notes_of, quality_lines

ONE = Estimate(0.1, 0.09, 0.11)
QUALITY = Quality(
    w1=ONE, shift_removed=ONE, auc=0.5, auc_error=0.01, block=None, cell=None, n_events=100
)
ROW = SystemRow(
    name="flow",
    family="flow",
    what="couplings",
    citation="1605.08803",
    use="generate",
    quality=QUALITY,
    n_parameters=10,
    n_evaluations=8,
    training_seconds=1.0,
    training_steps=10,
    event_ms=1.0,
    nats=0.0123,
    nats_error=0.0011,
    nats_are_exact=False,
)


def table(row: SystemRow) -> SystemTable:
    return SystemTable("pileup", 1.0, 100, QUALITY, QUALITY, (row,), "marginals")


def test_a_likelihood_that_single_events_make_fits_its_cell():
    """A flow of 300 training events had −8 · 10⁸ ± 8 · 10⁹ nats, of which 14 digits were shown."""
    assert quality_lines(table(ROW))[-1][-1] == "≥ 0.0123 ± 0.0011"
    exploded = replace(ROW, nats=-780198003.1, nats_error=7770580800.0)
    assert quality_lines(table(exploded))[-1][-1] == "≥ -7.8e+08 ± 7.8e+09"


def test_it_is_said_that_generated_events_have_the_conditions_of_those_they_are_compared_with():
    assert "made from noise has the μ of the target's own events" in " ".join(notes_of(table(ROW)))
