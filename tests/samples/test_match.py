from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pileupgen.calo.geometry import Grid
from pileupgen.errors import StoreError
from pileupgen.samples.match import MAX_BINS, match_mu, mu_weights
from pileupgen.samples.store import ImageStore, assign_splits, create_store

GRID = Grid((-1.0, 0.0, 1.0), 4)


def write_store(path: Path, mu: Any, seed: int = 0) -> Path:
    """Events whose energy is proportional to μ."""
    n = len(mu)
    energy = np.random.default_rng(seed).exponential(1, (n, *GRID.shape)) * mu[:, None, None, None]
    with create_store(path, GRID, "mc", {"stage": "test"}) as writer:
        writer.append(
            energy.astype(np.float32),
            {
                "mu": mu.astype(np.float32),
                "event_id": np.arange(n),
                "weight": np.ones(n),
                "split": assign_splits(0, n, (0.6, 0.15, 0.25), seed),
            },
        )
    return path


def poisson(mean: float, n: int, seed: int) -> Any:
    return np.random.default_rng(seed).poisson(mean, n).astype(np.float64)


@settings(max_examples=30, deadline=None)
@given(
    means=st.tuples(st.floats(20, 60), st.floats(-5, 5)),
    sizes=st.tuples(st.integers(50, 2000), st.integers(50, 2000)),
    seed=st.integers(0, 100),
)
def test_weights_give_the_profile(
    means: tuple[float, float], sizes: tuple[int, int], seed: int
) -> None:
    source = poisson(means[0], sizes[0], seed)
    target = poisson(means[0] + means[1], sizes[1], seed + 1)
    found = mu_weights(source, target)
    assert found.weight.mean() == pytest.approx(1)
    assert np.all(found.weight >= 0)
    assert len(found.edges) <= MAX_BINS + 1
    assert 1 <= found.n_effective <= len(source) * (1 + 1e-9)
    if found.uncovered == 0:
        inner = found.edges[1:-1]
        reached = np.bincount(
            np.searchsorted(inner, source, side="right"),
            weights=found.weight,
            minlength=len(inner) + 1,
        )
        wanted = np.bincount(np.searchsorted(inner, target, side="right"), minlength=len(inner) + 1)
        np.testing.assert_allclose(reached / len(source), wanted / len(target), atol=1e-9)


def test_equal_profiles_have_equal_weights() -> None:
    mu = poisson(60, 1000, 1)
    np.testing.assert_allclose(mu_weights(mu, mu).weight, 1)


def test_profiles_that_cannot_be_matched() -> None:
    mu = poisson(60, 100, 1)
    with pytest.raises(StoreError, match="do not overlap"):
        mu_weights(mu, mu + 1000)
    with pytest.raises(StoreError, match="not known"):
        mu_weights(mu, np.full(100, np.nan))


@pytest.mark.parametrize("mode", ["reweight", "resample"])
def test_a_store_takes_the_profile_of_another(tmp_path: Path, mode: Any) -> None:
    source, target = poisson(55, 4000, 1), poisson(60, 3000, 2)
    path = write_store(tmp_path / "mc.h5", source)
    before = ImageStore(path).read()
    other = write_store(tmp_path / "data.h5", target, 1)
    summary = match_mu(path, other, mode, seed=3)
    store = ImageStore(path)
    after = store.read()
    error = 8 / np.sqrt(summary.n_effective)
    assert summary.mean_mu == pytest.approx(60, abs=4 * error)
    assert np.average(after.mu, weights=after.weight) == pytest.approx(summary.mean_mu, rel=1e-6)
    assert summary.n_before == 4000
    assert summary.n_events == len(after)
    np.testing.assert_array_equal(after.energy, before.energy[after.event_id])
    np.testing.assert_array_equal(after.columns["split"], before.columns["split"][after.event_id])
    if mode == "reweight":
        assert len(after) == 4000
        assert after.weight.mean() == pytest.approx(1)
    else:
        assert len(np.unique(after.event_id)) == len(after) < 4000
        assert np.all(after.weight == 1)
    assert store.provenance["stage"] == "test"
    assert store.provenance["match_mu"]["mode"] == mode
    weighted = np.average(after.energy.sum(axis=(2, 3)), axis=0, weights=after.weight)
    np.testing.assert_allclose(summary.energy, weighted, rtol=1e-5)


def test_the_same_seed_keeps_the_same_events(tmp_path: Path) -> None:
    source, target = poisson(55, 500, 1), poisson(60, 500, 2)
    other = write_store(tmp_path / "data.h5", target, 1)
    kept = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        path = write_store(tmp_path / f"{name}.h5", source)
        match_mu(path, other, "resample", seed)
        kept.append(path.read_bytes())
    assert kept[0] == kept[1] != kept[2]


def test_weights_that_events_have_already_count_in_both_profiles(tmp_path: Path) -> None:
    source, target = poisson(50, 4000, 1), poisson(52, 4000, 2)
    before, other = np.exp(-0.05 * (source - 50)), np.exp(0.05 * (target - 52))
    found = mu_weights(source, target, before, other)
    wanted = np.average(target, weights=other)
    assert np.average(source, weights=found.weight) == pytest.approx(wanted, rel=0.005)
    np.testing.assert_allclose(found.weight, before * found.factor, rtol=1e-12)
    plain = mu_weights(source, target)
    assert abs(np.average(source, weights=plain.weight * before) - wanted) > 0.05 * wanted


def test_events_of_unknown_mu_take_no_part(tmp_path: Path) -> None:
    source, target = poisson(50, 1000, 1), poisson(52, 1000, 2)
    source[::10], target[::7] = np.nan, np.nan
    found = mu_weights(source, target)
    assert np.all(found.weight[::10] == 0)
    known = np.isfinite(source)
    whole = mu_weights(source[known], target[np.isfinite(target)])
    np.testing.assert_allclose(
        found.weight[known] / found.weight.sum(), whole.weight / whole.weight.sum(), rtol=1e-12
    )
    mc = write_store(tmp_path / "mc.h5", source)
    match_mu(mc, write_store(tmp_path / "data.h5", target), "resample", 1)
    assert np.all(np.isfinite(ImageStore(mc).columns["mu"]))


def test_the_uncovered_fraction_counts_the_weights_of_the_target() -> None:
    target = np.repeat([20.0, 60.0], 500)
    weight = np.where(target < 40, 3.0, 1.0)
    found = mu_weights(np.full(1000, 60.0), target, target_weight=weight)
    assert found.uncovered == pytest.approx(0.75)
