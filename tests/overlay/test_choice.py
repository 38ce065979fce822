from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from pileupgen.errors import StoreError
from pileupgen.overlay.choice import Choice, Limits, PileupPool, choose
from pileupgen.samples.mu_profile import MuProfile


def make_pool(mu: np.ndarray, draws: int = 1, weight: np.ndarray | None = None) -> PileupPool:
    source = np.repeat(np.arange(len(mu)), draws)
    mu = np.repeat(mu.astype(float), draws)
    return PileupPool(
        np.arange(len(mu)) + 5, mu, source, np.ones(len(mu)) if weight is None else weight
    )


def uses(pool: PileupPool, found: Choice) -> np.ndarray:
    """How often each source event is used."""
    return np.bincount(pool.source[found.row - 5], minlength=pool.n_sources)


@pytest.fixture(scope="module")
def library() -> PileupPool:
    return make_pool(np.random.default_rng(1).poisson(60, 20_000))


def test_the_chosen_have_the_profile(library: PileupPool) -> None:
    profile = MuProfile.flat(50, 69)
    found = choose(library, 5000, 3, profile, Limits(reuse=2))
    mu = library.mu[found.row - 5]
    assert chisquare(np.bincount(mu.astype(int), minlength=70)[50:]).pvalue > 1e-3
    assert found.n_moved == 0
    other = choose(library, 5000, 4, profile, Limits(reuse=2))
    assert np.mean(other.row == found.row) < 0.01


@given(st.integers(0, 300), st.integers(0, 2**32), st.integers(1, 3), st.booleans())
def test_no_source_event_is_used_too_often(n: int, seed: int, reuse: int, by_mu: bool) -> None:
    pool = make_pool(np.random.default_rng(2).poisson(10, 100), draws=2)
    profile = MuProfile.poisson(10) if by_mu else None
    limits = Limits(reuse, mu_tolerance=30)
    if n > reuse * 100:
        with pytest.raises(StoreError, match=f"{reuse} times each after {reuse * 100} of {n}"):
            choose(pool, n, seed, profile, limits)
        return
    found = choose(pool, n, seed, profile, limits)
    assert uses(pool, found).max(initial=0) <= reuse
    for row, use in zip(found.row, found.use, strict=True):
        # The first use takes one translation of an event, the second the other.
        assert (row - 5) % 2 == use % 2


def test_the_first_events_do_not_depend_on_how_many_follow() -> None:
    pool = make_pool(np.random.default_rng(3).poisson(30, 400))
    limits, profile = Limits(mu_tolerance=40), MuProfile.poisson(30)
    whole = choose(pool, 400, 1, profile, limits)
    assert whole.n_moved > 20
    for n in (1, 17, 200, 399):
        part = choose(pool, n, 1, profile, limits)
        np.testing.assert_array_equal(part.row, whole.row[:n])


def test_of_two_values_of_mu_that_are_equally_near_the_lower_stands_in() -> None:
    pool = make_pool(np.array([11, 9, 12]))
    found = choose(pool, 2, 1, MuProfile.flat(10, 10), Limits())
    assert pool.mu[found.row - 5].tolist() == [9, 11]
    assert found.n_moved == 2


def test_all_events_come_once_before_any_comes_again(library: PileupPool) -> None:
    found = choose(library, 30_000, 1, None, Limits(reuse=2))
    assert sorted(found.row[:20_000]) == library.row.tolist()
    assert uses(library, found).max() == 2


def test_copies_of_a_hard_scatter_meet_other_pileup() -> None:
    pool = make_pool(np.repeat([10, 11, 12, 13], 5))
    limits = Limits(reuse=12, copies=4, mu_tolerance=3)
    found = choose(pool, 200, 1, MuProfile.flat(10, 13), limits)
    for one in found.row.reshape(-1, 4):
        assert len(set(one)) == 4
    with pytest.raises(StoreError, match=r"6 copies .* too few source events near μ = 1"):
        choose(pool, 30, 1, MuProfile(np.array([10]), np.ones(1)), Limits(12, 6))


def test_the_nearest_stands_in_for_what_is_used_up() -> None:
    pool = make_pool(np.array([10] * 3 + [12] * 3 + [20] * 3))
    profile = MuProfile(np.array([10]), np.ones(1))
    found = choose(pool, 6, 1, profile, Limits(mu_tolerance=5))
    assert pool.mu[found.row - 5].tolist() == [10] * 3 + [12] * 3
    assert found.n_moved == 3
    with pytest.raises(StoreError, match=r"6 source events of μ = 10 … 12 .* 1 times each after 6"):
        choose(pool, 7, 1, profile, Limits(mu_tolerance=5))


def test_a_profile_beyond_the_library() -> None:
    pool = make_pool(np.arange(40, 60))
    with pytest.raises(StoreError, match=r"50\.0% of the μ profile .* μ is 40 … 59"):
        choose(pool, 5, 1, MuProfile.flat(40, 79), Limits(9, mu_tolerance=0))
    rare = MuProfile(np.array([50, 90]), np.array([0.995, 0.005]))
    found = choose(pool, 5, 1, rare, Limits(9))
    assert found.uncovered == pytest.approx(0.005)


def test_events_of_unknown_mu_are_for_the_librarys_own_profile_only() -> None:
    pool = make_pool(np.full(10, np.nan))
    assert len(set(choose(pool, 10, 1, None, Limits()).row)) == 10
    with pytest.raises(StoreError, match="no events of known μ"):
        choose(pool, 1, 1, MuProfile.poisson(3), Limits())


def test_weights_keep_the_profile() -> None:
    rng = np.random.default_rng(4)
    mu = rng.integers(10, 14, 20_000)
    pool = make_pool(mu, weight=rng.exponential(1.0, 20_000) * mu)
    found = choose(pool, 12_000, 1, MuProfile.flat(10, 13), Limits())
    sums = np.bincount(mu[found.row - 5] - 10, weights=found.weight)
    np.testing.assert_allclose(sums / 3000, 1.0, atol=5 / np.sqrt(3000) * np.sqrt(2))


def test_parts_share_no_source_event() -> None:
    pool = make_pool(np.random.default_rng(5).poisson(20, 101), draws=2)
    parts = [pool.part(i, 3) for i in (1, 2, 3)]
    assert sorted(np.concatenate([part.row for part in parts])) == pool.row.tolist()
    sources = [set(part.source) for part in parts]
    assert not (sources[0] & sources[1])
    assert not (sources[1] & sources[2])
    assert not (sources[0] & sources[2])
    assert min(map(len, sources)) == 33
