"""Cards that are wrong in one thing: what comes is right, warned of, or refused in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from numpy.typing import NDArray

from pileupgen.calo.presets import get_grid
from pileupgen.config import read_config
from pileupgen.errors import CardError, ConfigError, ImplausibleInputError
from pileupgen.samples.cards import DataCard, load_card
from pileupgen.samples.checks import check_sample
from pileupgen.samples.ingest import IngestSummary, ingest
from tests.sample_files import jagged, write_tree

ATLAS = get_grid("atlas")
N_EVENTS = 30
CARD = {
    "name": "mistaken",
    "what": "towers",
    "domain": "mc",
    "units": {"energy": "GeV"},
    "detector": {"text": "ATLAS-like"},
    "how_made": "by the test",
    "selection": "none",
    "licence": "none",
    "contact": "nobody",
    "mu": "mu",
}
BY_NUMBER = {
    "eta": "eta",
    "phi": "phi",
    "energy": "e",
    "layer_index": "sampling",
    "layers": {"em": [0, 1, 2], "had": [3, 4, 5]},
}


def columns() -> dict[str, ak.Array | NDArray[Any]]:
    rng = np.random.default_rng(8)
    counts = rng.poisson(60, N_EVENTS)
    n = int(counts.sum())
    return {
        "eta": jagged(counts, rng.uniform(-2.5, 2.5, n)),
        "phi": jagged(counts, rng.uniform(-np.pi, np.pi, n)),
        "e": jagged(counts, rng.exponential(1.0, n)),
        "sampling": jagged(counts, rng.integers(6, size=n).astype(np.int32)),
        "mu": rng.poisson(50, N_EVENTS).astype(np.float32) + np.float32(0.37),
    }


def write(folder: Path, kind: str) -> Path:
    if kind == "root":
        write_tree(folder / "f.root", columns(), "events")
        return folder / "f.root"
    values = {
        name: ak.to_arrow(column, extensionarray=False) if isinstance(column, ak.Array) else column
        for name, column in columns().items()
    }
    parquet.write_table(pa.table(values), folder / "f.parquet")
    return folder / "f.parquet"


def read(path: Path, options: dict[str, Any]) -> tuple[IngestSummary, set[str]]:
    kind = "root" if path.suffix == ".root" else "parquet"
    options = {"tree": "events", **options} if kind == "root" else options
    card = DataCard.model_validate({**CARD, "format": kind, "files": str(path), "options": options})
    store = path.with_name("s.h5")
    summary = ingest(card.open([path]), ATLAS, store, domain="mc", card=card, inputs=[])
    return summary, {finding.name for finding in check_sample(summary, card, ATLAS)}


@pytest.mark.parametrize("kind", ["root", "parquet"])
def test_layers_by_number(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind)
    summary, found = read(path, BY_NUMBER)
    assert not found
    # μ is a mean of interactions here, no whole number.
    assert summary.mean_mu == pytest.approx(float(np.mean(columns()["mu"])))
    energy, sampling = (ak.flatten(columns()[name]).to_numpy() for name in ("e", "sampling"))
    for layer, numbers in enumerate(BY_NUMBER["layers"].values()):
        sums = energy[np.isin(sampling, numbers)].sum() / N_EVENTS
        assert summary.energy[layer] == pytest.approx(sums, rel=1e-5)

    with pytest.raises(CardError, match=f"{path.name}.*'phi' is the layer .* no whole number"):
        read(path, BY_NUMBER | {"layer_index": "phi"})
    with pytest.raises(ImplausibleInputError, match="leaves out all of its cells: sampling"):
        read(path, BY_NUMBER | {"layers": {"em": [20], "had": [30]}})
    _, found = read(path, BY_NUMBER | {"layers": {"em": [0, 1, 2], "had": [30]}})
    assert {"layer_silent", "layers_left_out"} <= found


def test_a_layer_number_that_two_collections_take(tmp_path: Path) -> None:
    path = write(tmp_path, "root")
    other = BY_NUMBER | {"layers": {"had": [2, 3]}}
    own = BY_NUMBER | {"layers": {"em": [0, 1, 2]}}
    assert "layers_alike" in read(path, {"collections": {"a": own, "b": other}})[1]
    apart = other | {"layers": {"had": [3, 4, 5]}}
    assert "layers_alike" not in read(path, {"collections": {"a": own, "b": apart}})[1]


def test_a_key_that_is_there_twice_is_not_lost(tmp_path: Path) -> None:
    text = "\n".join(f"{key}: {value}" for key, value in CARD.items() if key != "detector")
    text += "\nfiles: f.root\nformat: root\ndetector: {text: x}\noptions:\n  tree: t\n"
    text += "  collections:\n"
    cells = "{eta: eta, phi: phi, layers: {em: e}}"
    path = tmp_path / "card.yaml"
    path.write_text(f"{text}    ecal: {cells}\n    hcal: {cells}\n", encoding="utf-8")
    assert len(load_card(path).collections()) == 2
    path.write_text(f"{text}    ecal: {cells}\n    ecal: {cells}\n", encoding="utf-8")
    with pytest.raises(CardError, match=r"card\.yaml.*'ecal' is there twice(?s:.*)line 1[0-9]"):
        load_card(path)
    path.write_text("seed: 1\nseed: 2\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="'seed' is there twice"):
        read_config(path)
