"""What is said of a file that cannot be read: near names that fit, and damage only where it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pytest
import yaml

from pileupgen.errors import CardError, MissingFieldError, UnreadableInputError
from pileupgen.samples.cards import load_card
from pileupgen.samples.readers import MuSource
from pileupgen.samples.readers.delphes import DelphesOptions, DelphesReader
from pileupgen.samples.readers.hdf5 import H5File
from pileupgen.samples.readers.root import RootTree
from tests.sample_files import delphes_branches, random_towers, write_tree

N_EVENTS = 12


def read_delphes(path: Path, mu: str = "Vertex_size - 1", **options: Any) -> None:
    reader = DelphesReader([path], DelphesOptions.model_validate(options), MuSource.parse(mu))
    for _ in reader.chunks():
        pass


def test_a_number_of_jets_is_not_proposed_as_mu(tmp_path: Path) -> None:
    branches = delphes_branches(random_towers(N_EVENTS, 1))
    del branches["Vertex_size"]
    branches["Jet_size"] = np.full(N_EVENTS, 4, dtype=np.int32)
    write_tree(tmp_path / "f.root", branches)
    with pytest.raises(MissingFieldError, match="no branch 'Vertex_size', from which μ") as caught:
        read_delphes(tmp_path / "f.root")
    assert "Jet_size" not in str(caught.value)
    assert "mu: unknown" in caught.value.hint


@pytest.mark.parametrize("name", ["nTrueInt", "Pileup_nPU", "actualIntPerXing", "mu", "NVertices"])
def test_what_is_called_like_a_number_of_interactions_is_proposed(
    tmp_path: Path, name: str
) -> None:
    branches = delphes_branches(random_towers(N_EVENTS, 1))
    branches[name] = branches.pop("Vertex_size")
    write_tree(tmp_path / "f.root", branches)
    with pytest.raises(MissingFieldError) as caught:
        read_delphes(tmp_path / "f.root")
    assert f"Did you mean '{name}'?" in caught.value.hint


def test_numbers_of_events_are_not_proposed_for_towers(tmp_path: Path) -> None:
    branches = delphes_branches(random_towers(N_EVENTS, 1))
    branches["Tower.Eha"] = np.ones(N_EVENTS)
    write_tree(tmp_path / "f.root", branches)
    with pytest.raises(MissingFieldError) as caught:
        read_delphes(tmp_path / "f.root", layers={"had": "Ehat"})
    assert "'Tower.Ehad'" in caught.value.hint
    assert "'Tower.Eha'" not in caught.value.hint


def test_lists_nested_too_deeply_are_not_called_damaged(tmp_path: Path) -> None:
    nested = ak.Array([[[[1.0, 2.0], [3.0]], []]] * N_EVENTS)
    write_tree(tmp_path / "f.root", {"cells": nested[:, 0, 0]}, "events")
    tree = RootTree(tmp_path / "f.root", "events")
    branch = tree.column("cells")

    class Nested:
        def array(self, **_: Any) -> ak.Array:
            return nested

    branch._branch = Nested()
    with pytest.raises(UnreadableInputError, match=r"holds var \* var \* var \* float64") as caught:
        branch.read(0, N_EVENTS)
    assert "damaged" not in str(caught.value)
    tree.close()


def write_npz(path: Path) -> None:
    np.savez(path, images=np.ones((3, 2)))


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (write_npz, "is a zip archive, as NumPy's .npz is, not"),
        (lambda path: path.write_bytes(b"PAR1" + bytes(99)), "is a Parquet file, not"),
        (lambda path: path.write_bytes(b""), "is empty: it has 0 bytes"),
        (lambda path: path.write_text("eta,phi,e\n1,2,3\n"), "it begins with b'eta,phi,e"),
        (lambda path: path.mkdir(), "is a folder, not a file"),
        (
            lambda path: path.write_text("version https://git-lfs.github.com"),
            "a pointer of Git LFS",
        ),
        (lambda path: path.write_text("<!DOCTYPE html><p>404"), "is a web page, not"),
    ],
)
def test_other_kinds_of_files_are_named_and_not_called_damaged(
    tmp_path: Path, write: Any, said: str
) -> None:
    path = tmp_path / "f.npz"
    write(path)
    for open_it in (lambda: RootTree(path, "t"), lambda: H5File(path, "x")):
        with pytest.raises(UnreadableInputError) as caught:
            open_it()
        assert said in caught.value.message
        assert "damaged" not in str(caught.value)


def test_root_given_to_hdf5_names_the_formats_that_read_it(tmp_path: Path) -> None:
    write_tree(tmp_path / "f.h5", delphes_branches(random_towers(3, 1)))
    with pytest.raises(UnreadableInputError, match="is a ROOT file, not HDF5") as caught:
        H5File(tmp_path / "f.h5", "x")
    assert caught.value.hint == "Formats delphes, root and edm4hep read it."


def test_a_truncated_file_is_called_so(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["x"] = np.ones(5000)
    whole = (tmp_path / "f.h5").read_bytes()
    (tmp_path / "f.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableInputError) as caught:
        H5File(tmp_path / "f.h5", "x")
    assert "truncated" in caught.value.hint


def test_groups_are_not_proposed_for_arrays_and_broken_links_are_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["images/em"] = np.ones((3, 2))
        file["moved"] = h5py.ExternalLink("gone.h5", "/x")
    with pytest.raises(MissingFieldError) as caught:
        H5File(tmp_path / "f.h5", "images")
    assert caught.value.hint == "Did you mean 'images/em'?"
    with pytest.raises(MissingFieldError, match=r"a link to '/x' in gone\.h5"):
        H5File(tmp_path / "f.h5", "moved")


def write_card(folder: Path, values: dict[str, Any], **changes: Any) -> Path:
    path = folder / "card.yaml"
    path.write_text(yaml.safe_dump({**values, **changes}), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("kind", "options", "unit"),
    [
        ("delphes", {}, "GeV"),
        ("calochallenge", {}, "MeV"),
        ("cms_ig", {}, "GeV"),
        ("root", {"tree": "t", "eta": "a", "phi": "b", "layers": {"em": "c"}}, None),
        ("hdf5", {"dataset": "x", "eta_range": [-1, 1]}, None),
    ],
)
def test_the_unit_follows_from_the_format_or_has_to_be_given(
    tmp_path: Path,
    card_values: dict[str, Any],
    kind: str,
    options: dict[str, Any],
    unit: str | None,
) -> None:
    path = write_card(tmp_path, card_values, format=kind, options=options)
    if unit is None:
        with pytest.raises(CardError, match=r"'units\.energy' is missing"):
            load_card(path)
        path = write_card(
            tmp_path, card_values, format=kind, options=options, units={"energy": "TeV"}
        )
        unit = "TeV"
    assert load_card(path).to_dict()["units"] == {"energy": unit}
