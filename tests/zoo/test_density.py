"""A density that is learned at some conditions holds between them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pileupgen.errors import RunError, TrainingError

pytest.importorskip("zuko", reason="densities need the extra 'baselines'")

from pileupgen.zoo.density import ConditionalDensity


def drawn(m: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two numbers, correlated by 0.8; the first rises with m, the second is positive."""
    one = rng.normal(size=len(m))
    other = 0.8 * one + 0.6 * rng.normal(size=len(m))
    return np.stack([m + 0.5 * one, np.exp(0.3 * other)], axis=1)


@pytest.fixture(scope="module")
def density() -> ConditionalDensity:
    """Learned from side bands, 0.7 to 1.3 left out."""
    rng = np.random.default_rng(1)
    m = rng.uniform(0, 2, size=4000)
    m = m[np.abs(m - 1) > 0.3]
    found = ConditionalDensity()
    found.fit(drawn(m, rng), m, seed=1, seconds=60, max_steps=70)
    return found


def test_it_interpolates_into_the_region_left_out(density):
    m = np.full(4000, 1.0)
    found = density.sample(m, 5)
    assert found[:, 0].mean() == pytest.approx(1.0, abs=0.06)
    assert found[:, 0].std() == pytest.approx(0.5, abs=0.06)
    assert np.log(found[:, 1]).std() == pytest.approx(0.3, abs=0.04)
    assert np.corrcoef(found[:, 0], np.log(found[:, 1]))[0, 1] == pytest.approx(0.8, abs=0.08)
    ends = [density.sample(np.full(2000, at), 6)[:, 0].mean() for at in (0.2, 1.8)]
    assert ends[1] - ends[0] == pytest.approx(1.6, abs=0.15)


def test_draws_depend_on_the_seed_alone(density):
    m = np.linspace(0, 2, 50)
    np.testing.assert_array_equal(density.sample(m, 3), density.sample(m, 3))
    assert not np.array_equal(density.sample(m, 3), density.sample(m, 4))
    assert density.steps == 70


def test_what_cannot_be_learned_is_refused():
    with pytest.raises(RunError, match="not fitted"):
        ConditionalDensity().sample(np.zeros(3), 1)
    with pytest.raises(TrainingError, match="100 or more"):
        ConditionalDensity().fit(np.zeros((20, 2)), np.zeros(20), seed=1)


def test_a_likelihood_that_is_not_finite_ends_the_training(monkeypatch):
    """Weights that are NaN would make samples that are."""
    rng = np.random.default_rng(0)
    found = ConditionalDensity()
    monkeypatch.setattr(found, "_condition", lambda m: torch.full((len(m), 1), torch.nan))
    with pytest.raises(TrainingError, match="likelihood is nan at step 0"):
        found.fit(rng.normal(size=(200, 2)), rng.normal(size=200), seed=1, max_steps=3)
