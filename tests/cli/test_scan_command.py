from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from pileupgen.compare.pareto import ScanPoint, is_on_pareto_front, recommend
from pileupgen.diffusion.settings import Settings
from pileupgen.errors import ConfigError
from pileupgen.measure.bootstrap import Estimate
from pileupgen.run import RunDirectory
from pileupgen.samples.store import ImageStore, assign_splits, create_store
from pileupgen.workflow.measured_release import measured_release
from pileupgen.workflow.scan import _combinations, _kept_point
from tests.tiny import CONFIG
from tests.toys import SMALL_GRID

GRID = ("--modes", "calibrate,partial,invert", "--t-release", "100,600", "--w", "0")


def point(w1: float, block: float, n: int = 10, auc: float = 0.5, error: float = 0.01) -> ScanPoint:
    """A point whose distance is less uncertain, by a factor of five, than its difference is."""
    rng = np.random.default_rng(round(1e6 * (w1 + block + n)))
    common = np.random.default_rng(0).normal(0, 5 * error, 200)
    w1_draws, auc_draws = (
        tuple((value + common + rng.normal(0, error / np.sqrt(2), 200)).tolist())
        for value in (w1, auc)
    )
    settings = {"mode": "partial", "t_release": 0, "w": 0.0}
    interval = Estimate(w1, w1 - 5 * error, w1 + 5 * error)
    kept = Estimate(block, block, block)
    return ScanPoint(settings, "", n, interval, kept, auc, 0.0, 1.0, 100, w1_draws, auc_draws)


def test_front_and_recommendation():
    points = [point(0.10, 0.6), point(0.105, 0.9), point(0.2, 0.95), point(0.3, 0.8)]
    assert is_on_pareto_front(points).tolist() == [True, True, True, False]
    assert recommend(points, 0.5)[0] is points[1]
    assert recommend(points, 0.93)[0] is points[2]
    chosen, rule = recommend(points, 0.99)
    assert chosen is points[1]
    assert "no point has block source correlation" in rule
    assert "none is recommended" not in rule
    cheap = point(0.105, 0.9, n=5)
    assert recommend([*points, cheap], 0.5)[0] is cheap
    assert ScanPoint.from_dict(json.loads(json.dumps(cheap.to_dict()))) == cheap


def test_where_nothing_is_left_to_learn_no_diffusion_is_recommended():
    """A point that needs no network wins unless diffusion is nearer by more than the error."""
    calibration = point(0.075, 0.996, n=0)
    chosen, rule = recommend([calibration, point(0.080, 0.994), point(0.089, 0.91)], 0.9)
    assert chosen is calibration
    assert "none is recommended" in rule
    # Far inside the interval of either, but the difference of the two is known better.
    chosen, rule = recommend([calibration, point(0.050, 0.98)], 0.9)
    assert chosen.w1.value == 0.050
    assert "none is recommended" not in rule


def test_a_recommendation_of_no_diffusion_says_if_few_events_decided():
    for error, is_told in ((0.01, False), (0.05, True)):
        points = [point(0.075, 0.996, n=0, error=error), point(0.07, 0.98, error=error)]
        chosen, rule = recommend(points, 0.9)
        assert chosen is points[0]
        assert ("100 events are too few to tell" in rule) is is_told


def test_a_classifier_decides_where_distances_do_not():
    calibration, inverted = point(0.075, 0.996, n=0, auc=0.56), point(0.075, 0.98)
    assert recommend([calibration, inverted], 0.9)[0] is inverted
    # What is clearly nearer in one and clearly farther in the other excludes nothing.
    mixed = point(0.04, 0.997, auc=0.62)
    assert recommend([mixed, inverted], 0.9)[0] is mixed


def test_a_damaged_point_is_measured_anew(tmp_path):
    path, kept = tmp_path / "point.json", point(0.1, 0.9)
    assert _kept_point(path) is None
    for text in ("", "{", "[]", "null", '{"settings": {}}'):
        path.write_text(text)
        assert _kept_point(path) is None
    path.write_text(json.dumps(kept.to_dict()))
    assert _kept_point(path) == kept


def test_a_scan_keeps_its_points_and_recommends_one(tiny_run, command):
    # Other modules measure points of the same run.
    shutil.rmtree(tiny_run / "scan", ignore_errors=True)
    args = ("scan", "--run", tiny_run, "--events", "60", "--device", "cpu")
    out = command(*args, *GRID)
    assert out.count("(kept)") == 0
    points = tiny_run / "scan" / "points"
    kept = {path: path.stat().st_mtime_ns for path in points.iterdir()}
    assert len(kept) == 5
    for name in ("pareto_front.png", "pareto_front.pdf", "pareto_front.csv"):
        assert (tiny_run / "scan" / name).is_file()
    lines = (tiny_run / "scan" / "pareto_front.csv").read_text().splitlines()
    assert len(lines) == 6
    point = json.loads((tiny_run / "operating_point.json").read_text())
    assert point["settings"]["mode"] in ("calibrate", "partial", "invert")
    assert "highest source correlation" in point["rule"]
    command(*args, *GRID[:-1], "0,1")
    again = {path: path.stat().st_mtime_ns for path in points.iterdir()}
    assert len(again) == 9
    assert kept.items() <= again.items()
    assert (tiny_run / "scan" / "cost.png").is_file()
    said = command("translate", "--run", tiny_run, "--device", "cpu")
    assert "operating_point.json" in said
    (tiny_run / "operating_point.json").unlink()


def test_guidances_are_points_of_their_own_only_where_there_is_guidance():
    kinds = ["closed-form", "classifier-free"]
    axes = {"mode": ["calibrate", "partial"], "t_release": [300], "w": [0.0, 2.0]}
    found = list(_combinations(Settings(), {**axes, "guidance": kinds}))
    assert [(way.mode, way.w, way.guidance) for way in found] == [
        ("calibrate", 0.0, "closed-form"),
        ("partial", 0.0, "closed-form"),
        ("partial", 2.0, "closed-form"),
        ("partial", 2.0, "classifier-free"),
    ]


def test_timesteps_are_of_settings_that_follow_the_diffusion():
    axes = {"mode": ["calibrate", "invert"], "t_release": [600], "timesteps": [(600, 200, 50)]}
    still, moving = _combinations(Settings(num_inference_steps=9), axes)
    assert (still.mode, still.t_release, still.timesteps) == ("calibrate", 0, None)
    assert moving.decoding_timesteps(moving.release_timestep) == [600, 200, 50, -1]
    assert moving.n_evaluations == 6


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--guidance", "free"), "guidance"),
        (("--timesteps", "2000,100"), "outside 0 … 999"),
        (("--timesteps", "600,100", "--steps", "2"), "exclude each other"),
        (("--t-release", "early"), "--t-release takes values"),
        (("--modes", "sideways"), "No mode 'sideways'"),
        (("--samplers", "euler"), "No sampler 'euler'"),
        (("--t-release", "5000"), "outside 0 … 999"),
    ],
)
def test_bad_requests_are_named(tiny_run, command, options, words):
    assert words in command("scan", "--run", tiny_run, *options, error=ConfigError)


def test_an_automatic_release_is_measured_and_kept(tiny_run, command, tmp_path):
    args = (
        "translate",
        "--run",
        tiny_run,
        "--device",
        "cpu",
        "--t-release",
        "auto",
        "--steps",
        "2",
    )
    said = command(*args, "-o", tmp_path / "auto.h5")
    assert "highest source correlation among" in said
    points = list((tiny_run / "scan" / "points").iterdir())
    measured = [ScanPoint.from_dict(json.loads(path.read_text())) for path in points]
    assert {"calibrate", "transport"} <= {part.settings["mode"] for part in measured}
    tried = {part.settings["t_release"] for part in measured if part.n_evaluations == 2}
    assert {100, 200, 300, 450, 600, 800} <= tried
    provenance = ImageStore(tmp_path / "auto.h5").provenance
    best, _ = recommend([p for p in measured if p.n_evaluations in (0, 2, 16)], 0.9)
    assert provenance["mode"] == best.settings["mode"]
    assert provenance["t_release"] == best.settings["t_release"]


def test_a_release_measured_as_none_keeps_what_does_not_belong_to_the_way(monkeypatch, tmp_path):
    points = [point(0.05, 0.99, 0), *[point(0.2, 0.95)] * 8]
    monkeypatch.setattr(
        "pileupgen.workflow.measured_release.measure_points", lambda *_: (points, {})
    )
    asked = Settings(t_release="auto", out_of_range="allow", exact=True, n_draws=3, micro_batch=7)
    model = SimpleNamespace(num_train_timesteps=1000)
    found = measured_release(RunDirectory(tmp_path), "model", model, asked, 1)
    assert found.mode == "calibrate"
    assert (found.out_of_range, found.exact) == ("allow", True)
    assert (found.n_draws, found.micro_batch) == (3, 7)


def test_an_automatic_release_may_be_an_inversion_to_the_end(monkeypatch, tmp_path):
    asked = Settings(t_release="auto", fresh_noise=0.08, map_scale=True, n_draws=3)
    tried: list[Settings] = []

    def measured(directory, name, pipeline, candidates, *rest):
        tried.extend(candidates)
        return [*[point(0.3, 0.95)] * (len(candidates) - 1), point(0.05, 0.99)], {}

    monkeypatch.setattr("pileupgen.workflow.measured_release.measure_points", measured)
    model = SimpleNamespace(num_train_timesteps=1000)
    found = measured_release(RunDirectory(tmp_path), "model", model, asked, 1)
    assert (found.mode, found.w, found.t_release, found.n_draws) == ("invert", 0.0, 995, 3)
    assert found.timesteps == (995, 800, 600, 450, 300, 180, 90, 30)
    assert [one.map_scale for one in tried[2:-1]] == [True] * 6


@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize("leak", [0.0, 0.25])
def test_translation_shrinks_to_calibration_where_that_leaves_nothing(
    leak, command, tmp_path, monkeypatch
):
    """Domains that differ cell by cell, and domains that differ in what neighbours share too."""
    monkeypatch.setattr("pileupgen.workflow.measured_release.FRACTIONS", (0.3,))
    run, config = tmp_path / "run", tmp_path / "cells.yaml"
    config.write_text(yaml.safe_dump({**CONFIG, "name": "cells", "codec": "cells"}))
    for number, domain in enumerate(("mc", "data")):
        energy, mu = made(500, number, leak)
        with create_store(run / "data" / f"{domain}.h5", SMALL_GRID, domain, {}) as writer:
            columns = {"mu": mu, "event_id": np.arange(500), "weight": np.ones(500)}
            split = assign_splits(0, 500, (0.4, 0.4, 0.2), 1)
            writer.append(energy, {**columns, "split": split})
    command("train", "--config", config, "--run", run, "--device", "cpu")
    said = command(
        *("translate", "--run", run, "--device", "cpu", "--mode", "invert", "--t-release", "auto"),
        *("--steps", "2", "-o", tmp_path / "auto.h5"),
    )
    mode = ImageStore(tmp_path / "auto.h5").provenance["mode"]
    if leak:
        assert mode != "calibrate"
    else:
        assert mode == "calibrate"
        assert "none is recommended" in said


def made(n: int, domain: int, leak: float) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 2, 8, 12) whose cells are scaled in data, and share ``leak`` with neighbours."""
    rng = np.random.default_rng([17, domain])
    white = rng.standard_normal((n, *SMALL_GRID.shape))
    field = white + leak * domain * (np.roll(white, 1, 3) + np.roll(white, -1, 3))
    energy = (1.0 + 0.3 * domain) * np.exp(0.8 * field)
    return np.where(energy > 0.6, energy, 0.0).astype(np.float32), np.full(n, 60.0, np.float32)
