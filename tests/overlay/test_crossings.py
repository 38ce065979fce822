from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pileupgen.errors import ConfigError, StoreError
from pileupgen.overlay import produce as produce_module
from pileupgen.overlay.choice import PileupPool
from pileupgen.overlay.crossings import CrossingChoice, SingleInteractions, choose_crossings
from pileupgen.overlay.settings import OverlaySettings
from pileupgen.parallel.farm import Farm
from pileupgen.samples.mu_profile import MuProfile
from pileupgen.samples.store import ImageStore
from pileupgen.workflow.overlay import OverlayRequest, overlay
from tests.overlay.overlay_inputs import GRID, write_events

SYMMETRIC = {"card": {"detector": {"phi_symmetric": True}}}
PROFILE = MuProfile.poisson(6)


def make_pool(n: int) -> PileupPool:
    return PileupPool(np.arange(n), np.ones(n), np.arange(n), np.ones(n))


def choose(
    n: int, seed: int = 1, reuse: int = 5, library: int = 200, keep: float = 1.0
) -> CrossingChoice:
    return choose_crossings(make_pool(library), n, seed, PROFILE, reuse, 1, GRID.n_phi, keep)


def test_numbers_of_interactions_have_the_profile_and_all_are_used_alike() -> None:
    found = choose(150)
    assert found.number.mean() == pytest.approx(6, abs=5 * np.sqrt(6 / 150))
    uses = np.bincount(found.row, minlength=200)
    assert uses.max() - uses.min() <= 1
    assert uses.max() == found.n_uses <= 5
    for begin, end in zip(found.offsets[:-1], found.offsets[1:], strict=True):
        assert len(set(found.row[begin:end])) == end - begin
    assert set(found.turn) == set(range(GRID.n_phi))


def test_the_first_crossings_do_not_depend_on_how_many_follow() -> None:
    whole, part = choose(150), choose(40)
    n = int(part.offsets[-1])
    np.testing.assert_array_equal(part.offsets, whole.offsets[:41])
    np.testing.assert_array_equal(part.row, whole.row[:n])
    np.testing.assert_array_equal(part.turn, whole.turn[:n])
    some = whole.part(np.arange(10, 30))
    assert len(some) == 20
    np.testing.assert_array_equal(some.row, whole.row[whole.offsets[10] : whole.offsets[30]])


def test_lower_mu_is_higher_mu_with_interactions_left_out() -> None:
    ladder = [choose(800, library=4000, keep=keep) for keep in (1.0, 0.75, 0.25)]
    for keep, found in zip((1.0, 0.75, 0.25), ladder, strict=True):
        # A Poisson number thinned out is a Poisson number: mean and variance are the same.
        mean = 6 * keep
        assert found.number.mean() == pytest.approx(mean, abs=4 * np.sqrt(mean / 800))
        assert found.number.var() == pytest.approx(mean, rel=4 * np.sqrt(2 / 800) + 0.02)
        assert found.n_uses == ladder[0].n_uses
    for higher, lower in pairwise(ladder):
        for event in range(50):
            kept, before = (
                {
                    (row, turn)
                    for row, turn in zip(part.row.tolist(), part.turn.tolist(), strict=True)
                }
                for part in (one.part(np.array([event])) for one in (lower, higher))
            )
            assert kept <= before
    first = choose(20, library=4000, keep=0.25)
    np.testing.assert_array_equal(first.row, ladder[2].row[: first.offsets[-1]])


def test_a_library_that_is_too_small() -> None:
    with pytest.raises(StoreError, match="200 source events are used 4 times each"):
        choose(150, reuse=4)
    with pytest.raises(StoreError, match="would hold the same one twice: the library has 5"):
        choose(150, library=5)


def test_interactions_are_added_each_in_its_turn(tmp_path: Path) -> None:
    store = write_events(tmp_path / "single.h5", 30, 1, noise=0.1)
    singles = SingleInteractions.of(store)
    images = store.read().energy.astype(float)
    choice = CrossingChoice(
        np.array([0, 3, 3, 4]), np.array([2, 7, 7, 29]), np.array([0, 5, 1, 11]), 2
    )
    found = singles.add_up(choice)
    expected = images[2] + np.roll(images[7], 5, axis=-1) + np.roll(images[7], 1, axis=-1)
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)
    assert not found[1].any()
    np.testing.assert_allclose(found[2], np.roll(images[29], 11, axis=-1), rtol=1e-6)


def run(folder: Path, output: str, farm: Farm | None = None, **settings: object) -> ImageStore:
    request = OverlayRequest(str(folder / "signal.h5"), str(folder / "single.h5"), folder / output)
    how = OverlaySettings(interactions=True, **{"mu_profile": "poisson:6", **settings})
    return overlay(request, how, farm=farm).store


def test_hard_scatters_with_crossings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(produce_module, "BLOCK_VALUES", 1)
    write_events(tmp_path / "signal.h5", 600, 1)
    single = write_events(tmp_path / "single.h5", 400, 2, mu=1.0, provenance=SYMMETRIC)
    made = run(tmp_path, "out.h5", max_reuse=10)
    mu = made.columns["mu"]
    assert mu.mean() == pytest.approx(6, abs=0.5)
    # Sums are linear: a crossing has as much energy as its interactions, on average.
    pileup = made.read().energy.sum(axis=(1, 2, 3)) - ImageStore(
        tmp_path / "signal.h5"
    ).read().energy.sum(axis=(1, 2, 3))
    per_interaction = single.read().energy.sum(axis=(1, 2, 3)).mean()
    assert pileup.sum() / mu.sum() == pytest.approx(per_interaction, rel=0.01)
    assert np.all(made.columns["pileup_event"][mu > 0] >= 1000)
    assert np.all(made.columns["pileup_event"][mu == 0] == -1)
    with Farm(2) as farm:
        run(tmp_path, "two.h5", farm, max_reuse=10)
    assert (tmp_path / "two.h5").read_bytes() == (tmp_path / "out.h5").read_bytes()


def test_the_ladder_leaves_cells_as_they_are_or_lowers_them(tmp_path: Path) -> None:
    write_events(tmp_path / "signal.h5", 40, 1)
    write_events(tmp_path / "single.h5", 300, 2, mu=1.0, provenance=SYMMETRIC)
    high = run(tmp_path, "high.h5", max_reuse=3)
    low = run(tmp_path, "low.h5", max_reuse=3, keep=0.4)
    removed = high.read().energy - low.read().energy
    assert removed.min() > -1e-4
    mu = [store.columns["mu"] for store in (high, low)]
    assert np.all(mu[1] <= mu[0])
    assert mu[1].sum() / mu[0].sum() == pytest.approx(0.4, abs=0.13)
    assert not removed[mu[0] == mu[1]].any()
    assert removed.sum(axis=(1, 2, 3))[mu[0] > mu[1]].min() > 0


def test_single_interactions_with_weights_have_no_sum(tmp_path: Path) -> None:
    write_events(tmp_path / "signal.h5", 20, 1)
    write_events(tmp_path / "single.h5", 200, 2, mu=1.0, weight=np.linspace(1, 2, 200))
    with pytest.raises(StoreError, match="have weights"):
        run(tmp_path, "out.h5")
    made = run(tmp_path, "out.h5", weights="none")
    # Nothing says that this detector is alike in φ, so nothing is turned.
    assert set(made.columns["pileup_weight"]) == {1.0}


@pytest.mark.parametrize("mu", [60.0, 0.0, np.arange(200) % 2])
def test_whole_pileup_events_are_no_single_interactions(tmp_path: Path, mu: object) -> None:
    """Their sums would have the μ of the profile written down, and many times its energy."""
    write_events(tmp_path / "signal.h5", 20, 1)
    write_events(tmp_path / "single.h5", 200, 2, mu=mu)
    with pytest.raises(StoreError, match="are no single interactions: their μ is"):
        run(tmp_path, "out.h5")


def test_crossings_need_a_profile() -> None:
    with pytest.raises(ConfigError, match="--interactions needs the profile"):
        OverlaySettings(interactions=True)
