from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pileupgen.calo.geometry import Grid
from pileupgen.calo.imaging import towers_to_images
from pileupgen.errors import (
    CardError,
    InputError,
    MissingFieldError,
    MissingInputError,
    UnreadableInputError,
)
from pileupgen.samples.readers import MuSource
from pileupgen.samples.readers.hdf5 import (
    CaloChallengeOptions,
    Hdf5Options,
    Hdf5Reader,
    ShowerReader,
)

GRID = Grid(tuple(np.linspace(-1, 1, 5)), 6)
OPTIONS: dict[str, Any] = {"dataset": "cells/energy", "eta_range": (-1, 1)}


def random_images(n: int = 10) -> np.ndarray[Any, np.dtype[np.float32]]:
    rng = np.random.default_rng(5)
    energy = rng.normal(0, 2, (n, *GRID.shape)).astype(np.float32)
    return np.where(rng.random(energy.shape) < 0.3, energy, np.float32(0))


def write(path: Path, **datasets: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name.replace("__", "/")] = values
    return path


def read(path: Path, mu: str | float = "unknown", gev: float = 1.0, **changes: Any) -> Any:
    options = Hdf5Options.model_validate({**OPTIONS, **changes})
    return list(Hdf5Reader([path], options, MuSource.parse(mu), gev).chunks())


def images_of(path: Path, **changes: Any) -> Any:
    return np.concatenate([towers_to_images(part, GRID)[0] for part in read(path, **changes)])


@pytest.mark.parametrize(
    ("order", "changes"),
    [
        ((0, 2, 3, 1), {}),
        ((0, 1, 2, 3), {"channels": "first"}),
        ((0, 3, 2, 1), {"axes": "phi_eta"}),
        ((0, 1, 3, 2), {"axes": "phi_eta", "channels": "first"}),
    ],
)
def test_every_order_of_axes(
    tmp_path: Path, order: tuple[int, ...], changes: dict[str, Any]
) -> None:
    energy = random_images()
    path = write(tmp_path / "f.h5", cells__energy=energy.transpose(order))
    np.testing.assert_array_equal(images_of(path, **changes), energy)


def test_a_single_layer_needs_no_channel(tmp_path: Path) -> None:
    energy = random_images()
    path = write(tmp_path / "f.h5", cells__energy=energy[:, 0])
    (part,) = read(path, layers=["em"])
    assert part.layers == ("em",)
    np.testing.assert_allclose(
        part.event_sums()[:, 0], energy[:, 0].sum(axis=(1, 2), dtype=float), rtol=1e-6
    )


def test_units_edges_and_mu(tmp_path: Path) -> None:
    energy = random_images()
    path = write(
        tmp_path / "f.h5", cells__energy=energy.transpose(0, 2, 3, 1) * 1000, n=np.arange(10)
    )
    changes = {"eta_range": None, "eta_edges": GRID.eta_edges}
    np.testing.assert_allclose(images_of(path, gev=1e-3, **changes), energy, rtol=1e-6)
    (part,) = read(path, mu="n + 1", **changes)
    assert part.mu.tolist() == list(range(1, 11))
    assert part.event_id.tolist() == list(range(10))


def test_chunks_are_bounded_and_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    energy = random_images()
    path = write(tmp_path / "f.h5", cells__energy=energy.transpose(0, 2, 3, 1))
    monkeypatch.setattr("pileupgen.samples.readers.files.MAX_CHUNK_EVENTS", 3)
    assert [part.n_events for part in read(path)] == [3, 3, 3, 1]
    np.testing.assert_array_equal(images_of(path), energy)


@pytest.mark.parametrize(
    "changes",
    [
        {"eta_range": None},
        {"eta_edges": (0, 1)},
        {"eta_range": (1, -1)},
        {"layers": ["em", "em"]},
        {"phi_range": (0, 7)},
        {"axis": "phi_eta"},
    ],
)
def test_options_that_contradict(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Hdf5Options.model_validate({**OPTIONS, **changes})


@pytest.mark.parametrize(
    ("shape", "changes", "match"),
    [
        ((4, 4, 6, 3), {}, "2 layers"),
        ((4, 4, 6), {}, "2 layers"),
        ((4, 24), {}, "2 layers"),
        ((4, 4, 6, 2), {"eta_range": None, "eta_edges": (0, 1, 2)}, "4 rings"),
    ],
)
def test_a_shape_that_is_not_the_cards(
    tmp_path: Path, shape: tuple[int, ...], changes: dict[str, Any], match: str
) -> None:
    path = write(tmp_path / "f.h5", cells__energy=np.ones(shape, dtype=np.float32))
    with pytest.raises(CardError, match=match):
        read(path, **changes)


def test_what_is_not_there(tmp_path: Path) -> None:
    path = write(tmp_path / "f.h5", cells__energy=np.ones((2, 4, 6, 2), dtype=np.float32))
    with pytest.raises(MissingFieldError, match="cells/energy"):
        read(path, dataset="cells/energi")
    with pytest.raises(MissingFieldError, match="n_vertices"):
        read(path, mu="n_vertices")
    with pytest.raises(MissingInputError, match=r"none\.h5"):
        read(tmp_path / "none.h5")


def test_what_is_not_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "f.h5", cells__energy=np.full((2, 4), b"x"))
    with pytest.raises(UnreadableInputError, match="not an array of numbers"):
        read(path)
    path = write(
        tmp_path / "g.h5",
        cells__energy=np.ones((2, 4, 6, 2), dtype=np.float32),
        n=np.ones((2, 3)),
    )
    with pytest.raises(UnreadableInputError, match="one number an event"):
        read(path, mu="n")


@pytest.mark.parametrize("energy", [np.nan, np.inf, 1e7])
def test_energies_that_no_calorimeter_has(tmp_path: Path, energy: float) -> None:
    values = random_images().transpose(0, 2, 3, 1).copy()
    values[4, 1, 1, 1] = energy
    path = write(tmp_path / "f.h5", cells__energy=values)
    with pytest.raises(UnreadableInputError, match=r"event 4: cells/energy"):
        read(path)


def test_an_empty_array(tmp_path: Path) -> None:
    path = write(tmp_path / "f.h5", cells__energy=np.ones((0, 4, 6, 2), dtype=np.float32))
    assert read(path) == []


@settings(max_examples=25, deadline=None)
@given(fraction=st.floats(0, 0.999))
def test_a_truncated_file(tmp_path_factory: pytest.TempPathFactory, fraction: float) -> None:
    path = tmp_path_factory.mktemp("cut") / "f.h5"
    write(path, cells__energy=random_images().transpose(0, 2, 3, 1))
    content = path.read_bytes()
    path.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(InputError, match=r"f\.h5"):
        read(path)


def test_showers_of_the_calochallenge(tmp_path: Path) -> None:
    # r runs fastest, then α, then depth.
    showers = np.random.default_rng(1).exponential(1, (6, 3, 4, 2)) * 1000
    path = write(
        tmp_path / "f.h5",
        showers=showers.reshape(6, -1),
        incident_energies=np.full((6, 1), 1e5),
    )
    options = CaloChallengeOptions(n_layers=3, n_alpha=4, n_r=2)
    (part,) = ShowerReader([path], options, MuSource.parse("unknown"), 1e-3).chunks()
    grid = Grid((0, 1, 2), 4, options.layers)
    images, outside = towers_to_images(part, grid)
    np.testing.assert_allclose(images, showers.transpose(0, 1, 3, 2) / 1000, rtol=1e-6)
    assert not outside.any()
    with pytest.raises(CardError, match=r"24 voxels.*45 layers"):
        list(ShowerReader([path], CaloChallengeOptions(), MuSource.parse(0)).chunks())


def test_showers_of_layers_that_differ_in_binning(tmp_path: Path) -> None:
    path = tmp_path / "photons.hdf5"
    showers = np.random.default_rng(1).exponential(100, (20, 368))
    with h5py.File(path, "w") as file:
        file["showers"], file["incident_energies"] = showers, np.full((20, 1), 2e3)
    options = CaloChallengeOptions(geometry="calochallenge_1")
    reader = ShowerReader([path], options, MuSource.parse("incident_energies"), 1e-3)
    (towers,) = reader.chunks(100)
    assert towers.n_towers == 20 * 368
    assert np.all(towers.mu == 2e3)
    layers = np.add.reduceat(showers, [0, 8, 168, 358, 363], axis=1) * 1e-3
    np.testing.assert_allclose(towers.event_sums(), layers, rtol=1e-6)
    first = towers.events(0, 1)
    # r is fastest: the first voxels of a layer are the rings of the first α.
    energy = np.sort(showers[0, 8:24] * 1e-3)
    rows = (first.edges[:, 2] == -np.pi) & (first.energy[:, 1] > 0)
    np.testing.assert_allclose(np.sort(first.energy[rows, 1]), energy, rtol=1e-5)
