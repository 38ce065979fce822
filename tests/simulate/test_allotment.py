from __future__ import annotations

import numpy as np
import pytest
import yaml

from pileupgen.errors import CardError, UnreadableInputError
from pileupgen.simulate.allotment import Allotment, pool_sizes, pools_of
from pileupgen.simulate.overlay import Overlay
from pileupgen.simulate.response import ResponseCard
from pileupgen.simulate.spec import SampleSpec
from tests.simulate_inputs import make_interactions

SHARES = ((0.6, 3.0), (0.15, 3.0), (0.25, 1.0))


@pytest.mark.parametrize("n", [1, 7, 20, 1000])
def test_any_first_events_have_the_pools_in_proportion(n: int) -> None:
    counts = np.bincount(pools_of(SHARES, n), minlength=3)
    assert np.all(np.abs(counts - n * np.array([0.6, 0.15, 0.25])) < 1)
    assert np.array_equal(pools_of(SHARES, n), pools_of(SHARES, 2 * n)[:n])


def test_no_interaction_is_used_again_before_all_others_of_its_pool_were() -> None:
    counts = np.random.default_rng(1).poisson(60, 400)
    sizes = pool_sizes(SHARES, counts)
    found = Allotment.of(SHARES, counts, seed=4, n_interactions=sum(sizes))
    begin = 0
    for number, (size, (_, uses)) in enumerate(zip(sizes, SHARES, strict=True)):
        events = np.flatnonzero(found.pool == number)
        rows = np.concatenate([found.of_event(event, counts[event]) for event in events])
        used = np.bincount(rows - begin, minlength=size)
        assert len(used) == size
        assert used.max() == uses
        assert np.sum(used < uses) < uses
        for turn in range(int(uses) - 1):
            assert len(set(rows[turn * size : (turn + 1) * size].tolist())) == size
        assert found.rows_of(int(events[0])) == (begin, begin + size)
        begin += size
    test = np.flatnonzero(found.pool == 2)
    assert sizes[2] == counts[test].sum()


def test_a_sum_over_events_varies_as_the_law_says() -> None:
    """Var(mean) = E(n) Var(x) r / N + Var(n) E(x)² / N with r uses of an interaction."""
    rng = np.random.default_rng(3)
    n_events, mu = 40, 10.0
    for uses in (1.0, 4.0):
        means = []
        for seed in range(400):
            counts = rng.poisson(mu, n_events)
            shares = ((1.0, uses),)
            total = sum(pool_sizes(shares, counts))
            x = rng.exponential(1.0, total)
            found = Allotment.of(shares, counts, seed, total)
            means.append(np.mean([x[found.of_event(i, n)].sum() for i, n in enumerate(counts)]))
        expected = np.sqrt(mu * (uses + 1.0) / n_events)
        assert np.std(means) == pytest.approx(expected, rel=0.12)


@pytest.mark.parametrize("weights", [(-0.5, 0.5), (0.5, 0.5), (-0.5, -0.25)])
def test_use_in_other_crossings_leaves_errors_as_they_are_where_weights_add_up_to_0(
    weights: tuple[float, ...],
) -> None:
    """Var(mean) N / μ = (1 + Σw²) ⟨x²⟩ + ((1 + Σw)² − 1) Var(x).

    The first term is that of interactions of their own for each crossing.
    """
    rng = np.random.default_rng(3)
    n_events, mu = 40, 10.0
    means = []
    for seed in range(200):
        counts = rng.poisson(mu, n_events)
        x = rng.exponential(1.0, counts.sum())
        found = Allotment.of(((1.0, 1.0),), counts, seed, len(x))
        low, high = found.rows_of(0)
        others = [x[rng.integers(low, high, rng.poisson(mu * n_events))].sum() for _ in weights]
        in_time = sum(x[found.of_event(i, n)].sum() for i, n in enumerate(counts))
        means.append((in_time + np.dot(weights, others)) / n_events)
    own = (1 + np.square(weights).sum()) * 2
    again = (1 + np.sum(weights)) ** 2 - 1
    assert np.var(means) * n_events / mu == pytest.approx(own + again, rel=0.35)


def test_files_with_too_few_interactions_are_refused_with_what_would_do() -> None:
    counts = np.full(40, 10)
    assert sum(pool_sizes(SHARES, counts)) == 200
    Allotment.of(SHARES, counts, seed=1, n_interactions=200)
    with pytest.raises(UnreadableInputError) as caught:
        Allotment.of(SHARES, counts, seed=1, n_interactions=199)
    assert caught.value.message == (
        "3 separate pools for 40 events need 200 interactions, each used 3, 3, 1 times; the files "
        "have 199."
    )
    for n in (31, 80, 199):
        with pytest.raises(UnreadableInputError) as caught:
            Allotment.of(SHARES, counts, seed=1, n_interactions=n)
        advised = yaml.safe_load(caught.value.hint.partition("separate_pools: ")[2].rstrip("."))
        found = Allotment.of(advised, counts, seed=1, n_interactions=n)
        assert found.bounds[-1] <= n
    with pytest.raises(UnreadableInputError, match="30 are in the largest event of each pool"):
        Allotment.of(SHARES, counts, seed=1, n_interactions=29)


@pytest.mark.parametrize("n", [1, 4, 9])
def test_few_events_do_not_hold_an_interaction_twice(n: int) -> None:
    counts = np.random.default_rng(n).poisson(60, n)
    found = Allotment.of(SHARES, counts, seed=4, n_interactions=sum(pool_sizes(SHARES, counts)))
    first = {int(number): int(np.flatnonzero(found.pool == number)[0]) for number in found.pool}
    for event in first.values():
        assert len(set(found.of_event(event, counts[event]).tolist())) == counts[event]


def test_crossings_before_and_after_are_from_the_events_own_pool(mc_card: ResponseCard) -> None:
    spec = SampleSpec(mu=20, n_events=20, separate_pools=SHARES, seed=2)
    pool = make_interactions(spec.pools()["pileup"].pool_size, 3, seed=1)
    overlay = Overlay(spec, pool, mc_card)
    assert overlay.allotment is not None
    for event in range(20):
        low, high = overlay.allotment.rows_of(event)
        drawn = overlay._interactions(np.random.default_rng(event), 200, event).interaction
        assert low <= drawn.min() <= drawn.max() < high
        own = overlay.draw(event).interaction
        assert low <= own.min() <= own.max() < high


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"separate_pools": [[0.5, 1], [0.4, 1]]}, "positive and sum to 1"),
        ({"separate_pools": [[0.5, 0.5], [0.5, 1]]}, "at least once"),
        ({"separate_pools": [[1, 1]], "consecutive": 4}, "give pool_size in place of sep"),
        ({"separate_pools": [[1, 1]], "process": "dijet"}, "there is no pileup"),
        ({"separate_pools": [[1, 2]], "pool_size": 50}, "pool_size or separate_pools, not both"),
    ],
)
def test_what_no_pools_can_be_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(CardError, match=message):
        SampleSpec.parse(values, "card")


def test_the_number_of_interactions_follows_the_events() -> None:
    sizes = [
        SampleSpec(mu=10, n_events=n, separate_pools=SHARES).pools()["pileup"].pool_size
        for n in (200, 2000)
    ]
    # 0.75 of the interactions are used three times, 0.25 once.
    assert sizes[1] == pytest.approx(2000 * 10 * 0.5, rel=0.03)
    assert sizes[0] == pytest.approx(200 * 10 * 0.5, rel=0.1)
