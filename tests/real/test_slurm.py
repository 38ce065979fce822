"""The commands on a real Slurm: jobs on two processors wait, are cancelled, refused, signalled."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest
import torch
import yaml

pytest.importorskip("dask_jobqueue", reason="needs the extra 'cluster'")

from pileupgen.diffusion.for_diffusers import PileupTranslationPipeline
from pileupgen.diffusion.schedule import make_scheduler
from pileupgen.models.calibration.calibration import CellCalibration
from pileupgen.models.networks.autoencoder import Autoencoder
from pileupgen.models.networks.denoiser import Denoiser
from pileupgen.models.networks.ratio import RatioClassifier
from pileupgen.run import RunDirectory
from pileupgen.samples.store import ImageStore
from tests.conftest import run_main
from tests.parallel import work
from tests.parallel.conftest import ROOT
from tests.real.services import Slurm
from tests.sample_files import random_towers, write_delphes

pytestmark = pytest.mark.real

CONFIG = {
    "name": "small",
    "samples": {"mc": "mc.yaml", "data": "data.yaml"},
    "preprocess": {"geometry": {"eta_edges": [-3.0, -1.5, 0.0, 1.5, 3.0], "n_phi": 8}},
    "translate": {"num_inference_steps": 2, "n_correction_events": 50},
    "validate": {"n_bootstrap": 10, "n_seeds": 1},
}
FARM = ("--cluster", "slurm", "--workers", "2", "--job", "interface=lo", "--job", "memory=1GB")


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    system = Slurm()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**system.environment, "PYTHONPATH": str(ROOT)}.items():
            patch.setenv(name, value)
        # What the documented script calls by name.
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        yield system
    system.close()


@pytest.fixture(autouse=True)
def clean(slurm: Slurm) -> Iterator[None]:
    """No job is left by any test, and none that it has left is in the way of the next."""
    yield
    try:
        await_that(lambda: not slurm.jobs(), 20)
    finally:
        slurm.cancel_all()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cards of two files each, and the whole chain as it runs on this machine alone."""
    place = tmp_path_factory.mktemp("slurm") / "with a space"
    place.mkdir()
    for seed, domain in enumerate(("mc", "data")):
        for part in range(2):
            write_delphes(place / f"{domain}_{part}.root", random_towers(250, 2 * seed + part))
        card = {
            "name": domain,
            "what": "made by a test",
            "domain": domain,
            "files": [f"{domain}_*.root"],
            "detector": {"text": "none", "grid": "atlas", "phi_symmetric": True},
            "how_made": "numpy",
            "selection": "none",
            "licence": "Apache-2.0",
            "contact": "nobody",
        }
        (place / f"{domain}.yaml").write_text(yaml.safe_dump(card))
    (place / "small.yaml").write_text(yaml.safe_dump(CONFIG))
    for command in (["preprocess"], ["translate"], ["validate", "--quick"]):
        pileupgen(place, command[0], "here", *command[1:])
        if command == ["preprocess"]:
            make_model(RunDirectory(place / "here"))
            shutil.copytree(place / "here", place / "there")
            shutil.rmtree(place / "there" / "data")
            for stage in (place / "there" / "stages").glob("preprocess*"):
                stage.unlink()
    return place


def make_model(run: RunDirectory) -> None:
    """A model with weights as they are drawn: a farm does not care what it has learned."""
    torch.manual_seed(1)
    stores = [ImageStore(run.images(domain)) for domain in ("mc", "data")]
    n_layers, n_eta, n_phi = shape = stores[0].grid.shape
    calibration = CellCalibration(*shape, n_knots=32, n_mu_bins=1, n_layer_bins=3)
    images = [store.read() for store in stores]
    calibration.fit([part.energy for part in images], [part.mu for part in images])
    size = (8, n_eta // 2, n_phi // 2)
    pipeline = PileupTranslationPipeline(
        calibration,
        Autoencoder(n_layers, n_eta, n_phi, width=8, n_blocks=1, n_heads=2),
        Denoiser(*size, width=8, n_blocks=1, patch=(2, 2)),
        RatioClassifier(*size, width=8, n_blocks=1, patch=(2, 2)),
        make_scheduler(1000),
        stores[0].grid.to_dict(),
    )
    pipeline.save_pretrained(run.model)
    run.finish("train", "drawn", {})


def pileupgen(folder: Path, command: str, run: str, *arguments: str, code: int = 0) -> str:
    # Figures take most of the time, and no farm.
    no_figures = mock.patch("pileupgen.report.figures.write_figure", return_value=[])
    with contextlib.chdir(folder), no_figures:
        found, said = run_main(command, "--config", "small.yaml", "--run", run, *arguments)
    assert found == code, said
    return said


def await_that(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_chain_gives_the_same_bytes_though_jobs_are_cancelled(
    slurm: Slurm, folder: Path
) -> None:
    blocker = slurm.occupy(1)
    await_that(lambda: slurm.job(blocker[0])["JobState"] == "RUNNING")
    cancelled: list[str] = []

    def cancel_both() -> None:
        """One that runs and has no worker yet, one that waits: both have to be replaced."""
        await_that(lambda: slurm.jobs("RUNNING") and slurm.jobs("PENDING"))
        cancelled.extend(slurm.jobs())
        slurm.cancel(*cancelled)

    canceller = threading.Thread(target=cancel_both)
    canceller.start()
    said = pileupgen(folder, "preprocess", "there", *FARM)
    canceller.join()
    slurm.cancel(*blocker)
    assert len(cancelled) == 2
    assert "asking slurm for 2 workers" in said
    assert f"slurm took jobs {', '.join(sorted(cancelled, key=int))}; logs in there/logs" in said
    assert re.search(r"pending \((Resources|Priority|None)\)", said)
    assert re.search(r"jobs? \d+.* left the queue; asking for as many again", said)
    assert "1 worker\n" in said
    for command in (["translate"], ["validate", "--quick"]):
        said = pileupgen(folder, command[0], "there", *command[1:], *FARM)
        assert "the jobs are given back" in said
    assert "Traceback" not in said
    for name in ("data/mc.h5", "data/data.h5", "translated/mc_to_data.h5"):
        assert (folder / "there" / name).read_bytes() == (folder / "here" / name).read_bytes()
    metrics = [
        json.loads((folder / run / "validation/metrics.json").read_text())
        for run in ("here", "there")
    ]
    assert metrics[0]["headline"] == metrics[1]["headline"]
    assert not list(folder.glob("slurm-*.out"))
    logs = sorted((folder / "there" / "logs").glob("pileupgen-*.log"))
    assert logs


def test_a_running_worker_that_is_cancelled_is_replaced(slurm: Slurm, tmp_path: Path) -> None:
    from pileupgen.parallel.dask_connection import start_cluster

    said: list[str] = []
    job = {"interface": "lo", "memory": "1GB"}
    with start_cluster("slurm", 2, job, logs=tmp_path, tell=said.append) as farm:
        await_that(lambda: "joined" in "".join(said) or farm.describe().count("2 workers"))
        results = farm.map(work.square_slowly, tmp_path, range(200))
        assert next(results) == 0
        lost = slurm.jobs("RUNNING")[0]
        slurm.cancel(lost)
        assert list(results) == [n * n for n in range(1, 200)]
    assert any(f"lost the worker of job {lost} on 127.0.0.1" in line for line in said)
    assert any(f"job {lost} left the queue" in line for line in said)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("queue=nowhere", "invalid partition specified: nowhere"),
        ("memory=999GB", "Requested node configuration is not available"),
    ],
)
def test_a_refused_submission_ends_at_once(
    slurm: Slurm, folder: Path, setting: str, words: str
) -> None:
    began = time.monotonic()
    said = pileupgen(folder, "preprocess", "refused", *FARM, "--job", setting, code=11)
    assert time.monotonic() - began < 60
    assert "slurm refuses the jobs: sbatch: error:" in said
    assert words in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("number", "state"), [(signal.SIGINT, "PENDING"), (signal.SIGTERM, "RUNNING")]
)
def test_signals_leave_no_job(
    slurm: Slurm, folder: Path, number: signal.Signals, state: str
) -> None:
    blockers = slurm.occupy(2) if state == "PENDING" else []
    arguments = ["preprocess", "--config", "small.yaml", "--run", f"signal-{number}", *FARM]
    command = subprocess.Popen(
        # A shell that runs the suite in its background has it ignore Ctrl-C.
        ["env", "--default-signal", sys.executable, "-m", "pileupgen", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    await_that(lambda: len(slurm.jobs(state)) == 2, 120)
    command.send_signal(number)
    said, _ = command.communicate(timeout=60)
    assert command.returncode == 128 + number, said
    assert "Traceback" not in said
    await_that(lambda: not slurm.jobs(), 15)
    slurm.cancel(*blockers)


def documented_script() -> str:
    """The batch script of the documentation, for two processors instead of twenty-one."""
    for page in (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))):
        for script in re.findall(r"```bash\n(#!/bin/bash\n.*?)```", page.read_text(), re.DOTALL):
            if "dask scheduler" in script:
                small = script.replace("--ntasks=21", "--ntasks=2").replace("=20", "=1")
                small = small.replace("mem-per-cpu=4G", "mem-per-cpu=2G")
                for command in ("dask scheduler", "dask worker"):
                    small = small.replace(command, f"{command} --interface lo")
                return small.replace("translate validate;", "translate;")  # figures take long
    raise AssertionError("no page has the script")


@pytest.mark.parametrize("is_good", [True, False])
def test_the_documented_script_keeps_the_exit_status(
    slurm: Slurm, folder: Path, is_good: bool
) -> None:
    run = "script" if is_good else "failing"
    script = folder / f"{run}.sh"
    script.write_text(documented_script().replace("run=runs/atlas", f"run={run}"))
    if is_good:
        shutil.copytree(folder / "here", folder / run)
        for name in ("translated", "validation"):
            shutil.rmtree(folder / run / name)
        for stage in (folder / run / "stages").glob("*"):
            if stage.name.startswith(("translate", "validate")):
                stage.unlink()
    else:
        # A config that does not fit: the first command fails with exit code 2.
        (folder / run).mkdir()
        (folder / run / "config.yaml").write_text("name: failing\nnonsense: 1\n")
    output = folder / f"{run}.log"
    with contextlib.chdir(folder):
        number = slurm.ask("sbatch", "--parsable", f"--output={output}", str(script))
    over = ("COMPLETED", "FAILED")
    await_that(lambda: slurm.job(number)["JobState"] in over, 240)
    job = slurm.job(number)
    said = output.read_text()
    assert job["JobState"] == ("COMPLETED" if is_good else "FAILED"), said
    assert job["ExitCode"] == ("0:0" if is_good else "2:0")
    assert not list((folder / run / "logs").glob("scheduler-*.json"))
    if is_good:
        assert "1 worker" in said
        assert "PackageNotFoundError" not in said
        name = "translated/mc_to_data.h5"
        assert (folder / run / name).read_bytes() == (folder / "here" / name).read_bytes()
