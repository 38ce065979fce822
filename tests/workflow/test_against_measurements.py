"""What a measurement asks of the source's generator, beside what the samples do."""

from __future__ import annotations

import numpy as np
import pytest

from pileupgen import Run
from pileupgen.errors import RunError
from pileupgen.measure.sample import Sample, measure_sample
from pileupgen.report.metrics_file import read_metrics
from pileupgen.simulate.measured.check import GeneratorCheck, judge
from pileupgen.simulate.measured.fill import Sums
from pileupgen.simulate.measured.record import cached_path, write_check
from pileupgen.simulate.measured.table import shipped_tables
from pileupgen.simulate.spec import SampleSpec
from pileupgen.workflow.against_measurements import against_measurements, find_check

RATIO = 0.9
SPEC = SampleSpec.parse({"tune": 21, "sqrt_s": 7000}, "test")


@pytest.fixture(scope="module")
def check() -> GeneratorCheck:
    """A generator that gives 0.9 of every measured number, with errors of 1 %."""
    tables = []
    for table in shipped_tables():
        first = 1000 * RATIO * table.value
        second = np.outer(first, first) / 1000 + np.diag((0.01 * first) ** 2 / 1000 * 999)
        tables.append(judge(table, Sums(1200, 1000, first, second)))
    return GeneratorCheck(
        generator="pythia8",
        process="inelastic",
        tune=21,
        sqrt_s=7000.0,
        n_events=1200,
        seed=1,
        version="1",
        fingerprint="0",
        tables=tuple(tables),
    )


def sample(toy, scale: float, mu: float) -> Sample:
    energy = scale * toy.energies(300, seed=3)
    images = toy.images(energy.astype(np.float32), mu=np.full(300, mu, dtype=np.float32))
    return measure_sample("source", "mc", [images], toy.grid)


def test_bins_hold_what_is_asked_and_what_is_done(toy, check) -> None:
    source, target, translated = sample(toy, 1, 60), sample(toy, 1.3, 120), sample(toy, 1.2, 60)
    found = against_measurements(check, "words", source, target, translated)
    assert found.generator == "words"
    assert [one.title for one in found.published] == [table.head.title for table in check.tables]
    # The toy reaches to |η| = 1: of the published bins it covers 0 to 0.8 only.
    (only,) = found.bins
    assert (only.low, only.high) == (0.0, 0.8)
    assert only.asked.value == pytest.approx(1 / RATIO)
    assert only.asked.error == pytest.approx(np.hypot(0.03667072 / 0.7531701, 0.01) / RATIO)
    # Twice the interactions: per interaction the target has half of its 1.3.
    assert only.target.value == pytest.approx(0.65, rel=1e-5)
    assert only.translated.value == pytest.approx(1.2, rel=1e-5)
    spread = only.translated.error / only.translated.value
    assert 0 < spread < 0.1
    without_mu = against_measurements(
        check, "", *(sample(toy, scale, np.nan) for scale in (1, 1.3, 1.2))
    )
    assert without_mu.bins[0].target.value == pytest.approx(1.3, rel=1e-5)


def test_check_is_found_by_the_card_of_the_store(tmp_path, check) -> None:
    write_check(check, cached_path(SPEC, tmp_path))
    generate = {"tune": 21, "n_events": 10, "response": "no such card"}
    found = find_check({"card": {"generate": generate}}, tmp_path)
    assert found is not None
    assert found[0].to_dict() == check.to_dict()
    assert found[1].startswith("pythia8 tune 21 at 7 TeV, not checked at 13.6 TeV, version 1")
    for other in (
        {},
        {"card": {"files": ["a.root"]}},
        {"card": {"generate": {"process": "top"}}},
        {"card": {"generate": {"tune": 14}}},
        {"card": {"generate": {"generator": "of another version"}}},
    ):
        assert find_check(other, tmp_path) is None


def test_a_validation_holds_the_check_and_is_made_again_for_another(
    tiny_run, tmp_path, monkeypatch, check
) -> None:
    run = Run.open(tiny_run).with_changes(validate={"n_bootstrap": 10})
    translated = run.translate(mode="calibrate", output=tmp_path / "t.h5", device="cpu").path
    monkeypatch.setattr("pileupgen.workflow.validate.find_check", lambda *_: (check, "a check"))
    found = run.validate(translated=translated, quick=True)
    measurements = read_metrics(found.folder / "metrics.json").measurements
    assert measurements is not None
    assert measurements.generator == "a check"
    assert 'href="#measurements"' in found.report.read_text(encoding="utf-8")
    assert not run.validate(translated=translated, quick=True).is_new

    def written_again(*_: object) -> None:
        raise RunError("written again")

    monkeypatch.setattr("pileupgen.workflow.validate._write", written_again)
    assert not run.validate(translated=translated, quick=True).is_new
    monkeypatch.setattr("pileupgen.workflow.validate.find_check", lambda *_: None)
    with pytest.raises(RunError, match="written again"):
        run.validate(translated=translated, quick=True)
