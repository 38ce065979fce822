"""Collections of cells: joined, placed once, nested, Cartesian; in whatever file they are."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pytest
import uproot
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pileupgen.calo.geometry import Grid
from pileupgen.calo.imaging import towers_to_images
from pileupgen.calo.presets import get_grid
from pileupgen.calo.towers import Towers
from pileupgen.errors import CardError, MissingFieldError, MissingInputError, UnreadableInputError
from pileupgen.samples.cards import load_card
from pileupgen.samples.check import check_card
from pileupgen.samples.ingest import describe_inputs
from pileupgen.samples.readers import FORMATS, MuSource
from pileupgen.samples.readers.collection import Collection, find_bits
from tests.sample_files import jagged, write_ntuple, write_tree

GRID = get_grid("atlas")
GRID_EM = Grid(GRID.eta_edges, GRID.n_phi, ("em",))
ETA, PHI = np.asarray(GRID.eta_centres), np.asarray(GRID.phi_centres)


def read(
    path: Path, kind: str, options: dict[str, Any], mu: Any = "unknown", gev: float = 1.0
) -> Towers:
    found = FORMATS[kind]
    reader = found.open([path], found.options.model_validate(options), MuSource.parse(mu), gev)
    (towers,) = reader.chunks()
    return towers


def random_cells(rng: np.random.Generator, n_events: int, mean: float) -> dict[str, Any]:
    """Cells at centres of the grid, in lists."""
    counts = rng.poisson(mean, n_events)
    n = int(counts.sum())
    return {
        "counts": counts,
        "eta": ETA[rng.integers(len(ETA), size=n)],
        "phi": PHI[rng.integers(len(PHI), size=n)],
        "e": rng.normal(2, 3, n).astype(np.float32),
    }


def drawn(cells: dict[str, Any], energy: Any = None) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Images of cells, (N, n_eta, n_phi), by numpy alone."""
    energy = cells["e"] if energy is None else energy
    event = np.repeat(np.arange(len(cells["counts"])), cells["counts"])
    ring = np.searchsorted(np.asarray(GRID.eta_edges), cells["eta"]) - 1
    column = np.searchsorted(GRID.phi_edges, cells["phi"]) - 1
    image = np.zeros((len(cells["counts"]), GRID.n_eta, GRID.n_phi))
    np.add.at(image, (event, ring, column), np.asarray(energy, dtype=np.float64))
    return image


def lists(cells: dict[str, Any], prefix: str, **more: Any) -> dict[str, ak.Array]:
    columns = {name: cells[name] for name in ("eta", "phi", "e")} | more
    return {f"{prefix}_{name}": jagged(cells["counts"], v) for name, v in columns.items()}


# -- several collections -------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 999),
    n_events=st.integers(1, 6),
    means=st.tuples(*[st.sampled_from([0.0, 0.5, 20.0])] * 3),
    is_ntuple=st.booleans(),
)
def test_energies_of_all_collections_add_up(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    n_events: int,
    means: tuple[float, float, float],
    is_ntuple: bool,
) -> None:
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("joined") / "f.root"
    barrel, endcap, hcal = (random_cells(rng, n_events, mean) for mean in means)
    columns = lists(barrel, "eb") | lists(endcap, "ee") | lists(hcal, "h")
    write_ntuple(path, columns) if is_ntuple else write_tree(path, columns, "events")
    collections = {
        name: {"eta": f"{name}_eta", "phi": f"{name}_phi", "layers": {layer: f"{name}_e"}}
        for name, layer in (("eb", "em"), ("h", "had"), ("ee", "em"))
    }
    towers = read(path, "root", {"tree": "events", "collections": collections})
    images, outside = towers_to_images(towers, GRID)
    np.testing.assert_allclose(images[:, 0], drawn(barrel) + drawn(endcap), atol=2e-5)
    np.testing.assert_allclose(images[:, 1], drawn(hcal), atol=2e-5)
    assert not outside.any()
    counts = barrel["counts"] + endcap["counts"] + hcal["counts"]
    assert np.diff(towers.offsets).tolist() == counts.tolist()
    for name, cells in (("eb", barrel), ("ee", endcap), ("h", hcal)):
        assert towers.collections[name] == pytest.approx(cells["e"].sum(), abs=1e-3)


def test_each_collection_has_its_unit_quantity_and_scale(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    first, second = random_cells(rng, 5, 9), random_cells(rng, 5, 4)
    transverse = second["e"] * 1000 / np.cosh(second["eta"]) / 4
    columns = lists(first, "a") | lists(second, "b", et=transverse)
    write_tree(tmp_path / "f.root", columns, "events")
    collections: dict[str, Any] = {
        "a": {"eta": "a_eta", "phi": "a_phi", "layers": {"em": "a_e"}},
        "b": {"eta": "b_eta", "phi": "b_phi", "layers": {"em": "b_et"}},
    }
    collections["b"] |= {"unit": "MeV", "quantity": "ET", "scale": 4}
    towers = read(tmp_path / "f.root", "root", {"tree": "events", "collections": collections})
    images, _ = towers_to_images(towers, GRID_EM)
    np.testing.assert_allclose(images[:, 0], drawn(first) + drawn(second), rtol=1e-4, atol=1e-4)


def test_hdf5_arrays_with_grids_of_their_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    fine, coarse = rng.random((4, 20, 18)), rng.random((4, 12, 10))
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["ecal"], file["hcal"] = fine, coarse
    collections = {
        "ecal": {"eta_range": [-2, 2], "layers": {"em": "ecal"}},
        "hcal": {"eta_range": [-2.5, 2.5], "axes": "phi_eta", "layers": {"had": "hcal"}},
    }
    towers = read(tmp_path / "f.h5", "hdf5", {"collections": collections})
    sums = towers.event_sums()
    np.testing.assert_allclose(sums[:, 0], fine.sum(axis=(1, 2)), rtol=1e-6)
    np.testing.assert_allclose(sums[:, 1], coarse.sum(axis=(1, 2)), rtol=1e-6)
    for event in range(4):
        one = towers.events(event, event + 1)
        had = one.energy[:, 1] > 0
        assert np.count_nonzero(had) == 120
        assert np.count_nonzero(~had) == 360
    first = towers.events(0, 1)
    cell = np.flatnonzero(np.isclose(first.energy[:, 1], coarse[0, 3, 7]))
    np.testing.assert_allclose(first.edges[cell, :2], [[1.0, 1.5]], atol=1e-9)


def test_layers_of_several_arrays(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    em, had = rng.random((2, 5, 50, 36)).astype(np.float32)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["a/ecal"], file["a/hcal"], file["small"] = em, had, had[:, :3]
    options = {"grid": "atlas", "layers": {"em": "a/ecal", "had": "a/hcal"}}
    images, _ = towers_to_images(read(tmp_path / "f.h5", "hdf5", options), GRID)
    np.testing.assert_array_equal(images, np.stack([em, had], axis=1))
    options["layers"] = {"em": "a/ecal", "had": "small"}
    with pytest.raises(CardError, match="differ in shape"):
        read(tmp_path / "f.h5", "hdf5", options)


@settings(max_examples=15, deadline=None)
@given(quantity=st.sampled_from(["E", "ET"]), unit=st.sampled_from([1.0, 1e-3]), flat=st.booleans())
def test_images_of_transverse_energies(
    tmp_path_factory: pytest.TempPathFactory, quantity: str, unit: float, flat: bool
) -> None:
    path = tmp_path_factory.mktemp("et") / "f.h5"
    energy = np.random.default_rng(4).random((3, 50, 36, 2))
    per = np.cosh(ETA)[:, None, None] if quantity == "ET" else 1.0
    written = energy / per / unit
    with h5py.File(path, "w") as file:
        file["images"] = written.reshape(3, 1800, 2) if flat else written
    options = {"dataset": "images", "grid": "atlas", "quantity": quantity}
    images, _ = towers_to_images(read(path, "hdf5", options, gev=unit), GRID)
    np.testing.assert_allclose(images, energy.transpose(0, 3, 1, 2), rtol=1e-6)


def test_the_collections_of_a_real_display_of_2012(shared_data: Path) -> None:
    path = shared_data / "public" / "cms_minimum_bias_2012.ig"
    card = load_card(Path(__file__).parents[2] / "data_cards" / "cms_minimum_bias_2012.yaml")
    (towers,) = card.open([path]).chunks()
    layers = {"EB": 0, "EE": 0, "HB": 1, "HE": 1}
    expected, vertices = np.zeros((25, 2)), []
    with zipfile.ZipFile(path) as file:
        names = [name for name in file.namelist() if name.startswith("Events/") and name[-1] != "/"]
        for event, name in enumerate(names):
            text = file.read(name).decode().replace("(", "[").replace(")", "]")
            found = json.loads(text.replace("'", '"').replace("nan", "NaN"))["Collections"]
            for part, layer in layers.items():
                expected[event, layer] += sum(row[0] for row in found[f"{part}RecHits_V2"])
            vertices.append(len(found["Vertices_V1"]))
    np.testing.assert_allclose(towers.event_sums(), expected, rtol=1e-5, atol=1e-5)
    assert towers.mu.tolist() == vertices
    assert np.any(towers.energy < 0)
    found = check_card(card, [path], get_grid("cms_full"), 25)
    assert found.collections == pytest.approx(dict(towers.collections), rel=1e-6)
    assert found.collections["EBRecHits_V2"] > 100


# -- positions that are kept once ----------------------------------------------------------------


def once_and_again(folder: Path, n_events: int, seed: int, shape: tuple[int, ...]) -> Any:
    """Events as arrays with all cells, and their positions in another tree and another file."""
    rng = np.random.default_rng(seed)
    n = int(np.prod(shape))
    eta, phi = ETA[rng.integers(50, size=n)], PHI[rng.integers(36, size=n)]
    energy = rng.random((n_events, *shape)).astype(np.float32)
    energy *= rng.random(energy.shape) < 0.4
    with uproot.recreate(folder / "f.root") as file:
        tree = file.mktree("events", {"e": np.dtype((np.float32, shape))})
        tree.extend({"e": energy})
        places = file.mktree("maps", {"eta": np.dtype((float, (n,))), "phi": "float64"})
        places.extend({"eta": np.array([eta]), "phi": np.zeros(1)})
    with uproot.recreate(folder / "g.root") as file:
        places = file.mktree("cells", {"eta": "float64", "phi": "float64", "depth": "int32"})
        places.extend({"eta": eta, "phi": phi, "depth": np.arange(n) % 3})
    cells = {"counts": np.full(n_events, n), "e": energy.ravel()}
    cells |= {"eta": np.tile(eta, n_events), "phi": np.tile(phi, n_events)}
    return cells, eta, phi


@settings(max_examples=15, deadline=None)
@given(n_events=st.integers(1, 5), seed=st.integers(0, 99), shape=st.sampled_from([(7,), (4, 5)]))
def test_positions_in_another_file(
    tmp_path_factory: pytest.TempPathFactory, n_events: int, seed: int, shape: tuple[int, ...]
) -> None:
    folder = tmp_path_factory.mktemp("once")
    cells, _, _ = once_and_again(folder, n_events, seed, shape)
    places = {"file": str(folder / "g.root"), "tree": "cells"}
    options: dict[str, Any] = {"tree": "events", "eta": "eta", "phi": "phi", "positions": places}
    towers = read(folder / "f.root", "root", options | {"layers": {"em": "e"}})
    images, _ = towers_to_images(towers, GRID_EM)
    np.testing.assert_allclose(images[:, 0], drawn(cells), rtol=1e-6, atol=1e-6)
    assert towers.n_towers == np.count_nonzero(cells["e"])
    # The cells' layers are kept once too.
    by_depth = {"energy": "e", "layer_index": "depth", "layers": {"em": [0], "had": [1, 2]}}
    towers = read(folder / "f.root", "root", options | by_depth)
    depth = np.tile(np.arange(int(np.prod(shape))) % 3, n_events)
    images, _ = towers_to_images(towers, GRID)
    np.testing.assert_allclose(images[:, 0], drawn(cells, cells["e"] * (depth == 0)), atol=1e-6)
    np.testing.assert_allclose(images[:, 1], drawn(cells, cells["e"] * (depth > 0)), atol=1e-6)


def test_positions_of_cells_that_say_their_row(tmp_path: Path) -> None:
    once_and_again(tmp_path, 1, 5, (30,))
    rng = np.random.default_rng(5)
    counts = rng.poisson(6, 8)
    rows = rng.integers(30, size=counts.sum())
    with uproot.open(tmp_path / "g.root") as file:
        eta, phi = (file["cells"][name].array(library="np") for name in ("eta", "phi"))
    energy = rng.random(len(rows)).astype(np.float32)
    columns = {"e": jagged(counts, energy), "row": jagged(counts, rows.astype(np.int32))}
    write_tree(tmp_path / "f.root", columns, "events")
    places = {"file": str(tmp_path / "g.root"), "tree": "cells", "index": "row"}
    options = {"tree": "events", "eta": "eta", "phi": "phi", "layers": {"em": "e"}}
    towers = read(tmp_path / "f.root", "root", options | {"positions": places})
    np.testing.assert_array_equal(towers.edges[:, 0], eta[rows])
    np.testing.assert_array_equal(towers.edges[:, 1], phi[rows])
    np.testing.assert_array_equal(towers.energy[:, 0], energy)
    write_tree(tmp_path / "f.root", columns | {"row": jagged(counts, rows + 20)}, "events")
    with pytest.raises(UnreadableInputError, match="'row' is not the row of a cell among the 30"):
        read(tmp_path / "f.root", "root", options | {"positions": places})


@pytest.mark.parametrize("kind", ["hdf5", "npz"])
def test_corners_in_another_file(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(4)
    at = ETA[rng.integers(len(ETA), size=6)], PHI[rng.integers(len(PHI), size=6)]
    sides = [(-0.01, -0.01), (0.01, -0.01), (0.01, 0.01)]
    corners = {
        f"corner_{number}": np.stack(
            [np.cos(at[1] + phi), np.sin(at[1] + phi), np.sinh(at[0] + eta)], axis=1
        )
        for number, (eta, phi) in enumerate(sides)
    }
    energy = rng.random((3, 6)).astype(np.float32)
    for name, arrays in (("f", {"e": energy}), ("g", corners)):
        if kind == "npz":
            np.savez(tmp_path / f"{name}.npz", **arrays)
            continue
        with h5py.File(tmp_path / f"{name}.hdf5", "w") as file:
            for dataset, values in arrays.items():
                file[dataset] = values
    options = {"corners": list(corners), "positions": {"file": str(tmp_path / f"g.{kind}")}}
    towers = read(tmp_path / f"f.{kind}", kind, options | {"layers": {"em": "e"}})
    images, _ = towers_to_images(towers, GRID_EM)
    cells = {"counts": np.full(3, 6), "e": energy.ravel()}
    cells |= {"eta": np.tile(at[0], 3), "phi": np.tile(at[1], 3)}
    np.testing.assert_allclose(images[:, 0], drawn(cells), rtol=1e-6)


def test_samplings_of_cells_whose_positions_are_kept_once(tmp_path: Path) -> None:
    """Numbers without energy are dropped; each of the others keeps its place in its inner list."""
    rng = np.random.default_rng(8)
    energy = rng.random((4, 20, 3)) * (rng.random((4, 20, 3)) < 0.5)
    eta, phi = (centres[rng.integers(len(centres), size=20)] for centres in (ETA, PHI))
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["e"] = energy
        file["eta"], file["phi"] = (np.repeat(place[:, None], 3, axis=1) for place in (eta, phi))
    options = {"eta": "eta", "phi": "phi", "positions": {}, "energy": "e", "inner": "layers"}
    towers = read(tmp_path / "f.h5", "hdf5", options | {"layers": {"em": [0], "had": [1, 2]}})
    sums = energy.sum(axis=1)
    expected = np.stack([sums[:, 0], sums[:, 1:].sum(axis=1)], axis=1)
    np.testing.assert_allclose(towers.event_sums(), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["hdf5", "npz"])
def test_numbers_of_other_events_are_refused(tmp_path: Path, kind: str) -> None:
    columns = {"eta": np.zeros((4, 3)), "phi": np.zeros((4, 3)), "e": np.ones((4, 3))}
    columns |= {"mu": np.arange(4), "all_mu": np.arange(9)}
    path = tmp_path / ("f.h5" if kind == "hdf5" else "f.npz")
    if kind == "npz":
        np.savez(path, **columns)
    else:
        with h5py.File(path, "w") as file:
            file.update(columns)
    options = {"eta": "eta", "phi": "phi", "layers": {"em": "e"}}
    assert read(path, kind, options, "mu").mu.tolist() == [0, 1, 2, 3]
    with pytest.raises(UnreadableInputError, match="'all_mu' has 9 events, its siblings 4"):
        read(path, kind, options, "all_mu")


def test_positions_that_do_not_fit(tmp_path: Path) -> None:
    once_and_again(tmp_path, 2, 1, (6,))
    options = {"tree": "events", "eta": "eta", "phi": "phi", "layers": {"em": "e"}}
    with pytest.raises(UnreadableInputError, match="'eta' has 6, 'phi' has 1"):
        read(tmp_path / "f.root", "root", options | {"positions": {"tree": "maps"}})
    with pytest.raises(MissingFieldError, match="no tree 'map'"):
        read(tmp_path / "f.root", "root", options | {"positions": {"tree": "map"}})
    with uproot.recreate(tmp_path / "g.root") as file:
        places = file.mktree("cells", {"eta": "float64", "phi": "float64"})
        places.extend({"eta": np.zeros(5), "phi": np.zeros(5)})
    places = {"file": str(tmp_path / "g.root"), "tree": "cells"}
    with pytest.raises(UnreadableInputError, match="an event has 6 cells, the positions 5"):
        read(tmp_path / "f.root", "root", options | {"positions": places})


def test_a_file_of_positions_is_found_beside_the_card_and_hashed(
    tmp_path: Path, card_values: dict[str, Any]
) -> None:
    once_and_again(tmp_path, 2, 1, (6,))
    values = card_values | {"files": "f.root", "format": "root", "units": {"energy": "GeV"}}
    values["options"] = {
        "tree": "events",
        "eta": "eta",
        "phi": "phi",
        "layers": {"em": "e"},
        "positions": {"file": "g.root", "tree": "cells"},
    }
    path = tmp_path / "card.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    card = load_card(path)
    (towers,) = card.open(card.input_files()).chunks()
    assert towers.n_events == 2
    assert [one["name"] for one in describe_inputs(card, card.input_files())] == [
        "f.root",
        "g.root",
    ]
    (tmp_path / "g.root").unlink()
    with pytest.raises(MissingInputError, match="with the cells' positions"):
        describe_inputs(card, card.input_files())


# -- nested lists --------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), n_events=st.integers(1, 5), steps=st.integers(1, 3))
def test_cells_of_clusters(
    tmp_path_factory: pytest.TempPathFactory, seed: int, n_events: int, steps: int
) -> None:
    path = tmp_path_factory.mktemp("nested") / "f.root"
    rng = np.random.default_rng(seed)
    n_clusters = rng.poisson(3, n_events)
    n_cells = rng.poisson(4, n_clusters.sum())
    n = int(n_cells.sum())
    cells = {
        "eta": ETA[rng.integers(50, size=n)],
        "phi": PHI[rng.integers(36, size=n)],
        "e": rng.normal(2, 3, n).astype(np.float32),
        "counts": np.array([int(c.sum()) for c in np.split(n_cells, np.cumsum(n_clusters)[:-1])]),
    }
    of_cells = {
        name: ak.unflatten(jagged(n_cells, cells[name]), n_clusters) for name in ("eta", "phi", "e")
    }
    by_cluster = {"which": jagged(n_clusters, rng.integers(3, size=n_clusters.sum()))}
    write_ntuple(path, of_cells | by_cluster, steps=min(steps, n_events))
    options: dict[str, Any] = {"tree": "events", "eta": "eta", "phi": "phi"}
    images, _ = towers_to_images(read(path, "root", options | {"layers": {"em": "e"}}), GRID_EM)
    np.testing.assert_allclose(images[:, 0], drawn(cells), atol=2e-5)
    # What there is once a cluster holds for all of its cells.
    by_index = {"energy": "e", "layer_index": "which", "layers": {"em": [0, 2], "had": [1]}}
    images, _ = towers_to_images(read(path, "root", options | by_index), GRID)
    which = np.repeat(ak.flatten(by_cluster["which"]).to_numpy(), n_cells)
    np.testing.assert_allclose(images[:, 1], drawn(cells, cells["e"] * (which == 1)), atol=2e-5)
    np.testing.assert_allclose(images[:, 0], drawn(cells, cells["e"] * (which != 1)), atol=2e-5)


@pytest.mark.parametrize("is_fixed", [False, True])
def test_samplings_of_clusters(tmp_path: Path, is_fixed: bool) -> None:
    rng = np.random.default_rng(6)
    clusters = random_cells(rng, 5, 4)
    n = len(clusters["e"])
    energy = rng.random((n, 4)).astype(np.float32)
    four = ak.contents.RegularArray(ak.contents.NumpyArray(energy.ravel()), 4)
    samplings: Any = ak.Array(four) if is_fixed else jagged(np.full(n, 4), energy.ravel())
    nested = ak.unflatten(samplings, clusters["counts"])
    write_ntuple(tmp_path / "f.root", lists(clusters, "cl") | {"sampling_e": nested})
    options = {
        "tree": "events",
        "eta": "cl_eta",
        "phi": "cl_phi",
        "energy": "sampling_e",
        "inner": "layers",
        "layers": {"em": [0, 1], "had": [3]},
    }
    towers = read(tmp_path / "f.root", "root", options)
    images, _ = towers_to_images(towers, GRID)
    np.testing.assert_allclose(images[:, 0], drawn(clusters, energy[:, :2].sum(axis=1)), atol=1e-5)
    np.testing.assert_allclose(images[:, 1], drawn(clusters, energy[:, 3]), atol=1e-5)
    assert towers.left_out == {"inner 2": pytest.approx(energy[:, 2].sum(), rel=1e-5)}


def test_one_energy_for_a_whole_cluster_is_not_counted_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    clusters = random_cells(rng, 3, 4)
    nested = ak.unflatten(
        jagged(np.full(len(clusters["e"]), 2), np.zeros(2 * len(clusters["e"]))), clusters["counts"]
    )
    write_ntuple(tmp_path / "f.root", lists(clusters, "cl") | {"eta": nested, "phi": nested})
    options = {"tree": "events", "eta": "eta", "phi": "phi", "layers": {"em": "cl_e"}}
    with pytest.raises(UnreadableInputError, match="'cl_e' has one energy for a whole inner list"):
        read(tmp_path / "f.root", "root", options)


def test_nested_vectors_of_a_tree(shared_data: Path) -> None:
    from pileupgen.samples.readers.root import RootTree

    tree = RootTree(shared_data / "public" / "edm4hep_allcollections.root", "events")
    flat = tree.column("GPFloatValues").read(0, tree.n_entries)
    with uproot.open(shared_data / "public" / "edm4hep_allcollections.root") as file:
        values = file["events"]["GPFloatValues"].array()
    assert flat.values.tolist() == ak.flatten(values, axis=None).tolist()
    assert flat.counts is not None
    assert flat.counts.tolist() == ak.num(values).tolist()
    tree.close()


# -- Cartesian places and layers -----------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), rule=st.sampled_from(["radius", "abs_z", "distance", "depth"]))
def test_layers_by_depth_of_cartesian_cells(
    tmp_path_factory: pytest.TempPathFactory, seed: int, rule: str
) -> None:
    path = tmp_path_factory.mktemp("xyz") / "f.root"
    rng = np.random.default_rng(seed)
    cells = random_cells(rng, 4, 12)
    radius = rng.uniform(500, 4000, len(cells["e"]))
    place = {
        "x": radius * np.cos(cells["phi"]),
        "y": radius * np.sin(cells["phi"]),
        "z": radius * np.sinh(cells["eta"]),
        "depth": rng.uniform(0, 4, len(radius)),
    }
    write_tree(path, lists(cells, "hit", **place), "events")
    size = {
        "radius": radius,
        "abs_z": np.abs(place["z"]),
        "distance": radius * np.cosh(cells["eta"]),
        "depth": place["depth"],
    }[rule]
    edges = (np.quantile(size, [0.1, 0.5, 0.8]) + 1e-6).tolist()
    options = {
        "tree": "events",
        "x": "hit_x",
        "y": "hit_y",
        "z": "hit_z",
        "energy": "hit_e",
        "layer_index": {"bins_of": rule if rule != "depth" else "hit_depth", "edges": edges},
        "layers": {"em": [0], "had": [1]},
    }
    towers = read(path, "root", options)
    images, _ = towers_to_images(towers, GRID)
    for layer in (0, 1):
        inside = (size >= edges[layer]) & (size < edges[layer + 1])
        np.testing.assert_allclose(images[:, layer], drawn(cells, cells["e"] * inside), atol=2e-5)
    out = (size < edges[0]) | (size >= edges[2])
    assert sum(towers.left_out.values()) == pytest.approx(np.abs(cells["e"][out]).sum(), rel=1e-4)


ENCODINGS = st.lists(st.tuples(st.integers(1, 12), st.booleans()), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(parts=ENCODINGS, data=st.data())
def test_parts_of_cell_identifiers_come_back(
    parts: list[tuple[int, bool]], data: st.DataObject
) -> None:
    from pileupgen.samples.readers.layer_numbers import _bits_of

    encoding = ",".join(
        f"part{i}:{-width if signed else width}" for i, (width, signed) in enumerate(parts)
    )
    values, identifier, offset = [], 0, 0
    for width, signed in parts:
        low = -(1 << (width - 1)) if signed else 0
        value = data.draw(st.integers(low, low + (1 << width) - 1))
        identifier |= (value & ((1 << width) - 1)) << offset
        values.append(value)
        offset += width
    for dtype in (np.uint64, np.int64):
        stored = np.array([identifier], dtype=np.uint64).astype(dtype)
        for i, value in enumerate(values):
            assert _bits_of(stored, *find_bits(encoding, f"part{i}")).tolist() == [value]


def test_every_number_that_is_left_out_is_named_by_itself(tmp_path: Path) -> None:
    # Six digits, as numbers are mostly written, are the same of the first two.
    numbers = np.array([1234567, 0, 1234568, 1234567, 7])
    cells = {"eta": np.zeros(5), "phi": np.zeros(5), "e": np.array([1.0, 2.0, 4.0, -8.0, 16.0])}
    options = {
        "tree": "events",
        "eta": "eta",
        "phi": "phi",
        "energy": "e",
        "layer_index": "number",
        "layers": {"em": [0]},
    }
    for dtype in (np.int32, np.float64):
        columns = {**cells, "number": numbers.astype(dtype)}
        lists_of = {name: jagged(np.array([5]), values) for name, values in columns.items()}
        write_tree(tmp_path / "f.root", lists_of, "events")
        towers = read(tmp_path / "f.root", "root", options)
        assert towers.energy.tolist() == [[2.0]]
        assert towers.left_out == {"number 7": 16.0, "number 1234567": 9.0, "number 1234568": 4.0}


def test_identifiers_are_whole_numbers(tmp_path: Path) -> None:
    columns = {
        "eta": np.zeros(2),
        "phi": np.zeros(2),
        "e": np.ones(2),
        "id": np.array([2.0**60, 3]),
    }
    lists_of = {name: jagged(np.array([2]), values) for name, values in columns.items()}
    write_tree(tmp_path / "f.root", lists_of, "events")
    options = {
        "tree": "events",
        "eta": "eta",
        "phi": "phi",
        "energy": "e",
        "layer_index": {"cell_id": "id", "field": "layer", "encoding": "system:5,layer:8"},
        "layers": {"em": [0]},
    }
    with pytest.raises(CardError, match="branch 'id' has the cells' identifiers by the card, and "):
        read(tmp_path / "f.root", "root", options)


@pytest.mark.parametrize("single", ["x", "y", "z"])
def test_places_are_as_exact_as_the_best_column(tmp_path: Path, single: str) -> None:
    rng = np.random.default_rng(9)
    columns = {name: rng.uniform(1000, 2000, 20) for name in "xyz"}
    columns[single] = columns[single].astype(np.float32)
    lists_of = {name: jagged(np.array([20]), values) for name, values in columns.items()}
    write_tree(tmp_path / "f.root", lists_of | {"e": jagged(np.array([20]), np.ones(20))}, "events")
    options = {"tree": "events", "x": "x", "y": "y", "z": "z", "layers": {"em": "e"}}
    edges = read(tmp_path / "f.root", "root", options).edges
    x, y, z = (columns[name].astype(np.float64) for name in "xyz")
    np.testing.assert_allclose(edges[:, 0], np.arcsinh(z / np.hypot(x, y)), rtol=1e-13)
    np.testing.assert_allclose(edges[:, 1], np.arctan2(y, x), rtol=1e-13)


@pytest.mark.parametrize(
    ("encoding", "field", "said"),
    [
        ("system:5,layer:8", "depth", "no field 'depth'"),
        ("system=5", "system", "is not name:offset:width"),
        ("system:60,layer:8", "layer", "not within 64 bits"),
        ("system:0", "system", "not within 64 bits"),
    ],
)
def test_encodings_that_are_none(encoding: str, field: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        find_bits(encoding, field)


# -- what a card cannot mean ---------------------------------------------------------------------

GOOD: dict[str, Any] = {"eta": "a", "phi": "b", "layers": {"em": "c"}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"eta": None}, "eta and phi go together"),
        ({"eta": None, "phi": None}, "say once where the cells are"),
        ({"x": "x", "y": "y", "z": "z"}, "say once where the cells are"),
        ({"eta_range": [0, 1]}, "say once where the cells are"),
        ({"layers": None}, "layers are missing"),
        ({"layers": ["em"], "energy": "c"}, "channels of an array of images"),
        ({"inner": "layers"}, "energy and layer_index are for"),
        ({"eta": None, "phi": None, "grid": "atlass"}, "Did you mean 'atlas'"),
        ({"eta": None, "phi": None, "grid": "atlas", "eta_range": [0, 1]}, "give either"),
        ({"eta": None, "phi": None, "grid": "atlas", "positions": {}}, "does not go with"),
        ({"scale": 0}, "greater than 0"),
        ({"unit": "keV"}, "unit"),
        (
            {
                "energy": "e",
                "layers": {"em": [0]},
                "layer_index": {"bins_of": "radius", "edges": [0, 1]},
            },
            "radius is made of x, y and z",
        ),
        (
            {"energy": "e", "layers": {"em": [0]}, "layer_index": {"bins_of": "d"}},
            "bins_of and edges go together",
        ),
        (
            {"energy": "e", "layers": {"em": [0]}, "layer_index": {"field": "l", "column": "d"}},
            "give a column; a field",
        ),
    ],
)
def test_collections_that_contradict(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Collection.model_validate(GOOD | changes)


def test_a_card_says_it_once(tmp_path: Path, card_values: dict[str, Any]) -> None:
    values = card_values | {"format": "root", "units": {"energy": "GeV"}}
    path = tmp_path / "card.yaml"
    values["options"] = {"tree": "t", "eta": "x", "collections": {"a": GOOD}}
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(CardError, match="eta belong into each of the collections"):
        load_card(path)
    values["options"] = {"tree": "t", "collections": {"a": GOOD | {"etaa": "x"}}}
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(CardError, match=r"unknown key 'options\.collections\.a\.etaa'") as caught:
        load_card(path)
    assert "'eta'" in str(caught.value)
