"""What tests of the collection have in common."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pileupgen.zoo import point_system


@pytest.fixture(scope="session", autouse=True)
def _few_sets_to_learn_marginals_from() -> Iterator[None]:
    """Small events have few points, and sets cost most of a fit without training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(point_system, "CORRECTION_EVENTS", 24)
        yield
