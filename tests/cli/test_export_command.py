from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pileupgen.calo.geometry import Grid
from pileupgen.cli.export import ExportFormat, export
from pileupgen.errors import MissingInputError, OutputError, StoreError
from pileupgen.samples.overlay_library import OverlayLibrary
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
        }
        writer.append(np.ones((n, *GRID.shape), dtype=np.float32), columns)
    return path


@pytest.mark.parametrize("kind", [ExportFormat.root, ExportFormat.npz, ExportFormat.overlay])
def test_the_runs_translated_store_is_the_default(
    run_path: Path, capsys: pytest.CaptureFixture[str], kind: ExportFormat
) -> None:
    export(run=run_path, output_format=kind)
    suffix = {"root": ".root", "npz": ".npz", "overlay": ".overlay.h5"}[kind.value]
    assert (run_path / "translated" / f"mc_to_data{suffix}").is_file()
    said = capsys.readouterr().out
    assert "6 of 6 events" in said
    assert "wrote" in said
    assert "next" in said


def test_a_split_goes_where_it_is_told(run_path: Path) -> None:
    target = run_path / "pileup.h5"
    export(
        run=run_path, output_format=ExportFormat.overlay, split="test", max_events=2, output=target
    )
    library = OverlayLibrary(target)
    assert library.columns["event_id"].tolist() == [3, 4]
    assert library.columns["t_release"].tolist() == [100, 100]


def test_what_cannot_be_exported(run_path: Path) -> None:
    store = run_path / "translated" / "mc_to_data.h5"
    with pytest.raises(MissingInputError, match="none"):
        export(run=run_path, store=run_path / "none.h5")
    with pytest.raises(StoreError, match="no events in split"):
        export(run=run_path, split="validation")
    with pytest.raises(StoreError, match="No split"):
        export(run=run_path, split="tset")
    before = store.read_bytes()
    with pytest.raises(OutputError, match="the store itself"):
        export(run=run_path, output=store)
    assert store.read_bytes() == before


@pytest.mark.parametrize("kind", [ExportFormat.root, ExportFormat.overlay])
def test_features_are_not_written_as_towers(run_path: Path, kind: ExportFormat) -> None:
    table = run_path / "jets.h5"
    columns = {"mu": [60.0], "event_id": [0], "weight": [1.0], "split": [2]}
    with create_store(table, Grid.of_features(["mass"], ["GeV"]), "mc", {}) as writer:
        writer.append(
            np.ones((1, 1, 1, 1), dtype=np.float32),
            {name: np.array(values) for name, values in columns.items()},
        )
    with pytest.raises(StoreError, match="no towers"):
        export(run=run_path, store=table, output_format=kind)
    assert list(run_path.glob("jets.*")) == [table]
