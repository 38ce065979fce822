"""RNTuples are read wherever trees are, to the same numbers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st

from pileupgen.calo.towers import Towers
from pileupgen.errors import InputError, MissingFieldError, UnreadableInputError
from pileupgen.samples.readers import FORMATS, MuSource, Span, flat
from pileupgen.samples.readers.root import RootTree
from pileupgen.samples.readers.tree import TreeOptions, TreeReader
from tests.sample_files import delphes_branches, random_towers, write_ntuple, write_tree

OPTIONS: dict[str, Any] = {
    "tree": "events",
    "eta": "Tower.Eta",
    "phi": "Tower.Phi",
    "layers": {"em": "Tower.Eem", "had": "Tower.Ehad"},
}
N_EVENTS = 20


def read(path: Path, mu: str = "Vertex_size - 1", kind: str = "root", **changes: Any) -> Any:
    found = FORMATS[kind]
    options = found.options.model_validate({**OPTIONS, **changes} if kind == "root" else changes)
    return list(found.open([path], options, MuSource.parse(mu), 1.0).chunks())


def joined(parts: list[Towers]) -> dict[str, Any]:
    names = ("edges", "energy", "mu", "event_id")
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return columns | {"counts": np.concatenate([np.diff(part.offsets) for part in parts])}


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 99),
    n_events=st.integers(1, 30),
    steps=st.integers(1, 5),
    chunk_bytes=st.sampled_from([1, 1 << 12, 1 << 22]),
    read_bytes=st.sampled_from([1, 1 << 12, 1 << 20]),
)
def test_a_tree_and_an_ntuple_read_alike(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    n_events: int,
    steps: int,
    chunk_bytes: int,
    read_bytes: int,
) -> None:
    folder = tmp_path_factory.mktemp("files")
    branches = delphes_branches(random_towers(n_events, seed, occupancy=0.005))
    write_tree(folder / "tree.root", branches, "events", steps=min(steps, n_events))
    write_ntuple(folder / "ntuple.root", branches, steps=min(steps, n_events))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flat, "_READ_BYTES", read_bytes)
        patch.setattr("pileupgen.samples.readers.files.CHUNK_BYTES", chunk_bytes)
        found = [joined(read(folder / f"{kind}.root")) for kind in ("tree", "ntuple")]
    for name, values in found[0].items():
        np.testing.assert_array_equal(found[1][name], values)


def test_delphes_names_with_underscores(tmp_path: Path) -> None:
    towers = random_towers(N_EVENTS, 2)
    fields = delphes_branches(towers)
    edges = fields.pop("Tower.Edges[4]")
    fields["Tower.Edges"] = ak.unflatten(edges, 4, axis=1)
    named = {name.replace(".", "_"): values for name, values in fields.items()}
    write_ntuple(tmp_path / "f.root", named, "Delphes", steps=3)
    found = joined(read(tmp_path / "f.root", kind="delphes"))
    np.testing.assert_array_equal(found["energy"], towers.energy)
    np.testing.assert_array_equal(found["edges"], towers.edges)


def test_a_table_of_features(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    table = {"pt": rng.random(50), "pair": rng.random((50, 2)).astype(np.float32)}
    write_ntuple(tmp_path / "f.root", table, "jets", steps=4)
    (part,) = read(
        tmp_path / "f.root",
        "unknown",
        "features",
        tree="jets",
        features={"a": "pt", "b": "pair[1]"},
    )
    expected = np.column_stack([table["pt"], table["pair"][:, 1]]).astype(np.float32)
    np.testing.assert_array_equal(part.energy, expected)


def test_folders_colons_and_several_in_one_file(tmp_path: Path) -> None:
    towers = random_towers(N_EVENTS, 3)
    fields = {
        name.replace("Tower.", "calo:cells."): values
        for name, values in delphes_branches(towers).items()
    }
    write_ntuple(tmp_path / "f.root", fields, "run 2/events", steps=2, again="other")
    changes = {
        "tree": "run 2/events",
        "eta": "calo:cells.Eta",
        "phi": "calo:cells.Phi",
        "layers": {"em": "calo:cells.Eem", "had": "calo:cells.Ehad"},
    }
    np.testing.assert_array_equal(
        joined(read(tmp_path / "f.root", **changes))["energy"], towers.energy
    )
    with pytest.raises(MissingFieldError, match="no tree 'events'") as caught:
        read(tmp_path / "f.root")
    assert "run 2/events" in caught.value.hint


def test_cells_that_are_records(tmp_path: Path) -> None:
    towers = random_towers(N_EVENTS, 4)
    flat_fields = delphes_branches(towers)
    cells = ak.zip({name: flat_fields[f"Tower.{name}"] for name in ("Eta", "Phi", "Eem", "Ehad")})
    write_ntuple(tmp_path / "f.root", {"cells": cells}, steps=2)
    changes = {
        "eta": "cells.Eta",
        "phi": "cells.Phi",
        "layers": {"em": "cells.Eem", "had": "cells.Ehad"},
    }
    found = joined(read(tmp_path / "f.root", "unknown", **changes))
    np.testing.assert_array_equal(found["energy"], towers.energy)
    with pytest.raises(UnreadableInputError, match="field 'cells' holds"):
        read(tmp_path / "f.root", "unknown", **{**changes, "eta": "cells"})


def test_each_cluster_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    branches = delphes_branches(random_towers(N_EVENTS, 1))
    branches["edges"] = ak.unflatten(branches["Tower.Edges[4]"], 4, axis=1)
    write_ntuple(tmp_path / "f.root", branches, steps=5)
    with uproot.open(tmp_path / "f.root") as file:
        kind = type(file["events"])
    unpacked: Counter[tuple[int, int]] = Counter()
    read_page = kind.read_page

    def counting(self: Any, destination: Any, cluster: int, column: int, page: int, *rest: Any):
        unpacked[cluster, column] += page == 0
        return read_page(self, destination, cluster, column, page, *rest)

    monkeypatch.setattr(kind, "read_page", counting)
    monkeypatch.setattr(flat, "_READ_BYTES", 1)
    monkeypatch.setattr("pileupgen.samples.readers.files.CHUNK_BYTES", 1)
    reader = TreeReader(
        [tmp_path / "f.root"], TreeOptions.model_validate(OPTIONS), MuSource.parse("unknown")
    )
    # As a process reads its share of a sample: span after span.
    tree = RootTree(tmp_path / "f.root", "events")
    others = [tree.column(name) for name in ("Vertex_size", "edges")]
    for begin in range(0, N_EVENTS, 3):
        end = min(begin + 3, N_EVENTS)
        list(reader.read(Span(0, begin, end, 0)))
        for column in others:
            column.read(begin, end)
    tree.close()
    # Each of five lists is two columns, and one number an event is one.
    assert len(unpacked) == 5 * (2 * 5 + 1)
    assert set(unpacked.values()) == {1}


def test_lists_are_what_uproot_makes_of_them(tmp_path: Path) -> None:
    branches = delphes_branches(random_towers(N_EVENTS, 5, occupancy=0.005))
    cells = ak.zip({"a": branches["Tower.Eta"]})
    fields = {"plain": branches["Tower.Eta"], "signs": branches["Tower.Eta"] > 0, "cells": cells}
    fields["one"] = branches["Vertex_size"]
    write_ntuple(tmp_path / "f.root", fields, steps=5)
    tree = RootTree(tmp_path / "f.root", "events")
    with uproot.open(tmp_path / "f.root") as file:
        events = file["events"]
        wanted = {name: events[name].array() for name in ("plain", "signs")}
        wanted["cells.a"] = events["cells"].array()["a"]
    for name, lists in wanted.items():
        for begin, end in ((0, N_EVENTS), (5, 6), (3, 17), (4, 4)):
            found, part = tree.column(name).read_at(begin, end), lists[begin:end]
            np.testing.assert_array_equal(found.values, ak.to_numpy(ak.flatten(part)))
            assert found.values.dtype == ak.to_numpy(ak.flatten(lists)).dtype
            assert found.counts is not None
            assert found.counts.tolist() == ak.num(part).tolist()
    one = tree.column("one").read_at(5, 9)
    assert one.counts is None
    np.testing.assert_array_equal(one.values, fields["one"][5:9])
    assert one.values.dtype == np.int32
    tree.close()


def test_lists_that_do_not_fit_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ntuple(tmp_path / "f.root", delphes_branches(random_towers(N_EVENTS, 1)))
    with uproot.open(tmp_path / "f.root") as file:
        kind = type(file["events"])
    read_cluster_range = kind.read_cluster_range
    for dtype in (np.float32, np.int64):

        def short(*arguments: Any, of: type = dtype) -> Any:
            found = read_cluster_range(*arguments)
            return found[:-1] if found.dtype == of else found

        monkeypatch.setattr(kind, "read_cluster_range", short)
        with pytest.raises(UnreadableInputError, match=r"Eta'.*lengths of its columns do not fit"):
            read(tmp_path / "f.root", "unknown")


def test_what_is_not_there(tmp_path: Path) -> None:
    write_ntuple(tmp_path / "f.root", delphes_branches(random_towers(3, 1)))
    with pytest.raises(MissingFieldError, match=r"RNTuple 'events' has no field 'Tower\.Eti'") as e:
        read(tmp_path / "f.root", eta="Tower.Eti")
    assert "'Tower.Eta'" in e.value.hint
    assert "Vertex_size" not in e.value.hint
    with pytest.raises(MissingFieldError, match="no field 'Vertex_sise', from which μ") as e:
        read(tmp_path / "f.root", "Vertex_sise")
    assert "'Vertex_size'" in e.value.hint


@settings(max_examples=25, deadline=None)
@given(place=st.floats(0, 1), damage=st.binary(min_size=1, max_size=60), kept=st.floats(0.05, 1))
def test_a_damaged_file_is_read_or_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, place: float, damage: bytes, kept: float
) -> None:
    path = tmp_path_factory.mktemp("cut") / "f.root"
    write_ntuple(path, delphes_branches(random_towers(6, 1)), steps=2)
    content = path.read_bytes()
    begin = int(place * (len(content) - len(damage)))
    content = content[:begin] + damage + content[begin + len(damage) :]
    path.write_bytes(content[: int(kept * len(content))])
    said = str(path)
    try:
        read(path)
    except InputError as error:
        said = error.message
    assert str(path) in said


def test_the_nanoaod_of_others(shared_data: Path) -> None:
    path = shared_data / "public" / "nanoaod_rntuple.root"
    options = TreeOptions(
        tree="Events", eta="Jet_eta", phi="Jet_phi", layers={"em": "Jet_pt"}, quantity="ET"
    )
    reader = TreeReader([path], options, MuSource.parse("Pileup_nPU"))
    (part,) = reader.chunks()
    with uproot.open(path) as file:
        events = file["Events"]
        pt, eta = events["Jet_pt"].array(), events["Jet_eta"].array()
        mu = events["Pileup_nPU"].array(library="np")
    expected = ak.sum(pt * np.cosh(eta), axis=1)
    np.testing.assert_allclose(part.event_sums()[:, 0], expected, rtol=1e-6)
    assert np.diff(part.offsets).tolist() == ak.num(pt).tolist()
    assert part.mu.tolist() == mu.tolist()
    tree = RootTree(path, "Events")
    assert "Pileup_nTrueInt" in [name for name in tree.event_columns() if "Pileup" in name]
    tree.close()


def test_the_same_events_as_tree_and_as_ntuple(shared_data: Path) -> None:
    folder = shared_data.parent / "bugs" / "rntuple"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    names = {"tree": "cells", "eta": "eta", "phi": "phi", "layers": {"em": "em", "had": "had"}}
    tree, ntuple = (
        joined(read(folder / name, "unknown", **names)) for name in ("twin.root", "nt.root")
    )
    assert ntuple["energy"].sum() > 0
    for name in ("edges", "energy", "counts"):
        np.testing.assert_array_equal(ntuple[name], tree[name])
