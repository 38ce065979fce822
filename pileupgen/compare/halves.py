"""Held-out events to judge generators by: half are judged against, others say what is made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pileupgen.errors import StoreError
from pileupgen.samples.store import Images, ImageStore

FEWEST_JUDGED = 8
"""Events of each sample: two in each of the four folds of a two-sample test."""


@dataclass(frozen=True)
class Halves:
    """Events of both domains, as many of each.

    A classifier that saw the same conditions in both samples would learn which of them it has met
    with which label, and do worse than by chance.
    """

    source: Images
    target: Images
    """Test events of both domains."""
    wanted: Images
    """Other test events of the target's, whose conditions generated ones have."""
    reference: Images
    """Events of the target's domain that are not of the test."""

    @classmethod
    def of(cls, mc: ImageStore, data: ImageStore, n_events: int | None, seed: int) -> Halves:
        """Take test events: half of the target's, at most, are judged against, then come others.

        Raises
        ------
        StoreError
            If there are too few for that.
        """
        rows = data.indices("test")
        n = min(len(rows) // 2, len(mc.indices("test")), n_events or len(rows))
        if n < FEWEST_JUDGED:
            raise StoreError(
                f"{data.path} has {len(rows)} test events; {2 * FEWEST_JUDGED} are needed.",
                "Preprocess more events.",
            )
        others = np.random.default_rng([seed, 5]).permutation(
            np.flatnonzero(data.columns["split"] != 2)
        )
        return cls(
            mc.read(mc.indices("test", n)),
            data.read(rows[:n]),
            data.read(rows[n : 2 * n]),
            data.read(np.sort(others[:n])),
        )
