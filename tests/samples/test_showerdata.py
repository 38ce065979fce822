"""Point clouds of showers in showerdata's layout, in and out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pileupgen.calo.imaging import images_to_towers, towers_to_images
from pileupgen.calo.presets import get_grid
from pileupgen.calo.towers import Towers
from pileupgen.errors import InputError, MissingFieldError, UnreadableInputError
from pileupgen.samples.export_showers import export_showerdata
from pileupgen.samples.readers import FORMATS, MuSource
from pileupgen.samples.store import ImageStore, create_store


def write(path: Path, showers: list[np.ndarray[Any, Any]], width: int = 5, **changes: Any) -> None:
    """As showerdata 0.6 lays a file out."""
    with h5py.File(path, "w") as file:
        points = file.create_dataset("showers", (len(showers),), h5py.vlen_dtype(np.float32))
        for number, shower in enumerate(showers):
            points[number] = shower.ravel()
        values = {
            "energies": np.linspace(10, 90, len(showers), dtype=np.float32)[:, None],
            "shower_ids": np.arange(len(showers))[::-1],
            "num_points": np.array([len(shower) for shower in showers]),
            "shape": np.array([len(showers), max(map(len, showers), default=0), width]),
        }
        for name, value in (values | changes).items():
            if value is not None:
                file[name] = value


def read(path: Path, mu: str = "energies", **options: Any) -> Towers:
    found = FORMATS["showerdata"]
    reader = found.open([path], found.options(**options), MuSource.parse(mu), 1.0)
    reader.number_by(found.ids)
    (towers,) = reader.chunks()
    return towers


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), n=st.integers(1, 20), width=st.sampled_from([4, 5]))
def test_points_lie_in_rings_around_the_axis(
    tmp_path_factory: pytest.TempPathFactory, seed: int, n: int, width: int
) -> None:
    path = tmp_path_factory.mktemp("clouds") / "f.h5"
    rng = np.random.default_rng(seed)
    showers = []
    for _ in range(n):
        count = rng.poisson(20)
        x, y = rng.normal(10, 30, (2, count))
        layer, energy = rng.integers(6, size=count), rng.exponential(1, count)
        columns = [x, y, 5.0 * layer, energy, np.ones(count)][:width]
        showers.append(np.stack(columns, axis=1).astype(np.float32))
    write(path, showers, width)
    towers = read(path, n_layers=5, layer_depth=5.0, ring_width=4.0, axis=(10, 0))
    whole = np.concatenate(showers)
    inside = whole[:, 2] < 25
    kept = whole[inside]
    np.testing.assert_allclose(
        towers.edges[:, 0], np.hypot(kept[:, 0] - 10, kept[:, 1]) / 4, rtol=1e-5
    )
    np.testing.assert_allclose(
        towers.edges[:, 1], np.arctan2(kept[:, 1], kept[:, 0] - 10), rtol=1e-5
    )
    np.testing.assert_array_equal(towers.energy.sum(axis=1), kept[:, 3])
    np.testing.assert_array_equal(towers.energy.argmax(axis=1), np.round(kept[:, 2] / 5))
    assert towers.mu.tolist() == np.linspace(10, 90, n, dtype=np.float32).tolist()
    assert towers.event_id.tolist() == list(range(n))[::-1]
    assert sum(towers.left_out.values()) == pytest.approx(whole[~inside, 3].sum(), rel=1e-5)


@pytest.mark.parametrize("geometry", ["calochallenge_2", "calochallenge_1"])
def test_exported_showers_come_back(tmp_path: Path, geometry: str) -> None:
    grid, n = get_grid(geometry), 9
    rng = np.random.default_rng(3)
    energy = rng.exponential(1, (n, *grid.shape)).astype(np.float32)
    energy[rng.random(energy.shape) < 0.9] = 0
    energy[2] = 0
    energy, _ = towers_to_images(images_to_towers(energy, grid), grid)
    columns = {
        "mu": np.linspace(1e3, 1e5, n).astype(np.float32),
        "event_id": np.arange(n) + 50,
        "weight": np.ones(n),
        "split": np.zeros(n, dtype=np.uint8),
    }
    with create_store(tmp_path / "store.h5", grid, "mc", {"seed": 1}) as writer:
        writer.append(energy, columns)
    store = ImageStore(tmp_path / "store.h5")
    export_showerdata(store, store.indices(), tmp_path / "showers.h5")
    towers = read(tmp_path / "showers.h5", n_layers=grid.n_layers)
    images, outside = towers_to_images(Towers(**{**vars(towers), "layers": grid.layers}), grid)
    sums = energy.sum(axis=(2, 3))
    np.testing.assert_allclose(images.sum(axis=(2, 3)), sums, rtol=1e-5, atol=1e-6)
    if geometry == "calochallenge_2":
        # Voxels that are cells of the image: every number comes back.
        np.testing.assert_array_equal(images, energy)
    assert not outside.any()
    assert towers.event_id.tolist() == (np.arange(n) + 50).tolist()
    assert towers.mu.tolist() == columns["mu"].tolist()
    with h5py.File(tmp_path / "showers.h5") as file:
        counts = file["num_points"][:]
        assert [len(row) for row in file["showers"][:]] == (4 * counts).tolist()
        assert file["shape"][:].tolist() == [n, counts.max(), 4]


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"num_points": None}, MissingFieldError, "num_points"),
        ({"shape": None}, UnreadableInputError, "not laid out"),
        ({"shape": np.array([2, 3, 7])}, UnreadableInputError, "not laid out"),
        ({"shape": np.array([2, 3, 4])}, UnreadableInputError, "15 numbers are not the 3 points"),
        ({"num_points": np.array([3, 1])}, UnreadableInputError, "shower 1: 10 numbers are not"),
        ({"num_points": np.array([3, 2, 4])}, UnreadableInputError, "has 2 showers, 'num_poi.* 3"),
        ({"num_points": np.ones((2, 2))}, UnreadableInputError, "has 2 showers, 'num_points' 4"),
    ],
)
def test_files_of_another_layout(
    tmp_path: Path, changes: dict[str, Any], error: type[InputError], said: str
) -> None:
    write(tmp_path / "f.h5", [np.ones((3, 5)), np.ones((2, 5))], **changes)
    with pytest.raises(error, match=said):
        read(tmp_path / "f.h5", n_layers=3)
    with h5py.File(tmp_path / "g.h5", "w") as file:
        file["num_points"] = np.arange(3)
    with pytest.raises(MissingFieldError, match="no dataset 'showers'"):
        read(tmp_path / "g.h5", n_layers=3)
