from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from pileupgen.errors import OutputError
from pileupgen.samples.delphes_file import create_delphes_file, read_record
from pileupgen.simulate.calorimeter import Calorimeter, TowerGrid
from pileupgen.simulate.interactions import Interactions
from pileupgen.simulate.overlay import Overlay
from pileupgen.simulate.response import ResponseCard
from pileupgen.simulate.rho import GridMedian
from pileupgen.simulate.spec import SampleSpec
from pileupgen.simulate.writer import BRANCHES, append_events

DELPHES = Path(__file__).parents[2].parent / "shared" / "data" / "delphes"
INTERPRETATIONS = {
    "Event.Number": "AsJagged(AsDtype('>i8'))",
    "Tower.ET": "AsJagged(AsDtype('>f4'))",
    "Tower.Eta": "AsJagged(AsDtype('>f4'))",
    "Tower.Phi": "AsJagged(AsDtype('>f4'))",
    "Tower.E": "AsJagged(AsDtype('>f4'))",
    "Tower.Eem": "AsJagged(AsDtype('>f4'))",
    "Tower.Ehad": "AsJagged(AsDtype('>f4'))",
    "Tower.Edges": "AsJagged(AsDtype(\"('>f4', (4,))\"))",
    "Rho.Rho": "AsJagged(AsDtype('>f4'))",
    "Vertex.Z": "AsJagged(AsDtype('>f4'))",
    "Event_size": "AsDtype('>i4')",
    "Tower_size": "AsDtype('>i4')",
    "Vertex_size": "AsDtype('>i4')",
    "Rho_size": "AsDtype('>i4')",
}


@pytest.fixture
def overlay(interactions: Interactions, mc_card: ResponseCard) -> Overlay:
    return Overlay(SampleSpec(mu=4), interactions, mc_card)


@pytest.fixture
def written(tmp_path: Path, overlay: Overlay) -> Path:
    path = tmp_path / "sample.root"
    with create_delphes_file(path, BRANCHES, {"fingerprint": "abc"}) as file:
        append_events(file, overlay.calorimeter.grid, overlay.events(0, 5))
        append_events(file, overlay.calorimeter.grid, overlay.events(5, 3))
    return path


def test_branches_are_named_and_read_as_delphes_ones(written: Path) -> None:
    with uproot.open(written) as file:
        tree = file["Delphes"]
        found = {name: str(tree[name].interpretation) for name in INTERPRETATIONS}
    assert found == INTERPRETATIONS


@pytest.mark.parametrize("name", ["mc_a.root", "mc_smeared_100.root"])
def test_branches_agree_with_a_file_that_delphes_wrote(written: Path, name: str) -> None:
    if not (DELPHES / name).is_file():
        pytest.skip(f"no {DELPHES / name}")
    with uproot.open(DELPHES / name) as theirs, uproot.open(written) as ours:
        leaves = [branch for branch in theirs["Delphes"].keys(full_paths=False) if "." in branch]
        for branch in [*leaves, "Tower_size", "Vertex_size", "Rho_size", "Event_size"]:
            if branch == "Rho.Edges[2]":
                continue
            # Delphes names this one "Tower.Edges[4]", and its leaf as we do.
            mine, other = ours["Delphes"][branch.removesuffix("[4]")], theirs["Delphes"][branch]
            assert str(mine.interpretation) == str(other.interpretation)
            mine_type = ak.type(mine.array(entry_stop=2)).content
            assert str(mine_type) == str(ak.type(other.array(entry_stop=2)).content)


def test_towers_come_back(written: Path, overlay: Overlay) -> None:
    events, grid = overlay.events(0, 8), overlay.calorimeter.grid
    with uproot.open(written) as file:
        arrays = file["Delphes"].arrays()
    cell = events["cell"]
    assert arrays["Tower_size"].tolist() == events["n_towers"].tolist()
    assert arrays["Vertex_size"].tolist() == events["n_vertices"].tolist()
    assert ak.flatten(arrays["Event.Number"]).tolist() == list(range(1, 9))
    flat = {name: np.asarray(ak.flatten(arrays[name])) for name in arrays.fields if "." in name}
    np.testing.assert_array_equal(flat["Tower.Eem"], events["em"])
    np.testing.assert_array_equal(flat["Tower.Ehad"], events["had"])
    np.testing.assert_array_equal(flat["Tower.E"], events["em"] + events["had"])
    np.testing.assert_array_equal(flat["Tower.Edges"], grid.edges[cell].astype(np.float32))
    np.testing.assert_allclose(flat["Tower.ET"], flat["Tower.E"] / np.cosh(flat["Tower.Eta"]), 1e-5)
    np.testing.assert_allclose(flat["Vertex.Z"], 1000 * events["z"], rtol=1e-6)
    assert ak.num(arrays["Rho.Rho"]).tolist() == [3] * 8


def test_the_leaf_of_edges_is_four_numbers_under_the_counter_of_towers(written: Path) -> None:
    """ROOT multiplies the counter by the leaf's length to know how many numbers to read."""
    with uproot.open(written) as file:
        tree = file["Delphes"]
        (leaf,) = tree["Tower.Edges"].member("fLeaves")
        assert leaf.member("fName") == "Tower.Edges"
        assert leaf.member("fLen") == 4
        counter = leaf.member("fLeafCount")
        assert counter.member("fName") == "Tower_size"
        counts = tree["Tower_size"].array(library="np")
        assert counter.member("fMaximum") == counts.max()
        assert "Tower_Edges_size" not in tree
        for number in range(tree["Tower.Edges"].num_baskets):
            basket = tree["Tower.Edges"].basket(number)
            begin, end = tree["Tower.Edges"].basket_entry_start_stop(number)
            assert np.diff(basket.byte_offsets).tolist() == (16 * counts[begin:end]).tolist()


def test_record_comes_back(written: Path, tmp_path: Path) -> None:
    assert read_record(written) == {"fingerprint": "abc"}
    assert read_record(tmp_path / "none.root") == {}
    broken = tmp_path / "broken.root"
    broken.write_bytes(written.read_bytes()[:300])
    assert read_record(broken) == {}


def test_interrupted_writing_leaves_the_old_file(written: Path, overlay: Overlay) -> None:
    before = written.read_bytes()

    def write_in_part() -> None:
        with create_delphes_file(written, BRANCHES, {}) as file:
            append_events(file, overlay.calorimeter.grid, overlay.events(0, 1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_in_part()
    assert written.read_bytes() == before
    assert [path.name for path in written.parent.iterdir()] == ["sample.root"]


def test_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="No space left"),
        create_delphes_file(tmp_path / "a.root", BRANCHES, {}),
    ):
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_rho_is_that_of_delphes(mc_card: ResponseCard) -> None:
    path = DELPHES / "mc_a.root"
    if not path.is_file():
        pytest.skip(f"no {path}")
    names = ["Tower.Eta", "Tower.Phi", "Tower.Eem", "Tower.Ehad", "Rho.Rho"]
    with uproot.open(path) as file:
        arrays = file["Delphes"].arrays(names, entry_stop=20)
    grid: TowerGrid = Calorimeter(mc_card).grid
    for event in arrays:
        eta = np.sinh(np.asarray(event["Tower.Eta"]))
        cell = grid.locate(eta.astype(np.float32), np.asarray(event["Tower.Phi"]))
        energy = np.zeros(grid.n_cells)
        energy[cell] = np.asarray(event["Tower.Eem"]) + np.asarray(event["Tower.Ehad"])
        found = GridMedian(grid).density(energy[None])[0]
        np.testing.assert_allclose(found, np.asarray(event["Rho.Rho"]), rtol=1e-4)
