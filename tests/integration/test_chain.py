"""The four commands one after another on generated events, and what goes wrong between them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from pileupgen.samples.store import ImageStore
from tests.conftest import run_main

GRID = {"eta_edges": [round(-0.8 + 0.2 * i, 1) for i in range(9)], "n_phi": 12, "name": "small"}
CONFIG = {
    "name": "small",
    "samples": {"mc": "mc_card.yaml", "data": "data_card.yaml"},
    "preprocess": {"geometry": GRID, "zero_suppression": 0.3},
    "calibration": {"n_knots": 32, "n_mu_bins": 1, "n_layer_bins": 3},
    "codec": "latent",
    "autoencoder": {"width": 8, "n_blocks": 1, "n_heads": 2, "steps": 4},
    "denoiser": {"width": 8, "n_blocks": 1, "steps": 4},
    "ratio": {"width": 8, "n_blocks": 1, "steps": 4},
    "training": {"batch_size": 16, "checkpoint_every": 2},
    "translate": {"num_inference_steps": 3, "n_correction_events": 60},
    "validate": {"n_bootstrap": 10, "n_seeds": 1},
}


def card(domain: str, seed: int) -> dict:
    response = {"mc": "mc", "data": "data"}[domain]
    return {
        "name": f"{domain}_card",
        "what": "a small generated sample",
        "domain": domain,
        "generate": {
            "generator": "pythia8",
            # Without diffraction, which takes Pythia seven times as long to initialise.
            "process": "nondiffractive",
            "n_events": 200,
            "mu": 20,
            "pool_size": 200,
            "response": response,
            "seed": seed,
        },
        "detector": {"text": "fast calorimeter", "phi_symmetric": True, "eta_symmetric": True},
        "how_made": "pileupgen simulate",
        "selection": "none",
        "licence": "Apache-2.0",
        "contact": "the tests",
    }


def in_a_process(folder: Path, *arguments: str) -> str:
    """What a command says that a shell starts."""
    done = subprocess.run(
        [sys.executable, "-m", "pileupgen", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pileupgen(folder: Path, *arguments: str, code: int = 0) -> str:
    """What a command says in this process, which has torch loaded already."""
    with contextlib.chdir(folder):
        found, said = run_main(*arguments)
    assert found == code, said
    return said


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("pythia8mc", reason="needs the extra 'simulate'")
    folder = tmp_path_factory.mktemp("chain")
    (folder / "small.yaml").write_text(yaml.safe_dump(CONFIG))
    for domain, seed in (("mc", 1), ("data", 2)):
        (folder / f"{domain}_card.yaml").write_text(yaml.safe_dump(card(domain, seed)))
    out = in_a_process(folder, "preprocess", "--config", "small.yaml")
    assert "pileupgen train --config small.yaml" in out
    out = pileupgen(folder, "train", "--config", "small.yaml")
    assert "pileupgen translate --config small.yaml" in out
    way = ("--t-release", "300", "--w", "2.0")
    out = pileupgen(folder, "translate", "--config", "small.yaml", *way)
    assert "pileupgen validate --config small.yaml" in out
    pileupgen(folder, "validate", "--config", "small.yaml")
    return folder


def test_translated_events_are_linked_to_their_sources(chain):
    run = chain / "runs" / "small"
    mc, out = ImageStore(run / "data" / "mc.h5"), ImageStore(run / "translated" / "mc_to_data.h5")
    rows = mc.indices("test")
    assert len(out) == len(rows) == 50
    assert np.array_equal(out.columns["source_event"], mc.columns["event_id"][rows])
    assert np.array_equal(out.columns["mu"], mc.columns["mu"][rows])
    assert np.all(out.columns["seed"] == 1)
    assert np.all(out.columns["weight"] > 0)
    images = out.read().energy
    assert np.isfinite(images).all()
    assert images.min() >= 0
    assert not np.array_equal(images, mc.read(rows).energy)
    assert out.provenance["t_release"] == 300
    assert out.provenance["w"] == 2.0


def test_the_python_of_the_readme_runs(chain, capsys, monkeypatch):
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (block,) = re.findall("```python\n(.*?)```", readme, re.DOTALL)
    assert "runs/demo" in block
    monkeypatch.chdir(chain)
    exec(block.replace("runs/demo", "runs/small"), {})
    numbers, shape = capsys.readouterr().out.splitlines()
    metrics = json.loads((chain / "runs" / "small" / "validation" / "metrics.json").read_text())
    headline = [metrics["headline"][name] for name in ("mean_w1", "shift_removed")]
    assert [float(number) for number in numbers.split()] == headline
    assert shape == "(10, 2, 8, 12)"
    assert (chain / "event.png").is_file()


def test_metrics_hold_reference_source_and_translated(chain):
    metrics = json.loads((chain / "runs" / "small" / "validation" / "metrics.json").read_text())
    text = json.dumps(metrics)
    for name in ("reference", "source", "translated", "shift_removed", "auc_features"):
        assert name in text
    assert list((chain / "runs" / "small" / "validation").rglob("*.png"))


@pytest.mark.parametrize(
    "command",
    [["preprocess"], ["train"], ["translate", "--t-release", "300", "--w", "2.0"], ["validate"]],
    ids=lambda c: c[0],
)
def test_a_second_run_says_that_nothing_has_to_be_done(chain, command):
    assert "as is" in pileupgen(chain, *command, "--config", "small.yaml")


def test_results_do_not_depend_on_the_batch_size_or_a_repeat(chain):
    run = chain / "runs" / "small"
    args = ("translate", "--config", "small.yaml", "--t-release", "300", "--w", "2.0")
    for size in ("7", "50"):
        pileupgen(chain, *args, "--batch-size", size, "-o", f"batch{size}.h5")
    whole = ImageStore(run / "translated" / "mc_to_data.h5")
    for size in ("7", "50"):
        other = ImageStore(chain / f"batch{size}.h5")
        assert np.array_equal(whole.read().energy, other.read().energy)
        assert np.array_equal(whole.columns["weight"], other.columns["weight"])
    assert (chain / "batch7.h5").read_bytes() == (chain / "batch50.h5").read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        ["--t-release", "auto"],
        ["--mode", "generate"],
        ["--mode", "invert", "--w", "0"],
        ["--mode", "calibrate"],
        ["--t-release", "0"],
    ],
    ids=" ".join,
)
def test_other_modes_run(chain, options):
    target = "mode_" + "_".join(options).replace("-", "") + ".h5"
    out = pileupgen(
        chain,
        "translate",
        "--config",
        "small.yaml",
        *options,
        "-o",
        target,
    )
    if "auto" in options:
        assert "highest source correlation among" in out
    assert len(ImageStore(chain / target)) == 50


def test_release_zero_without_a_network_is_the_calibration(chain):
    """At t = 0 nothing is noised or denoised; only the codec's round trip is left."""
    for name, options in {"zero": ["--t-release", "0"], "cal": ["--mode", "calibrate"]}.items():
        if not (chain / f"{name}.h5").exists():
            pileupgen(chain, "translate", "--config", "small.yaml", *options, "-o", f"{name}.h5")
    zero, calibrated = (ImageStore(chain / f"{n}.h5").read().energy for n in ("zero", "cal"))
    both = np.corrcoef(zero.ravel(), calibrated.ravel())[0, 1]
    assert both > 0.98


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["translate", "--t-release", "soon"], 2, ["--t-release", "soon"]),
        (["translate", "--t-release", "1000"], 2, ["1000", "999"]),
        (["translate", "--w", "-1"], 2, ["--w"]),
        (["translate", "--sampler", "euler"], 2, ["euler"]),
        (["translate", "--input", "nowhere.h5"], 3, ["nowhere.h5"]),
        (["train", "--device", "gpu7"], 2, ["gpu7"]),
        (["train", "--seed", "9"], 5, ["seed: 1 → 9"]),
        (["train", "--config", "nowhere.yaml"], 2, ["nowhere"]),
        (["validate", "--input", "small.yaml"], 3, ["small.yaml"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_requests_are_one_message(chain, arguments, code, words):
    given = arguments if "--config" in arguments else [*arguments, "--config", "small.yaml"]
    if "gpu7" in arguments:
        given.append("--force")
        shutil.copytree(chain / "runs" / "small", chain / "runs" / "copy")
        given += ["--run", "runs/copy"]
    out = pileupgen(chain, *given, code=code)
    for word in words:
        assert word in out


def test_commands_out_of_order_name_the_one_to_run_first(chain):
    (chain / "fresh.yaml").write_text(yaml.safe_dump({**CONFIG, "name": "fresh"}))
    for command, first in (("train", "preprocess"), ("translate", "train"), ("validate", "")):
        out = pileupgen(
            chain, command, "--config", "fresh.yaml", code=5 if command == "translate" else 3
        )
        assert first in out


def test_training_with_one_domain_missing_names_the_store(chain):
    (chain / "half.yaml").write_text(yaml.safe_dump({**CONFIG, "name": "half"}))
    stores = chain / "runs" / "half" / "data"
    stores.mkdir(parents=True)
    shutil.copy(chain / "runs" / "small" / "data" / "mc.h5", stores)
    out = pileupgen(chain, "train", "--config", "half.yaml", code=3)
    assert "half/data/data.h5" in out
    assert "pileupgen preprocess" in out


def test_a_run_of_another_config_is_refused(chain):
    (chain / "other.yaml").write_text(yaml.safe_dump({**CONFIG, "denoiser": {"width": 16}}))
    for command in ("preprocess", "train", "translate", "validate"):
        out = pileupgen(chain, command, "--config", "other.yaml", "--run", "runs/small", code=5)
        assert "denoiser.width: 8 → 16" in out


def test_images_of_another_geometry_are_refused(chain, tmp_path):
    from tests.conftest import write_sample

    store = write_sample(tmp_path / "other.h5", 20, 0)
    options = ("--input", str(store.path), "--out-of-range", "allow")
    out = pileupgen(chain, "translate", "--config", "small.yaml", *options)
    assert "wrote" in out  # the same edges under another name are the same grid
    shifted = _shifted_store(tmp_path / "shifted.h5")
    out = pileupgen(chain, "translate", "--config", "small.yaml", "--input", str(shifted), code=4)
    assert "eta_edges" in out


def _shifted_store(path: Path) -> Path:
    from pileupgen.calo.geometry import Grid
    from pileupgen.samples.store import create_store

    grid = Grid(tuple(edge + 0.05 for edge in GRID["eta_edges"]), 12)
    with create_store(path, grid, "mc", {}) as writer:
        zeros = np.zeros((20, *grid.shape), dtype=np.float32)
        columns = {
            "mu": np.ones(20),
            "event_id": np.arange(20),
            "weight": np.ones(20),
            "split": np.full(20, 2),
        }
        writer.append(zeros, columns)
    return path


def test_a_damaged_model_is_one_message(chain):
    shutil.copytree(chain / "runs" / "small", chain / "runs" / "damaged")
    weights = chain / "runs" / "damaged" / "model" / "denoiser"
    for path in weights.glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:100])
    out = pileupgen(chain, "translate", "--run", "runs/damaged", code=5)
    assert "model" in out


# A shell that starts the tests in the background has them ignore SIGINT, and so their children.
HEEDING_SIGINT = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from pileupgen.cli.main import main; main()"
)


def test_interrupted_training_is_one_message_and_leaves_no_half_model(chain):
    config = {
        **CONFIG,
        "name": "interrupted",
        "denoiser": {"width": 8, "n_blocks": 1, "steps": 4000},
    }
    (chain / "interrupted.yaml").write_text(yaml.safe_dump(config))
    run = chain / "runs" / "interrupted"
    shutil.copytree(chain / "runs" / "small" / "data", run / "data")
    process = subprocess.Popen(
        [sys.executable, "-c", HEEDING_SIGINT, "train", "--config", "interrupted.yaml"],
        cwd=chain,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 120
    while not list((run / "checkpoints" / "denoiser").glob("step-*")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in output
    assert "Run the same command again" in output
    assert not run.joinpath("model").exists()
    assert list((run / "checkpoints" / "denoiser").glob("step-*"))


def test_simulate_finds_the_samples_of_a_config(chain):
    out = pileupgen(chain, "simulate", "--config", "small.yaml")
    assert out.count("as is") == 2
    out = pileupgen(chain, "simulate", "--config", "small.yaml", "--mu", "3", code=2)
    assert "does not go with mu" in out
