from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from pileupgen.calo.geometry import Grid
from pileupgen.cli.validate import EXIT_CONDITION, validate
from pileupgen.errors import (
    ConfigError,
    GeometryError,
    InputError,
    MissingInputError,
    RunError,
    UnreadableInputError,
)

app = typer.Typer()
app.command()(validate)

CONFIG = "name: tiny\nseed: 3\nvalidate: {n_bootstrap: 10, n_seeds: 1}\n"


@pytest.fixture
def run_folder(toy_stores, tmp_path: Path) -> Path:
    """A run directory with stores as preprocess and translate leave them."""
    run = tmp_path / "run"
    for role, place in (
        ("source", "data/mc.h5"),
        ("target", "data/data.h5"),
        ("translated", "translated/mc_to_data.h5"),
    ):
        (run / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(toy_stores[role].path, run / place)
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    return run


def call(run: Path, *options: str):
    config = str(run.parent / "tiny.yaml")
    return CliRunner().invoke(app, ["--config", config, "--run", str(run), *options])


def test_it_writes_numbers_and_figures_and_says_so(run_folder):
    result = call(run_folder)
    assert result.exit_code == 0, result.output
    metrics = json.loads((run_folder / "validation/metrics.json").read_text())
    assert metrics["schema"] == "pileupgen-metrics"
    assert metrics["translation"] == {"mode": "partial", "t_release": 300, "w": 2.0}
    assert metrics["headline"]["shift_removed"] > 0.5
    assert metrics["headline"]["source_correlation_block"] == pytest.approx(1.0, abs=1e-3)
    assert metrics["target"]["n_events"] == 150
    assert all((run_folder / "validation" / name).is_file() for name in metrics["figures"])
    for word in (
        "read",
        "wrote",
        "next",
        "mean W1/σ",
        "fraction of the shift removed",
        "effective sample size",
        "reference",
    ):
        assert word in result.output


def test_an_unchanged_run_is_not_repeated(run_folder):
    call(run_folder, "--quick")
    path = run_folder / "validation/metrics.json"
    stamp = path.stat().st_mtime_ns
    result = call(run_folder, "--quick")
    assert "as is" in result.output
    assert "mean W1/σ" in result.output
    assert path.stat().st_mtime_ns == stamp
    assert "as is" not in call(run_folder, "--quick", "--seed", "8").output
    (run_folder / "validation/figures/event_display.png").unlink()
    assert "as is" not in call(run_folder, "--quick", "--seed", "8").output
    path.write_text("{")
    assert "as is" not in call(run_folder, "--quick", "--seed", "8").output
    json.loads(path.read_text())


def test_conditions_set_the_exit_code(run_folder):
    assert call(run_folder, "--quick", "--fail-if", "mean_w1 > 100").exit_code == 0
    failed = call(run_folder, "--quick", "--fail-if", "mean_w1 > 0.0001")
    assert failed.exit_code == EXIT_CONDITION
    assert (run_folder / "validation/metrics.json").is_file()
    unknown = call(run_folder, "--quick", "--fail-if", "shift_remove < 1")
    assert isinstance(unknown.exception, ConfigError)
    assert "shift_removed" in str(unknown.exception)
    early = call(run_folder, "--fail-if", "import os")
    assert isinstance(early.exception, ConfigError)


def test_another_store_has_its_own_folder(run_folder):
    other = run_folder / "translated/late.h5"
    shutil.copy(run_folder / "translated/mc_to_data.h5", other)
    assert call(run_folder, "--quick", "--input", str(other)).exit_code == 0
    assert (run_folder / "validation/late/metrics.json").is_file()
    assert not (run_folder / "validation/metrics.json").exists()


@pytest.mark.parametrize(
    ("missing", "command"),
    [
        ("data/mc.h5", "preprocess"),
        ("data/data.h5", "preprocess"),
        ("translated/mc_to_data.h5", "translate"),
    ],
)
def test_what_is_missing_names_the_command_that_makes_it(run_folder, missing, command):
    (run_folder / missing).unlink()
    error = call(run_folder).exception
    assert isinstance(error, MissingInputError)
    assert f"pileupgen {command} " in error.hint
    assert f"--run {run_folder}' first" in error.hint
    assert not (run_folder / "config.yaml").exists()


def test_another_geometry_is_refused(toy, run_folder):
    grid = Grid(toy.grid.eta_edges, 10)
    toy.store(run_folder / "data/mc.h5", toy.energies(100, grid=grid), "mc", grid=grid)
    error = call(run_folder).exception
    assert isinstance(error, GeometryError)
    assert not (run_folder / "validation").exists()


def test_energies_that_are_no_numbers_are_refused(toy, run_folder, toy_stores):
    energy = toy_stores["target"].read().energy
    energy[toy_stores["target"].indices("test")[:2], 0, 0, 0] = np.nan
    toy.store(run_folder / "data/data.h5", energy, "data")
    error = call(run_folder).exception
    assert isinstance(error, InputError)
    assert "2 of 150 events" in str(error)


def test_negative_weights_are_refused(toy, run_folder, toy_stores):
    source = toy_stores["source"]
    energy = toy_stores["translated"].read().energy
    weight = np.linspace(-1.0, 1.0, len(energy))
    toy.translated(run_folder / "translated/mc_to_data.h5", source, energy, weight=weight)
    error = call(run_folder, "--weighted").exception
    assert isinstance(error, InputError)
    assert "75 are negative" in str(error)


def test_a_truncated_store_is_refused(run_folder):
    path = run_folder / "translated/mc_to_data.h5"
    path.write_bytes(path.read_bytes()[:3000])
    assert isinstance(call(run_folder).exception, UnreadableInputError)


def test_a_damaged_release_curve_is_told_before_the_work(run_folder):
    (run_folder / "model").mkdir()
    (run_folder / "model/release.json").write_text("{")
    assert isinstance(call(run_folder).exception, UnreadableInputError)
    assert not (run_folder / "validation").exists()


def test_a_run_of_another_config_is_refused(run_folder):
    assert call(run_folder, "--quick").exit_code == 0
    (run_folder.parent / "tiny.yaml").write_text(CONFIG.replace("seed: 3", "seed: 4"))
    error = call(run_folder, "--quick").exception
    assert isinstance(error, RunError)
    assert "seed: 3 → 4" in str(error)


def test_few_events_are_reported_with_a_warning(toy, run_folder, toy_stores):
    source = toy_stores["source"]
    rows = source.indices("test")[:30]
    toy.store(
        run_folder / "translated/mc_to_data.h5",
        source.read(rows).energy,
        "mc_to_data",
        source_event=source.columns["event_id"][rows],
    )
    result = call(run_folder)
    assert result.exit_code == 0
    assert "only 30 translated events" in result.output.replace("\n", " ")


def test_other_layers_are_refused_by_name(toy, run_folder):
    grid = Grid(toy.grid.eta_edges, toy.grid.n_phi, ("em", "hcal"))
    toy.store(run_folder / "data/mc.h5", toy.energies(100, grid=grid), "mc", grid=grid)
    error = call(run_folder, "--quick").exception
    assert isinstance(error, GeometryError)
    assert "hcal" in str(error)


def test_empty_images_are_reported_and_counted(toy, run_folder, toy_stores):
    empty = np.zeros_like(toy_stores["translated"].read().energy)
    toy.translated(run_folder / "translated/mc_to_data.h5", toy_stores["source"], empty)
    result = call(run_folder, "--quick")
    assert result.exit_code == 0, result.exception
    assert "150 of 150 events of translated are empty" in result.output.replace("\n", " ")
    metrics = json.loads((run_folder / "validation/metrics.json").read_text())
    assert metrics["headline"]["significance"] > 10.0
    assert metrics["rows"]["translated"]["source_correlation"]["block"]["value"] is None


@pytest.mark.parametrize("weight", [np.inf, np.nan, 1e300])
def test_weights_that_cannot_be_summed_are_refused(toy, run_folder, toy_stores, weight):
    energy = toy_stores["translated"].read().energy
    weights = np.ones(len(energy))
    weights[3] = weight
    toy.translated(
        run_folder / "translated/mc_to_data.h5", toy_stores["source"], energy, weight=weights
    )
    error = call(run_folder, "--quick", "--weighted").exception
    assert isinstance(error, InputError)
    assert "1 are not finite or too large" in str(error)


@pytest.mark.parametrize(
    ("weight", "words"), [(-0.5, "150 are negative"), (0.0, "all 150 event weights are zero")]
)
@pytest.mark.parametrize("option", ["--weighted", "--unweighted"])
def test_weights_that_nothing_is_left_of_are_refused(
    toy, run_folder, toy_stores, weight, words, option
):
    energy = toy_stores["translated"].read().energy
    weights = np.full(len(energy), weight)
    path = run_folder / "translated/mc_to_data.h5"
    toy.translated(path, toy_stores["source"], energy, weight=weights)
    error = call(run_folder, "--quick", option).exception
    assert isinstance(error, InputError)
    assert words in str(error)
    assert str(path) in str(error)


def test_events_of_weight_zero_count_for_nothing(toy, run_folder, toy_stores):
    source, energy = toy_stores["source"], toy_stores["translated"].read().energy
    dropped = np.arange(len(energy)) % 3 == 0
    spoiled = np.where(dropped[:, None, None, None], 10 * energy, energy)
    path, values = run_folder / "translated/mc_to_data.h5", []
    for images in (energy, spoiled):
        toy.translated(path, source, images, weight=np.where(dropped, 0.0, 2.0))
        assert call(run_folder, "--quick", "--weighted").exit_code == 0
        metrics = json.loads((run_folder / "validation/metrics.json").read_text())
        values.append(metrics["headline"])
    assert values[0]["ess"] == pytest.approx(2 / 3, abs=0.01)
    for name in ("mean_w1", "source_correlation_block", "source_correlation_cell", "significance"):
        assert values[1][name] == pytest.approx(values[0][name], rel=1e-5), name


def test_one_huge_weight_is_reported_as_a_poor_sample(toy, run_folder, toy_stores):
    energy = toy_stores["translated"].read().energy
    weight = np.ones(len(energy))
    weight[3] = 1e6
    toy.translated(
        run_folder / "translated/mc_to_data.h5", toy_stores["source"], energy, weight=weight
    )
    result = call(run_folder, "--quick", "--weighted")
    assert result.exit_code == 0, result.exception
    assert "effective sample size of the release weights" in result.output.replace("\n", " ")


def test_unknown_mu_leaves_out_its_bins_and_says_so(toy, run_folder, toy_stores):
    for role, name in (("target", "data"), ("source", "mc")):
        store = toy_stores[role]
        mu = np.full(len(store), np.nan, dtype=np.float32)
        toy.store(run_folder / f"data/{name}.h5", store.read().energy, name, mu=mu)
    result = call(run_folder, "--quick")
    assert result.exit_code == 0, result.exception
    assert "μ is unknown" in result.output.replace("\n", " ")
    metrics = json.loads((run_folder / "validation/metrics.json").read_text())
    assert metrics["mu_bins"] == []


def test_a_constant_observable_is_named_and_left_out(toy, run_folder, toy_stores):
    for role, name in (("target", "data/data.h5"), ("source", "data/mc.h5")):
        energy = toy_stores[role].read().energy
        energy[:, 1] = 0.0
        toy.store(run_folder / name, energy, name[5:-3].strip("/"))
    energy = toy_stores["translated"].read().energy
    energy[:, 1] = 0.0
    toy.translated(run_folder / "translated/mc_to_data.h5", toy_stores["source"], energy)
    result = call(run_folder)
    assert result.exit_code == 0, result.exception
    assert "constant in the target" in result.output.replace("\n", " ")
    assert "sum_e_had" in result.output
    metrics = json.loads((run_folder / "validation/metrics.json").read_text())
    assert metrics["rows"]["source"]["observables"]["sum_e_had"]["w1"]["value"] is None
    assert metrics["headline"]["mean_w1"] >= 0
