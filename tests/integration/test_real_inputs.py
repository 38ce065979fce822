"""The first command on real files of three detectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks.reading_formats import OPTIONS, images_of, make, towers
from benchmarks.real_towers import barrel, vertices
from pileupgen.cli.preprocess import preprocess
from pileupgen.config import load_config
from pileupgen.resources import find_file
from pileupgen.samples.cards import load_card
from pileupgen.samples.store import ImageStore

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
INPUTS = {
    # config: file, domains it fills, events
    "delphes_mild": ("delphes/mc_a.root", ("mc", "data"), 40),
    "cms_minimum_bias": ("public/cms_minimum_bias_2010.ig", ("data",), 25),
    "coffea_delphes": ("public/coffea_delphes.root", ("data",), 25),
}


@pytest.mark.parametrize("name", INPUTS)
def test_real_files_become_images(name, tmp_path, monkeypatch):
    file, domains, n_events = INPUTS[name]
    if not (DATA / file).is_file():
        pytest.skip(f"no real file at {DATA / file}")
    monkeypatch.setenv("PILEUPGEN_DATA", str(DATA))
    monkeypatch.chdir(tmp_path)
    values = load_config(ROOT / "configs" / f"{name}.yaml").to_dict()
    values["samples"] = {"mc": values["samples"][domains[0]], "data": values["samples"]["data"]}
    values["preprocess"]["max_events"] = n_events
    (tmp_path / "real.yaml").write_text(yaml.safe_dump(values))
    preprocess(config=Path("real.yaml"))
    for domain in ("mc", "data"):
        images = ImageStore(f"runs/{name}/data/{domain}.h5").read()
        assert len(images) == n_events
        assert np.isfinite(images.energy).all()
        assert images.energy.sum(axis=(1, 2, 3)).min() > 0
        assert 0.001 < (images.energy > 0).mean() < 0.9


@pytest.mark.parametrize("kind", OPTIONS)
def test_towers_of_delphes_in_every_format_are_those_that_numpy_draws(kind, tmp_path):
    """The files are written by uproot, pyarrow, h5py and numpy; nothing of pileupgen is in them."""
    source = DATA / "delphes" / "data_nonlocal.root"
    if not source.is_file():
        pytest.skip(f"no real file at {source}")
    make(kind, tmp_path / "events", source, 30)
    (own,) = (batch["images"] for batch in towers(source, 30))
    assert own.any()
    np.testing.assert_array_equal(images_of(kind, tmp_path / "events"), own)


def test_triggered_events_of_cms_are_busier_than_minimum_bias(monkeypatch):
    if not (DATA / "public" / "cms_muon_2010.ig").is_file():
        pytest.skip(f"no real files at {DATA}")
    monkeypatch.setenv("PILEUPGEN_DATA", str(DATA))
    sum_et, n_vertices = {}, {}
    for name in ("minimum_bias", "muon", "electron"):
        card = load_card(find_file(f"cms_{name}_2010", "data_cards"))
        path = Path(str(card.input_files()[0]))
        numbers = barrel(card, path)
        n_vertices[name] = vertices(path)
        assert len(numbers) == len(n_vertices[name]) == 25
        assert np.isfinite(numbers).all()
        sum_et[name] = numbers[:, -1].mean()
    assert sum_et["minimum_bias"] < sum_et["muon"] < sum_et["electron"]
    # Zero-bias events may be empty; an electron of 17 GeV comes from a collision.
    assert (n_vertices["minimum_bias"] == 0).sum() == 13
    assert n_vertices["electron"].min() == 1
