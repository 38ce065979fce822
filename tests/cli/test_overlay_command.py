from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import uproot

from tests.conftest import run_main
from tests.overlay.overlay_inputs import write_events


@pytest.fixture
def command(tmp_path: Path) -> tuple[str, ...]:
    write_events(tmp_path / "signal.h5", 40, 1)
    write_events(tmp_path / "pileup.h5", 60, 2, mu=12.0)
    names = ("--signal", "signal.h5", "--pileup", "pileup.h5", "--output", "out.h5")
    return ("overlay", *(str(tmp_path / n) if n.endswith("h5") else n for n in names))


def test_it_tells_what_it_does_and_what_comes_next(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    code, said = run_main(*command, "--dry-run")
    assert code == 0
    assert "would" in said
    assert not (tmp_path / "out.h5").exists()
    code, said = run_main(*command)
    assert code == 0
    for words in ("40 hard scatters", "60 pileup events", "at most once", "⟨μ⟩ 12.00", "export"):
        assert words in said
    code, said = run_main(*command)
    assert "as is" in said


def test_a_library_that_is_too_small_is_one_message(command: tuple[str, ...]) -> None:
    code, said = run_main(*command, "--copies", "2")
    assert code == 3
    assert "after 60 of 80 events" in said
    assert "--max-reuse 2" in said
    assert "Traceback" not in said


def test_overlaid_events_are_exported_with_their_ids(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    run_main(*command)
    for kind in ("root", "parquet"):
        code, _ = run_main("export", "--store", str(tmp_path / "out.h5"), "--format", kind)
        assert code == 0
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["signal_event"].to_pylist() == list(range(1000, 1040))
    with uproot.open(tmp_path / "out.root") as file:
        tree = file["Delphes"].arrays(["SignalEvent", "PileupEvent", "PileupSource", "PileupSeed"])
    assert tree["SignalEvent"].tolist() == table["signal_event"].to_pylist()
    assert tree["PileupEvent"].tolist() == table["pileup_event"].to_pylist()
