from __future__ import annotations

import numpy as np
import pytest

from pileupgen.compare.comparison import compare, n_steps
from pileupgen.compare.conditions import Condition
from pileupgen.compare.distance_table import shift_removed
from pileupgen.compare.resampling import Samples
from pileupgen.errors import ConfigError
from pileupgen.measure.sample import Sample, measure_sample


def sample(toy, energy: np.ndarray, name: str = "source") -> Sample:
    return measure_sample(name, name, [toy.images(energy)], toy.grid)


def samples_of(toy, translated: np.ndarray, n: int = 200) -> Samples:
    return Samples(
        target=sample(toy, toy.energies(n, seed=2, scale=1.3), "target"),
        reference=tuple(
            sample(toy, toy.energies(n, seed=seed, scale=1.3), "reference") for seed in (3, 4)
        ),
        source=sample(toy, toy.energies(n, seed=1), "source"),
        translated=sample(toy, translated, "translated"),
    )


def run(toy, translated: np.ndarray, **options):
    samples = samples_of(toy, translated)
    options = {"n_bootstrap": 30, "n_seeds": 0, **options}
    return compare(samples, np.arange(len(translated)), **options)


def test_the_source_left_as_it_is_closes_nothing_of_the_gap(toy):
    result = run(toy, toy.energies(200, seed=1))
    assert result.translated.shift_removed.value == pytest.approx(0.0)
    assert result.translated.shift_removed.error == pytest.approx(0.0)
    assert result.translated.mean_w1 == result.source.mean_w1
    assert result.translated.source_correlation.block.value == pytest.approx(1.0)
    assert abs(result.controls.null_source_correlation_block.value) < 0.15


def test_events_of_the_target_close_the_gap(toy):
    result = run(toy, toy.energies(200, seed=9, scale=1.3))
    assert result.translated.shift_removed.value == pytest.approx(1.0, abs=0.15)
    assert result.reference.shift_removed.value == 1.0
    assert result.source.shift_removed.value == 0.0
    assert abs(result.translated.source_correlation.block.value) < 0.15


def test_equivalence_is_shown_by_many_events_and_not_by_few(toy):
    def found(n: int, scale: float):
        samples = samples_of(toy, toy.energies(n, seed=9, scale=scale), n)
        result = compare(samples, np.arange(n), n_bootstrap=60, n_seeds=0).equivalence
        assert result.excess.value < result.limit
        return result

    few, many, moved = found(60, 1.3), found(600, 1.3), found(600, 1.2)
    assert many.limit < few.limit
    assert many.holds
    assert not moved.holds
    # One-sided at 95 %: 1.6 standard errors above the estimate, of which the interval is one.
    assert (many.limit - many.excess.value) / many.excess.error == pytest.approx(1.6, abs=0.5)


def test_half_the_shift_closes_about_half_the_gap(toy):
    result = run(toy, (1.15 * toy.energies(200, seed=1)).astype(np.float32))
    closed = result.translated.shift_removed
    assert 0.3 < closed.value < 0.8
    assert closed.low < closed.value < closed.high


def test_shift_removed_is_undefined_where_there_is_no_gap():
    closed = shift_removed(np.array([0.1, 0.1]), np.array([0.2, 0.1]), np.array([0.1, 0.2]))
    assert np.isnan(closed.value)


def test_shift_removed_is_undefined_where_the_gap_is_within_its_spread():
    reference, translated = np.full(101, 0.1), np.full(101, 0.12)
    spread = np.concatenate([[0.0], np.random.default_rng(0).normal(0, 0.01, 100)])
    assert np.isnan(shift_removed(0.105 + spread, translated, reference).value)
    assert shift_removed(0.125 + spread, translated, reference).value == pytest.approx(0.2)


def test_a_shift_of_delta_is_delta_over_sigma(toy):
    samples = samples_of(toy, toy.energies(200, seed=1))
    target, moved = samples.target, samples.source
    values = target.observables["sum_e"] + 12.0
    shifted = Sample(**{**vars(moved), "observables": {**moved.observables, "sum_e": values}})
    replaced = Samples(target, samples.reference, shifted, samples.translated)
    result = compare(replaced, np.arange(200), n_bootstrap=10, n_seeds=0)
    expected = 12.0 / target.observables["sum_e"].std()
    assert result.source.observables["sum_e"].w1.value == pytest.approx(expected)


def test_the_reference_is_the_mean_over_its_samples(toy):
    samples = samples_of(toy, toy.energies(200, seed=1))
    both = compare(samples, np.arange(200), n_bootstrap=10, n_seeds=0).reference
    single = [
        compare(
            Samples(samples.target, (part,), samples.source, samples.translated),
            np.arange(200),
            n_bootstrap=10,
            n_seeds=0,
        ).reference
        for part in samples.reference
    ]
    mean = np.mean([row.mean_w1.value for row in single])
    assert both.mean_w1.value == pytest.approx(mean)
    assert (both.n_samples, both.n_events) == (2, 200)


def test_a_constant_observable_is_named_and_left_out_of_the_mean(toy):
    samples = samples_of(toy, toy.energies(200, seed=1))
    observables = {**samples.target.observables, "rho": np.full(200, 3.0)}
    target = Sample(**{**vars(samples.target), "observables": observables})
    replaced = Samples(target, samples.reference, samples.source, samples.translated)
    result = compare(replaced, np.arange(200), n_bootstrap=10, n_seeds=0)
    assert np.isnan(result.source.observables["rho"].w1.value)
    assert np.isfinite(result.source.mean_w1.value)
    assert any("constant in the target" in note and "rho" in note for note in result.notes)
    assert "w1_rho" not in result.headline
    assert "NaN" not in result.to_json()


def test_all_empty_images_give_no_number_and_no_failure(toy):
    empty = sample(toy, np.zeros((50, *toy.grid.shape), dtype=np.float32), "target")
    samples = Samples(empty, (empty,), empty, empty)
    result = compare(samples, np.arange(50), n_bootstrap=10, n_seeds=1)
    assert np.isnan(result.source.mean_w1.value)
    assert "NaN" not in result.to_json()


def test_few_events_are_compared_without_a_classifier(toy):
    tiny = [sample(toy, toy.energies(3, seed=seed)) for seed in range(4)]
    samples = Samples(tiny[0], (tiny[1],), tiny[2], tiny[3])
    result = compare(samples, np.arange(3), n_bootstrap=10, n_seeds=2)
    assert result.source.two_sample.features is None
    assert any("no two-sample test" in note for note in result.notes)
    assert np.isfinite(result.translated.mean_w1.value)


def test_steps_are_all_reported(toy):
    steps = []
    run(toy, toy.energies(200, seed=1), n_seeds=1, advance=steps.append)
    n_observables = len(sample(toy, toy.energies(1)).observables)
    assert sum(steps) == n_steps(n_observables, 1, 2)


def test_the_same_seed_gives_the_same_numbers(toy):
    translated = toy.energies(200, seed=5, scale=1.2)
    first = run(toy, translated, seed=3).to_json()
    assert first == run(toy, translated, seed=3).to_json()
    assert first != run(toy, translated, seed=4).to_json()


def test_the_headline_names_reference_and_source_too(toy):
    numbers = run(toy, toy.energies(200, seed=1), n_seeds=1).headline
    for name in ("mean_w1", "auc_features", "jsd_features", "separation_sum_et", "w1_rho", "fpd"):
        assert {name, f"{name}_source", f"{name}_reference"} <= numbers.keys()
    assert numbers["auc_features_source"] > 0.7


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("auc > 0.6", True),
        ("auc>=0.7", True),
        ("auc < 7e-1", False),
        (" auc <= .7 ", True),
        ("auc > 0.7", False),
    ],
)
def test_conditions(text, holds):
    assert Condition.parse(text).holds({"auc": 0.7}) is holds


@pytest.mark.parametrize(
    "text",
    ["auc", "auc == 1", "auc > x", "1 > auc", "auc > 1 or True", "__import__('os')", "a > nan"],
)
def test_what_is_no_condition_is_refused(text):
    with pytest.raises(ConfigError, match="is not a condition"):
        Condition.parse(text)


def test_an_unknown_number_names_the_nearest():
    with pytest.raises(ConfigError, match="auc_features"):
        Condition.parse("auc_feature > 1").holds({"auc_features": 0.5, "shift_removed": 1.0})


def test_negative_cells_of_one_sample_are_observables_of_all(toy):
    energy = toy.energies(200, seed=1)
    plain = run(toy, energy)
    energy[:, 1, 4, 5] = -1.0
    signed = run(toy, energy)
    names = list(signed.observables)
    assert "negative_em" not in plain.observables
    assert names[-4:] == ["negative_em", "negative_had", "negative_et_em", "negative_et_had"]
    assert list(signed.translated.observables) == list(signed.source.observables) == names
    assert any("negative_had" in note for note in signed.notes)
    assert signed.source.mean_w1 == plain.source.mean_w1


def test_seeds_are_shared_among_the_references_samples(toy):
    result = run(toy, toy.energies(200, seed=1), n_seeds=4)
    assert result.reference.two_sample.features.n_seeds == 4
    assert result.source.two_sample.features.n_seeds == 4


def test_the_largest_distance_is_that_of_the_farthest_observable(toy):
    result = run(toy, toy.energies(200, seed=1))
    largest = max(one.w1.value for one in result.source.observables.values())
    assert result.headline["max_w1_source"] == largest > result.headline["mean_w1_source"]
