"""A small run of benchmarks/fuzz_inputs.py: no doctored sample ends with a wrong number unnamed."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.fuzz_inputs import FAULTS, FORMATS, run_case

ONE_EACH = [
    (name, fault.kinds[index % len(fault.kinds)])
    for index, (name, fault) in enumerate(FAULTS.items())
][::2]


@pytest.mark.parametrize(("name", "kind"), ONE_EACH)
def test_a_doctored_sample_is_refused_right_or_named(
    name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    outcome = run_case(name, kind, 7, tmp_path)
    assert outcome.is_pass, f"{outcome.verdict}, ratio {outcome.ratio}\n{outcome.said}"


def test_images_on_another_grid_are_said_to_be(tmp_path: Path) -> None:
    outcome = run_case("axes exchanged", "hdf5", 1, tmp_path)
    assert outcome.exit_code == 0
    assert "regridded" in outcome.warnings


@pytest.mark.parametrize("kind", FORMATS)
def test_a_sound_sample_is_read_right_and_without_a_warning(kind: str, tmp_path: Path) -> None:
    outcome = run_case("nothing", kind, 3, tmp_path)
    assert outcome.verdict == "right"
    assert outcome.ratio == pytest.approx(1, abs=1e-6)
    assert outcome.warnings == ()
