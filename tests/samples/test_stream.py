from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pileupgen.calo.presets import get_grid
from pileupgen.errors import GeometryError, MissingFieldError, UnreadableInputError
from pileupgen.parallel import local_executor
from pileupgen.samples.readers import MuSource
from pileupgen.samples.readers.delphes import DelphesOptions, DelphesReader
from pileupgen.samples.stream import Drawn, Stream
from tests.sample_files import EDGES, random_towers, write_delphes

ATLAS = get_grid("atlas")
N = 30


def reader_of(files: list[Path], **options: Any) -> DelphesReader:
    return DelphesReader(files, DelphesOptions(**options), MuSource.parse("Vertex_size - 1"))


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    for index in range(3):
        write_delphes(tmp_path / f"{index}.root", random_towers(N, index), steps=4)
    return [tmp_path / f"{index}.root" for index in range(3)]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pileupgen.samples.readers.files.MAX_CHUNK_EVENTS", 4)
    monkeypatch.setattr("pileupgen.samples.stream._SPAN_CHUNKS", 2)


def joined(stream: Stream) -> dict[str, Any]:
    parts: list[Drawn] = list(stream)
    return {
        "images": np.concatenate([part.images for part in parts]),
        "mu": np.concatenate([part.mu for part in parts]),
        "event_id": np.concatenate([part.event_id for part in parts]),
        "sum_et": np.concatenate([part.sum_et for part in parts]),
        "n_towers": np.array(sum(part.n_towers for part in parts)),
        "energy": np.sum([part.energy for part in parts], axis=0),
    }


def assert_same(first: dict[str, Any], second: dict[str, Any]) -> None:
    for name, values in first.items():
        np.testing.assert_allclose(values, second[name], rtol=1e-12, err_msg=name)


def break_basket(path: Path) -> None:
    """A NaN in event 17 of the file."""
    towers = random_towers(N, 1)
    towers.energy[towers.offsets[17], 0] = np.nan
    write_delphes(path, towers, steps=4)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("max_events", [None, 41])
def test_workers_do_not_show(files: list[Path], max_events: int | None) -> None:
    alone = joined(Stream(reader_of(files), ATLAS, 0.5, max_events))
    spread = joined(Stream(reader_of(files), ATLAS, 0.5, max_events, executor=local_executor(2)))
    assert len(alone["images"]) == (max_events or 3 * N)
    assert alone["event_id"].tolist() == list(range(len(alone["images"])))
    assert_same(alone, spread)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("workers", [1, 2])
def test_bad_files_are_skipped_from_the_fault_on(files: list[Path], workers: int) -> None:
    files[0].write_bytes(files[0].read_bytes()[:500])
    break_basket(files[1])
    stream = Stream(reader_of(files), ATLAS, executor=local_executor(workers), skip_bad=True)
    found = joined(stream)
    # Chunks of four: events 0 … 15 of the second file came before the fault.
    assert [(item.path.name, item.n_events) for item in stream.skipped] == [
        ("0.root", 0),
        ("1.root", 16),
    ]
    assert len(found["images"]) == 16 + N
    assert found["event_id"].tolist() == [*range(16), *range(N, 2 * N)]
    assert_same({"mu": random_towers(N, 2).mu}, {"mu": found["mu"][16:]})


@pytest.mark.parametrize("workers", [1, 2])
def test_without_being_asked_nothing_is_skipped(files: list[Path], workers: int) -> None:
    break_basket(files[1])
    with pytest.raises(UnreadableInputError, match=r"1\.root, event 17") as caught:
        joined(Stream(reader_of(files), ATLAS, executor=local_executor(workers)))
    assert caught.value.hint


@pytest.mark.parametrize("workers", [1, 2])
def test_a_fault_of_the_card_is_no_fault_of_a_file(files: list[Path], workers: int) -> None:
    reader = reader_of(files, layers={"em": "Eem"})
    with pytest.raises(GeometryError, match="had"):
        joined(Stream(reader, ATLAS, executor=local_executor(workers), skip_bad=True))


def test_a_file_without_a_branch_is_skipped_too(files: list[Path]) -> None:
    write_delphes(files[2], random_towers(N, 2), "Tower.Ehad")
    stream = Stream(reader_of(files), ATLAS, skip_bad=True)
    assert len(joined(stream)["images"]) == 2 * N
    assert isinstance(stream.skipped[0].error, MissingFieldError)


def test_warnings_of_processes_are_given_once(
    files: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    write_delphes(files[0], random_towers(N, 0), EDGES)
    with caplog.at_level(logging.WARNING, "pileupgen"):
        joined(Stream(reader_of(files[:1]), ATLAS, executor=local_executor(2)))
    assert caplog.text.count("has no Tower.Edges") == 1


def test_a_wide_cell_is_suppressed_as_a_whole(tmp_path: Path) -> None:
    grid = get_grid("atlas_full")
    path = tmp_path / "f.root"
    write_delphes(path, random_towers(N, 1, grid))
    towers = next(iter(reader_of([path]).chunks()))
    found = joined(Stream(reader_of([path]), grid, 1.0))
    kept = np.where(towers.energy >= 1.0, towers.energy, 0).sum(dtype=float)
    np.testing.assert_allclose(found["energy"].sum(), kept, rtol=1e-6)
