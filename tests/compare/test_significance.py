from __future__ import annotations

import re

import numpy as np
import pytest
from scipy.stats import ks_2samp, norm

from pileupgen.compare.records import SIGMA_LIMIT
from pileupgen.compare.significance import (
    difference_of_means,
    in_sigma,
    judge,
    kolmogorov_smirnov,
)
from pileupgen.measure.sample import Sample, measure_sample

N = 2000
RNG = np.random.default_rng(8)


def sample(toy, energy: np.ndarray) -> Sample:
    return measure_sample("s", "s", [toy.images(energy.astype(np.float32))], toy.grid)


@pytest.fixture(scope="module")
def real(toy) -> Sample:
    return sample(toy, toy.energies(N, seed=20))


@pytest.fixture(scope="module")
def other(toy) -> np.ndarray:
    return toy.energies(N, seed=21).astype(float)


def test_two_halves_of_one_sample_are_not_flagged(toy):
    energy = toy.energies(1000, seed=30)
    flagged = 0
    for _ in range(20):
        order = RNG.permutation(1000)
        first, second = (sample(toy, energy[half]) for half in (order[:500], order[500:]))
        flagged += judge(first, second).significance > 3.0
    assert flagged <= 1


def test_a_scale_of_two_percent_is_flagged(toy, real, other):
    moved = np.where(other * 1.02 > 0.7, other * 1.02, 0.0)
    verdict = judge(real, sample(toy, moved))
    assert verdict.significance > 3.0
    assert judge(real, sample(toy, other)).significance < 3.0


def test_a_dead_sector_is_flagged_and_named(toy, real, other):
    dead = other.copy()
    dead[:, 0, 4:8, 3:6] = 0.0
    verdict = judge(real, sample(toy, dead))
    assert verdict.significance > 3.0
    cells = [finding for finding in verdict.findings if finding.family == "cell"]
    assert cells
    assert all("cell em" in finding.name for finding in cells)
    assert all(finding.local >= finding.significance for finding in cells)


def test_a_resolution_wider_by_five_percent_is_flagged(toy, real, other):
    # The toy's cells have a spread of 0.8 in log E: five percent wider about the same median.
    with np.errstate(divide="ignore"):
        wider = np.where(other > 0, np.exp(np.log(np.maximum(other, 1e-9)) * 1.05), 0.0)
    assert judge(real, sample(toy, wider)).significance > 3.0


def test_leakage_is_flagged_by_correlations(toy, real):
    leaky = toy.energies(N, seed=22, leak=0.1)
    verdict = judge(real, sample(toy, leaky))
    assert verdict.significance > 10.0
    assert {finding.family for finding in verdict.findings} & {"correlation", "observable"}


def test_kolmogorov_smirnov_is_that_of_scipy():
    x, y = RNG.normal(size=800), RNG.normal(0.1, 1.0, size=900)
    ours = kolmogorov_smirnov(x, y, np.ones(800), np.ones(900))
    assert ours == pytest.approx(ks_2samp(x, y, method="asymp").pvalue, rel=0.15)
    assert kolmogorov_smirnov(x, x, np.ones(800), np.ones(800)) == 1.0


def test_weights_lower_the_certainty():
    x, y = RNG.normal(size=800), RNG.normal(0.3, 1.0, size=800)
    weight = RNG.gamma(0.5, size=800)
    plain = kolmogorov_smirnov(x, y, np.ones(800), np.ones(800))
    assert kolmogorov_smirnov(x, y, np.ones(800), weight) > plain


def test_empty_images_are_equal(toy):
    empty = sample(toy, np.zeros((50, *toy.grid.shape)))
    assert judge(empty, empty).significance == 0.0


def test_significance_is_bounded():
    assert in_sigma(1.0) == 0.0
    assert in_sigma(0.0) == pytest.approx(SIGMA_LIMIT, abs=0.2)
    assert in_sigma(0.0) <= SIGMA_LIMIT


def test_chances_are_multiplied_by_the_tests_of_a_family_and_by_the_families(toy, real, other):
    moved = np.where(other * 1.02 > 0.7, other * 1.02, 0.0)
    verdict = judge(real, sample(toy, moved))
    n_families = 5
    known = {"observable": 2 * len(real.observables), "block": real.blocks.shape[1]}
    seen = set()
    for finding in verdict.findings:
        if finding.family in known and 0 < finding.significance < 30:
            seen.add(finding.family)
            chance = norm.sf(finding.local) * known[finding.family] * n_families
            assert finding.significance == pytest.approx(in_sigma(min(1.0, chance)), abs=1e-6)
    assert "observable" in seen
    assert verdict.significance == verdict.findings[0].significance
    assert verdict.n_clear >= sum(finding.significance > 3.0 for finding in verdict.findings)


def test_false_alarms_of_equal_samples_are_as_rare_as_a_single_number_promises(toy):
    # After both corrections a significance above 1 σ has a chance of at most 16 %.
    energy = toy.energies(600, seed=40)
    above = 0
    for seed in range(30):
        order = np.random.default_rng(seed).permutation(600)
        halves = [sample(toy, energy[half]) for half in (order[:300], order[300:])]
        above += judge(*halves).significance > in_sigma(0.16)
    assert above <= 9


@pytest.mark.parametrize("scale", [1.0, 1.01, 1.02])
def test_counts_of_clear_tests_are_those_of_corrected_significances(toy, real, other, scale):
    moved = np.where(other * scale > 0.7, other * scale, 0.0)
    verdict = judge(real, sample(toy, moved))
    clear = sum(finding.significance > 3.0 for finding in verdict.findings)
    assert verdict.n_clear == clear < 10


def test_differences_of_means_are_two_sided_gaussian_tests():
    chance = difference_of_means(
        np.array([1.0, 2.0, 5.0]), np.array([0.3, 0.0, 0.0]), np.array([2.0, 2.5, 5.0]),
        np.array([0.4, 0.1, 0.0]),
    )  # fmt: skip
    assert chance == pytest.approx([2 * norm.sf(2.0), 2 * norm.sf(5.0), 1.0])


def test_kolmogorov_smirnov_takes_ties_as_one_step():
    x, y = np.repeat([0.0, 1.0], 50), np.repeat([0.0, 1.0], [25, 75])
    ours = kolmogorov_smirnov(x, y, np.ones(100), np.ones(100))
    assert ours == pytest.approx(ks_2samp(x, y, method="asymp").pvalue, rel=0.3)


def test_a_block_is_named_by_its_place(toy, real, other):
    moved = other.copy()
    moved[:, :, 2, 3] += 5.0
    worst = next(f for f in judge(real, sample(toy, moved)).findings if f.family == "block")
    axes = re.fullmatch(r"energy of block η = (\S+) … (\S+), φ = (\S+) … (\S+)", worst.name)
    assert axes is not None
    low, high, first, last = (float(edge.replace("−", "-")) for edge in axes.groups())
    assert low <= toy.grid.eta_centres[2] <= high
    assert first <= toy.grid.phi_centres[3] <= last
