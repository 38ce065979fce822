from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("distributed", reason="needs the extra 'cluster'")

from pileupgen.calo.presets import get_grid
from pileupgen.cli import preprocess as command
from pileupgen.cli.ui.farm import farm_of
from pileupgen.errors import ConfigError
from pileupgen.parallel import Executor, Serial
from pileupgen.parallel.dask_connection import connect
from pileupgen.samples.cards import load_card
from pileupgen.samples.ingest import IngestSummary, ingest
from tests.parallel.conftest import FarmProcesses
from tests.sample_files import random_towers, write_delphes

N_FILES, N_EVENTS = 10, 8
CARD: dict[str, Any] = {
    "name": "sample",
    "what": "made by a test",
    "domain": "mc",
    "files": ["part-*.root"],
    "detector": {"text": "none", "grid": "atlas", "phi_symmetric": True},
    "how_made": "numpy",
    "selection": "none",
    "licence": "Apache-2.0",
    "contact": "nobody",
}


@pytest.fixture
def card(tmp_path: Path) -> Path:
    for number in range(N_FILES):
        write_delphes(tmp_path / f"part-{number:02}.root", random_towers(N_EVENTS, number))
    path = tmp_path / "sample.yaml"
    path.write_text(yaml.safe_dump(CARD))
    return path


def make_store(card_path: Path, store: Path, executor: Executor, **options: Any) -> IngestSummary:
    card = load_card(card_path)
    return ingest(
        card.open(card.input_files()),
        get_grid("atlas"),
        store,
        domain="mc",
        card=card,
        inputs=[{"name": path.name} for path in card.input_files()],
        executor=executor,
        **options,
    )


def test_a_store_made_on_a_farm_has_the_same_bytes(
    farm: FarmProcesses,
    card: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = farm.add_worker(), farm.add_worker()
    here = make_store(card, tmp_path / "here.h5", Serial())
    n_done = 0

    def kill_first(n: int = 1, note: str = "") -> None:
        nonlocal n_done
        n_done += n
        if n_done == 2 * N_EVENTS:
            first.kill()

    with connect(farm.address) as executor:
        there = make_store(card, tmp_path / "there.h5", executor, advance=kill_first)
    assert first.wait(10) != 0
    assert second.poll() is None
    assert n_done == N_FILES * N_EVENTS
    assert there == here
    assert (tmp_path / "there.h5").read_bytes() == (tmp_path / "here.h5").read_bytes()

    config = {"name": "trial", "samples": {"mc": "sample.yaml", "data": "sample.yaml"}}
    (tmp_path / "trial.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)
    command.preprocess(config=Path("trial.yaml"), run=Path("local"))
    assert "farm" not in capsys.readouterr().out
    command.preprocess(config=Path("trial.yaml"), run=Path("dask"), scheduler=farm.address)
    assert f"farm   {farm.address}, 1 worker" in capsys.readouterr().out
    for name in ("data/mc.h5", "data/data.h5", "stages/preprocess.json"):
        assert Path("local", name).read_bytes() == Path("dask", name).read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"executor": "dask"}, "where the workers are"),
        ({"scheduler": "tcp://h:9", "cluster": "slurm"}, "exclude each other"),
        ({"executor": "local", "scheduler": "tcp://h:9"}, "goes with neither"),
        ({"cluster": "slurm", "job": ["memory"]}, "KEY=VALUE, not 'memory'"),
        ({"cluster": "slurm", "job": ["memory= "]}, "--job memory has no value"),
        ({"job": ["memory=4GB"]}, "--job goes with --cluster"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    options: dict[str, Any], words: str
) -> None:
    nothing: dict[str, Any] = {"executor": None, "scheduler": None, "cluster": None, "workers": 1}
    nothing["job"] = None
    with pytest.raises(ConfigError, match=words):
        farm_of({**nothing, **options})
