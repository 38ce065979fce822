from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pileupgen.errors import (
    InputError,
    MissingFieldError,
    MissingInputError,
    PileupgenError,
    UnreadableInputError,
)
from pileupgen.samples.readers import MuSource
from pileupgen.samples.readers.delphes import DelphesOptions, DelphesReader
from pileupgen.samples.readers.root import RootTree
from tests.sample_files import (
    EDGES,
    delphes_branches,
    jagged,
    random_towers,
    write_delphes,
    write_tree,
)

N_EVENTS = 40


def read_all(path: Path, **options: object) -> int:
    reader = DelphesReader(
        [path], DelphesOptions.model_validate(options), MuSource.parse("Vertex_size - 1")
    )
    return sum(towers.n_events for towers in reader.chunks())


def write_with(path: Path, **changes: Any) -> None:
    """A good file but for some branches; None leaves one out."""
    branches = delphes_branches(random_towers(N_EVENTS, 1))
    for name, values in changes.items():
        key = {"edges": EDGES, "mu": "Vertex_size"}.get(name, f"Tower.{name}")
        if values is None:
            del branches[key]
        else:
            branches[key] = values
    write_tree(path, branches)


def counts() -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.diff(random_towers(N_EVENTS, 1).offsets)


@pytest.fixture(scope="module")
def good_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "good.root"
    write_delphes(path, random_towers(N_EVENTS, 1), steps=3)
    return path.read_bytes()


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"none\.root"):
        read_all(tmp_path / "none.root")


@pytest.mark.parametrize("content", [b"", b"root", b"not a ROOT file at all", b"\x89HDF\r\n\x1a\n"])
def test_a_file_that_is_not_root(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "f.root"
    path.write_bytes(content)
    with pytest.raises(UnreadableInputError) as caught:
        read_all(path)
    assert str(path) in caught.value.message
    assert caught.value.exit_code == 3


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(UnreadableInputError, match=str(tmp_path)):
        read_all(tmp_path)


@pytest.mark.parametrize("fraction", [0.02, 0.3, 0.6, 0.9, 0.99, 0.999])
def test_a_truncated_file(tmp_path: Path, good_bytes: bytes, fraction: float) -> None:
    path = tmp_path / "f.root"
    path.write_bytes(good_bytes[: int(fraction * len(good_bytes))])
    with pytest.raises(UnreadableInputError) as caught:
        read_all(path)
    assert str(path) in caught.value.message
    assert "truncated" in caught.value.hint


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.floats(0, 1), damage=st.binary(min_size=1, max_size=200))
def test_a_damaged_file_is_read_or_refused_by_name(
    tmp_path: Path, good_bytes: bytes, place: float, damage: bytes
) -> None:
    path = tmp_path / "f.root"
    begin = int(place * (len(good_bytes) - len(damage)))
    path.write_bytes(good_bytes[:begin] + damage + good_bytes[begin + len(damage) :])
    said = str(path)
    try:
        read_all(path)
    except InputError as error:
        said = error.message
    assert str(path) in said


def test_a_tree_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "f.root"
    write_delphes(path, random_towers(3, 1))
    with pytest.raises(MissingFieldError, match=r"f\.root has no tree 'Delfes'") as caught:
        read_all(path, tree="Delfes")
    assert caught.value.hint == "Did you mean 'Delphes'?"


def test_what_is_called_like_the_tree_but_is_none(tmp_path: Path) -> None:
    path = tmp_path / "f.root"
    with uproot.recreate(path) as file:
        file["Delphes"] = "some text"
    with pytest.raises(MissingFieldError, match="'Delphes' is a TObjString, not a TTree"):
        read_all(path)


def test_a_branch_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "f.root"
    write_with(path, Eem=None)
    with pytest.raises(MissingFieldError, match=r"f\.root: .* no branch 'Tower\.Eem'") as caught:
        read_all(path)
    assert "'Tower.Ehad'" in caught.value.hint
    write_with(path, Eta=None, edges=None)
    with pytest.raises(MissingFieldError, match=r"no branch 'Tower\.Eta'"):
        read_all(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e7, -1e30])
def test_an_energy_no_calorimeter_can_have_names_file_and_event(tmp_path: Path, bad: float) -> None:
    towers = random_towers(N_EVENTS, 1)
    energy = towers.energy[:, 1].copy()
    energy[towers.offsets[17] + 2] = bad
    path = tmp_path / "f.root"
    write_with(path, Ehad=jagged(np.diff(towers.offsets), energy))
    with pytest.raises(UnreadableInputError, match=r"f\.root, event 17: Tower\.Ehad = ") as caught:
        read_all(path)
    assert f"{bad:g}" in caught.value.message


def test_an_event_is_named_by_file_and_by_sample(tmp_path: Path) -> None:
    towers = random_towers(N_EVENTS, 1)
    energy = towers.energy[:, 0].copy()
    energy[towers.offsets[5]] = np.nan
    good, bad = tmp_path / "good.root", tmp_path / "bad.root"
    write_delphes(good, random_towers(10, 2))
    write_with(bad, Eem=jagged(np.diff(towers.offsets), energy))
    reader = DelphesReader([good, bad], DelphesOptions(), MuSource.parse("Vertex_size - 1"))
    with pytest.raises(UnreadableInputError, match=r"bad\.root, event 5 \(event 15 of the sample"):
        list(reader.chunks())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_edges_that_are_not_finite_name_file_and_event(tmp_path: Path, bad: float) -> None:
    towers = random_towers(N_EVENTS, 1)
    edges = towers.edges.copy()
    edges[towers.offsets[9] + 1, 2] = bad
    path = tmp_path / "f.root"
    write_with(path, edges=jagged(4 * np.diff(towers.offsets), edges.ravel()))
    with pytest.raises(UnreadableInputError, match=r"f\.root, event 9: a tower at η, φ"):
        read_all(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (lambda n: {"Eem": np.zeros(N_EVENTS, dtype=np.float32)}, "not one number a tower"),
        (lambda n: {"Ehad": jagged(n + 1, np.zeros((n + 1).sum()))}, "another number of towers"),
        (lambda n: {"edges": jagged(8 * n, np.zeros(8 * n.sum()))}, "not four numbers a tower"),
        (
            lambda n: {"edges": None, "Phi": jagged(n + 1, np.zeros((n + 1).sum()))},
            "another number",
        ),
        (lambda n: {"mu": jagged(n, np.zeros(n.sum()))}, "not one number an event"),
    ],
)
def test_branches_of_the_wrong_shape(tmp_path: Path, changes: Any, said: str) -> None:
    path = tmp_path / "f.root"
    write_with(path, **changes(counts()))
    with pytest.raises(UnreadableInputError, match=said) as caught:
        read_all(path)
    assert str(path) in caught.value.message


def test_branches_that_hold_no_numbers(tmp_path: Path) -> None:
    path = tmp_path / "f.root"
    branches = delphes_branches(random_towers(3, 1))
    del branches["Tower.Eem"]
    with uproot.recreate(path) as file:
        types = {name: "int32" if name == "Vertex_size" else "var * float32" for name in branches}
        file.mktree(
            "Delphes", {**types, "Tower.Eem": "string"}, counter_name=lambda n: f"n{n[:11]}"
        )
        file["Delphes"].extend({**branches, "Tower.Eem": ["a", "b", "c"]})
    with pytest.raises(UnreadableInputError, match=r"branch 'Tower\.Eem'"):
        read_all(path)


def test_an_empty_tree_holds_no_events(tmp_path: Path) -> None:
    path = tmp_path / "f.root"
    with uproot.recreate(path) as file:
        file.mktree(
            "Delphes",
            {
                "Tower.Eem": "var * float32",
                "Tower.Ehad": "var * float32",
                "Tower.Eta": "var * float32",
                "Tower.Phi": "var * float32",
                "Vertex_size": "int32",
            },
        )
    assert read_all(path) == 0


def test_a_file_is_closed_when_its_tree_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.root"
    write_delphes(path, random_towers(3, 1))
    with pytest.raises(PileupgenError):
        RootTree(path, "none")
    tree = RootTree(path, "Delphes")
    tree.close()
    with pytest.raises(UnreadableInputError):
        tree.column("Vertex_size").read(0, 3)
