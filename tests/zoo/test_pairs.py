"""Pairs are the same events in two detectors, and nothing else passes for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pileupgen.errors import ConfigError
from pileupgen.zoo.contract import ZooSample
from pileupgen.zoo.image_system import rows_of
from pileupgen.zoo.pairs import paired_images
from tests.toys import Toy
from tests.zoo.test_systems import TINY_GRID


def both(toy: Toy, seed: int = 1):
    rng = np.random.default_rng(3)
    mu = rng.uniform(40, 80, 60).astype(np.float32)
    energies = toy.energies(60, 1, grid=TINY_GRID, leak=0.3), toy.energies(60, seed, grid=TINY_GRID)
    return [toy.images(energy, TINY_GRID, mu=mu) for energy in energies]


def test_events_are_joined_by_their_number(toy):
    target, source = both(toy)
    few = rows_of(source, np.array([7, 3, 20, 11]))
    found = paired_images(target, few)
    for images in found:
        assert images.event_id.tolist() == [3, 7, 11, 20]
    np.testing.assert_array_equal(found[0].energy, target.energy[[3, 7, 11, 20]])
    np.testing.assert_array_equal(found[1].energy, source.energy[[3, 7, 11, 20]])


@pytest.mark.parametrize("what", ["numbers", "μ", "events"])
def test_what_is_no_pair_is_refused(what, toy):
    target, source = both(toy, 2 if what == "events" else 1)
    if what == "numbers":
        source.columns["event_id"] = source.event_id + 1000
    if what == "μ":
        source.columns["mu"] = source.mu + np.float32(1)
    words = {"numbers": "No event", "μ": "another μ", "events": "no more alike"}[what]
    with pytest.raises(ConfigError, match=words):
        paired_images(target, source)


def test_a_sample_of_stores_says_whether_it_is_of_pairs(toy, tmp_path: Path):
    stores = [
        toy.store(tmp_path / f"{leak}.h5", toy.energies(60, 1, grid=TINY_GRID, leak=leak), domain,
                  TINY_GRID)
        for leak, domain in ((0.3, "data"), (0.0, "mc"))
    ]  # fmt: skip
    sample = ZooSample.of_stores(*stores, is_paired=True)
    assert sample.is_paired
    np.testing.assert_array_equal(sample.target.event_id, sample.source.event_id)
    assert not ZooSample.of_stores(*stores).is_paired
