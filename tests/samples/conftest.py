from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from sample_files import random_towers, write_delphes

SHARED = Path(__file__).parents[3] / "shared" / "data"


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
