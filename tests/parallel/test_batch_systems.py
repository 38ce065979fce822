"""What batch systems print of their queues, odd lines included."""

from __future__ import annotations

import sys

import pytest

from pileupgen.parallel.batch_systems import BatchSystem, QueuedJob, parse_condor_q, parse_squeue


@pytest.mark.parametrize("parse", [parse_condor_q, parse_squeue])
@pytest.mark.parametrize("line", ["", " ", "7", "7 0", "no answer", "-- Schedd: a.b : <127.0.0.1"])
def test_lines_that_name_no_job_are_passed_over(parse, line):
    assert parse(f"{line}\n") == {}


def test_a_reason_in_any_encoding_is_read():
    code = "import sys; sys.stdout.buffer.write(b'31 0 5 Platte \\xfcberf\\xfcllt\\n')"
    system = BatchSystem("", "", "", (sys.executable, "-c", code), parse_condor_q)
    assert system.queue() == {"31.0": QueuedJob("held", "Platte \ufffdberf\ufffdllt")}
