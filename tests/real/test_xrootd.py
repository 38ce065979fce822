"""Files on a real XRootD server, which is stopped in the middle, comes back, and does not."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

pytest.importorskip("XRootD", reason="needs the extra 'xrootd'")

from XRootD import client

from pileupgen.errors import MissingInputError, PileupgenError, UnreadableInputError
from pileupgen.parallel import Executor, Processes, Serial
from pileupgen.samples.cards import DataCard, load_card
from pileupgen.samples.readers.remote import RemoteFile, match_url
from tests.conftest import run_main
from tests.real.services import XRootD
from tests.sample_files import random_towers, write_delphes

pytestmark = pytest.mark.real

N_EVENTS = 400


@pytest.fixture(scope="module")
def server(impatient_client: None) -> Iterator[XRootD]:
    # A server that stops has a few seconds to come back.
    client.EnvPutInt("ConnectionRetry", 6)
    found = XRootD()
    for part in range(2):
        # Many small baskets: there is something left to read when the server stops.
        write_delphes(found.served / f"part_{part}.root", random_towers(N_EVENTS, part), steps=20)
    yield found
    gc.collect()
    found.close()


def write_card(folder: Path, values: dict[str, Any], *files: str, **changes: Any) -> DataCard:
    path = folder / "card.yaml"
    path.write_text(yaml.safe_dump({**values, "files": list(files), **changes}))
    return load_card(path)


def message(error: pytest.ExceptionInfo[PileupgenError]) -> str:
    said = str(error.value)
    for wrong in ("truncated", "damaged", " at 0x", "Errno", "FATAL] Invalid"):
        assert wrong not in said
    return said


@pytest.mark.parametrize("executor", [Serial(), Processes(2)], ids=["here", "processes"])
def test_a_pattern_on_a_server_gives_the_bytes_of_local_files(
    server: XRootD,
    tmp_path: Path,
    card_values: dict[str, Any],
    executor: Executor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    geometry = {"eta_edges": [-3.0, -1.5, 0.0, 1.5, 3.0], "n_phi": 8}
    stores = []
    for where in (f"{server.url}//part_*.root?svcClass=default", f"{server.served}/part_*.root"):
        write_card(tmp_path, card_values, where)
        config = {
            "name": "far",
            "samples": {"mc": "card.yaml", "data": "card.yaml"},
            "preprocess": {"geometry": geometry},
        }
        Path("far.yaml").write_text(yaml.safe_dump(config))
        run = f"run-{len(stores)}"
        options = ["--workers", str(executor.n_workers)]
        code, said = run_main("preprocess", "--config", "far.yaml", "--run", run, *options)
        assert code == 0, said
        with h5py.File(f"{run}/data/mc.h5") as file:
            stores.append(
                [file["images"][:], *(file["events"][name][:] for name in file["events"])]
            )
    assert "2 files, " in said
    assert all(np.array_equal(far, here) for far, here in zip(*stores, strict=True))
    assert len(stores[0][0]) == 2 * N_EVENTS


def test_a_file_that_comes_later_is_found(server: XRootD) -> None:
    assert len(match_url(f"{server.url}//part_*.root")) == 2
    new = server.served / "part_late.root"
    new.write_bytes(b"root")
    try:
        assert len(match_url(f"{server.url}//part_*.root")) == 3
        assert RemoteFile(f"{server.url}//part_late.root").stat().st_size == 4
    finally:
        new.unlink()
    assert match_url(f"{server.url}//other_*.root") == []


def test_every_fault_is_named_as_what_it_is(
    server: XRootD, tmp_path: Path, card_values: dict[str, Any]
) -> None:
    secret = server.served / "secret"
    secret.mkdir()
    (secret / "a.root").write_bytes(b"root")
    (server.served / "empty.root").touch()
    (server.served / "text.root").write_text("hello world")
    shut = server.served / "shut.root"
    shut.write_bytes(b"root" * 100)
    shut.chmod(0)
    secret.chmod(0o700)
    url = server.url
    host = url.removeprefix("root://")
    faults = {
        f"{url}//shut.root": f"permission denied by {host}. Check your credentials",
        f"{url}//secret/a.root": f"permission denied by {host}",
        f"{url}//secret": f"{url}//secret is a folder.",
        f"{url}//": f"a pattern: {url}//*.root.",
        f"{url}//empty.root": "empty.root is empty: it has 0 bytes",
        f"{url}//text.root": "text.root is not ROOT: it begins with b'hello",
        f"{url}/part_0.root": f"one slash after the host, which {host} takes for a relative path",
        f"roots://{host}//part_0.root": "roots:// is not known here. Write root://",
        f"xroot://{host}//part_0.root": "xroot:// is not known here. Write root://",
        "root://127.0.0.1:1//part_0.root": "127.0.0.1:1 cannot be reached",
        f"{url}//secret/*.root": f"its files may not be listed by {host}",
        "root://127.0.0.1:1//part_*.root": "127.0.0.1:1 cannot be reached",
        f"{url}/part_*.root": "one slash after the host",
    }
    for pattern, words in faults.items():
        with pytest.raises(UnreadableInputError) as error:
            read(write_card(tmp_path, card_values, pattern))
        assert words in message(error), pattern
    for absent in ("absent.root", "nowhere/*.root"):
        with pytest.raises(MissingInputError, match="No input file"):
            read(write_card(tmp_path, card_values, f"{url}//{absent}"))
    with pytest.raises(MissingInputError, match=r"Wildcards are \* and"):
        read(write_card(tmp_path, card_values, f"{url}//part_?.root"))
    with pytest.raises(MissingInputError, match="Nothing matches"):
        write_card(tmp_path, card_values, f"{url}//x*.root").input_files()
    # Damage is still called so, while the server is there.
    (server.served / "cut.root").write_bytes((server.served / "part_0.root").read_bytes()[:9000])
    with pytest.raises(UnreadableInputError, match="truncated or damaged"):
        read(write_card(tmp_path, card_values, f"{url}//cut.root"))


def read(card: DataCard, after_first: Callable[[], object] = lambda: None) -> list[np.ndarray]:
    """Energies of a card's chunks; something happens after the first."""
    files = card.input_files()
    found = []
    reader = card.open(files)
    for n, towers in enumerate(reader.chunks()):
        found.append(towers.energy.copy())
        if n == 0:
            after_first()
    return found


def test_a_server_that_stops_and_comes_back_is_waited_for(
    server: XRootD, tmp_path: Path, card_values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pileupgen.samples.readers.files.CHUNK_BYTES", 20_000)
    card = write_card(tmp_path, card_values, f"{server.url}//part_*.root")
    whole = read(card)
    assert len(whole) > 4

    def come_back() -> None:
        time.sleep(1.5)
        server.start()

    returning = threading.Thread(target=come_back)

    def stop() -> None:
        server.stop()
        returning.start()

    again = read(card, stop)
    returning.join()
    assert all(np.array_equal(a, b) for a, b in zip(whole, again, strict=True))


def await_answer(server: XRootD) -> None:
    """Wait until the client tries a server again that it has given up."""
    deadline = time.monotonic() + 20
    while True:
        with suppress(UnreadableInputError):
            if RemoteFile(f"{server.url}//part_0.root").exists():
                return
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("kind", ["root", "hdf5"])
def test_a_server_that_does_not_come_back_is_named(
    server: XRootD,
    tmp_path: Path,
    card_values: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    monkeypatch.setattr("pileupgen.samples.readers.files.CHUNK_BYTES", 20_000)
    values, name = dict(card_values), "part_*.root"
    if kind == "hdf5":
        name = "table.h5"
        with h5py.File(server.served / name, "w") as file:
            file.create_dataset("pt", data=np.random.default_rng(1).random(200_000), chunks=(1000,))
        options = {"features": {"pt": {"column": "pt", "unit": "GeV"}}}
        values |= {"format": "features", "options": options}
    card = write_card(tmp_path, values, f"{server.url}//{name}")
    with pytest.raises(UnreadableInputError) as error:
        read(card, server.stop)
    assert f"{server.url.removeprefix('root://')} cannot be reached" in message(error)
    del error
    gc.collect()
    server.start()
    await_answer(server)
    assert "Traceback" not in "".join(capfd.readouterr())


def test_hdf5_is_read_without_much_around_it(
    server: XRootD, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks in any order: fsspec's usual block of 5 MB would cost ten times the file."""
    from fsspec_xrootd.xrootd import XRootDFile

    n_rows, n_chunk = 200, 5
    with h5py.File(server.served / "images.h5", "w") as file:
        data = np.random.default_rng(1).random((n_rows, 50, 100))
        file.create_dataset("x", data=data, chunks=(n_chunk, 50, 100))
    size = (server.served / "images.h5").stat().st_size
    fetched = []
    fetch = XRootDFile._fetch_range

    def counted(self: Any, start: int, end: int) -> Any:
        fetched.append(end - start)
        return fetch(self, start, end)

    monkeypatch.setattr(XRootDFile, "_fetch_range", counted)
    order = np.random.default_rng(2).permutation(n_rows // n_chunk)
    with RemoteFile(f"{server.url}//images.h5").open() as opened, h5py.File(opened) as file:
        for chunk in order:
            rows = slice(chunk * n_chunk, (chunk + 1) * n_chunk)
            assert np.array_equal(file["x"][rows], data[rows])
    assert sum(fetched) < 2.5 * size
