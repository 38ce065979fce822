from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pileupgen.calo.geometry import Grid
from pileupgen.errors import (
    MissingInputError,
    OutputError,
    PileupgenError,
    StoreError,
    UnreadableInputError,
)
from pileupgen.parallel.ahead import Behind
from pileupgen.samples.store import ImageStore, create_store

GRID = Grid((-0.2, 0.0, 0.3), 6, layers=("em", "had"), name="tiny")


def make_events(n: int, first: int = 0) -> tuple[NDArray[np.float32], dict[str, NDArray[Any]]]:
    rng = np.random.default_rng([n, first])
    energy = rng.exponential(1, (n, *GRID.shape)).astype(np.float32)
    energy *= rng.random(energy.shape) < 0.4
    return energy, {
        "mu": rng.poisson(60, n).astype(np.float32),
        "event_id": np.arange(first, first + n),
        "weight": np.ones(n),
        "split": (np.arange(first, first + n) % 3).astype(np.uint8),
    }


def write(path: Path, *sizes: int, provenance: dict[str, Any] | None = None) -> NDArray[np.float32]:
    parts = []
    with create_store(path, GRID, "mc", provenance or {"card": "x"}) as writer:
        for size in sizes:
            energy, columns = make_events(size, writer.n_events)
            writer.append(energy, columns)
            parts.append(energy)
    return np.concatenate(parts) if parts else np.empty((0, *GRID.shape), np.float32)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 600), min_size=1, max_size=5))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    path = tmp_path_factory.mktemp("stores") / "s.h5"
    energy = write(path, *sizes, provenance={"b": [1, 2], "a": None})
    store = ImageStore(path)
    assert len(store) == sum(sizes)
    assert store.grid == GRID
    assert store.grid.name == "tiny"
    assert store.domain == "mc"
    assert store.provenance == {"a": None, "b": [1, 2]}
    images = store.read()
    assert np.array_equal(images.energy, energy)
    assert list(images.event_id) == list(range(sum(sizes)))
    assert images.weight.dtype == np.float64
    batches = list(store.batches(batch_size=100))
    assert sum(len(batch) for batch in batches) == sum(sizes)
    if batches:
        assert np.array_equal(np.concatenate([batch.energy for batch in batches]), energy)


def test_rows_are_read_in_their_order(tmp_path: Path) -> None:
    energy = write(tmp_path / "s.h5", 3000)
    store = ImageStore(tmp_path / "s.h5")
    for rows in (np.array([2999, 0, 5, 5, 1500]), np.arange(3000)[::-7], np.array([], dtype=int)):
        images = store.read(rows)
        assert np.array_equal(images.energy, energy[rows])
        assert np.array_equal(images.event_id, rows)
    assert np.array_equal(store.read(slice(10, 20)).energy, energy[10:20])


def test_splits_choose_rows(tmp_path: Path) -> None:
    write(tmp_path / "s.h5", 30)
    store = ImageStore(tmp_path / "s.h5")
    assert list(store.indices("validation", 3)) == [1, 4, 7]
    assert len(store.indices("all")) == len(store.indices()) == 30
    with pytest.raises(StoreError, match="No split 'tests'"):
        store.indices("tests")


def test_the_tree_is_as_documented(tmp_path: Path) -> None:
    write(tmp_path / "s.h5", 40)
    with h5py.File(tmp_path / "s.h5") as file:
        assert dict(file.attrs) == {
            "schema": "pileupgen-images",
            "schema_version": 1,
            "domain": "mc",
        }
        assert file["images"].dtype == np.float32
        assert dict(file["images"].attrs) == {"unit": "GeV", "axes": "event, layer, eta, phi"}
        assert {name: str(column.dtype) for name, column in file["events"].items()} == {
            "mu": "float32",
            "event_id": "int64",
            "weight": "float64",
            "split": "uint8",
        }
        assert all({"unit", "meaning"} <= set(column.attrs) for column in file["events"].values())
        assert np.allclose(file["geometry/eta_edges"][:], GRID.eta_edges)
        assert np.allclose(file["geometry/phi_edges"][:], GRID.phi_edges)
        assert list(file["geometry"].attrs["layers"]) == ["em", "had"]


def test_the_same_events_make_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.h5", "b.h5"):
        write(tmp_path / name, 100, 300, 7)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_a_missing_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"none\.h5"):
        ImageStore(tmp_path / "none.h5")


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.95])
def test_a_truncated_store_is_refused(tmp_path: Path, fraction: float) -> None:
    path = tmp_path / "s.h5"
    write(path, 500)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(fraction * len(whole))])
    with pytest.raises(UnreadableInputError) as caught:
        ImageStore(path)
    assert str(path) in caught.value.message
    assert "make it again" in caught.value.hint


@settings(max_examples=40, deadline=None)
@given(place=st.floats(0, 1), damage=st.binary(min_size=1, max_size=300))
def test_a_damaged_store_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, place: float, damage: bytes
) -> None:
    path = tmp_path_factory.mktemp("stores") / "s.h5"
    write(path, 100)
    whole = path.read_bytes()
    begin = int(place * (len(whole) - len(damage)))
    path.write_bytes(whole[:begin] + damage + whole[begin + len(damage) :])
    try:
        images = ImageStore(path).read()
    except PileupgenError as error:
        images = None
        message = error.message
    assert images is not None or message


def test_a_single_wrong_byte_in_an_image_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    write(path, 100)
    whole = bytearray(path.read_bytes())
    with h5py.File(path) as file:
        chunk = file["images"].id.get_chunk_info(3)
    whole[chunk.byte_offset + chunk.size // 2] ^= 1
    path.write_bytes(bytes(whole))
    store = ImageStore(path)
    with pytest.raises(UnreadableInputError, match="damaged chunk"):
        store.read()


@pytest.mark.parametrize(
    ("attribute", "value", "said"),
    [
        ("schema", "other-images", "no image store"),
        ("schema_version", 2, "schema version 2"),
        ("schema_version", 0, "schema version 0"),
    ],
)
def test_another_schema_is_refused_with_what_to_do(
    tmp_path: Path, attribute: str, value: object, said: str
) -> None:
    path = tmp_path / "s.h5"
    write(path, 10)
    with h5py.File(path, "r+") as file:
        file.attrs[attribute] = value
    with pytest.raises(StoreError, match=said) as caught:
        ImageStore(path)
    assert "preprocess" in caught.value.hint


def test_hdf5_of_somebody_else_is_no_image_store(tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    with h5py.File(path, "w") as file:
        file["showers"] = np.zeros((3, 5))
    with pytest.raises(StoreError, match="its schema is None"):
        ImageStore(path)


def test_columns_of_another_length_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    write(path, 10)
    with h5py.File(path, "r+") as file:
        file["events/mu"].resize(9, axis=0)
    with pytest.raises(StoreError, match="different sizes"):
        ImageStore(path)


def test_images_of_another_shape_are_not_appended(tmp_path: Path) -> None:
    energy, columns = make_events(4)
    with (
        pytest.raises(StoreError, match="Images of shape"),
        create_store(tmp_path / "s.h5", GRID, "mc", {}) as writer,
    ):
        writer.append(energy[:, :1], columns)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("exception", [KeyboardInterrupt, RuntimeError, StoreError])
def test_an_interrupted_store_leaves_what_was_there(
    tmp_path: Path, exception: type[BaseException]
) -> None:
    path = tmp_path / "s.h5"

    def interrupt() -> None:
        with create_store(path, GRID, "mc", {}) as writer:
            writer.append(*make_events(400))
            raise exception("stop")

    with pytest.raises(exception):
        interrupt()
    assert not list(tmp_path.iterdir())
    energy = write(path, 20)
    with pytest.raises(exception):
        interrupt()
    assert list(tmp_path.iterdir()) == [path]
    assert np.array_equal(ImageStore(path).read().energy, energy)


def test_the_thread_that_writes_does_not_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "thread.h5", 700, 3, 5000, 600)
    monkeypatch.setattr(Behind, "do", lambda _, call: call())
    write(tmp_path / "alone.h5", 700, 3, 5000, 600)
    assert (tmp_path / "thread.h5").read_bytes() == (tmp_path / "alone.h5").read_bytes()


FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from pileupgen.calo.presets import get_grid
from pileupgen.errors import OutputError
from pileupgen.samples.store import create_store

room = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
grid, rng = get_grid("atlas"), np.random.default_rng(1)
try:
    with create_store(Path(sys.argv[1]), grid, "mc", {}) as writer:
        for _ in range(4):
            writer.append(rng.random((100, *grid.shape), dtype="f4"), {"mu": np.zeros(100)})
except OutputError as error:
    print(error.message)
    sys.exit(error.exit_code)
"""


@pytest.mark.parametrize("room", [0, 4_000, 2_000_000])
def test_a_full_disk_is_one_message_and_no_half_file(tmp_path: Path, room: int) -> None:
    """A limit on the file's size stands for the disk: HDF5 fails to write either way."""
    path = tmp_path / "s.h5"
    write(path, 20)
    before = path.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path), str(room)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == OutputError.exit_code
    assert done.stdout.startswith(f"Cannot write {path}: File too large.")
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with (
            pytest.raises(OutputError, match="Permission denied"),
            create_store(tmp_path / "s.h5", GRID, "mc", {}),
        ):
            pass
    finally:
        tmp_path.chmod(0o700)


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with (
        pytest.raises(OutputError, match=r"Cannot write .*s\.h5"),
        create_store(tmp_path / "data" / "s.h5", GRID, "mc", {}),
    ):
        pass


def test_other_software_finds_the_filter_by_its_path(tmp_path: Path) -> None:
    energy = write(tmp_path / "s.h5", 200)
    code = "import h5py; print(h5py.File('s.h5')['images'][:].sum(dtype='f8'))"
    plain = {name: value for name, value in os.environ.items() if name != "HDF5_PLUGIN_PATH"}

    def reading(**more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code]
        return subprocess.run(
            command, cwd=tmp_path, env=plain | more, capture_output=True, text=True, check=False
        )

    assert reading().returncode != 0
    found = reading(HDF5_PLUGIN_PATH=hdf5plugin.PLUGINS_PATH)
    assert float(found.stdout) == pytest.approx(energy.sum(dtype=np.float64))


def test_stores_packed_in_another_way_are_read_but_not_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(hdf5plugin, "Bitshuffle", hdf5plugin.Zstd)
        energy = write(tmp_path / "before.h5", 16)
    before = ImageStore(tmp_path / "before.h5")
    np.testing.assert_array_equal(before.read().energy, energy)
    with (
        pytest.raises(StoreError, match="compressed in another way"),
        create_store(tmp_path / "s.h5", GRID, "mc", {}) as writer,
    ):
        writer.append_store(before)
    assert not (tmp_path / "s.h5").exists()
