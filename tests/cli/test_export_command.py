from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

from pileupgen.calo.geometry import Grid
from pileupgen.cli.export import export
from pileupgen.errors import MissingInputError, OutputError, StoreError
from pileupgen.samples.delphes_file import read_record
from pileupgen.samples.overlay_library import OverlayLibrary
from pileupgen.samples.readers import MuSource
from pileupgen.samples.readers.features import FeatureOptions, FeatureReader
from pileupgen.samples.store import create_store

GRID = Grid((-1.0, 0.0, 1.0), 4)


@pytest.fixture
def run_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "runs" / "mine"
    n = 6
    with create_store(
        path / "translated" / "mc_to_data.h5", GRID, "mc_to_data", {"t_release": 100}
    ) as writer:
        columns: dict[str, Any] = {
            "mu": np.full(n, 60.0),
            "event_id": np.arange(n),
            "weight": np.ones(n),
            "split": np.array([0, 0, 0, 2, 2, 2]),
            "t_release": np.array([100, 100, 100, 100, 250, -1]),
        }
        writer.append(np.ones((n, *GRID.shape), dtype=np.float32), columns)
    return path


@pytest.mark.parametrize("kind", ["root", "npz", "overlay"])
def test_the_runs_translated_store_is_the_default(
    run_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    export(run=run_path, output_format=kind)
    suffix = {"root": ".root", "npz": ".npz", "overlay": ".overlay.h5"}[kind]
    assert (run_path / "translated" / f"mc_to_data{suffix}").is_file()
    said = capsys.readouterr().out
    assert "6 of 6 events" in said
    assert "wrote" in said
    assert "next" in said


def test_a_split_goes_where_it_is_told(run_path: Path) -> None:
    target = run_path / "pileup.h5"
    export(run=run_path, output_format="overlay", split="test", output=target)
    library = OverlayLibrary(target)
    assert library.columns["event_id"].tolist() == [3, 4, 5]
    np.testing.assert_array_equal(library.columns["t_release"], [100, 250, np.nan])


def test_what_cannot_be_exported(run_path: Path) -> None:
    store = run_path / "translated" / "mc_to_data.h5"
    with pytest.raises(MissingInputError, match="none"):
        export(run=run_path, store=run_path / "none.h5")
    with pytest.raises(StoreError, match="no events in split"):
        export(run=run_path, split="validation")
    with pytest.raises(StoreError, match="No split"):
        export(run=run_path, split="tset")
    before = store.read_bytes()
    with pytest.raises(OutputError, match="is read by this command"):
        export(run=run_path, output=store)
    assert store.read_bytes() == before


def make_table(path: Path, n: int = 50) -> np.ndarray:
    """A store of features, two of them called as numbers an event are."""
    names = ["mass", "weight", "tau21", "event_id"]
    table = np.random.default_rng(1).normal(0, 1e4, (n, 4)).astype(np.float32)
    table[3] = 0.0
    columns = {
        "mu": np.full(n, np.nan),
        "event_id": np.arange(n) + 7,
        "weight": np.full(n, 0.5),
        "split": np.arange(n) % 3,
        "source_event": np.arange(n),
    }
    with create_store(path, Grid.of_features(names, ["GeV", "", "", ""]), "mc", {"a": 1}) as writer:
        writer.append(table[:, :, None, None], columns)
    return table


@pytest.mark.parametrize("kind", ["root", "parquet"])
def test_features_are_read_back_equal(run_path: Path, kind: str) -> None:
    table = make_table(run_path / "jets.h5")
    export(run=run_path, store=run_path / "jets.h5", output_format=kind)
    names = ["mass", "weight", "tau21", "event_id"]
    is_root = kind == "root"
    options = FeatureOptions.model_validate(
        {"features": {name: name for name in names}, "tree": "features" if is_root else None}
    )
    path = run_path / f"jets.{kind}"
    with closing(FeatureReader([path], options, MuSource.parse("event_event_id"))) as reader:
        towers = list(reader.chunks())
    assert np.array_equal(np.concatenate([part.energy for part in towers]), table)
    assert np.array_equal(np.concatenate([part.mu for part in towers]), np.arange(50) + 7)
    if is_root:
        with uproot.open(path) as file:
            others = {"mu", "event_event_id", "event_weight", "split", "source_event"}
            assert set(file["features"].keys()) == {*names, *others}
            assert file["features"]["event_weight"].array(library="np") == pytest.approx(0.5)
        assert read_record(path)["geometry"]["units"] == ["GeV", "", "", ""]


def test_features_are_not_written_as_towers(run_path: Path) -> None:
    make_table(run_path / "jets.h5")
    with pytest.raises(StoreError, match="no towers"):
        export(run=run_path, store=run_path / "jets.h5", output_format="overlay")
    assert list(run_path.glob("jets.*")) == [run_path / "jets.h5"]
