from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import h5py
import numpy as np
import pytest
import yaml
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractBufferedFile

from pileupgen.calo.imaging import towers_to_images
from pileupgen.calo.presets import get_grid
from pileupgen.cli import preprocess as command
from pileupgen.errors import (
    CardError,
    DependencyError,
    MissingInputError,
    UnreadableInputError,
)
from pileupgen.samples.cards import load_card
from pileupgen.samples.ingest import describe_inputs
from pileupgen.samples.readers import remote
from pileupgen.samples.readers.hdf5 import H5File
from pileupgen.samples.readers.remote import RemoteFile, match_url
from pileupgen.samples.store import ImageStore
from tests.sample_files import random_towers, write_delphes

N_EVENTS = 30
NOBODY = "root://localhost:1//eos/nobody.root"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A server that lives in memory, with two Delphes files."""
    system = fsspec.filesystem("memory")
    for seed in (1, 2):
        path = tmp_path / f"part_{seed}.root"
        write_delphes(path, random_towers(N_EVENTS, seed))
        system.pipe(f"/pileup/{path.name}", path.read_bytes())
    yield "memory://pileup"
    system.rm("/pileup", recursive=True)


def write_card(folder: Path, card_values: dict[str, Any], *files: str, **changes: Any) -> Path:
    path = folder / "card.yaml"
    path.write_text(yaml.safe_dump({**card_values, "files": list(files), **changes}))
    return path


def test_a_file_on_a_server_reads_like_one_here(tmp_path, card_values, server):
    card = load_card(write_card(tmp_path, card_values, f"{server}/part_1.root"))
    [file] = card.input_files()
    assert file.name == "part_1.root"
    assert file.stat().st_size == (tmp_path / "part_1.root").stat().st_size
    grid = get_grid("atlas")
    near = card.open([tmp_path / "part_1.root"])
    for far, here in zip(card.open([file]).chunks(), near.chunks(), strict=True):
        assert np.array_equal(towers_to_images(far, grid)[0], towers_to_images(here, grid)[0])


def test_globs_and_variables_reach_servers(tmp_path, card_values, server, monkeypatch):
    monkeypatch.setenv("FARM", server)
    card = load_card(write_card(tmp_path, card_values, "${FARM}/part_*.root"))
    assert [file.name for file in card.input_files()] == ["part_1.root", "part_2.root"]
    assert card.open(card.input_files()).estimate_events() == pytest.approx(2 * N_EVENTS, abs=2)
    with pytest.raises(MissingInputError, match="Nothing matches"):
        load_card(write_card(tmp_path, card_values, f"{server}/x_*.root")).input_files()
    assert match_url(f"{server}/part_2*")[0].exists()


def test_hdf5_is_read_from_a_server(tmp_path, card_values, server):
    with h5py.File(tmp_path / "table.h5", "w") as file:
        file["pt"] = np.arange(10.0)
    fsspec.filesystem("memory").pipe("/pileup/table.h5", (tmp_path / "table.h5").read_bytes())
    options = {"features": {"pt": {"column": "pt", "unit": "GeV"}}}
    path = write_card(
        tmp_path, card_values, f"{server}/table.h5", format="features", options=options
    )
    card = load_card(path)
    [towers] = card.open(card.input_files()).chunks()
    assert np.array_equal(towers.energy[:, 0], np.arange(10.0))


class CountedFile(AbstractBufferedFile):
    """A file on a server that counts what it is asked for."""

    asked: ClassVar[list[int]] = []

    def _fetch_range(self, start: int, end: int) -> bytes:
        self.asked.append(end - start)
        with Path(self.path).open("rb") as file:
            file.seek(start)
            return file.read(end - start)


class CountingServer(LocalFileSystem):
    protocol = "counting"

    def _open(self, path: str, mode: str = "rb", **options: Any) -> CountedFile:
        return CountedFile(self, path, mode, **options)


def test_an_hdf5_file_on_a_server_is_fetched_once_in_few_requests(tmp_path):
    fsspec.register_implementation("counting", CountingServer, clobber=True)
    path, values = tmp_path / "images.h5", np.random.default_rng(1).random((800, 2000), np.float32)
    with h5py.File(path, "w") as file:
        file.create_dataset("cells", data=values, chunks=(16, 2000))
        file.create_dataset("mu", data=values[:, 0], chunks=(16,))
    CountedFile.asked.clear()
    with closing(H5File(RemoteFile(f"counting://{path}"), "cells")) as file:
        columns = file.column("cells"), file.column("mu")
        for begin in range(0, 800, 50):
            read = [column.read(begin, begin + 50) for column in columns]
    assert np.array_equal(np.asarray(read[0].values).reshape(-1, 2000), values[750:])
    size = path.stat().st_size
    assert sum(CountedFile.asked) < size + 2**20
    assert len(CountedFile.asked) < size / 1e6 + 3


def test_checksums_hold_for_servers_and_nothing_else_is_hashed(tmp_path, card_values, server):
    card = load_card(write_card(tmp_path, card_values, f"{server}/part_1.root"))
    [known] = describe_inputs(card, card.input_files())
    assert known["url"] == f"{server}/part_1.root"
    assert "sha256" not in known
    wrong = {"part_1.root": "0" * 64}
    card = load_card(write_card(tmp_path, card_values, f"{server}/part_1.root", checksum=wrong))
    with pytest.raises(CardError, match=r"part_1\.root"):
        describe_inputs(card, card.input_files())


def test_a_file_that_the_server_does_not_have_is_named(tmp_path, card_values, server):
    card = load_card(write_card(tmp_path, card_values, f"{server}/absent.root"))
    with pytest.raises(MissingInputError, match="absent"):
        list(card.open(card.input_files()).chunks())


@pytest.mark.usefixtures("impatient_client")
def test_a_server_that_cannot_be_reached_is_named():
    file = RemoteFile(NOBODY)
    with pytest.raises(UnreadableInputError, match=r"nobody\.root.*localhost:1"):
        file.stat()
    with pytest.raises(UnreadableInputError):
        file.exists()


LIMITS = """
from XRootD import client
from pileupgen.samples.readers.remote import RemoteFile

# Who has used the client before, as in a notebook, has had its environment read.
assert client.EnvGetInt("StreamErrorWindow") == 1800
client.EnvPutInt("StreamTimeout", 30)
assert RemoteFile("root://localhost:1//a").fault("") is not None
names = ("ConnectionWindow", "StreamTimeout", "StreamErrorWindow")
print([client.EnvGetInt(name) for name in names])
"""


def test_waiting_is_limited_unless_somebody_has_set_it():
    pytest.importorskip("XRootD.client", reason="needs the extra 'xrootd'")
    done = subprocess.run(
        [sys.executable, "-c", LIMITS],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "XRD_CONNECTIONWINDOW": "1"},
    )
    assert done.stdout == "[1, 30, 60]\n"


def test_objects_of_python_are_left_out_of_what_a_client_says(monkeypatch):
    def failing(*_: object, **__: object) -> None:
        raise OSError(
            "Failed to submit <bound method x of <a.B object at 0x7f5c>> request: [ERROR] 7"
        )

    monkeypatch.setattr(fsspec, "url_to_fs", failing)
    with pytest.raises(UnreadableInputError, match=r"h does not serve it \(\[ERROR\] 7\)\."):
        RemoteFile("memory://h/a.root").stat()


class Lost:
    """A file that cannot be closed since its server is gone; Python closes it once more."""

    closed = False

    def close(self) -> None:
        raise OSError("File did not close properly: [FATAL] Connection error")


def test_a_file_whose_server_is_gone_is_closed_without_an_error():
    file = remote._closing_quietly(Lost())
    file.close()
    assert file.closed


def test_without_the_extra_it_is_said_what_to_install(monkeypatch):
    def missing(*_: object, **__: object) -> None:
        raise ImportError("Install fsspec-xrootd")

    monkeypatch.setattr(fsspec, "url_to_fs", missing)
    with pytest.raises(DependencyError, match=r"pileupgen\[xrootd\]"):
        RemoteFile(NOBODY).stat()
    with pytest.raises(DependencyError, match="s3://"):
        RemoteFile("s3://bucket/a.root").stat()


@pytest.mark.usefixtures("impatient_client")
def test_skip_bad_goes_on_after_a_server_that_is_down(
    tmp_path, card_values, server, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    card = write_card(tmp_path, card_values, f"{server}/part_1.root", NOBODY)
    config = {
        "name": "far",
        "samples": {"mc": str(card), "data": str(card)},
        "preprocess": {"zero_suppression": 0.0},
    }
    (tmp_path / "far.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UnreadableInputError, match="localhost:1"):
        command.preprocess(config=Path("far.yaml"))
    command.preprocess(config=Path("far.yaml"), skip_bad=True)
    assert "nobody.root" in capsys.readouterr().err.replace("\n", "")
    store = ImageStore("runs/far/data/mc.h5")
    assert len(store) == N_EVENTS
    assert [item["name"] for item in store.provenance["skipped"]] == ["nobody.root"]
