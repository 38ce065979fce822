"""The command, and the baselines on made events, where the answer is known."""

from __future__ import annotations

import functools
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import table
from benchmarks.baselines import BASELINES, make_baseline
from benchmarks.baselines.contract import Corrected, Problem
from benchmarks.baselines.ours import as_configured, training_seconds
from benchmarks.cost import Rate, rates
from benchmarks.quality_against_speed import DELPHES_RATE, table_figure
from benchmarks.table import known_rows
from benchmarks.table_text import markdown
from pileupgen.compare.quality import MethodOutput, QualityJudge
from pileupgen.config import load_config
from pileupgen.errors import ConfigError, MissingInputError
from pileupgen.run import RunDirectory
from pileupgen.samples.store import Images, ImageStore


@pytest.fixture(scope="module")
def judge(tiny_run: Path) -> QualityJudge:
    run = RunDirectory(tiny_run)
    stores = ImageStore(run.images("mc")), ImageStore(run.images("data"))
    return QualityJudge.of(*stores, None, 1, 1)


@pytest.fixture(scope="module")
def problem(tiny_run: Path) -> Problem:
    run = RunDirectory(tiny_run)
    mc, data = (
        store.read(store.indices("train"))
        for store in (ImageStore(run.images("mc")), ImageStore(run.images("data")))
    )
    return Problem(mc, data, run, "cpu", 2.0, 1)


def test_identity_closes_nothing_and_the_reference_all(judge, problem):
    baseline = make_baseline("identity")
    baseline.fit(problem)
    quality = judge.quality(baseline.translate(judge.source_images))
    assert quality.shift_removed.value == pytest.approx(0)
    assert quality.block is not None
    assert quality.block.value == pytest.approx(1)
    assert judge.reference_quality().w1.value < 0.5 * quality.w1.value


@pytest.mark.parametrize(
    "name", ["quantile morphing, plain", "quantile morphing, chained", "Gaussian-copula map"]
)
def test_maps_of_cells_close_much_of_the_gap(judge, problem, name):
    baseline = make_baseline(name)
    baseline.fit(problem)
    quality = judge.quality(baseline.translate(judge.source_images))
    assert quality.shift_removed.value > 0.4
    assert baseline.n_parameters > 0


def test_weights_between_equal_samples_are_about_one(judge, problem):
    half = len(problem.mc) // 2
    parts = [
        Images(
            problem.mc.energy[rows],
            problem.grid,
            {name: values[rows] for name, values in problem.mc.columns.items()},
        )
        for rows in (slice(0, half), slice(half, 2 * half))
    ]
    baseline = make_baseline("reweighting (CARL)")
    baseline.fit(replace(problem, mc=parts[0], data=parts[1]))
    weight = baseline.translate(judge.source_images).weight
    assert weight is not None
    assert weight.mean() == pytest.approx(1, abs=0.3)
    assert weight.std() < 0.5


def test_reweighting_after_calibration_weighs_calibrated_events(judge, problem):
    found = {}
    for name in ("quantile morphing, chained", "reweighting (CARL) after calibration"):
        baseline = make_baseline(name)
        baseline.fit(problem)
        found[name] = baseline.translate(judge.source_images)
    morphed, weighed = found.values()
    np.testing.assert_array_equal(weighed.energy, morphed.energy)
    assert np.ptp(weighed.weight) > 0
    # Its images are judged with their weights.
    assert judge.quality(weighed).w1.value != judge.quality(morphed).w1.value


def test_a_row_is_given_without_its_correction_too(judge, problem):
    for name in ("Gaussian-copula map", "transport"):
        baseline = make_baseline(name)
        assert isinstance(baseline, Corrected)
        baseline.fit(problem)
        images = judge.source_images
        corrected, plain = baseline.translate(images), baseline.translate_plain(images)
        assert not np.array_equal(corrected.energy, plain.energy)
        kept = [judge.quality(output).block.value for output in (corrected, plain)]
        assert kept[0] == pytest.approx(kept[1], abs=0.05)
    assert not isinstance(make_baseline("identity"), Corrected)


@pytest.mark.parametrize("name", ["normalizing flow", "partial"])
def test_peers_with_networks_give_finite_events(judge, problem, name):
    pytest.importorskip("zuko", reason="the flow needs the extra 'baselines'")
    baseline = make_baseline(name)
    baseline.fit(problem)
    output = baseline.translate(judge.source_images)
    given = output.observables if output.energy is None else output.energy
    assert given is not None
    assert len(given) == len(judge.source_images)
    assert np.isfinite(given).all()


def test_same_output_has_no_difference(judge):
    energy = judge.source_images.energy
    difference = judge.gap_difference(energy, energy)
    assert (difference.value, difference.error) == (0.0, 0.0)


def test_what_was_timed_before_stands_for_what_would_take_too_long(judge):
    sizes: list[int] = []

    class Slow:
        def translate(self, images: Images) -> MethodOutput:
            sizes.append(len(images))
            return MethodOutput(energy=images.energy)

    n_threads = os.cpu_count() or 1
    known = Rate(100, n_threads, 2.0, 1)
    before = torch.get_num_threads()
    found = rates(Slow(), judge.source_images, limit=5.0, known=known)  # type: ignore[arg-type]
    torch.set_num_threads(before)
    assert set(sizes) == {1}
    by_size = {(rate.batch, rate.threads): rate for rate in found}
    assert by_size[100, n_threads] is known
    assert by_size[1000, n_threads].events_per_s is None
    assert by_size[1, n_threads].events_per_s is not None


def test_the_run_as_configured_is_what_translate_does(tiny_run):
    run = RunDirectory(tiny_run)
    config = load_config(tiny_run / "config.yaml")
    assert as_configured(config, run).num_inference_steps == config.translate.num_inference_steps
    automatic = config.model_copy(update={"translate": replace(config.translate, t_release="auto")})
    chosen = as_configured(automatic, run)
    tried = {100, 200, 300} if chosen.mode == "partial" else {995}
    assert chosen.mode in ("calibrate", "transport") or chosen.t_release in tried


@pytest.fixture
def benchmark(command):
    """The command of this folder, which is no part of the package."""
    from benchmarks.__main__ import app

    return functools.partial(command, program=app)


def test_a_row_is_measured_once(tiny_run, benchmark, monkeypatch):
    pytest.importorskip("zuko", reason="the command wants the extra 'baselines'")
    # In this process: importing everything again in another takes too long for a test.
    monkeypatch.setattr("benchmarks.table._in_own_process", table.measure_row)
    first = benchmark("--run", tiny_run, "--rows", "identity", "--quick")
    (row,) = (tiny_run / "benchmark" / "rows").glob("*.json")
    before = row.stat().st_mtime_ns
    again = benchmark("--run", tiny_run, "--rows", "ident", "--quick")
    assert row.stat().st_mtime_ns == before
    record = json.loads((tiny_run / "benchmark" / "table.json").read_text())
    assert [found["name"] for found in record["rows"]] == ["identity"]
    assert "| identity |" in markdown(record)
    assert "| identity |" in first
    assert "| identity |" in again
    assert {rate["batch"] for rate in record["rows"][0]["rates"]} == {1, 100, 1000}


def test_the_figure_shows_each_method_at_its_rate_of_one_core_beside_delphes():
    quality = {"w1": {"value": 0.2, "low": 0.1, "high": 0.4}, "auc": 0.6, "auc_error": 0.05}
    rows = [
        {"name": "reference", "quality": quality},
        {"name": "identity", "quality": quality, "rates": [], "n_parameters": 0},
        *(
            {
                "name": name,
                "quality": quality,
                "rates": [],
                "n_parameters": 5,
                "n_evaluations": n,
                "cpu_ms_per_event": ms,
            }
            for name, n, ms in (("translate, as configured", 24, 20.0), ("a student", 1, 2.0))
        ),
    ]
    for axes in table_figure(rows).axes:
        marks = {
            found.get_label(): float(found.lines[0].get_xdata()[0]) for found in axes.containers
        }
        assert marks == {
            "translate, as configured (24 evaluations)": 50.0,
            "a student (1 evaluation)": 500.0,
        }
        lines = {line.get_label(): line.get_xdata()[0] for line in axes.get_lines()}
        assert lines["Delphes with pileup, about"] == DELPHES_RATE
    auc = table_figure(rows).axes[1].containers[0].lines
    assert auc[0].get_ydata()[0] == 0.6
    np.testing.assert_allclose(auc[2][0].get_segments()[0][:, 1], [0.55, 0.65])


def test_the_time_of_our_training_is_the_record_s_or_unknown(tmp_path):
    run = RunDirectory(tmp_path)
    for seconds, expected in (({"calibration": 1.0, "ratio": 2.5}, 3.5), ({"ratio": None}, None)):
        run.finish("train", "x", {"seconds": seconds})
        assert training_seconds(run) == expected
    run.finish("train", "x", {})
    assert training_seconds(run) is None


def test_every_baseline_has_a_row():
    assert known_rows() == ["reference", *BASELINES]


def test_bad_input_is_named(tiny_run, benchmark, tmp_path):
    pytest.importorskip("zuko", reason="the command wants the extra 'baselines'")
    said = benchmark("--run", tiny_run, "--rows", "quantile", error=ConfigError)
    assert "names no single row" in said
    missing = benchmark("--run", tmp_path / "none", error=MissingInputError)
    assert "preprocess" in missing
