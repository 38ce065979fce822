"""Calorimeter hits of EDM4hep, in trees and in RNTuples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pileupgen.calo.towers import Towers
from pileupgen.errors import CardError, MissingFieldError
from pileupgen.samples.readers import FORMATS, MuSource
from pileupgen.samples.readers.edm4hep import Edm4hepOptions
from tests.sample_files import jagged, write_tree

ENCODING = "system:4,side:-2,layer:8,phi:32:10"


def read(path: Path, collections: dict[str, Any], mu: Any = "unknown") -> Towers:
    found = FORMATS["edm4hep"]
    options = found.options.model_validate({"collections": collections})
    (towers,) = found.open([path], options, MuSource.parse(mu), 1.0).chunks()
    return towers


def random_hits(rng: np.random.Generator, n_events: int) -> tuple[Any, dict[str, Any]]:
    counts = rng.poisson(8, n_events)
    n = int(counts.sum())
    layer = rng.integers(40, size=n)
    cell = rng.integers(16, size=n) | (rng.integers(4, size=n) << 4) | (layer << 6)
    return counts, {
        "cellID": (cell | (rng.integers(1024, size=n) << 32)).astype(np.uint64),
        "energy": rng.exponential(0.1, n).astype(np.float32),
        "position.x": rng.normal(0, 2000, n).astype(np.float32),
        "position.y": rng.normal(0, 2000, n).astype(np.float32),
        "position.z": rng.normal(0, 3000, n).astype(np.float32),
        "layer": layer,
    }


def write(
    path: Path, collections: dict[str, tuple[Any, dict[str, Any]]], *, is_ntuple: bool
) -> None:
    """Hits as podio names them; in an RNTuple with the metadata that say what a cellID is."""
    if not is_ntuple:
        branches = {
            f"{name}.{leaf}": jagged(counts, values)
            for name, (counts, hits) in collections.items()
            for leaf, values in hits.items()
            if leaf != "layer"
        }
        write_tree(path, branches, "events")
        return
    records = {}
    for name, (counts, hits) in collections.items():
        position = ak.zip({axis: jagged(counts, hits[f"position.{axis}"]) for axis in "xyz"})
        leaves = {leaf: jagged(counts, hits[leaf]) for leaf in ("cellID", "energy")}
        records[name] = ak.zip({**leaves, "position": position}, depth_limit=2)
    with uproot.recreate(path) as file:
        file["events"] = records
        keys = ["other", *(f"{name}__CellIDEncoding" for name in collections)]
        texts = [["x"], *([ENCODING] for _ in collections)]
        file["metadata"] = {
            "GPStringKeys": ak.Array([keys]),
            "GPStringValues": ak.Array([texts]),
        }


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), n_events=st.integers(1, 6), is_ntuple=st.booleans())
def test_hits_of_two_collections(
    tmp_path_factory: pytest.TempPathFactory, seed: int, n_events: int, is_ntuple: bool
) -> None:
    path = tmp_path_factory.mktemp("podio") / "f.root"
    rng = np.random.default_rng(seed)
    ecal, hcal = random_hits(rng, n_events), random_hits(rng, n_events)
    write(path, {"ECal": ecal, "HCal": hcal}, is_ntuple=is_ntuple)
    rule = {"field": "layer"} if is_ntuple else {"field": "layer", "encoding": ENCODING}
    towers = read(
        path,
        {
            "ECal": {"layers": "em", "scale": 20},
            "HCal": {
                "layers": {"had": list(range(30)), "tail": [30, 31]},
                "layer_index": rule,
                "unit": "MeV",
            },
        },
    )
    assert towers.layers == ("em", "had", "tail")
    event = np.repeat(np.arange(n_events), hcal[0])
    layer, energy = hcal[1]["layer"], hcal[1]["energy"] * 1e-3
    sums = towers.event_sums()
    per_event = ak.sum(jagged(ecal[0], ecal[1]["energy"]), axis=1)
    np.testing.assert_allclose(sums[:, 0], 20 * per_event.to_numpy(), rtol=1e-5)
    for column, inside in ((1, layer < 30), (2, (layer == 30) | (layer == 31))):
        expected = np.bincount(event, weights=energy * inside, minlength=n_events)
        np.testing.assert_allclose(sums[:, column], expected, rtol=1e-5, atol=1e-9)
    hits = ecal[1]
    em = towers.energy[:, 0] > 0
    x, y, z = (hits[f"position.{axis}"].astype(float) for axis in "xyz")
    np.testing.assert_allclose(
        np.sort(towers.edges[em, 0]), np.sort(np.arctanh(z / np.sqrt(x**2 + y**2 + z**2)))
    )
    np.testing.assert_allclose(np.sort(towers.edges[em, 1]), np.sort(np.arctan2(y, x)))


def test_what_a_cell_identifier_is_has_to_be_known(tmp_path: Path) -> None:
    hits = random_hits(np.random.default_rng(1), 3)
    write(tmp_path / "tree.root", {"ECal": hits}, is_ntuple=False)
    write(tmp_path / "ntuple.root", {"ECal": hits}, is_ntuple=True)
    collections = {"ECal": {"layers": {"em": [0]}, "layer_index": {"field": "layer"}}}
    with pytest.raises(CardError, match=r"does not say what 'ECal\.cellID' is") as caught:
        read(tmp_path / "tree.root", collections)
    assert "layer_index.encoding" in caught.value.hint
    collections["ECal"]["layer_index"] = {"field": "depth"}
    with pytest.raises(CardError, match="no field 'depth'"):
        read(tmp_path / "ntuple.root", collections)
    with pytest.raises(MissingFieldError, match=r"no field 'HCal\.") as missing:
        read(tmp_path / "ntuple.root", {"HCal": {"layers": "had"}})
    assert "ECal" in missing.value.hint


def test_options_that_contradict() -> None:
    with pytest.raises(ValidationError, match="collections"):
        Edm4hepOptions.model_validate({})
    rule = {"bins_of": "radius", "edges": [0, 1]}
    for hits, said in (
        ({"layers": {"em": [1]}}, "layer_index take both"),
        ({"layers": {"em": [1], "had": [1]}, "layer_index": rule}, "belongs to one layer"),
        ({"layers": "em", "layer_index": rule}, "layer_index is for layers that are lists"),
    ):
        with pytest.raises(ValidationError, match=said):
            Edm4hepOptions.model_validate({"collections": {"a": hits}})


def test_every_collection_of_a_file_of_others(shared_data: Path) -> None:
    path = shared_data / "public" / "edm4hep_allcollections.root"
    collections = {
        "CalorimeterHitCollection": {"layers": "em"},
        "SimCalorimeterHitCollection": {"layers": "sim", "scale": 2},
    }
    towers = read(path, collections)
    with uproot.open(path) as file:
        columns = {
            (name, leaf): ak.flatten(file["events"][f"{name}.{leaf}"].array()).to_numpy()
            for name in collections
            for leaf in ("energy", "position.x", "position.y", "position.z")
        }
    energy = columns["CalorimeterHitCollection", "energy"]
    assert energy.sum() > 0
    assert towers.event_sums()[:, 0].tolist() == energy.tolist()
    simulated = columns["SimCalorimeterHitCollection", "energy"]
    assert towers.event_sums()[:, 1].tolist() == (2 * simulated).tolist()
    x, y, z = (columns["CalorimeterHitCollection", f"position.{axis}"] for axis in "xyz")
    np.testing.assert_allclose(towers.edges[::2, 0], np.arcsinh(z / np.hypot(x, y)), rtol=1e-6)


def test_hits_that_delphes_wrote_have_places_and_no_energy(shared_data: Path) -> None:
    path = shared_data / "public" / "edm4hep_p8_ee_ww.root"
    towers = read(path, {"CalorimeterHits": {"layers": "em"}}, "n(CalorimeterHits.energy)")
    with uproot.open(path) as file:
        hits = file["events"].arrays(["CalorimeterHits.energy", "CalorimeterHits.position.x"])
    counts = ak.num(hits["CalorimeterHits.energy"])
    assert np.diff(towers.offsets).tolist() == counts.tolist()
    assert towers.mu.tolist() == counts.tolist()
    assert towers.energy.sum() == ak.sum(hits["CalorimeterHits.energy"]) == 0
    found = FORMATS["edm4hep"]
    assert found.weights == ("EventHeader.weight",)
