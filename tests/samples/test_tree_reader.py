from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pileupgen.calo.imaging import towers_to_images
from pileupgen.calo.presets import get_grid
from pileupgen.calo.towers import Towers
from pileupgen.errors import (
    InputError,
    MissingFieldError,
    MissingInputError,
    UnreadableInputError,
)
from pileupgen.samples.readers import MuSource
from pileupgen.samples.readers.tree import TreeOptions, TreeReader
from tests.sample_files import jagged, random_towers, write_tree

GRID = get_grid("atlas")
OPTIONS: dict[str, Any] = {
    "tree": "ntuple",
    "eta": "cl_eta",
    "phi": "cl_phi",
    "layers": {"em": "cl_em", "had": "cl_had"},
}
N_EVENTS = 20


def branches(towers: Towers, **changes: Any) -> dict[str, Any]:
    counts = np.diff(towers.offsets)
    edges = towers.edges.astype(np.float64)
    columns: dict[str, Any] = {
        "cl_eta": edges[:, :2].mean(axis=1),
        "cl_phi": edges[:, 2:].mean(axis=1),
        "cl_em": towers.energy[:, 0],
        "cl_had": towers.energy[:, 1],
        **{name: values for name, values in changes.items() if values is not None},
    }
    kept = {name: values for name, values in columns.items() if changes.get(name, 0) is not None}
    arrays: dict[str, Any] = {name: jagged(counts, values) for name, values in kept.items()}
    return {**arrays, "n_int": towers.mu.astype(np.int32)}


def read(path: Path, mu: str = "n_int", gev: float = 1.0, **changes: Any) -> list[Towers]:
    options = TreeOptions.model_validate({**OPTIONS, **changes})
    return list(TreeReader([path], options, MuSource.parse(mu), gev).chunks())


def images_of(path: Path, **changes: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.concatenate([towers_to_images(part, GRID)[0] for part in read(path, **changes)])


@pytest.fixture
def towers() -> Towers:
    return random_towers(N_EVENTS, 1)


@pytest.fixture
def expected(towers: Towers) -> np.ndarray[Any, np.dtype[np.float32]]:
    return towers_to_images(towers, GRID)[0]


def test_cells_by_branch(tmp_path: Path, towers: Towers, expected: Any) -> None:
    path = tmp_path / "f.root"
    write_tree(path, branches(towers), "ntuple", steps=3)
    np.testing.assert_array_equal(images_of(path), expected)
    found = read(path)
    assert np.concatenate([part.mu for part in found]).tolist() == towers.mu.tolist()


@pytest.mark.parametrize(
    ("library", "function", "codec"),
    [
        ("isal.isal_zlib", "decompress", uproot.ZLIB(1)),
        ("cramjam.zstd", "decompress_into", uproot.ZSTD(1)),
    ],
)
def test_what_unpacks_faster_is_used(
    tmp_path: Path,
    expected: Any,
    towers: Towers,
    monkeypatch: pytest.MonkeyPatch,
    library: str,
    function: str,
    codec: uproot.compression.Compression,
) -> None:
    package, _, name = library.partition(".")
    module = getattr(pytest.importorskip(package), name, None) or pytest.importorskip(library)
    path, calls, unpack = tmp_path / "f.root", [], getattr(module, function)

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        return unpack(*arguments, **options)

    monkeypatch.setattr(module, function, counted)
    write_tree(path, branches(towers), "ntuple", compression=codec)
    np.testing.assert_array_equal(images_of(path), expected)
    assert calls
    whole = path.read_bytes()
    place = whole.index(bytes(calls[0][0])) + len(calls[0][0]) // 2
    path.write_bytes(whole[:place] + bytes(8) + whole[place + 8 :])
    with pytest.raises(UnreadableInputError, match=r"f\.root cannot be read"):
        read(path)


def test_units_and_transverse_energies(tmp_path: Path, towers: Towers, expected: Any) -> None:
    path = tmp_path / "f.root"
    per_et = 1000 / np.cosh(towers.edges[:, :2].astype(np.float64).mean(axis=1))
    write_tree(
        path,
        branches(towers, cl_em=towers.energy[:, 0] * per_et, cl_had=towers.energy[:, 1] * per_et),
        "ntuple",
    )
    found = images_of(path, quantity="ET", gev=1e-3)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("width", [0.1, "cl_deta"])
def test_widths_make_cells_that_share(tmp_path: Path, towers: Towers, width: Any) -> None:
    path = tmp_path / "f.root"
    # Half a cell off: every tower shares its energy between two rings.
    eta = towers.edges[:, :2].astype(np.float64).mean(axis=1) * 0.9 + 0.01
    write_tree(path, branches(towers, cl_eta=eta, cl_deta=np.full(len(eta), 0.1)), "ntuple")
    drawn = images_of(path, eta_width=width, phi_width=2 * np.pi / 36)
    points = images_of(path)
    np.testing.assert_allclose(drawn.sum(), points.sum(), rtol=1e-5)
    assert np.count_nonzero(drawn) > 1.5 * np.count_nonzero(points)


def test_phi_from_0_to_2_pi(tmp_path: Path, towers: Towers, expected: Any) -> None:
    path = tmp_path / "f.root"
    phi = towers.edges[:, 2:].astype(np.float64).mean(axis=1) % (2 * np.pi)
    write_tree(path, branches(towers, cl_phi=phi), "ntuple")
    np.testing.assert_array_equal(images_of(path), expected)


def test_layers_by_index(tmp_path: Path, towers: Towers, expected: Any) -> None:
    path = tmp_path / "f.root"
    n = towers.n_towers
    # Each tower as three cells: sampling 1 (em), 12 (had), and 99, which the card does not name.
    interleaved = {
        "cl_eta": np.repeat(towers.edges[:, :2].astype(np.float64).mean(axis=1), 3),
        "cl_phi": np.repeat(towers.edges[:, 2:].astype(np.float64).mean(axis=1), 3),
        "cl_e": np.column_stack([towers.energy, np.full(n, 5, dtype=np.float32)]).ravel(),
        "cl_sampling": np.tile(np.array([1, 12, 99], dtype=np.int32), n),
    }
    counts = 3 * np.diff(towers.offsets)
    arrays: dict[str, Any] = {name: jagged(counts, values) for name, values in interleaved.items()}
    write_tree(path, {**arrays, "n_int": towers.mu.astype(np.int32)}, "ntuple")
    by_index = {
        "layers": {"em": [0, 1], "had": [12]},
        "energy": "cl_e",
        "layer_index": "cl_sampling",
    }
    np.testing.assert_array_equal(images_of(path, **by_index), expected)
    assert sum(part.n_towers for part in read(path, **by_index)) == 2 * n


def test_arrays_of_fixed_size(tmp_path: Path) -> None:
    import uproot

    path = tmp_path / "f.root"
    columns = {
        "cl_eta": np.array([[0.05, 0.15]] * 3, dtype=np.float32),
        "cl_phi": np.array([[0.1, 0.1]] * 3, dtype=np.float32),
        "cl_em": np.array([[1.0, 2.0]] * 3, dtype=np.float32),
        "cl_had": np.array([[3.0, 4.0]] * 3, dtype=np.float32),
    }
    with uproot.recreate(path) as file:
        tree = file.mktree("ntuple", {name: np.dtype((np.float32, (2,))) for name in columns})
        tree.extend(columns)
    assert images_of(path, mu="unknown").sum(axis=(0, 2, 3)).tolist() == [9, 21]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"layers": {"em": [1]}}, "both energy and layer_index"),
        ({"layers": {"em": [1], "had": [1]}, "energy": "e", "layer_index": "i"}, "one layer"),
        ({"layers": {"em": []}, "energy": "e", "layer_index": "i"}, "every layer has one"),
        ({"energy": "e"}, "energy and layer_index are for"),
        ({"layers": {}}, "at least 1"),
        ({"quantity": "pt"}, "quantity"),
    ],
)
def test_options_that_contradict(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        TreeOptions.model_validate({**OPTIONS, **changes})


@pytest.mark.parametrize("energy", [np.nan, np.inf, -np.inf, 2e6])
def test_energies_that_no_calorimeter_has(tmp_path: Path, towers: Towers, energy: float) -> None:
    path, bad = tmp_path / "f.root", towers.energy[:, 0].copy()
    bad[towers.offsets[7]] = energy
    write_tree(path, branches(towers, cl_em=bad), "ntuple")
    with pytest.raises(UnreadableInputError, match=r"event 7: cl_em"):
        read(path)


@pytest.mark.parametrize("name", ["cl_eta", "cl_phi"])
def test_a_place_that_is_not_finite(tmp_path: Path, towers: Towers, name: str) -> None:
    path = tmp_path / "f.root"
    bad = np.zeros(towers.n_towers)
    bad[towers.offsets[3]] = np.nan
    write_tree(path, branches(towers, **{name: bad}), "ntuple")
    with pytest.raises(UnreadableInputError, match="event 3: a tower at"):
        read(path)


def test_a_branch_that_is_not_there(tmp_path: Path, towers: Towers) -> None:
    path = tmp_path / "f.root"
    write_tree(path, branches(towers, cl_had=None), "ntuple")
    with pytest.raises(MissingFieldError, match="cl_had"):
        read(path)
    with pytest.raises(MissingFieldError, match="n_int"):
        read(path, mu="n_inx", layers={"em": "cl_em"})
    with pytest.raises(MissingFieldError, match="ntuple"):
        read(path, tree="ntupel")
    with pytest.raises(MissingInputError):
        read(tmp_path / "none.root")


def test_branches_of_two_collections(tmp_path: Path, towers: Towers) -> None:
    path = tmp_path / "f.root"
    columns = branches(towers)
    columns["cl_had"] = jagged(np.full(N_EVENTS, 2), np.ones(2 * N_EVENTS, dtype=np.float32))
    write_tree(path, columns, "ntuple")
    with pytest.raises(UnreadableInputError, match="another number of towers"):
        read(path)


def test_text_is_not_an_energy(tmp_path: Path, towers: Towers) -> None:
    path = tmp_path / "f.root"
    columns = branches(towers)
    columns["name"] = towers.mu
    write_tree(path, columns, "ntuple")
    with pytest.raises(UnreadableInputError, match="not one number a tower"):
        read(path, layers={"em": "name"})


def test_an_empty_tree_and_an_empty_event(tmp_path: Path) -> None:
    path = tmp_path / "f.root"
    columns = branches(random_towers(2, 1))
    write_tree(path, {name: values[:0] for name, values in columns.items()}, "ntuple")
    assert read(path) == []
    empty = {
        name: jagged(np.zeros(2, dtype=np.int64), np.zeros(0))
        for name in ("cl_eta", "cl_phi", "cl_em", "cl_had")
    }
    write_tree(tmp_path / "g.root", {**empty, "n_int": np.ones(2, dtype=np.int32)}, "ntuple")
    assert [part.n_towers for part in read(tmp_path / "g.root")] == [0]


@settings(max_examples=25, deadline=None)
@given(fraction=st.floats(0.01, 0.999))
def test_a_truncated_file(tmp_path_factory: pytest.TempPathFactory, fraction: float) -> None:
    path = tmp_path_factory.mktemp("cut") / "f.root"
    write_tree(path, branches(random_towers(8, 1)), "ntuple", steps=2)
    content = path.read_bytes()
    path.write_bytes(content[: int(fraction * len(content))])
    said = ""
    try:
        read(path)
    except InputError as error:
        said = error.message
    assert not said or str(path) in said
