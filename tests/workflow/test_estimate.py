"""What a stage would do, and times from recorded rates."""

from __future__ import annotations

import json
import shutil

import pytest

from pileupgen import Run
from pileupgen.errors import MissingInputError


@pytest.fixture
def copied_run(tiny_run, tmp_path):
    """A trained run without any record of its translations, alone in its folder."""
    run = tmp_path / "alone" / "run"
    shutil.copytree(tiny_run, run, ignore=shutil.ignore_patterns("translated", "scan", "out"))
    for path in (run / "stages").glob("translate*.json"):
        path.unlink()
    return run


def test_the_time_of_a_translation_is_that_of_its_network_passes(copied_run):
    run = Run.open(copied_run)
    plan = run.plan_translate(t_release=300, w=0.0, num_inference_steps=4)
    assert plan.seconds is None
    assert "no run here has recorded a rate" in str(plan.steps)
    # 10 s for 100 events of 2 evaluations: 50 ms a pass.
    rate = {"seconds": 10.0, "n_events": 100, "n_evaluations": 2}
    run.directory.finish("translate-x", "x", {"rate": rate})
    plan = run.plan_translate(t_release=300, w=0.0, num_inference_steps=4)
    assert plan.seconds == pytest.approx(0.05 * 125 * 4)
    twice = run.plan_translate(t_release=300, w=0.0, num_inference_steps=4, n_draws=2)
    assert twice.seconds == pytest.approx(2 * 0.05 * 125 * 4)
    assert str(copied_run) in str(plan.steps)


def test_training_is_timed_by_the_steps_of_an_earlier_one(copied_run):
    run = Run.open(copied_run)
    assert "is current" in run.plan_train().steps[0].what
    longer = run.with_changes(
        denoiser={"steps": 200}, ratio={"steps": 100}, autoencoder={"steps": 300}
    )
    record = run.directory.details("train")["rate"]
    expected = sum(
        record[name]["seconds"] / record[name]["n_steps"] * n
        for name, n in (("autoencoder", 300), ("denoiser", 200), ("ratio", 100))
    )
    plan = longer.plan_train()
    assert plan.seconds == pytest.approx(expected)
    assert "roughly" not in str(plan.steps)
    wider = longer.with_changes(denoiser={"width": 16})
    assert "roughly" in str(wider.plan_train().steps)


def test_a_dry_run_tells_and_writes_nothing(copied_run, command):
    before = {path: path.stat().st_mtime_ns for path in copied_run.rglob("*")}
    said = command("translate", "--run", copied_run, "--t-release", "200", "--dry-run")
    assert "would" in said
    assert "translate 125 events" in said
    assert "t = 200" in said
    assert "time unknown" in said
    assert "is current" in command("train", "--run", copied_run, "--dry-run")
    assert {path: path.stat().st_mtime_ns for path in copied_run.rglob("*")} == before


def test_a_preprocessing_is_planned_before_any_file_is_made(tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command("init", ".", "--generate", "--name", "trial")
    said = command("preprocess", "--config", "trial.yaml", "--dry-run")
    assert "simulate 400 events of card 'trial_mc'" in said.replace("\n", "")
    assert not (tmp_path / "runs").exists()
    # 4 s for 50 events on two workers: 160 ms an event on one.
    other = tmp_path / "runs" / "other" / "stages"
    other.mkdir(parents=True)
    rate = {"seconds": 4.0, "n_events": 50, "n_workers": 2}
    (other / "preprocess_mc.json").write_text(json.dumps({"rate": rate}))
    run = Run.create("trial.yaml")
    drawn = [step for step in run.plan_preprocess().steps if step.what.startswith("draw")]
    assert [step.estimate.seconds for step in drawn if step.estimate] == [
        pytest.approx(0.16 * 400)
    ] * 2


def test_training_is_planned_after_preprocessing(tmp_path):
    with pytest.raises(MissingInputError, match="preprocess"):
        Run.create({"name": "x"}, tmp_path / "x").plan_train()
