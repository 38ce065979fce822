from __future__ import annotations

import pytest
from simulate_inputs import change, make_interactions

from pileupgen.simulate.interactions import Interactions
from pileupgen.simulate.response import ResponseCard, load_response


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
