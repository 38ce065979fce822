from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pytest
import uproot

from pileupgen.calo.geometry import Grid
from pileupgen.calo.imaging import towers_to_images
from pileupgen.calo.presets import get_grid
from pileupgen.errors import (
    DependencyError,
    MissingInputError,
    OutputError,
    StoreError,
    UnreadableInputError,
)
from pileupgen.samples.delphes_file import read_record
from pileupgen.samples.export import export_npz, export_parquet, export_root
from pileupgen.samples.overlay_library import OverlayLibrary, export_overlay
from pileupgen.samples.readers import MuSource
from pileupgen.samples.readers.delphes import DelphesOptions, DelphesReader
from pileupgen.samples.store import ImageStore, create_store

N = 20
UNEVEN = Grid((-2.5, -1.1, -0.3, 0.0, 0.4, 2.0), 7, layers=("em", "had", "tail"), name="uneven")


def make_store(path: Path, grid: Grid, mu: Any = None) -> ImageStore:
    """Sparse, signed energies as after a translation."""
    rng = np.random.default_rng(4)
    energy = rng.normal(2, 3, (N, *grid.shape)).astype(np.float32)
    energy[rng.random(energy.shape) < 0.7] = 0.0
    energy[3] = 0.0
    provenance = {"seed": 7, "source": {"inputs": [{"sha256": "abc"}]}}
    with create_store(path, grid, "mc_to_data", provenance) as writer:
        writer.append(
            energy,
            {
                "mu": rng.poisson(60, N).astype("f4") if mu is None else mu,
                "event_id": np.arange(N) + 100,
                "weight": rng.random(N) + 0.5,
                "release_weight": rng.random(N),
                "split": np.arange(N) % 3,
                "source_event": np.arange(N) + 100,
                "seed": np.full(N, 7),
                "t_release": np.where(np.arange(N) == 2, -1, 300 + np.arange(N)),
                "draw": np.arange(N) % 2,
                "member": np.arange(N) % 3,
            },
        )
    return ImageStore(path)


@pytest.fixture(params=["atlas", "uneven"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ImageStore:
    grid = get_grid("atlas") if request.param == "atlas" else UNEVEN
    return make_store(tmp_path / "translated.h5", grid)


def read_delphes(path: Path, store: ImageStore, mu: str = "Vertex_size - 1") -> Any:
    leaves = {"em": "Eem", "had": "Ehad", "tail": "E_tail"}
    layers = {layer: leaves[layer] for layer in store.grid.layers}
    (towers,) = DelphesReader([path], DelphesOptions(layers=layers), MuSource.parse(mu)).chunks()
    return towers


@pytest.mark.parametrize("container", ["ttree", "rntuple"])
def test_root_read_back_by_the_delphes_reader_is_the_same(
    store: ImageStore, tmp_path: Path, container: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pileupgen.samples.export.BATCH_EVENTS", 7)
    path = tmp_path / "out.root"
    export_root(store, store.indices(), path, container=container)
    towers = read_delphes(path, store)
    images, outside = towers_to_images(towers, store.grid)
    np.testing.assert_array_equal(images, store.read().energy)
    assert not outside.any()
    assert towers.mu.tolist() == store.columns["mu"].tolist()


def test_root_is_as_delphes_has_it(tmp_path: Path) -> None:
    store = make_store(tmp_path / "translated.h5", get_grid("atlas"))
    rows = store.indices("test")
    export_root(store, rows, tmp_path / "out.root")
    with uproot.open(tmp_path / "out.root") as file:
        tree = file["Delphes"]
        assert str(tree["Tower.Edges"].interpretation) == "AsJagged(AsDtype(\"('>f4', (4,))\"))"
        arrays = tree.arrays()
    images = store.read(rows)
    assert ak.flatten(arrays["Event.Number"]).tolist() == images.event_id.tolist()
    assert arrays["SourceEvent"].tolist() == images.columns["source_event"].tolist()
    assert arrays["Seed"].tolist() == [7] * len(rows)
    np.testing.assert_array_equal(arrays["Weight"], images.weight)
    np.testing.assert_array_equal(arrays["ReleaseWeight"], images.columns["release_weight"])
    flat = {
        name: np.asarray(ak.flatten(arrays[name])) for name in arrays.fields if "Tower." in name
    }
    np.testing.assert_allclose(flat["Tower.E"], flat["Tower.Eem"] + flat["Tower.Ehad"], atol=1e-5)
    np.testing.assert_allclose(
        flat["Tower.ET"], flat["Tower.E"] / np.cosh(flat["Tower.Eta"]), rtol=1e-5, atol=1e-6
    )
    assert read_record(tmp_path / "out.root")["provenance"] == store.provenance


def test_an_ntuple_has_names_that_root_allows(tmp_path: Path) -> None:
    store = make_store(tmp_path / "translated.h5", UNEVEN)
    rows = store.indices()
    export_root(store, rows, tmp_path / "out.root", container="rntuple")
    with uproot.open(tmp_path / "out.root") as file:
        ntuple = file["Delphes"]
        assert file.classnames()["Delphes;1"] == "ROOT::RNTuple"
        names = ntuple.keys()
        assert not any("." in name for name in names)
        assert ntuple["Tower_Edges"].typename == "std::vector<std::array<float,4>>"
        arrays = ntuple.arrays()
    images = store.read(rows)
    assert ak.flatten(arrays["Event_Number"]).tolist() == images.event_id.tolist()
    assert arrays["Weight"].tolist() == images.weight.tolist()
    energy = arrays["Tower_Eem"] + arrays["Tower_Ehad"] + arrays["Tower_E_tail"]
    np.testing.assert_allclose(
        ak.sum(energy, axis=1), images.energy.sum(axis=(1, 2, 3)), rtol=1e-5, atol=1e-5
    )
    assert read_record(tmp_path / "out.root")["provenance"] == store.provenance


def test_coffea_reads_an_ntuple(tmp_path: Path) -> None:
    nanoevents = pytest.importorskip("coffea.nanoevents")
    store = make_store(tmp_path / "translated.h5", get_grid("atlas"))
    path = tmp_path / "out.root"
    export_root(store, store.indices(), path, container="rntuple")
    factory = nanoevents.NanoEventsFactory.from_root(
        {str(path): "Delphes"}, schemaclass=nanoevents.BaseSchema, mode="virtual"
    )
    energy = factory.events()["Tower_Eem"]
    expected = store.read().energy[:, 0].sum(axis=(1, 2))
    np.testing.assert_allclose(ak.sum(energy, axis=1), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mu", [np.nan, 60.5])
def test_vertices_are_not_made_up(tmp_path: Path, mu: float) -> None:
    store = make_store(tmp_path / "t.h5", UNEVEN, np.full(N, mu, dtype=np.float32))
    export_root(store, store.indices(), tmp_path / "out.root")
    with uproot.open(tmp_path / "out.root") as file:
        assert "Vertex_size" not in file["Delphes"]
    found = read_delphes(tmp_path / "out.root", store, "Mu").mu
    np.testing.assert_array_equal(found, np.full(N, mu, dtype=np.float32))


def test_npz(store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pileupgen.samples.export.BATCH_EVENTS", 3)
    for name in ("a.npz", "b.npz"):
        export_npz(store, store.indices("validation"), tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    images = store.read(store.indices("validation"))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        np.testing.assert_array_equal(found["images"], images.energy)
        np.testing.assert_array_equal(found["weight"], images.weight)
        np.testing.assert_array_equal(found["eta_edges"], store.grid.eta_edges)
        np.testing.assert_array_equal(found["phi_edges"], store.grid.phi_edges)
        assert tuple(found["layers"]) == store.grid.layers
        assert json.loads(str(found["provenance"])) == store.provenance


def test_parquet(store: ImageStore, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    export_parquet(store, store.indices(), tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet")
    images = store.read()
    assert table["event_id"].to_pylist() == images.event_id.tolist()
    np.testing.assert_array_equal(table["weight"].to_numpy(), images.weight)
    layer = store.grid.layers[-1]
    for row, image in zip(table[f"tower_{layer}"].to_pylist(), images.energy[:, -1], strict=True):
        assert sorted(np.float32(row)[np.nonzero(row)]) == sorted(image[image != 0])
    record = json.loads(table.schema.metadata[b"pileupgen"])
    assert Grid.from_dict(record["geometry"]) == store.grid
    for field in table.schema:
        assert not field.nullable
        assert not (hasattr(field.type, "value_field") and field.type.value_field.nullable)


def test_parquet_without_pyarrow(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DependencyError, match="pyarrow"):
        export_parquet(store, store.indices(), tmp_path / "out.parquet")


def test_an_overlay_library_has_the_events_and_where_they_come_from(
    store: ImageStore, tmp_path: Path
) -> None:
    export_overlay(store, store.indices(), tmp_path / "lib.h5")
    library = OverlayLibrary(tmp_path / "lib.h5")
    images = store.read()
    found = library.read(np.arange(N))
    np.testing.assert_array_equal(found.energy, images.energy)
    for name in ("mu", "weight", "event_id", "source_event", "seed", "draw", "member"):
        np.testing.assert_array_equal(found.columns[name], images.columns[name])
    wanted = np.where(np.arange(N) == 2, np.nan, 300.0 + np.arange(N))
    np.testing.assert_array_equal(found.columns["t_release"], wanted)
    assert library.provenance == store.provenance
    assert library.grid == store.grid


def test_every_event_is_dealt_once_before_any_comes_again(
    store: ImageStore, tmp_path: Path
) -> None:
    path = tmp_path / "lib.h5"
    export_overlay(store, store.indices(), path, seed=1)
    library = OverlayLibrary(path)
    assert library.n_used.tolist() == [0] * N
    first = library.deal(0, 8)
    assert library.n_used.sum() == 8
    np.testing.assert_array_equal(first.energy, library.read(library.rows(0, 8)).energy)
    library.deal(8, 12)
    assert library.n_used.tolist() == [1] * N
    library.deal(15, 10)
    again = np.bincount(library.rows(15, 10), minlength=N)
    np.testing.assert_array_equal(library.n_used, 1 + again)
    # The order is the seed's, not that of the file.
    export_overlay(store, store.indices(), tmp_path / "same.h5", seed=1)
    export_overlay(store, store.indices(), tmp_path / "other.h5", seed=2)
    assert OverlayLibrary(tmp_path / "same.h5").order.tolist() == library.order.tolist()
    assert OverlayLibrary(tmp_path / "other.h5").order.tolist() != library.order.tolist()


def test_libraries_that_are_none(store: ImageStore, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError):
        OverlayLibrary(tmp_path / "none.h5")
    with pytest.raises(StoreError, match="no overlay library"):
        OverlayLibrary(store.path)
    path = tmp_path / "lib.h5"
    export_overlay(store, store.indices(), path)
    with pytest.raises(StoreError, match="from 0"):
        OverlayLibrary(path).rows(-1, 2)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UnreadableInputError):
        OverlayLibrary(path)
    with pytest.raises(StoreError, match="no events"):
        export_overlay(store, store.indices()[:0], path)


def test_counters_that_another_process_writes(store: ImageStore, tmp_path: Path) -> None:
    export_overlay(store, store.indices(), tmp_path / "lib.h5")
    library = OverlayLibrary(tmp_path / "lib.h5")
    with h5py.File(tmp_path / "lib.h5", "r"), pytest.raises(OutputError, match="counters"):
        library.deal(0, 2)
    assert library.n_used.sum() == 0


@pytest.mark.parametrize("write", [export_root, export_npz, export_overlay])
def test_a_fault_leaves_nothing_behind(store: ImageStore, tmp_path: Path, write: Any) -> None:
    before = sorted(tmp_path.iterdir())

    def fail(n: int = 1, note: str = "") -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left"):
        write(store, store.indices(), tmp_path / "out", advance=fail)
    assert sorted(tmp_path.iterdir()) == before


def test_draws_of_one_source_share_their_count_and_their_turn(tmp_path: Path) -> None:
    grid, n_sources, n_draws = UNEVEN, 7, 3
    n = n_sources * n_draws
    source = np.repeat(np.arange(n_sources), n_draws)
    with create_store(tmp_path / "t.h5", grid, "mc_to_data", {}) as writer:
        writer.append(
            np.ones((n, *grid.shape), dtype=np.float32),
            {
                "mu": np.full(n, 3.0),
                "event_id": source,
                "weight": np.ones(n),
                "split": np.zeros(n),
                "source_event": source,
                "seed": np.full(n, 1),
                "t_release": np.full(n, 9),
                "draw": np.tile(np.arange(n_draws), n_sources),
                "member": np.zeros(n),
            },
        )
    store = ImageStore(tmp_path / "t.h5")
    export_overlay(store, store.indices(), tmp_path / "lib.h5", seed=3)
    library = OverlayLibrary(tmp_path / "lib.h5")
    assert sorted(library.order) == list(range(n))
    for turn in range(n_draws):
        dealt = source[library.rows(turn * n_sources, n_sources)]
        assert sorted(dealt) == list(range(n_sources))
    library.deal(0, 2)
    used = library.n_used
    assert used.sum() == 2 * n_draws
    for event in range(n_sources):
        assert len(set(used[source == event])) == 1


def test_root_keeps_what_a_translated_event_was_made_from(tmp_path: Path) -> None:
    store = make_store(tmp_path / "t.h5", UNEVEN)
    export_root(store, store.indices(), tmp_path / "f.root")
    with uproot.open(tmp_path / "f.root") as file:
        found = file["Delphes"].arrays(["Draw", "Member", "TRelease"], library="np")
    for branch, column in (("Draw", "draw"), ("Member", "member"), ("TRelease", "t_release")):
        np.testing.assert_array_equal(found[branch], store.columns[column])


def test_coffea_reads_the_branches_but_not_as_objects_of_delphes(tmp_path: Path) -> None:
    nanoevents = pytest.importorskip("coffea.nanoevents")
    store = make_store(tmp_path / "translated.h5", get_grid("atlas"))
    path = tmp_path / "towers.root"
    export_root(store, store.indices(), path)

    def events(schema: Any) -> Any:
        files = {str(path): "Delphes"}
        return nanoevents.NanoEventsFactory.from_root(files, schemaclass=schema).events()

    found = events(nanoevents.BaseSchema)
    energy = found["Tower.Eem"] + found["Tower.Ehad"]
    assert ak.sum(energy) == pytest.approx(store.read().energy.sum(), rel=1e-5)
    assert ak.to_numpy(ak.num(found["Tower.Edges"], axis=1)).sum() == len(ak.flatten(energy))
    # Objects need a TClonesArray, which uproot does not write.
    with pytest.raises(KeyError):
        events(nanoevents.DelphesSchema)
