"""Parquet files and NumPy archives, of others and of pileupgen's own exports."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pileupgen.calo.geometry import Grid
from pileupgen.calo.imaging import images_to_towers, towers_to_images
from pileupgen.calo.presets import get_grid
from pileupgen.calo.towers import Towers
from pileupgen.errors import (
    CardError,
    InputError,
    MissingFieldError,
    MissingInputError,
    UnreadableInputError,
)
from pileupgen.samples.cards import load_card
from pileupgen.samples.export import export_npz, export_parquet
from pileupgen.samples.readers import FORMATS, MuSource, Span
from pileupgen.samples.store import ImageStore, create_store

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def read(
    path: Path, options: dict[str, Any], mu: Any = "unknown", kind: str = "parquet"
) -> list[Towers]:
    found = FORMATS[kind]
    reader = found.open([path], found.options.model_validate(options), MuSource.parse(mu), 1.0)
    return list(reader.chunks())


def random_lists(rng: np.random.Generator, n_events: int) -> dict[str, Any]:
    counts = rng.poisson(5, n_events)
    return {
        name: ak.unflatten(rng.normal(0, 2, counts.sum()), counts)
        for name in ("x", "y", "z", "total_energy")
    }


# -- Parquet -------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 999),
    n_events=st.integers(1, 40),
    group=st.integers(1, 50),
    step=st.integers(1, 20),
    is_large=st.booleans(),
)
def test_lists_of_hits_in_any_row_groups(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    n_events: int,
    group: int,
    step: int,
    is_large: bool,
) -> None:
    path = tmp_path_factory.mktemp("parquet") / "hits.parquet"
    hits = random_lists(np.random.default_rng(seed), n_events)
    kind = pa.large_list(pa.float32()) if is_large else pa.list_(pa.float32())
    columns = {name: pa.array(values.tolist(), type=kind) for name, values in hits.items()}
    detector = ak.values_astype(hits["x"] > 0, np.int8)
    columns["detector"] = pa.array(detector.tolist(), type=pa.list_(pa.uint8()))
    columns["mu"] = pa.array(np.arange(n_events))
    parquet.write_table(pa.table(columns), path, row_group_size=group)
    options = {
        "x": "x",
        "y": "y",
        "z": "z",
        "energy": "total_energy",
        "layer_index": "detector",
        "layers": {"em": [0], "had": [1]},
    }
    energy = ak.values_astype(hits["total_energy"], np.float32)
    expected = np.column_stack(
        [ak.sum(energy * (detector == value), axis=1).to_numpy() for value in (0, 1)]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pileupgen.samples.readers.files.MAX_CHUNK_EVENTS", step)
        patch.setattr("pileupgen.samples.readers.parquet._BATCH_BYTES", 40)
        parts = read(path, options, "mu")
        # As processes share a file: spans that need not follow one another.
        reader = FORMATS["parquet"].open(
            [path], FORMATS["parquet"].options(**options), MuSource.parse("mu"), 1.0
        )
        spans = [Span(0, begin, min(begin + 3, n_events), 0) for begin in range(0, n_events, 5)]
        shared = [list(reader.read(span)) for span in (*spans, *spans[:2])]
    sums = np.concatenate([part.event_sums() for part in parts])
    np.testing.assert_allclose(sums, expected, rtol=1e-5, atol=1e-5)
    for span, found in zip((*spans, *spans[:2]), shared, strict=True):
        sums = np.concatenate([part.event_sums() for part in found])
        np.testing.assert_allclose(sums, expected[span.begin : span.end], rtol=1e-5, atol=1e-5)
    assert np.concatenate([part.mu for part in parts]).tolist() == list(range(n_events))


def test_a_dictionary_makes_chunks_no_larger(tmp_path: Path) -> None:
    """The same towers in every event take a file of a few kilobytes, and the same memory."""
    lists = pa.array([[0.5] * 1000] * 600, pa.list_(pa.float32()))
    steps = []
    for name, use in (("plain", False), ("dictionary", True)):
        path = tmp_path / f"{name}.parquet"
        table = pa.table(dict.fromkeys(("eta", "phi", "em"), lists))
        parquet.write_table(table, path, use_dictionary=use)
        options = {"eta": "eta", "phi": "phi", "layers": {"em": "em"}}
        steps.append([towers.n_events for towers in read(path, options)])
    # 4 MB of 3 × 4,000 bytes, and levels beside the numbers in none of them.
    assert steps == [[349, 251]] * 2


def test_fields_of_structs_and_lists_of_lists(tmp_path: Path) -> None:
    hits = [{"e": 1.0, "at": {"eta": 0.1, "phi": 0.2}}, {"e": 2.0, "at": {"eta": 1, "phi": 3}}]
    events = [
        {"hits": hits, "cells": [[1.0, 2.0], []], "jet": {"pt": 5.0}},
        {"hits": [], "cells": [[4.0]], "jet": {"pt": 6.0}},
    ]
    table = pa.Table.from_pylist(events)
    parquet.write_table(table, tmp_path / "f.parquet")
    options = {"eta": "hits/at/eta", "phi": "hits/at/phi", "layers": {"em": "hits/e"}}
    (part,) = read(tmp_path / "f.parquet", options, "jet/pt")
    assert part.energy.ravel().tolist() == [1, 2]
    np.testing.assert_allclose(part.edges[:, 0], [0.1, 1])
    assert part.mu.tolist() == [5, 6]
    options["layers"] = {"em": "hits.e"}
    assert read(tmp_path / "f.parquet", options)[0].energy.sum() == 3
    nested = {"eta": "cells", "phi": "cells", "layers": {"em": "cells"}}
    assert read(tmp_path / "f.parquet", nested)[0].energy.ravel().tolist() == [1, 2, 4]
    features = {"features": {"pt": "jet/pt"}}
    (part,) = read(tmp_path / "f.parquet", features, kind="features")
    assert part.energy.ravel().tolist() == [5, 6]
    with pytest.raises(MissingFieldError, match="no column 'hits/energy'") as caught:
        read(tmp_path / "f.parquet", {**options, "layers": {"em": "hits/energy"}})
    assert "hits.e" in caught.value.hint


@pytest.mark.parametrize("is_fixed", [False, True])
def test_images_in_columns(tmp_path: Path, is_fixed: bool) -> None:
    grid = get_grid("atlas")
    energy = np.random.default_rng(1).random((4, *grid.shape)).astype(np.float32)
    inner = pa.list_(pa.float32(), 36) if is_fixed else pa.list_(pa.float32())
    kind = pa.list_(inner, 50) if is_fixed else pa.list_(inner)
    columns = {
        name: pa.array(energy[:, layer].tolist(), type=kind)
        for layer, name in enumerate(("ecal", "hcal"))
    }
    parquet.write_table(pa.table(columns), tmp_path / "f.parquet")
    options = {"grid": "atlas", "layers": {"em": "ecal", "had": "hcal"}}
    (part,) = read(tmp_path / "f.parquet", options)
    np.testing.assert_array_equal(towers_to_images(part, grid)[0], energy)
    with pytest.raises(CardError, match="50 rings × 36"):
        read(tmp_path / "f.parquet", {**options, "grid": "sphenix"})


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pa.array([[1.0], None]), "has 1 nulls"),
        (pa.array([[1.0], [None]]), "has 1 nulls"),
        (pa.array([["a"], ["b"]]), "which is neither one number"),
        (pa.array([[[[1.0]]], [[[2.0]]]]), "which is neither one number"),
        (pa.array([1.0, 2.0]), "not one number a tower"),
        (pa.array([[1.0, 2.0], [3.0]]), "another number of towers"),
    ],
)
def test_columns_that_are_no_cells(tmp_path: Path, column: Any, said: str) -> None:
    one = pa.array([[0.5], [0.5]])
    parquet.write_table(pa.table({"eta": one, "phi": one, "e": column}), tmp_path / "f.parquet")
    with pytest.raises(UnreadableInputError, match=said) as caught:
        read(tmp_path / "f.parquet", {"eta": "eta", "phi": "phi", "layers": {"em": "e"}})
    assert "f.parquet" in caught.value.message


@settings(max_examples=20, deadline=None)
@given(place=st.floats(0, 1), damage=st.binary(min_size=1, max_size=60), kept=st.floats(0, 1))
def test_a_damaged_parquet_file_is_read_or_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, place: float, damage: bytes, kept: float
) -> None:
    path = tmp_path_factory.mktemp("cut") / "f.parquet"
    hits = random_lists(np.random.default_rng(1), 20)
    columns = {name: pa.array(v.tolist()) for name, v in hits.items()}
    parquet.write_table(pa.table(columns), path, compression="none")
    content = path.read_bytes()
    begin = int(place * (len(content) - len(damage)))
    content = content[:begin] + damage + content[begin + len(damage) :]
    path.write_bytes(content[: int(kept * len(content))])
    said = "f.parquet"
    try:
        read(path, {"x": "x", "y": "y", "z": "z", "layers": {"em": "total_energy"}})
    except InputError as error:
        said = error.message
    assert "f.parquet" in said


# -- NumPy ---------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(
    n_events=st.integers(1, 30),
    step=st.integers(1, 12),
    is_packed=st.booleans(),
    order=st.sampled_from("CF"),
    dtype=st.sampled_from(["<f4", ">f4", "<f8", "<i4"]),
)
def test_images_of_an_archive(
    tmp_path_factory: pytest.TempPathFactory,
    n_events: int,
    step: int,
    is_packed: bool,
    order: Any,
    dtype: str,
) -> None:
    path = tmp_path_factory.mktemp("npz") / "f.npz"
    rng = np.random.default_rng(n_events)
    energy = np.asarray(rng.exponential(9, (n_events, 4, 6, 2)), dtype=dtype, order=order)
    save = np.savez_compressed if is_packed else np.savez
    save(path, e=energy, n=np.arange(n_events), text=np.array("x"))
    options = {"energy": "e", "eta_range": [-1, 1], "layers": ["em", "had"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pileupgen.samples.readers.files.MAX_CHUNK_EVENTS", step)
        patch.setattr("pileupgen.samples.readers.npz._READ_BYTES", 500)
        parts = read(path, options, "n", "npz")
    grid = Grid(tuple(np.linspace(-1, 1, 5)), 6)
    images = np.concatenate([towers_to_images(part, grid)[0] for part in parts])
    np.testing.assert_array_equal(images, energy.transpose(0, 3, 1, 2).astype(np.float32))
    assert np.concatenate([part.mu for part in parts]).tolist() == list(range(n_events))


def test_cells_of_an_archive_with_positions_beside(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    energy, eta, phi = rng.random((5, 12)), rng.uniform(-2, 2, 12), rng.uniform(-3, 3, 12)
    np.savez(tmp_path / "f.npz", e=energy, eta=eta, phi=phi)
    np.savez(tmp_path / "g.npz", eta=eta.reshape(3, 4), phi=phi.reshape(3, 4))
    options: dict[str, Any] = {"eta": "eta", "phi": "phi", "layers": {"em": "e"}}
    for positions in ({}, {"file": str(tmp_path / "g.npz")}):
        (part,) = read(tmp_path / "f.npz", {**options, "positions": positions}, kind="npz")
        np.testing.assert_allclose(part.energy.reshape(5, 12), energy, rtol=1e-6)
        np.testing.assert_allclose(part.edges[:12, 0], eta)
    with pytest.raises(UnreadableInputError, match="'eta' has 12 events, its siblings 5"):
        read(tmp_path / "f.npz", options, kind="npz")


def test_a_damaged_array_of_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "f.npz"
    np.savez(path, a=np.zeros(3), e=np.ones((5, 4, 6, 2)))
    content = path.read_bytes()
    path.write_bytes(
        content.replace(b"PK\x03\x04", b"PK\x03\x05").replace(b"PK\x03\x05", b"PK\x03\x04", 1)
    )
    with pytest.raises(UnreadableInputError, match=r"f\.npz cannot be read \(array 'e'\)"):
        read(path, {"energy": "e", "eta_range": [-1, 1], "layers": ["em", "had"]}, kind="npz")


def test_archives_that_hold_something_else(tmp_path: Path) -> None:
    options = {"energy": "e", "eta_range": [-1, 1], "layers": ["em", "had"]}
    np.savez(tmp_path / "f.npz", e=np.array(["a", "b"]), o=np.array([{}], dtype=object))
    with pytest.raises(UnreadableInputError, match="array 'e' holds <U1"):
        read(tmp_path / "f.npz", options, kind="npz")
    with pytest.raises(UnreadableInputError, match="array 'o' holds object"):
        read(tmp_path / "f.npz", {**options, "energy": "o"}, kind="npz")
    with pytest.raises(MissingFieldError, match="no array 'x'"):
        read(tmp_path / "f.npz", {**options, "energy": "x"}, kind="npz")
    with pytest.raises(MissingInputError):
        read(tmp_path / "none.npz", options, kind="npz")
    (tmp_path / "g.npz").write_bytes(b"\x93NUMPY")
    with pytest.raises(UnreadableInputError, match=r"g\.npz is a NumPy array, not a zip"):
        read(tmp_path / "g.npz", options, kind="npz")


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_damaged_archive_is_read_or_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("cut") / "f.npz"
    np.savez_compressed(path, e=np.random.default_rng(1).random((5, 4, 6, 2)))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    said = "f.npz"
    try:
        read(path, {"energy": "e", "eta_range": [-1, 1], "layers": ["em", "had"]}, kind="npz")
    except InputError as error:
        said = error.message
    assert "f.npz" in said


# -- pileupgen's own exports ---------------------------------------------------------------------


def make_store(path: Path, grid: Grid) -> ImageStore:
    rng = np.random.default_rng(4)
    energy = rng.normal(2, 3, (7, *grid.shape)).astype(np.float32)
    energy[rng.random(energy.shape) < 0.7] = 0.0
    # Cells that are wider than the image's spread their energy evenly.
    energy, _ = towers_to_images(images_to_towers(energy, grid), grid)
    with create_store(path, grid, "mc", {"seed": 7}) as writer:
        columns = {
            "mu": rng.poisson(60, 7).astype("f4"),
            "event_id": np.array([100, 3, 70, 2, 2, 11, 0]),
            "weight": rng.normal(1, 0.5, 7),
            "split": np.zeros(7, dtype=np.uint8),
        }
        writer.append(energy, columns)
    return ImageStore(path)


@pytest.mark.parametrize("kind", ["npz", "parquet"])
@pytest.mark.parametrize("geometry", ["atlas", "atlas_full", "atlas_layers"])
def test_own_exports_come_back(
    tmp_path: Path, kind: str, geometry: str, card_values: dict[str, Any]
) -> None:
    grid = get_grid(geometry)
    store = make_store(tmp_path / "store.h5", grid)
    export = {"npz": export_npz, "parquet": export_parquet}[kind]
    export(store, store.indices(), tmp_path / f"events.{kind}")
    values = card_values | {"files": f"events.{kind}", "format": kind, "mu": "mu"}
    (tmp_path / "card.yaml").write_text(
        yaml.safe_dump(values | {"units": {"energy": "GeV"}}), encoding="utf-8"
    )
    card = load_card(tmp_path / "card.yaml")
    (towers,) = card.open(card.input_files()).chunks()
    images, outside = towers_to_images(towers, grid)
    np.testing.assert_array_equal(images, store.read().energy)
    assert not outside.any()
    assert towers.mu.tolist() == store.columns["mu"].tolist()
    assert towers.event_id.tolist() == [100, 3, 70, 2, 2, 11, 0]
    assert towers.weight is not None
    assert towers.weight.tolist() == store.columns["weight"].tolist()


def test_exports_of_an_earlier_version(shared_data: Path) -> None:
    folder = shared_data.parent / "bugs" / "own_export_not_readable"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    images = np.load(folder / "events.npz")["images"]
    grid = get_grid("atlas")
    for kind in ("npz", "parquet"):
        (towers,) = read(folder / f"events.{kind}", {}, "mu", kind)
        np.testing.assert_array_equal(towers_to_images(towers, grid)[0], images)


def test_nothing_that_is_exported_may_be_null(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store.h5", get_grid("atlas"))
    export_parquet(store, store.indices(), tmp_path / "events.parquet")
    schema = parquet.ParquetFile(tmp_path / "events.parquet").schema_arrow
    for field in schema:
        assert not field.nullable
        assert not (pa.types.is_list(field.type) and field.type.value_field.nullable)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr("a", "b")
    with pytest.raises(MissingFieldError, match="no array 'images'"):
        read(tmp_path / "x.zip", {}, kind="npz")


def test_an_archive_is_closed_once_it_is_refused(tmp_path: Path) -> None:
    images = np.ones((20, 4, 8, 2), dtype=np.float32)
    images[13, 2, 3, 1] = np.nan
    np.savez_compressed(tmp_path / "f.npz", cells=images)
    options = {"energy": "cells", "layers": ["em", "had"], "eta_range": [-1, 1]}
    kind = FORMATS["npz"]
    reader = kind.open(
        [tmp_path / "f.npz"], kind.options(**options), MuSource.parse("unknown"), 1.0
    )
    assert reader.n_events(0) == 20
    archive = reader._file(0)._zip
    assert archive.fp is not None
    with pytest.raises(UnreadableInputError, match="event 13: cells = nan"):
        list(reader.read(Span(0, 0, 20, 0)))
    assert archive.fp is None
