"""Training as one process and as two, on the same run."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

from pileupgen.config import parse_config
from pileupgen.run import RunDirectory
from pileupgen.training.run_training import train_pipeline
from tests.conftest import SMALL_GRID, write_sample

N_STEPS = 8
CONFIG = {
    "name": "small",
    "preprocess": {"geometry": SMALL_GRID.to_dict()},
    "calibration": {"n_knots": 32, "n_mu_bins": 1, "n_layer_bins": 2},
    "codec": "latent",
    "autoencoder": {"width": 8, "n_blocks": 1, "n_heads": 2, "steps": N_STEPS},
    "denoiser": {"width": 8, "n_blocks": 1, "steps": N_STEPS},
    "ratio": {"width": 8, "n_blocks": 1, "steps": N_STEPS},
    "training": {
        "batch_size": 16,
        "micro_batch": 3,
        "mixed_precision": "no",
        "tensorboard": False,
    },
}


def run_with_stores(path: Path) -> RunDirectory:
    for domain, name in enumerate(("mc", "data")):
        (path / "data").mkdir(parents=True, exist_ok=True)
        write_sample(path / "data" / f"{name}.h5", 200, domain)
    return RunDirectory(path)


def step_losses(run: RunDirectory, name: str) -> NDArray[np.float64]:
    """Each step's own loss, from the smoothed one that is logged."""
    lines = (run.logs / f"{name}.jsonl").read_text().splitlines()
    smooth = np.array([json.loads(line)["loss"] for line in lines])
    return np.concatenate([smooth[:1], (smooth[1:] - 0.95 * smooth[:-1]) / 0.05])


def test_two_processes_train_as_one_does(tmp_path):
    alone = run_with_stores(tmp_path / "alone")
    config = parse_config(CONFIG, "test")
    summary = train_pipeline(
        config, alone, "cpu", lambda name, n: contextlib.nullcontext(lambda n=1, **figures: None)
    )
    assert summary.n_processes == 1
    both = run_with_stores(tmp_path / "both")
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(CONFIG))
    # As the documentation has it: "--", or torchrun would take --run for its own --run-path.
    launch = ["torch.distributed.run", "--nproc_per_node", "2", "-m", "--", "pileupgen"]
    train = ["train", "--config", "small.yaml", "--run", "both", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", *launch, *train],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(Path.cwd()),
            "ACCELERATE_USE_CPU": "true",
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert both.details("train")["processes"] == 2
    assert done.stdout.count("next ") == 1  # one process tells, the other keeps quiet
    assert "Warning" not in done.stdout + done.stderr
    for name in ("autoencoder", "denoiser", "ratio"):
        expected, found = step_losses(alone, name), step_losses(both, name)
        assert len(expected) == len(found) == N_STEPS
        assert found == pytest.approx(expected, abs=1e-4)
    assert (both.model / "model_index.json").is_file()
    assert [path.name for path in both.path.rglob("*.part")] == []
