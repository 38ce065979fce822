from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("distributed", reason="needs the extra 'cluster'")

from pileupgen.diffusion import production
from pileupgen.diffusion.for_diffusers import PileupTranslationPipeline
from pileupgen.diffusion.production import Blocks, Member, Production, produce
from pileupgen.diffusion.schedule import make_scheduler
from pileupgen.diffusion.settings import Settings
from pileupgen.errors import FarmError
from pileupgen.models.calibration.calibration import CellCalibration
from pileupgen.models.networks.autoencoder import Autoencoder
from pileupgen.models.networks.denoiser import Denoiser
from pileupgen.models.networks.ratio import RatioClassifier
from pileupgen.parallel import Processes
from pileupgen.parallel.dask_connection import connect
from pileupgen.samples.store import ImageStore
from tests.conftest import SMALL_GRID
from tests.parallel.conftest import FarmProcesses

N = 200


@pytest.fixture(scope="module")
def work(small_stores: tuple[ImageStore, ImageStore]) -> Production:
    calibration = CellCalibration(2, 8, 12, n_knots=32, n_mu_bins=1, n_layer_bins=3)
    images = [store.read() for store in small_stores]
    calibration.fit([part.energy for part in images], [part.mu for part in images])
    pipeline = PileupTranslationPipeline(
        calibration,
        Autoencoder(2, 8, 12, width=8, n_blocks=1, n_heads=2),
        Denoiser(8, 4, 6, width=8, n_blocks=1, patch=(2, 2)),
        RatioClassifier(8, 4, 6, width=8, n_blocks=1, patch=(2, 2)),
        make_scheduler(1000),
        SMALL_GRID.to_dict(),
    )
    settings = Settings(num_inference_steps=2)
    return Production(small_stores[0], np.arange(N), [Member(pipeline, settings)], 5)


def test_a_store_translated_elsewhere_has_the_same_bytes(
    work: Production, farm: FarmProcesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(production, "BLOCK_EVENTS", 50)
    monkeypatch.chdir(tmp_path)
    first, _ = farm.add_worker(), farm.add_worker()
    blocks = {name: Blocks(Path(f"{name}.h5"), "x", work.rows, 1) for name in ("here", "there")}
    assert len(list(blocks["here"])) == 4
    here = produce(work, blocks["here"], Path("here.h5"), {})
    n_done: list[int] = []

    def kill_first(n: int) -> None:
        n_done.append(n)
        first.kill()

    with connect(farm.address) as executor:
        there = produce(work, blocks["there"], Path("there.h5"), {}, kill_first, executor)
        monkeypatch.setattr("pileupgen.parallel.dask_farm._size", lambda path: 5)
        with pytest.raises(FarmError, match=r"does not see .*/nowhere"):
            executor.require_visible([tmp_path / "nowhere"])
        with pytest.raises(FarmError, match=r"sees another version of .*/here\.h5"):
            executor.require_visible([tmp_path / "here.h5"])
    assert first.wait(10) != 0
    assert sum(n_done) == N
    assert here == there
    assert Path("there.h5").read_bytes() == Path("here.h5").read_bytes()
    assert sorted(path.name for path in Path().glob("*.h5")) == ["here.h5", "there.h5"]


def test_processes_translate_the_same_bytes(work: Production, tmp_path: Path) -> None:
    stores = []
    for name, executor in (("here", None), ("there", Processes(2))):
        target = tmp_path / f"{name}.h5"
        produce(work, Blocks(target, "x", work.rows, 1), target, {}, executor=executor)
        stores.append(target.read_bytes())
    assert stores[0] == stores[1]


def test_scripts_for_slurm_are_shell(tmp_path: Path) -> None:
    """The batch scripts of the how-to, as far as they can be tested without Slurm."""
    import subprocess

    page = (Path(__file__).parents[2] / "docs" / "how-to" / "farm.md").read_text()
    scripts = re.findall(r"```bash\n(#!/bin/bash\n.*?)```", page, re.DOTALL)
    assert len(scripts) == 2
    bash = shutil.which("bash")
    for script in scripts:
        assert "#SBATCH" in script
        subprocess.run([bash, "-n"], input=script, text=True, check=True)
