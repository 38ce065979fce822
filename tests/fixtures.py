"""Fixtures that tests of several rooms share: data cards, real files, simulated interactions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pileupgen.samples.readers import remote
from pileupgen.simulate.interactions import Interactions
from pileupgen.simulate.response import ResponseCard, load_response
from tests.sample_files import random_towers, write_delphes
from tests.simulate_inputs import change, make_interactions

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real files; the test is skipped where it is absent."""
    if not (SHARED / "delphes" / "mc_a.root").is_file():
        pytest.skip(f"no real files at {SHARED}")
    return SHARED


@pytest.fixture
def card_values() -> dict[str, Any]:
    """Headings of a valid card for ``sample.root`` beside it."""
    return {
        "name": "sample",
        "what": "made by a test",
        "domain": "mc",
        "files": ["sample.root"],
        "detector": {"text": "none", "grid": "atlas", "phi_symmetric": True},
        "how_made": "numpy",
        "selection": "none",
        "licence": "Apache-2.0",
        "contact": "nobody",
    }


@pytest.fixture
def card_path(tmp_path: Path, card_values: dict[str, Any]) -> Path:
    """A valid card with its file of 60 events."""
    write_delphes(tmp_path / "sample.root", random_towers(60, seed=1))
    path = tmp_path / "sample.yaml"
    path.write_text(yaml.safe_dump(card_values), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def impatient_client() -> Iterator[None]:
    """XRootD's client of this process gives a server up within seconds."""
    client = pytest.importorskip("XRootD.client", reason="needs the extra 'xrootd'")
    # The limits of the product are set once for a process, and are here replaced for a while.
    remote._limit_waiting()
    limits = {"ConnectionWindow": 1, "ConnectionRetry": 2, "StreamErrorWindow": 1}
    limits["RequestTimeout"] = 10
    before = {name: client.EnvGetInt(name) for name in limits}
    for name, value in limits.items():
        client.EnvPutInt(name, value)
    yield
    for name, value in before.items():
        client.EnvPutInt(name, value)


@pytest.fixture
def interactions() -> Interactions:
    return make_interactions(50, 120, seed=3)


@pytest.fixture(scope="session")
def mc_card() -> ResponseCard:
    return load_response("mc")


@pytest.fixture(scope="session")
def ideal_card(mc_card: ResponseCard) -> ResponseCard:
    """Perfect resolution, no thresholds, all vertices at the origin."""
    quiet = {"resolution": [], "energy_min": 0.0, "significance_min": 0.0}
    return change(mc_card, em=quiet, had=quiet, beam_spot={"sigma_z": 0.0})
