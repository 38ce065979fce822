from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from pileupgen.cli.main import app
from pileupgen.config import parse_config
from pileupgen.errors import ConfigError, MissingInputError
from pileupgen.jets import figure_data
from pileupgen.jets.jetnet_file import create_jetnet_file
from pileupgen.models.calibration.calibration import CellCalibration
from pileupgen.resources import find_file
from pileupgen.samples.store import ImageStore


def write_jets(path: Path, n: int, mass: float, seed: int) -> None:
    """Jets of two prongs whose opening gives about this mass at 1 TeV."""
    rng = np.random.default_rng(seed)
    half = mass / 1000 * rng.normal(1, 0.08, n)
    turn = rng.uniform(-np.pi, np.pi, n)
    particles = np.zeros((n, 30, 4))
    side = np.where(np.arange(30) % 2, 1.0, -1.0)
    particles[..., 0] = half[:, None] * np.cos(turn)[:, None] * side
    particles[..., 1] = half[:, None] * np.sin(turn)[:, None] * side
    particles[..., :2] += rng.normal(0, 0.01, (n, 30, 2))
    share = np.sort(rng.exponential(1, (n, 30)), axis=1)[:, ::-1]
    particles[..., 2] = share / share.sum(axis=1, keepdims=True)
    particles[..., 3] = 1
    jets = np.column_stack([rng.normal(1000, 50, n), np.zeros(n), half * 1000, np.full(n, 30)])
    with create_jetnet_file(path, 30, {}) as writer:
        writer.append(particles.astype(np.float32), jets.astype(np.float32))


def shared_calibration_leaves_the_difference(run: Path) -> None:
    calibration = CellCalibration.from_pretrained(run / "model" / "calibration")
    scores = []
    for domain, name in enumerate(("mc", "data")):
        store = ImageStore(run / "data" / f"{name}.h5")
        images = store.read(store.indices("train"))
        energy, mu = torch.from_numpy(images.energy), torch.from_numpy(images.mu)
        found = calibration.encode(energy, domain, mu, torch.zeros_like(energy))
        torch.testing.assert_close(calibration.decode(found, 1 - domain, mu), energy)
        scores.append(found[:, 0].flatten())
    assert float(scores[0].mean() - scores[1].mean()) > 1.2
    assert float(torch.cat(scores).std()) == pytest.approx(1, abs=0.05)


@pytest.fixture
def quick_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shipped config of JetNet's own files, made quick, where the demo looks for it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(figure_data, "STRIDE", 50)
    values = yaml.safe_load(find_file("jetnet_files", "configs").read_text())
    values["preprocess"]["max_events"] = 400
    values["denoiser"] |= {"width": 16, "n_blocks": 1, "steps": 60}
    values["ratio"] |= {"width": 8, "n_blocks": 1, "steps": 10}
    values["training"]["batch_size"] = 64
    values["translate"]["num_inference_steps"] = 5
    values["validate"] = {"n_bootstrap": 10, "n_seeds": 1, "n_mu_bins": 1}
    path = tmp_path / "configs" / "jetnet_files.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(values))
    write_jets(tmp_path / "t.hdf5", 400, 170.0, 1)
    write_jets(tmp_path / "w.hdf5", 400, 80.0, 2)
    return path


def test_one_command_makes_the_figure_once(quick_config: Path, tmp_path: Path) -> None:
    command = ["demo", "jetnet", "--input-top", "t.hdf5", "--input-w", "w.hdf5", "--n-jets", "100"]
    first = CliRunner().invoke(app, command, catch_exceptions=False)
    assert first.exit_code == 0, first.output
    folder = tmp_path / "runs" / "jetnet_files" / "validation"
    rows = json.loads((folder / "jetnet.json").read_text())
    masses = {row["class"]: row for row in rows if row["variable"] == "mass"}
    for row in masses.values():
        assert row["unchanged"] > 60
        assert row["emulated"] < 0.6 * row["unchanged"]
        assert row["noise"] < 0.3
    assert (folder / "figures" / "denoising_mass.png").stat().st_size > 20_000
    assert (folder / "figures" / "denoising_tau32.pdf").is_file()
    again = CliRunner().invoke(app, command, catch_exceptions=False)
    assert again.output.count("as is") >= 4
    assert "demo: inputs unchanged" in again.output
    assert "1D Wasserstein" in again.output
    shared_calibration_leaves_the_difference(tmp_path / "runs" / "jetnet_files")


def test_inputs_go_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="go together"):
        CliRunner().invoke(app, ["demo", "jetnet", "--input-w", "w"], catch_exceptions=False)
    both = ["demo", "jetnet", "--input-w", "w", "--input-top", "t"]
    with pytest.raises(MissingInputError, match="No file t"):
        CliRunner().invoke(app, both, catch_exceptions=False)


def test_help_has_an_example() -> None:
    shown = CliRunner().invoke(app, ["demo", "jetnet", "--help"])
    assert "pileupgen demo jetnet --input-top t.hdf5" in shown.output


def test_shared_calibration_is_not_corrected() -> None:
    with pytest.raises(ConfigError, match="calibrate_after: false"):
        parse_config({"calibration": {"shared": True}}, "here")
