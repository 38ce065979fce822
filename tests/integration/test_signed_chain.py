"""The four commands on cells that go negative: Gaussian electronic noise on all of them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from pileupgen.cli.main import app
from pileupgen.compare.comparison import compare
from pileupgen.compare.resampling import Samples
from pileupgen.measure.sample import Sample, measure_sample
from pileupgen.report.page import render_report
from pileupgen.samples.store import Images, ImageStore
from pileupgen.workflow.run import Run
from tests.conftest import SMALL_GRID, make_energies

THRESHOLD = 0.2
CONFIG = {
    "name": "signed",
    "samples": {"mc": "mc.yaml", "data": "data.yaml"},
    "preprocess": {"geometry": SMALL_GRID.to_dict(), "zero_suppression": THRESHOLD},
    "calibration": {"n_knots": 64, "n_mu_bins": 1, "n_layer_bins": 3},
    "codec": "latent",
    "autoencoder": {"width": 8, "n_blocks": 1, "n_heads": 2, "steps": 4},
    "denoiser": {"width": 8, "n_blocks": 1, "steps": 4},
    "ratio": {"width": 8, "n_blocks": 1, "steps": 4},
    "training": {"batch_size": 16, "checkpoint_every": 4},
    "translate": {"num_inference_steps": 3, "n_correction_events": 60},
    "validate": {"n_bootstrap": 10, "n_seeds": 1},
}


def write_noisy(folder: Path, domain: int) -> None:
    name = ("mc", "data")[domain]
    energy, mu = make_energies(240, domain, 5)
    noise = np.random.default_rng([5, domain]).normal(0, 0.25 + 0.1 * domain, energy.shape)
    with h5py.File(folder / f"{name}.h5", "w") as file:
        file["images"] = np.moveaxis(energy + noise, 1, -1).astype(np.float32)
        file["mu"] = mu
    card = {
        "name": name,
        "what": "made events with electronic noise",
        "domain": name,
        "files": f"{name}.h5",
        "format": "hdf5",
        "options": {"dataset": "images", "eta_edges": SMALL_GRID.to_dict()["eta_edges"]},
        "mu": "mu",
        "units": {"energy": "GeV"},
        "detector": {"text": "made", "phi_symmetric": True, "eta_symmetric": True},
        "how_made": "by the tests",
        "selection": "none",
        "licence": "Apache-2.0",
        "contact": "the tests",
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(card))


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def measured(name: str, energy: np.ndarray) -> Sample:
    n = len(energy)
    columns = {"mu": np.full(n, 60.0), "event_id": np.arange(n), "weight": np.ones(n)}
    return measure_sample(name, name, [Images(energy, SMALL_GRID, columns)], SMALL_GRID)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for domain in (0, 1):
        write_noisy(tmp_path, domain)
    return tmp_path


def write_config(folder: Path, space: str) -> str:
    config = {**CONFIG, "name": space, "calibration": {**CONFIG["calibration"], "space": space}}
    (folder / f"{space}.yaml").write_text(yaml.safe_dump(config))
    return f"{space}.yaml"


def test_signed_cells_go_the_whole_way(folder: Path) -> None:
    config = write_config(folder, "gaussianised")
    out = run("preprocess", "--config", config)
    assert out.count("cells suppressed") == 2
    assert out.count("energy below 0") == 2
    stores = {
        name: ImageStore(folder / f"runs/gaussianised/data/{name}.h5") for name in ("mc", "data")
    }
    for store in stores.values():
        energy = store.read().energy
        assert (energy < 0).mean() > 0.05
        assert np.abs(energy[energy != 0]).min() >= THRESHOLD
    run("train", "--config", config)
    pipeline = Run.open(folder / "runs/gaussianised").pipeline()
    assert pipeline._calibration_of_hits is pipeline.calibration
    run("translate", "--config", config)
    translated = ImageStore(folder / "runs/gaussianised/translated/mc_to_data.h5").read().energy
    data = stores["data"].read().energy
    mc = stores["mc"].read().energy
    assert np.abs(translated[translated != 0]).min() >= 0.99 * THRESHOLD
    for part in (np.less, np.equal):
        found, wanted, before = (part(images, 0).mean() for images in (translated, data, mc))
        assert abs(found - wanted) < 0.3 * abs(before - wanted) + 0.01
    np.testing.assert_allclose(
        np.quantile(translated, [0.01, 0.1]), np.quantile(data, [0.01, 0.1]), atol=0.08
    )
    result = compare(
        Samples(
            target=measured("target", data[:60]),
            reference=(measured("reference", data[60:120]),),
            source=measured("source", mc[: len(translated)]),
            translated=measured("translated", translated),
        ),
        np.arange(len(translated)),
        n_bootstrap=10,
        n_seeds=0,
    )
    assert result.translated.shift_removed.value > 0.5
    assert "energies of either sign" in render_report(result, {})


def test_signed_log_with_hit_bits_is_another_space(folder: Path) -> None:
    config = write_config(folder, "signed_log")
    run("preprocess", "--config", config)
    run("train", "--config", config)
    run("translate", "--config", config, "--mode", "calibrate", "-o", "same.h5")
    source = ImageStore(folder / "runs/signed_log/data/mc.h5")
    back = ImageStore(folder / "same.h5").read().energy
    # One map for both domains: without diffusion an event is what it was.
    expected = source.read(source.indices("test")).energy
    np.testing.assert_allclose(back, expected, rtol=1e-5, atol=1e-6)
    assert np.array_equal(back == 0, expected == 0)
    run("translate", "--config", config)
    translated = ImageStore(folder / "runs/signed_log/translated/mc_to_data.h5").read().energy
    assert np.isfinite(translated).all()
    assert (translated < 0).any()
    assert (translated == 0).any()
