from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pytest
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st

from pileupgen.calo.geometry import Grid
from pileupgen.calo.imaging import towers_to_images
from pileupgen.calo.presets import get_grid
from pileupgen.calo.towers import Towers
from pileupgen.errors import MissingFieldError, UnreadableInputError
from pileupgen.samples.readers import MuSource, base, flat
from pileupgen.samples.readers.delphes import DelphesOptions, DelphesReader
from tests.sample_files import (
    EDGES,
    delphes_branches,
    jagged,
    random_towers,
    write_delphes,
    write_tree,
)

ATLAS = get_grid("atlas")
MU = MuSource.parse("Vertex_size - 1")


def read(
    *files: Path,
    max_events: int | None = None,
    mu: MuSource = MU,
    gev: float = 1.0,
    **options: object,
) -> Towers:
    """All towers of some files in one record."""
    reader = DelphesReader(files, DelphesOptions.model_validate(options), mu, gev)
    chunks = list(reader.chunks(max_events))
    sizes = [np.diff(chunk.offsets) for chunk in chunks]
    return Towers(
        offsets=np.concatenate([[0], np.cumsum(np.concatenate(sizes))]).astype(np.int64),
        edges=np.concatenate([chunk.edges for chunk in chunks]),
        energy=np.concatenate([chunk.energy for chunk in chunks]),
        layers=reader.layers,
        mu=np.concatenate([chunk.mu for chunk in chunks]),
        event_id=np.concatenate([chunk.event_id for chunk in chunks]),
    )


def assert_same(found: Towers, expected: Towers) -> None:
    for field in dataclasses.fields(Towers):
        assert np.array_equal(getattr(found, field.name), getattr(expected, field.name)), field.name


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    n_events=st.integers(1, 40),
    steps=st.integers(1, 5),
    chunk_bytes=st.sampled_from([1, 1000, 1 << 22]),
    read_bytes=st.sampled_from([1, 1 << 20]),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    n_events: int,
    steps: int,
    chunk_bytes: int,
    read_bytes: int,
) -> None:
    path = tmp_path_factory.mktemp("files") / "f.root"
    towers = random_towers(n_events, seed, occupancy=0.01)
    write_delphes(path, towers, steps=min(steps, n_events))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flat, "_READ_BYTES", read_bytes)
        patch.setattr("pileupgen.samples.readers.files.CHUNK_BYTES", chunk_bytes)
        assert_same(read(path), towers)


def test_chunks_are_bounded_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_delphes(tmp_path / "f.root", random_towers(50, 1), steps=3)
    monkeypatch.setattr("pileupgen.samples.readers.files.MAX_CHUNK_EVENTS", 8)
    reader = DelphesReader([tmp_path / "f.root"], DelphesOptions(), MU)
    sizes = [towers.n_events for towers in reader.chunks()]
    assert sizes == [8] * 6 + [2]
    assert base.MAX_CHUNK_EVENTS >= 8


def test_several_files_are_one_sample(tmp_path: Path) -> None:
    parts = [random_towers(n, seed) for seed, n in enumerate((7, 3, 5))]
    files = [tmp_path / f"{k}.root" for k in range(3)]
    for path, towers in zip(files, parts, strict=True):
        write_delphes(path, towers)
    found = read(*files)
    assert list(found.event_id) == list(range(15))
    assert np.array_equal(found.mu, np.concatenate([towers.mu for towers in parts]))
    assert found.n_towers == sum(towers.n_towers for towers in parts)
    assert_same(read(*files, max_events=9), found.events(0, 9))
    assert_same(read(*files, max_events=7), found.events(0, 7))


def test_the_estimate_is_exact_for_one_file_and_near_for_several(tmp_path: Path) -> None:
    files = [tmp_path / f"{k}.root" for k in range(4)]
    for k, path in enumerate(files):
        write_delphes(path, random_towers(100, k))
    assert DelphesReader(files[:1], DelphesOptions(), MU).estimate_events() == 100
    reader = DelphesReader(files, DelphesOptions(), MU)
    assert reader.estimate_events() == pytest.approx(400, rel=0.1)
    assert sum(towers.n_events for towers in reader.chunks()) == 400


def test_centres_stand_in_for_edges_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    towers = random_towers(10, 1)
    files = [tmp_path / "a.root", tmp_path / "b.root"]
    for path in files:
        write_delphes(path, towers, EDGES)
    with caplog.at_level(logging.WARNING, "pileupgen"):
        found = read(*files)
    assert [record.name for record in caplog.records] == ["pileupgen"]
    assert "a.root has no Tower.Edges" in caplog.text
    images, outside = towers_to_images(found, ATLAS)
    expected, _ = towers_to_images(towers, ATLAS)
    assert np.array_equal(images, np.concatenate([expected, expected]))
    assert np.all(outside == 0)


def test_edges_do_not_warn_and_centres_are_not_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    towers = random_towers(10, 1)
    write_delphes(tmp_path / "f.root", towers, "Tower.Eta", "Tower.Phi")
    assert_same(read(tmp_path / "f.root"), towers)
    assert not caplog.records


def test_edges_without_width_are_replaced_by_the_centre(tmp_path: Path) -> None:
    towers = random_towers(20, 3)
    branches = delphes_branches(towers)
    edges = towers.edges.copy()
    edges[::7] = 0.0
    edges[3::7, 1] = edges[3::7, 0]
    branches[EDGES] = jagged(4 * np.diff(towers.offsets), edges.ravel())
    write_tree(tmp_path / "f.root", branches)
    images, _ = towers_to_images(read(tmp_path / "f.root"), ATLAS)
    assert np.array_equal(images, towers_to_images(towers, ATLAS)[0])
    for name in ("Tower.Eta", "Tower.Phi"):
        del branches[name]
    write_tree(tmp_path / "g.root", branches)
    assert np.array_equal(read(tmp_path / "g.root").edges, edges)


def test_edges_written_flat_are_four_numbers_a_tower(tmp_path: Path) -> None:
    towers = random_towers(12, 4)
    branches = delphes_branches(towers)
    branches["Tower.Edges"] = branches.pop(EDGES)
    write_tree(tmp_path / "f.root", branches)
    assert_same(read(tmp_path / "f.root"), towers)


def test_of_several_cycles_the_highest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "f.root"
    old, new = random_towers(5, 1), random_towers(8, 2)
    with uproot.recreate(path) as file:
        for towers in (old, new):
            branches = {
                name: values
                for name, values in delphes_branches(towers).items()
                if name in ("Tower.Eta", "Tower.Phi", "Tower.Eem", "Tower.Ehad", "Vertex_size")
            }
            types = {
                name: "int32" if name == "Vertex_size" else "var * float32" for name in branches
            }
            file.mktree("Delphes", types).extend(branches)
    with uproot.open(path) as file:
        assert set(file.keys()) == {"Delphes;2", "Delphes;1"}
    assert np.array_equal(read(path).energy, new.energy)


def test_a_tree_in_a_folder_with_other_names_is_found_by_the_options(tmp_path: Path) -> None:
    towers = random_towers(6, 1)
    branches = {
        name.replace("Tower", "CaloTower").replace("Eem", "E0"): values
        for name, values in delphes_branches(towers).items()
    }
    write_tree(tmp_path / "f.root", branches, tree="calo/events")
    found = read(
        tmp_path / "f.root",
        tree="calo/events",
        towers="CaloTower",
        layers={"had": "Ehad", "em": "E0"},
    )
    assert found.layers == ("had", "em")
    assert np.array_equal(found.energy, towers.energy[:, ::-1])


def test_of_branches_with_one_name_the_filled_one_is_read(tmp_path: Path) -> None:
    path = tmp_path / "f.root"
    towers = random_towers(6, 1)
    branches = delphes_branches(towers)
    first, second = towers.energy[:, 0], 2 * towers.energy[:, 0]
    counts = np.diff(towers.offsets)
    del branches["Tower.Eem"]
    write_tree(
        path, {"Tower.EeX": jagged(counts, first), "Tower.EeY": jagged(counts, second), **branches}
    )
    data = path.read_bytes()
    path.write_bytes(data.replace(b"Tower.EeX", b"Tower.Eem").replace(b"Tower.EeY", b"Tower.Eem"))
    with uproot.open(path) as file:
        assert list(file["Delphes"].keys()).count("Tower.Eem") >= 1
        assert sum(branch.name == "Tower.Eem" for branch in file["Delphes"].branches) == 2
    assert np.array_equal(read(path).energy[:, 0], first)


def test_empty_events_and_events_of_nothing_but_empty_towers(tmp_path: Path) -> None:
    towers = random_towers(9, 1, occupancy=0.0005)
    assert np.any(np.diff(towers.offsets) == 0)
    write_delphes(tmp_path / "f.root", towers)
    assert_same(read(tmp_path / "f.root"), towers)
    none = random_towers(4, 1, occupancy=0.0)
    write_delphes(tmp_path / "g.root", none)
    found = read(tmp_path / "g.root")
    assert found.n_events == 4
    assert found.n_towers == 0


def test_nan_in_branches_nobody_asks_for_is_nobodys_business(tmp_path: Path) -> None:
    towers = random_towers(6, 1)
    branches = delphes_branches(towers)
    nothing = np.full(towers.n_towers, np.nan, dtype=np.float32)
    branches["Tower.T"] = jagged(np.diff(towers.offsets), nothing)
    branches["Tower.Eta"] = branches["Tower.Phi"] = branches["Tower.T"]
    write_tree(tmp_path / "f.root", branches)
    assert_same(read(tmp_path / "f.root"), towers)


@pytest.mark.parametrize("gev", [1.0, 1e-3])
def test_units_are_turned_into_gev(tmp_path: Path, gev: float) -> None:
    towers = random_towers(6, 1)
    in_file = dataclasses.replace(towers, energy=(towers.energy / gev).astype(np.float32))
    write_delphes(tmp_path / "f.root", in_file)
    assert np.allclose(read(tmp_path / "f.root", gev=gev).energy, towers.energy, rtol=1e-6)


def test_energies_of_other_number_types_are_read(tmp_path: Path) -> None:
    towers = random_towers(6, 1)
    branches = delphes_branches(towers)
    counts = np.diff(towers.offsets)
    branches["Tower.Eem"] = jagged(counts, towers.energy[:, 0].astype(np.float64))
    branches["Tower.Ehad"] = jagged(counts, np.arange(towers.n_towers, dtype=np.int32) % 100)
    branches[EDGES] = jagged(4 * counts, towers.edges.astype(np.float64).ravel())
    write_tree(tmp_path / "f.root", branches)
    found = read(tmp_path / "f.root")
    assert np.array_equal(found.energy[:, 0], towers.energy[:, 0])
    assert np.array_equal(found.energy[:, 1], np.arange(towers.n_towers) % 100)
    assert np.array_equal(found.edges, towers.edges)


def test_mu_from_a_branch_a_constant_or_nowhere(tmp_path: Path) -> None:
    towers = random_towers(6, 1)
    branches = delphes_branches(towers)
    branches["Event.Number"] = jagged(np.ones(6, dtype=np.int64), np.arange(10, 16))
    write_tree(tmp_path / "f.root", branches)
    path = tmp_path / "f.root"
    assert np.array_equal(read(path).mu, towers.mu)
    # Written in lower case it is found all the same.
    assert np.array_equal(read(path, mu=MuSource.parse("vertex_size - 1")).mu, towers.mu)
    assert list(read(path, mu=MuSource.parse("Event.Number")).mu) == [10, 11, 12, 13, 14, 15]
    assert list(read(path, mu=MuSource.parse(42)).mu) == [42] * 6
    assert np.all(np.isnan(read(path, mu=MuSource.parse("unknown")).mu))
    with pytest.raises(UnreadableInputError, match=r"'Tower\.Eem' is not one number an event"):
        read(path, mu=MuSource.parse("Tower.Eem"))
    with pytest.raises(MissingFieldError, match="no branch 'Vertex_sise'") as caught:
        read(path, mu=MuSource.parse("Vertex_sise"))
    assert "'Vertex_size'" in caught.value.hint


@pytest.mark.parametrize(
    "name", ["mc_a", "data_a", "data_mild", "data_nonlocal", "pairs_mc_100", "mc_smeared_100"]
)
def test_real_files_sum_to_what_plain_uproot_says(shared_data: Path, name: str) -> None:
    path = shared_data / "delphes" / f"{name}.root"
    found = read(path, max_events=60)
    with uproot.open(path) as file:
        arrays = file["Delphes"].arrays(
            ["Tower.Eem", "Tower.Ehad", "Vertex_size"], entry_stop=60, library="np"
        )
    sums = [
        [event.astype(float).sum() for event in arrays[f"Tower.{leaf}"]] for leaf in ("Eem", "Ehad")
    ]
    assert np.allclose(found.event_sums(), np.transpose(sums), rtol=1e-6)
    assert np.array_equal(found.mu, arrays["Vertex_size"] - 1)
    images, outside = towers_to_images(found, ATLAS)
    total = images.sum(axis=(2, 3), dtype=np.float64) + outside
    assert np.allclose(total, found.event_sums(), rtol=1e-6)


def test_smeared_centres_do_not_matter_where_there_are_edges(shared_data: Path) -> None:
    """The same card with and without SmearTowerCenter fills the same cells of |η| < 2.5."""
    found = read(shared_data / "delphes" / "mc_smeared_100.root")
    inside = (np.abs(found.edges[:, :2]) < 2.51).all(axis=1)
    assert np.allclose(found.edges[inside, 1] - found.edges[inside, 0], 0.1, atol=1e-5)
    images, _ = towers_to_images(found, ATLAS)
    n_cells = np.count_nonzero(images.any(axis=1))
    assert n_cells == np.count_nonzero(inside & found.energy.any(axis=1))


def test_another_detector_with_towers_without_width(shared_data: Path) -> None:
    path = shared_data / "public" / "coffea_delphes.root"
    found = read(path, mu=MuSource.parse("unknown"))
    assert found.n_events == 25
    width = found.edges[:, 1] - found.edges[:, 0]
    assert np.count_nonzero(width == 0) == 6
    assert np.all(np.abs(found.edges[width == 0, 0]) > 1)
    grid = Grid(tuple(np.linspace(-6, 6, 61)), 64)
    images, outside = towers_to_images(found, grid)
    assert np.allclose(images.sum(axis=(2, 3), dtype=float), found.event_sums(), rtol=1e-6)
    assert np.allclose(outside, 0, atol=1e-6)
    with pytest.raises(MissingFieldError, match="no branch 'Vertex_size'"):
        read(path)
