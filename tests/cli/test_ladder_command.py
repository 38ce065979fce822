"""`pileupgen validate --ladder` on a trained run."""

from __future__ import annotations

from pathlib import Path

import pytest

from pileupgen.report.metrics_file import read_metrics


def test_the_ladder_is_made_of_the_stores_own_settings(tiny_run, command, tmp_path):
    store = tmp_path / "asked.h5"
    way = ("--t-release", "200", "--w", "1", "--steps", "2")
    command("translate", "--run", tiny_run, "--device", "cpu", *way, "-o", store)
    check = ("validate", "--run", tiny_run, "--input", store)
    said = command(*check, "--ladder")
    assert "What each part is worth" in said
    assert "What the diffusion adds" in said
    folder = tiny_run / "validation" / "asked"
    comparison = read_metrics(folder / "metrics.json")
    ladder = comparison.ladder
    assert ladder is not None
    assert ladder.settings["t_release"] == 200
    assert ladder.settings["num_inference_steps"] == 2
    # Translated again, the events are those of the store.
    assert ladder["asked"].mean_w1.value == pytest.approx(comparison.translated.mean_w1.value)
    page = (folder / "report.html").read_text()
    assert "What each part of the translation is worth" in page
    assert "not corrected" in page.split("The same variants:")[1]
    assert "as asked" in page
    command(*check, "--no-ladder")
    assert read_metrics(folder / "metrics.json").ladder is None


def test_events_of_another_model_have_no_ladder(tiny_run, command, tmp_path, monkeypatch):
    store = tmp_path / "calibrated.h5"
    options = ("--device", "cpu", "--mode", "calibrate", "-o", store)
    command("translate", "--run", tiny_run, *options)
    monkeypatch.setattr("pileupgen.workflow.ladder.is_ours", lambda *_: False)
    said = command("validate", "--run", tiny_run, "--input", store, "--ladder")
    assert "no ladder" in said
    folder = Path(tiny_run) / "validation" / "calibrated"
    assert read_metrics(folder / "metrics.json").ladder is None
