from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pileupgen.errors import ConfigError, RunError
from pileupgen.samples.store import ImageStore

WAY = ("--mode", "invert", "--t-release", "300", "--w", "1", "--steps", "2")
FEW = ("--pairs", "120", "--training-steps", "4", "--events", "40")


@pytest.fixture(scope="module")
def run(tiny_run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("distilled") / "run"
    shutil.copytree(tiny_run, folder)
    return folder


@pytest.fixture(scope="module")
def told(run, command) -> str:
    return command("distill", "--run", run, *WAY, *FEW)


def test_a_student_is_written_with_what_it_was_made_from(run, told, command):
    assert "4 evaluations" in told
    (folder,) = (run / "students").iterdir()
    description = json.loads((folder / "student.json").read_text())
    assert description["way"]["timesteps"] == [300, 150, -1]
    assert description["distill"]["pairs"] == 120
    found = description["agreement"]
    assert (found["teacher"]["n_evaluations"], found["student"]["n_evaluations"]) == (4, 1)
    assert 0 < found["distance"] < found["move"]
    assert not list((run / "checkpoints").glob("distill-*"))
    assert "is current" in command("distill", "--run", run, *WAY, *FEW)
    # Another number of pairs makes another student, in the place of this one.
    assert "is current" not in command("distill", "--run", run, *WAY, *FEW[2:], "--pairs", "100")
    command("distill", "--run", run, *WAY, *FEW)
    assert json.loads((folder / "student.json").read_text())["agreement"] == found


def test_translate_takes_the_student_of_its_way_unless_told_otherwise(run, told, command, tmp_path):
    def translated(name: str, *options: str) -> tuple[str, ImageStore]:
        said = command("translate", "--run", run, "-o", tmp_path / name, *options)
        return said, ImageStore(tmp_path / name)

    said, taught = translated("taught.h5", *WAY)
    assert "1 evaluation for 4" in said
    (identity,) = taught.provenance["students"]
    assert len(identity) == 16
    said, exact = translated("exact.h5", *WAY, "--exact")
    assert "students" not in said
    assert exact.provenance["students"] == [None]
    assert taught.provenance["mode"] == exact.provenance["mode"] == "invert"
    one, other = taught.read().energy, exact.read().energy
    assert not np.array_equal(one, other)
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.95
    said, more = translated("more.h5", *WAY[:-1], "3")
    assert more.provenance["students"] == [None]
    said, control = translated("control.h5", *WAY, "--target", "mc")
    assert control.provenance["students"] == [None]
    assert "1 network evaluations" in command("translate", "--run", run, *WAY, "--dry-run")
    # What was translated before there was a student is not current any more.
    (student,) = (run / "students").iterdir()
    kept = run / "kept"
    student.rename(kept)
    assert "students" not in translated("other.h5", *WAY)[0]
    kept.rename(student)
    assert "1 evaluation for 4" in translated("other.h5", *WAY)[0]


def test_students_of_another_model_or_damaged_ones_are_not_taken(run, told, command, tmp_path):
    (student,) = (run / "students").iterdir()
    description = json.loads((student / "student.json").read_text())
    (student / "student.json").write_text(json.dumps({**description, "model": "another"}))
    said = command("translate", "--run", run, "-o", tmp_path / "a.h5", *WAY)
    assert "distilled from another model" in said
    assert ImageStore(tmp_path / "a.h5").provenance["students"] == [None]
    (student / "student.json").write_text("{")
    said = command("translate", "--run", run, "-o", tmp_path / "b.h5", *WAY, error=RunError)
    assert "cannot be loaded" in said
    assert "--exact" in said
    (student / "student.json").write_text(json.dumps(description))


def test_what_cannot_be_distilled_is_refused_before_anything_is_done(run, command):
    said = command("distill", "--run", run, "--mode", "generate", *FEW, error=ConfigError)
    assert "cannot be distilled" in said
    said = command("distill", "--run", run, "--sampler", "ancestral", *FEW, error=ConfigError)
    assert "Choose mode invert" in said
