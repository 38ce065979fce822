"""Runs in scripts and notebooks: the same bytes and numbers as the commands, and no output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from pileupgen import Listener, Run
from pileupgen.errors import ConfigError, MissingInputError, RunError
from pileupgen.workflow.run import choose_run
from pileupgen.workflow.translate import configured

WAY: dict[str, Any] = {"t_release": 300, "w": 1.0}


class Recorder(Listener):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def read(self, what: object, note: str = "") -> None:
        self.told.append(("read", f"{what} {note}"))

    def wrote(self, path: Path, note: str = "") -> None:
        self.told.append(("wrote", str(path)))

    def next(self, command: str) -> None:
        self.told.append(("next", command))


def test_a_script_writes_the_bytes_of_the_command_and_says_nothing(
    tiny_run, command, tmp_path, capsys
):
    run = Run.open(tiny_run)
    found = run.translate(**WAY, output=tmp_path / "script.h5", device="cpu")
    assert capsys.readouterr() == ("", "")
    assert found.is_new
    assert (found.settings.t_release, found.settings.w) == (300, 1.0)
    assert found.n_events == len(found.store) == 125
    command(
        "translate", "--run", tiny_run, "--t-release", "300", "--w", "1", "--device", "cpu",
        "-o", tmp_path / "command.h5",
    )  # fmt: skip
    assert (tmp_path / "script.h5").read_bytes() == (tmp_path / "command.h5").read_bytes()
    again = run.translate(**WAY, output=tmp_path / "script.h5", device="cpu")
    assert not again.is_new
    assert again.settings == found.settings
    assert again.weights == found.weights


def test_a_listener_hears_what_is_read_and_written(tiny_run, tmp_path):
    recorder = Recorder()
    target = tmp_path / "out.h5"
    Run.open(tiny_run, listener=recorder).translate(mode="calibrate", output=target)
    assert ("wrote", str(target)) in recorder.told
    assert recorder.told[0] == ("read", f"{tiny_run / 'data' / 'mc.h5'} 500 events")
    assert recorder.told[-1][0] == "next"


def test_a_validation_has_typed_numbers_and_figures(tiny_run, tmp_path):
    run = Run.open(tiny_run).with_changes(validate={"n_bootstrap": 10})
    translated = run.translate(**WAY, output=tmp_path / "some.h5", device="cpu").path
    found = run.validate(translated=translated, quick=True)
    written = json.loads((found.folder / "metrics.json").read_text())
    assert found.headline == written["headline"]
    assert found.comparison.translated.mean_w1.value == found.headline["mean_w1"]
    assert found.report.is_file()
    assert found.is_new
    again = run.validate(translated=translated, quick=True)
    assert not again.is_new
    assert again.headline == found.headline
    # Of a comparison that was kept the samples are measured again: the numbers are the same.
    assert again.validation.comparison == found.validation.comparison
    figures = again.figures()
    assert len(figures) == len(written["figures"]) / 2
    assert all(isinstance(figure, Figure) for figure in figures.values())


def test_a_trained_run_has_losses_a_release_scan_and_figures(tiny_run):
    trained = Run.open(tiny_run).train(device="cpu")
    assert not trained.is_new
    assert set(trained.losses) == {"autoencoder", "denoiser", "ratio"}
    assert trained.losses["denoiser"][-1]["step"] == 2
    assert trained.release.n_mc == trained.release.n_data
    assert set(trained.figures()) == {"losses", "denoising", "reliability", "release"}


def test_changes_leave_the_run_as_it_was(tiny_run):
    run = Run.open(tiny_run)
    changed = run.with_changes(seed=9, translate={"w": 0.5, "mode": None})
    assert (changed.config.seed, changed.config.translate.w) == (9, 0.5)
    assert changed.config.translate.mode == run.config.translate.mode
    assert run.config.translate.w == 2.0


def test_what_is_not_there_or_does_not_fit_is_named(tiny_run, tmp_path):
    with pytest.raises(RunError, match=r"No run at .*none"):
        Run.open(tmp_path / "none")
    with pytest.raises(ConfigError, match="Did you mean 't_release'"):
        Run.open(tiny_run).translate(t_relese=300)
    with pytest.raises(ConfigError, match="No source domain 'mcc'"):
        Run.open(tiny_run).translate(source="mcc")  # type: ignore[arg-type]
    fresh = Run.create({"name": "fresh"}, tmp_path / "fresh")
    with pytest.raises(MissingInputError, match="Run 'pileupgen preprocess --run"):
        fresh.store("mc")
    assert not (tmp_path / "fresh").exists()


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        ({}, "config's"),
        ({"t_release": 995}, "config's"),
        ({"mode": "transport"}, "config's"),
        ({"t_release": 300, "w": 2.0}, None),
        ({"t_release": "auto"}, None),
        ({"num_inference_steps": 30}, None),
        ({"mode": "generate"}, None),
        ({"timesteps": (500, 100)}, (500, 100)),
    ],
)
def test_what_is_given_takes_the_place_of_the_configs_timesteps(given, steps, tmp_path):
    """Else no option could change the release of a config that has timesteps."""
    run = choose_run(Path("delphes_nonlocal"), tmp_path / "run")
    own = run.config.translate.timesteps
    assert own is not None
    found = configured(run, given).config.translate
    assert found.timesteps == (own if steps == "config's" else steps)
    if found.t_release != "auto":
        found.check(1000)
