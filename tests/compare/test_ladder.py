"""The ladder on made samples: what is left out is seen, what does nothing is said to do nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pileupgen.compare.ladder import (
    AS_ASKED,
    FAMILIES,
    PHYSICS,
    Variant,
    compare_variants,
    family_of,
)
from pileupgen.compare.results import Comparison
from pileupgen.compare.two_sample import feature_test, resampled_auc
from pileupgen.measure.bootstrap import Estimate, resample
from pileupgen.report.ladder import ladder_cells, sentences
from pileupgen.report.tables import ladder_table
from pileupgen.report.verdict import judge_comparison
from tests.compare.test_comparison import run, sample, samples_of

N = 300


@pytest.fixture(scope="module")
def ladder(toy):
    source = toy.energies(N, seed=1)
    samples = samples_of(toy, source, N)
    asked, worse = (
        sample(toy, toy.energies(N, seed=1, scale=scale), "translated") for scale in (1.3, 1.1)
    )
    variants = [
        Variant("source", "source", samples.source),
        Variant("transport", "linear map, no diffusion", worse, samples.source),
        Variant("unguided", "w = 0", asked),
        Variant(AS_ASKED, "as asked", asked, worse),
    ]
    return compare_variants(samples, variants, settings={"w": 2.0}, n_bootstrap=60, seed=3)


def test_a_part_that_does_nothing_has_no_rise(ladder):
    rung = ladder["unguided"]
    for rise in (rung.w1_rise, rung.auc_rise):
        assert rise.value.value == 0
        assert np.isnan(rise.sigma)
    assert rung.mean_w1 == ladder[AS_ASKED].mean_w1
    assert ladder[AS_ASKED].w1_rise is None


def test_a_part_that_helps_is_clear_since_events_are_shared(ladder):
    rung, asked = ladder["transport"], ladder[AS_ASKED]
    assert rung.w1_rise.value.value == pytest.approx(rung.mean_w1.value - asked.mean_w1.value)
    assert rung.w1_rise.sigma > 5
    assert rung.auc_rise.sigma > 5
    # Far more so than if the two were independent.
    apart = np.hypot(rung.mean_w1.error, asked.mean_w1.error)
    assert rung.w1_rise.value.error < 0.7 * apart


def test_fractions_removed_are_given_by_family(ladder):
    assert set(ladder["source"].removed) == {"all", *FAMILIES}
    assert ladder["source"].removed["spectra"].value == 0
    assert ladder[AS_ASKED].removed["spectra"].value == pytest.approx(1, abs=0.15)
    assert 0.1 < ladder["transport"].removed["spectra"].value < 0.8
    assert family_of("met_x") == family_of("rho") == family_of("cone_et") == "physics"


def test_events_of_weight_zero_are_as_good_as_left_out(toy):
    """Their number of draws says nothing, and no quantity is undefined for them."""
    samples = samples_of(toy, toy.energies(N, seed=1, scale=1.2), N)
    left_out = np.arange(N) % 10 == 0

    def rungs(change) -> list:
        source, asked = change(samples.source), change(samples.translated)
        variants = [Variant("source", "source", source), Variant(AS_ASKED, "as asked", asked)]
        found = compare_variants(
            replace(samples, source=source), variants, settings={}, n_bootstrap=60, seed=3
        )
        return list(found.rungs)

    of_zeros = rungs(lambda one: replace(one, weight=np.where(left_out, 0.0, one.weight)))
    of_rest = rungs(lambda one: one.take(np.flatnonzero(~left_out)))
    for zeros, rest in zip(of_zeros, of_rest, strict=True):
        assert zeros.mean_w1.value == pytest.approx(rest.mean_w1.value)
        assert zeros.block.value == pytest.approx(rest.block.value)
        assert zeros.mean_w1.error == pytest.approx(rest.mean_w1.error, rel=0.6)
        assert zeros.auc.value == pytest.approx(rest.auc.value, abs=0.1)


def test_cells_below_zero_are_counted_in_every_variant(toy):
    """Noise of either sign in the target alone: variants that have none are far from it."""
    source = toy.energies(N, seed=1)
    noise = np.random.default_rng(3).normal(0, 0.3, source.shape).astype(np.float32)
    samples = samples_of(toy, source, N)
    target, asked = (sample(toy, toy.energies(N, seed=k) + noise, "noisy") for k in (7, 1))
    variants = [
        Variant("source", "source", samples.source),
        Variant(AS_ASKED, "as asked", asked, samples.source),
    ]
    found = compare_variants(
        replace(samples, target=target), variants, settings={}, n_bootstrap=20, n_seeds=1
    )
    assert target.negatives.any()
    assert found["source"].mean_w1.value > 2 * found[AS_ASKED].mean_w1.value
    assert found[AS_ASKED].plain_w1.value == pytest.approx(found["source"].mean_w1.value)


def test_no_fraction_is_given_of_a_shift_that_is_not_there(toy):
    """Energies that differ by less than two samples of one distribution do."""
    samples = samples_of(toy, toy.energies(N, seed=1, scale=1.3), N)
    same = samples.translated
    found = compare_variants(
        replace(samples, source=same),
        [Variant(AS_ASKED, "as asked", same)],
        settings={},
        n_bootstrap=40,
    )
    (rung,) = found.rungs
    for family in FAMILIES:
        assert not rung.removed[family].is_known
        near = found.reference_families[family]
        assert rung.families[family].value == pytest.approx(near.value, abs=6 * near.error)


def test_pileup_physics_is_told_over_the_targets(ladder):
    source, asked = (ladder[name].physics for name in ("source", AS_ASKED))
    assert set(source) == set(PHYSICS)
    # The target's energies are 1.3 times the source's, and more of them pass the threshold.
    assert source["rho"].value < 0.85
    assert asked["rho"].value == pytest.approx(1, abs=3 * asked["rho"].error)
    assert 0 < asked["rho"].error < 0.05


def test_what_the_correction_does_is_seen(ladder):
    rung = ladder[AS_ASKED]
    assert rung.plain_w1.value == ladder["transport"].mean_w1.value
    assert rung.plain_auc.value == ladder["transport"].auc.value
    assert ladder["unguided"].plain_w1 is None


def test_the_resampled_auc_is_that_of_the_two_sample_test():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 3)), rng.normal(0.4, size=(250, 3))
    counts = [np.column_stack([np.ones(len(z)), resample(len(z), 80, rng)]) for z in (x, y)]
    found = resampled_auc(x, y, *counts, n_seeds=2, seed=5)
    test = feature_test(x, y, n_seeds=2, seed=5)
    assert found.shape == (81,)
    assert found[0] == pytest.approx(test.auc, abs=0.03)
    assert np.std(found[1:]) == pytest.approx(test.error, rel=0.4)


@pytest.fixture(scope="module")
def comparison(toy):
    return run(toy, toy.energies(200, seed=1), n_bootstrap=10)


def test_it_is_told_in_words_and_as_a_table(ladder, comparison):
    with_ladder = comparison.model_copy(update={"ladder": ladder})
    again = Comparison.model_validate_json(with_ladder.to_json())
    text = " ".join(sentences(again))
    rung = again.ladder["transport"]
    gain = f"{-rung.w1_rise.value.value:+.3f}".replace("-", "−")
    assert rung.w1_rise.value.value > 0
    assert f"W1/σ {gain} ({rung.w1_rise.sigma:.1f} σ)" in text
    assert "What the diffusion adds to calibration and a linear map of correlations" in text
    assert "Without a clear effect here: w = 0." in text
    assert "Nearer to the target" not in text
    headings, rows = ladder_cells(again)
    assert [row[0] for row in rows] == [
        "reference",
        "source",
        "linear map, no diffusion",
        "w = 0",
        "as asked",
    ]
    assert all(len(row) == len(headings) for row in rows)
    assert rows[3][2].endswith("(equal)")
    assert text in judge_comparison(again).progress
    assert ladder_table(comparison) is None
    assert not sentences(comparison)


def test_few_events_recommend_nothing(ladder, comparison):
    """That no difference is clear means something where one of 0.05 would be."""

    def said(error_w1: float, error_auc: float) -> str:
        rung = ladder["unguided"]
        changes = {
            name: rise.model_copy(
                update={"value": Estimate(0.01, 0.01 - error, 0.01 + error), "sigma": 1.0}
            )
            for name, rise, error in (
                ("w1_rise", rung.w1_rise, error_w1),
                ("auc_rise", rung.auc_rise, error_auc),
            )
        }
        near = rung.model_copy(update={"name": "calibrate", **changes})
        of = {"rungs": (near, ladder[AS_ASKED]), "settings": {"mode": "invert"}}
        return sentences(comparison.model_copy(update={"ladder": ladder.model_copy(update=of)}))[-1]

    assert said(0.01, 0.015).endswith("Recommended: --mode calibrate.")
    # Trees that cannot split give one AUC for all.
    for errors in ((0.03, 0.01), (0.01, 0.03), (0.01, 0.0)):
        assert "too few events" in said(*errors)
        assert "Recommended" not in said(*errors)
    assert "0.090 in W1/σ or 0.030 in the AUC" in said(0.03, 0.01)


def test_no_diffusion_is_recommended_where_none_comes_nearer(ladder, comparison):
    """The calibration before the linear map, and neither where it is clearly farther."""

    def recommended(mode="invert", **rungs) -> str:
        named = [one.model_copy(update={"name": name}) for name, one in rungs.items()]
        of = {"rungs": (*named, ladder[AS_ASKED]), "settings": {"mode": mode}}
        found = comparison.model_copy(update={"ladder": ladder.model_copy(update=of)})
        return " ".join(sentences(found)).rpartition("Recommended: ")[2]

    near, far = ladder["unguided"], ladder["transport"]
    assert recommended(calibrate=near, transport=near) == "--mode calibrate."
    assert recommended(calibrate=near, transport=near, mode="transport") == "--mode calibrate."
    assert recommended(calibrate=far, transport=near) == "--mode transport."
    for asked in ("calibrate", "transport"):
        assert "--mode" not in recommended(calibrate=far, transport=near, mode=asked)
    assert "--mode" not in recommended(calibrate=far, transport=far)
    # A test that only the calibrated events fail speaks against them, and so does what they lose.
    failed = near.model_copy(update={"significance": 9.0})
    lossy = near.model_copy(update={"block": Estimate(0.5, 0.4, 0.6)})
    for worse in (failed, lossy):
        assert recommended(calibrate=worse, transport=near) == "--mode transport."
