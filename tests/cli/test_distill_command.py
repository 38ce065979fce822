from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from pileupgen.errors import ConfigError, InterruptedRunError, RunError
from pileupgen.samples.store import ImageStore

EXAMPLE = Path(__file__).parents[2] / "docs" / "how-to" / "translate_events.cpp"
HEADER = "onnxruntime_c_api.h"
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
    assert description["solver_settings"]["timesteps"] == [300, 150, -1]
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


def test_a_student_is_there_once_it_is_known_how_far_it_is_off(run, told, command, monkeypatch):
    """Interrupted before, nothing is taken for a student, and nothing is trained again."""
    (student,) = (run / "students").iterdir()
    way = (*WAY[:-1], "3")

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("pileupgen.workflow.agreement.compared", interrupted)
    command("distill", "--run", run, *way, *FEW, error=InterruptedRunError)
    assert list((run / "students").iterdir()) == [student]
    (kept,) = (run / "checkpoints").glob("distill-*")
    monkeypatch.undo()
    monkeypatch.setattr("pileupgen.training.loop.TrainingLoop._take_steps", lambda *_: None)
    command("distill", "--run", run, *way, *FEW)
    assert not kept.exists()
    (other,) = set((run / "students").iterdir()) - {student}
    assert json.loads((other / "student.json").read_text())["losses"][-1]["step"] == 4
    shutil.rmtree(other)


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


def test_the_report_says_how_far_the_student_is_from_its_teacher(run, told, command, tmp_path):
    store = tmp_path / "taught.h5"
    command("translate", "--run", run, *WAY, "-o", store)
    command("validate", "--run", run, "--input", store, "--ladder")
    found = json.loads((run / "validation" / "taught" / "metrics.json").read_text())
    rungs = {rung["name"]: rung for rung in found["ladder"]["rungs"]}
    assert rungs["solver"]["label"] == "by the solver"
    # Paired: the same events and resamplings, so that the rise has a far smaller error than W1/σ.
    rise, own = rungs["solver"]["w1_rise"]["value"], rungs["solver"]["mean_w1"]
    assert rise["high"] - rise["low"] < 0.5 * (own["high"] - own["low"])
    assert rise["value"] != 0
    page = (run / "validation" / "taught" / "report.html").read_text()
    assert "A student translated in one evaluation for 4." in page
    assert "by the solver" in page


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
    said = command("distill", "--run", run, *WAY, *FEW, error=RunError)
    assert "distill --force" in said
    (student / "student.json").write_text(json.dumps(description))
    # diffusers gives tensors that are not there values of its own.
    file = student / "diffusion_pytorch_model.safetensors"
    whole = file.read_bytes()
    tensors = load_file(file)
    del tensors["last.weight"]
    save_file(tensors, file, {"format": "pt"})
    said = command("translate", "--run", run, "-o", tmp_path / "b.h5", *WAY, error=RunError)
    assert "lacks last.weight" in said
    file.write_bytes(whole[:1000])
    said = command("translate", "--run", run, "-o", tmp_path / "b.h5", *WAY, error=RunError)
    assert "cannot be loaded" in said
    file.write_bytes(whole)


def test_what_cannot_be_distilled_is_refused_before_anything_is_done(run, command):
    said = command("distill", "--run", run, "--mode", "generate", *FEW, error=ConfigError)
    assert "cannot be distilled" in said
    said = command("distill", "--run", run, "--sampler", "ancestral", *FEW, error=ConfigError)
    assert "Choose mode invert" in said


@pytest.mark.parametrize("mode", ["invert", "partial"])
def test_a_student_is_exported_from_energies_to_energies(run, told, command, tmp_path, mode):
    pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")
    from pileupgen.diffusion import run_onnx

    way = ("--mode", mode, *WAY[2:])
    if mode == "partial":
        command("distill", "--run", run, *way, *FEW)
    command("translate", "--run", run, *way, "-o", tmp_path / "taught.h5")
    folder = tmp_path / "onnx"
    said = command("export", "--run", run, "--store", tmp_path / "taught.h5", "--onnx", folder)
    assert "agrees with torch" in said
    plan = json.loads((folder / "translation.json").read_text())
    names = "student", "encode", "decode"
    assert plan["graphs"] == {name: f"{name}.onnx" for name in names}
    assert plan["student"] == {"draws_noise": mode == "partial"}
    assert plan["phases"] == []
    # An event alone has the scores and the ln r that it has among others.
    with np.load(folder / "check.npz") as arrays:
        known = dict(arrays)
    translation = run_onnx.ExportedTranslation(folder)
    for row in range(3):
        one = slice(row, row + 1)
        found = translation(
            *(known[key][one] for key in ("energy", "mu", "event_id")), known["seed"]
        )
        np.testing.assert_allclose(found.scores, known["scores"][one], atol=1e-4)
        np.testing.assert_allclose(found.log_ratio, known["log_ratio"][one], atol=1e-4)
    # One folder for the module: the example is compiled once.
    program = compiled(run.parent)
    done = subprocess.run([program, folder], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 events: encoded scores off by" in done.stdout
    if mode == "invert":
        known["scores"].flat[0] += 1e-3
        np.savez(folder / "check.npz", **known)
        done = subprocess.run([program, folder], check=False, capture_output=True, text=True)
        assert done.returncode == 1, done.stdout + done.stderr


def compiled(scratch: Path) -> Path:
    """The C++ example; the test is skipped where it cannot be compiled."""
    import onnxruntime

    places = [os.environ.get("ONNXRUNTIME_INCLUDE"), "/usr/include/onnxruntime"]
    places += ["/usr/local/include/onnxruntime", f"{sys.prefix}/include/onnxruntime"]
    headers = [place for place in places if place and (Path(place) / HEADER).is_file()]
    compiler = shutil.which("c++")
    if compiler is None or not headers:
        pytest.skip(f"no C++ compiler, or no {HEADER}: set ONNXRUNTIME_INCLUDE to its folder")
    built = next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"), None)
    if built is None:
        pytest.skip("this onnxruntime has no shared library of its own")
    library, program = scratch / "libonnxruntime.so.1", scratch / "translate_events"
    if not program.exists():
        library.symlink_to(built)
        options = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-I", headers[0], EXAMPLE, library]
        subprocess.run([compiler, *options, f"-Wl,-rpath,{scratch}", "-o", program], check=True)
    return program
