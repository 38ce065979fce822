from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from pileupgen.compare.distances import wasserstein
from pileupgen.compare.mu_bins import compare_in_mu, mu_edges
from pileupgen.compare.pileup_physics import cone_residual, line_in, pileup_quantities
from pileupgen.compare.resampling import Draws, Samples
from pileupgen.measure.regions import Cones
from pileupgen.measure.sample import Sample, measure_sample
from pileupgen.report.figures.pileup import profile

N = 400


@pytest.fixture(scope="module")
def samples(toy) -> Samples:
    """Energies that grow with μ; the source is too hot, the translation is right."""

    def made(seed: int, scale: float, name: str) -> Sample:
        mu = np.random.default_rng([3, seed]).poisson(60, N).astype(np.float32)
        energy = toy.energies(N, seed=seed) * (scale * mu / 60)[:, None, None, None]
        images = toy.images(energy.astype(np.float32), mu=mu)
        return measure_sample(name, name, [images], toy.grid)

    return Samples(
        target=made(1, 1.0, "target"),
        reference=(made(2, 1.0, "reference"),),
        source=made(3, 1.4, "source"),
        translated=made(4, 1.0, "translated"),
    )


def quantities(samples: Samples):
    draws = Draws.of(samples, np.arange(N), 40, 0)
    return {quantity.name: quantity for quantity in pileup_quantities(samples, draws)}


def test_densities_grow_as_they_were_made(samples):
    found = quantities(samples)
    slope = found["et_density_slope"].values
    for role, sample in (("target", samples.target), ("source", samples.source)):
        density = sample.observables["sum_et"].mean() / (2.0 * 2 * np.pi)
        # Cells below threshold make it grow a little faster than in proportion.
        assert slope[role].value == pytest.approx(1.1 * density / 60, abs=4 * slope[role].error)
        assert slope[role].error < 0.3 * slope[role].value
    rho = found["rho"].values
    assert rho["source"].value > rho["target"].value + 2 * rho["target"].error
    assert rho["target"].low < rho["target"].value < rho["target"].high


def test_a_twentieth_of_the_target_is_in_the_tail(samples):
    found = quantities(samples)
    assert found["occupancy_tail_em"].values["target"].value == pytest.approx(0.05, abs=0.01)


def test_missing_et_of_independent_cells_grows_with_the_root_of_their_sum(samples):
    values = quantities(samples)["met_sigma"].values["target"]
    observables = samples.target.observables
    expected = np.sqrt(0.5 * np.mean(observables["met_x"] ** 2 + observables["met_y"] ** 2))
    assert values.value == pytest.approx(expected)


def test_without_mu_there_is_no_slope_but_the_rest(samples):
    blind = replace(samples.source, mu=np.full(N, np.nan, dtype=np.float32))
    others = [replace(part, mu=blind.mu) for part in (samples.target, samples.translated)]
    unknown = Samples(others[0], samples.reference, blind, others[1])
    found = quantities(unknown)
    assert "rho_slope" not in found
    assert found["rho_resolution"].values["source"].value > 0
    assert compare_in_mu(unknown, np.arange(N)) == ()


def test_a_line_is_found_with_its_spread():
    rng = np.random.default_rng(0)
    mu = rng.poisson(60, 20000).astype(float)
    y = 3.0 + 0.7 * mu + rng.normal(0.0, 2.0, 20000)
    slope, spread = line_in(mu, y, np.ones((20000, 1)))
    assert slope[0] == pytest.approx(0.7, abs=0.01)
    assert spread[0] == pytest.approx(2.0, abs=0.05)
    assert np.isnan(line_in(np.ones(5), np.arange(5.0), np.ones((5, 1)))[0][0])


def test_bins_in_mu_hold_all_events_once(samples):
    bins = compare_in_mu(samples, np.arange(N), n_bins=3, n_bootstrap=10)
    assert len(bins) == 3
    assert sum(mu_bin.n_target for mu_bin in bins) == N
    assert sum(mu_bin.n_translated for mu_bin in bins) == N
    assert all(a.high == b.low for a, b in pairwise(bins))
    for mu_bin in bins:
        assert mu_bin.mean_distance["source"].value > mu_bin.mean_distance["reference"].value
        assert mu_bin.shift_removed.value > 0.4


def test_bins_in_mu_keep_the_links_to_the_source(samples):
    order = np.random.default_rng(1).permutation(N)
    shuffled = replace(samples, translated=samples.source.take(order))
    for mu_bin in compare_in_mu(shuffled, order, n_bins=2, n_bootstrap=10):
        assert mu_bin.source_correlation.value == pytest.approx(1.0)
        assert mu_bin.shift_removed.value == pytest.approx(0.0)


def test_few_events_are_not_cut_into_bins(samples):
    few = replace(samples, target=samples.target.take(np.arange(150)))
    assert compare_in_mu(few, np.arange(N)) == ()


def test_edges_lie_between_whole_numbers_of_interactions():
    mu = np.random.default_rng(0).poisson(60, 1000).astype(np.float32)
    edges = mu_edges(mu, 4)
    assert (edges[0], edges[-1]) == (mu.min(), mu.max())
    assert np.all(edges[1:-1] % 1 == 0.5)
    assert np.histogram(mu, edges)[0] == pytest.approx(250, abs=40)
    assert len(mu_edges(np.full(10, 60.0, dtype=np.float32), 3)) == 2


def test_a_profile_gives_means_and_spreads():
    x = np.repeat([0.5, 1.5], 500)
    y = np.where(x < 1, 2.0, 4.0) + np.tile([-1.0, 1.0], 500)
    centre, mean, error = profile(x, y, np.ones(1000), np.array([0.0, 1.0, 2.0]))
    assert centre == pytest.approx([0.5, 1.5])
    assert mean == pytest.approx([2.0, 4.0])
    assert error == pytest.approx(1 / np.sqrt(500))
    _, spread, _ = profile(x, np.tile([-3.0, 3.0], 500), np.ones(1000), np.array([0.0, 2.0]), True)
    assert spread == pytest.approx([3.0])
    assert len(profile(x[:5], y[:5], np.ones(5), np.array([0.0, 1.0]))[0]) == 0


def test_numbers_of_a_bin_are_those_of_its_events(samples):
    fewer = replace(samples, target=samples.target.take(np.arange(0, N, 2)))
    low, high = compare_in_mu(fewer, np.arange(N), n_bins=2, n_bootstrap=5)
    target = fewer.target.take(fewer.target.mu < low.high)
    assert low.n_target == len(target)
    assert low.n_translated == np.sum(samples.source.mu < low.high)
    assert high.n_target == len(fewer.target) - len(target)
    for role, part in (("reference", samples.reference[0]), ("source", samples.source)):
        inside = part.take(part.mu < low.high)
        expected = [
            wasserstein(inside.observables[name], values)[0] / values.std()
            for name, values in target.observables.items()
            if np.ptp(values) > 0
        ]
        assert low.mean_distance[role].value == pytest.approx(np.mean(expected))


def test_the_cone_is_corrected_by_the_density_times_its_area(samples):
    values = samples.target.observables
    area = np.pi * Cones(samples.target.grid).radius ** 2
    assert cone_residual(samples.target) == pytest.approx(values["cone_et"] - area * values["rho"])


def test_the_resolution_of_the_density_is_relative(samples):
    rho = samples.target.observables["rho"]
    found = quantities(samples)["rho_resolution"].values["target"].value
    slope, offset = np.polyfit(samples.target.mu, rho, 1)
    residual = rho - slope * samples.target.mu - offset
    assert found == pytest.approx(residual.std() / rho.mean(), rel=1e-3)


def test_the_error_of_a_spread_is_that_of_a_gaussians():
    y = np.random.default_rng(2).normal(0.0, 3.0, 4000)
    _, spread, error = profile(np.zeros(4000), y, np.ones(4000), np.array([-1.0, 1.0]), True)
    assert spread == pytest.approx([3.0], rel=0.05)
    assert error == pytest.approx([3.0 / np.sqrt(8000)], rel=0.05)


def test_an_event_on_an_edge_is_in_one_bin(samples):
    edges = mu_edges(samples.target.mu, 3)
    moved = {
        role: replace(getattr(samples, role), mu=np.resize(edges, N).astype(np.float32))
        for role in ("target", "source", "translated")
    }
    bins = compare_in_mu(replace(samples, **moved), np.arange(N), n_bins=3, n_bootstrap=5)
    assert sum(found.n_target for found in bins) == N
