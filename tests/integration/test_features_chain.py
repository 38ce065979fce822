"""The four commands on tables of features, whose domains differ in marginals and correlations."""

from __future__ import annotations

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from pileupgen.cli.preprocess import preprocess
from pileupgen.cli.train import train
from pileupgen.cli.translate import translate
from pileupgen.cli.validate import validate
from pileupgen.samples.store import ImageStore
from tests.tiny import all_figures

FEATURES = {
    "pt": {"column": "jets[0]", "unit": "GeV"},
    "eta": "jets[1]",
    "tau21": "jets[2]",
    "n_const": "jets[3]",
}
CONFIG = {
    "name": "table",
    "samples": {"mc": "mc.yaml", "data": "data.yaml"},
    "preprocess": {"geometry": "features"},
    "calibration": {"n_mu_bins": 1},
    "denoiser": {"width": 32, "n_blocks": 1, "steps": 10},
    "ratio": {"width": 16, "n_blocks": 1, "steps": 10},
    "training": {"batch_size": 64, "checkpoint_every": 10},
    "translate": {"num_inference_steps": 10, "mode": "invert", "t_release": 995, "w": 0.0},
    "validate": {"n_bootstrap": 20, "n_seeds": 1, "cells": True},
}


def table(n: int, domain: int) -> np.ndarray:
    """Jets (n, 4): exponential, signed, a fraction, a count; correlated otherwise in data."""
    rng = np.random.default_rng([11, domain])
    rho = 0.1 + 0.6 * domain
    z = rng.standard_normal((n, 4))
    z[:, 1] = rho * z[:, 0] + np.sqrt(1 - rho**2) * z[:, 1]
    z[:, 2] = -0.5 * z[:, 0] + np.sqrt(0.75) * z[:, 2]
    pt = 500 + 150 * (1 + 0.3 * domain) * np.log1p(np.exp(1.6 * z[:, 0]))
    eta = (1.1 - 0.2 * domain) * z[:, 1] + 0.1 * domain
    tau21 = 1 / (1 + np.exp(-z[:, 2] - 0.5 * domain))
    n_const = np.clip(np.round(20 + 4 * domain + 5 * z[:, 3] + 3 * z[:, 0]), 0, None)
    return np.stack([pt, eta, tau21, n_const], axis=1)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table")
    for number, domain in enumerate(("mc", "data")):
        with h5py.File(folder / f"{domain}.h5", "w") as file:
            file["jets"] = table(2000, number)
        card = {
            "name": domain,
            "what": "made by a test",
            "domain": domain,
            "files": f"{domain}.h5",
            "format": "features",
            "options": {"features": FEATURES},
            "detector": {"text": "none"},
            "how_made": "numpy",
            "selection": "none",
            "licence": "Apache-2.0",
            "contact": "nobody",
        }
        (folder / f"{domain}.yaml").write_text(yaml.safe_dump(card, sort_keys=False))
    (folder / "table.yaml").write_text(yaml.safe_dump(CONFIG))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with all_figures():
            for command in (preprocess, train, translate, validate):
                command(config=Path("table.yaml"))
    return folder / "runs" / "table"


@pytest.fixture(scope="module")
def metrics(chain: Path) -> dict:
    return json.loads((chain / "validation" / "metrics.json").read_text())


def test_features_and_their_correlations_come_near_the_floor(metrics):
    headline = metrics["headline"]
    assert headline["mean_w1_source"] > 0.3
    assert headline["mean_w1"] < headline["mean_w1_reference"] + 0.08
    assert headline["auc_features_source"] > 0.75
    assert headline["auc_features"] < 0.62
    assert headline["significance_source"] > 6
    differs = [found["name"] for found in metrics["verdicts"]["source"]["findings"]]
    assert "correlation of pt and eta" in differs


def test_events_remain_themselves_feature_by_feature(metrics):
    kept = metrics["rows"]["translated"]["source_correlation"]
    assert set(kept["features"]) == set(FEATURES)
    assert min(one["value"] for one in kept["features"].values()) > 0.7
    mean = np.mean([one["value"] for one in kept["features"].values()])
    assert kept["block"]["value"] == pytest.approx(mean, abs=1e-3)
    assert kept["cell"]["value"] is None
    assert abs(metrics["controls"]["null_source_correlation_block"]["value"]) < 0.15


def test_counts_stay_counts(chain):
    out = ImageStore(chain / "translated" / "mc_to_data.h5").read().energy[:, 3, 0, 0]
    assert np.array_equal(out, np.round(out))
    assert out.mean() == pytest.approx(24, abs=0.7)


def test_nothing_of_a_calorimeter_is_said_of_features(chain, metrics):
    assert metrics["kind"] == "features"
    assert metrics["pileup"] == {}
    assert {name: record["unit"] for name, record in metrics["observables"].items()} == {
        "pt": "GeV",
        "eta": "",
        "tau21": "",
        "n_const": "",
    }
    assert any("neither cells nor jets" in note for note in metrics["notes"])
    names = {Path(name).stem for name in metrics["figures"]}
    assert names == {"observables_1", "feature_correlations", "distances", "release"} | (
        names & {"reliability"}
    )
    assert all((chain / "validation" / name).stat().st_size > 2000 for name in metrics["figures"])
    drawn = {path.stem for path in (chain / "logs").glob("*.pdf")}
    assert drawn == {"losses", "denoising", "reliability", "release"}
    page = (chain / "validation" / "report.html").read_text()
    for word in ("in blocks", "in cells", "E/MeV", "Pileup's own physics"):
        assert word not in page
    assert re.search(r"source correlation is \S+ in features", page)
