"""Beyond the training's range: monotonic, invertible, and by a constant, bounded ratio."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pileupgen.models.calibration.calibration import CellCalibration
from pileupgen.models.calibration.limits import SCORE_LIMIT, kept_beyond, visible
from pileupgen.models.calibration.tails import MAX_RATIO
from tests.conftest import make_energies

MU = torch.tensor([60.0])
CELL = (3, 4)


def steeper(domain: int, seed: int, n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Made events; data's spectrum falls less steeply, as E to a power of 1.5."""
    energy, mu = make_energies(n, domain, seed)
    return (energy**1.5 if domain else energy).astype(np.float32), mu


def noisy(domain: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    energy, mu = steeper(domain, seed)
    noise = np.random.default_rng([seed, domain]).normal(0, 0.4, energy.shape)
    return (energy + noise).astype(np.float32), mu


def unsuppressed(domain: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([seed, domain])
    energy = np.exp(rng.normal(0.2 * domain, 0.7 + 0.3 * domain, (400, 2, 8, 12)))
    return energy.astype(np.float32), rng.poisson(60, 400).astype(np.float32)


def uncovered(domain: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Nothing is suppressed, but a layer does not cover the outer rings and has a dead cell."""
    energy, mu = unsuppressed(domain, seed)
    energy[:, 0, [0, -1]] = 0
    energy[:, 0, 5, 6] = 0
    return energy, mu


def far_apart(domain: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    energy, mu = make_energies(400, domain, seed)
    return energy * np.float32(50 if domain else 1), mu


def fit(make) -> CellCalibration:
    samples = [make(domain, 3) for domain in (0, 1)]
    calibration = CellCalibration(2, 8, 12, n_knots=128, n_mu_bins=2, n_layer_bins=4)
    calibration.fit([energy for energy, _ in samples], [mu for _, mu in samples])
    return calibration


@pytest.fixture(scope="module")
def fitted() -> dict[str, CellCalibration]:
    kinds = {
        "plain": steeper,
        "signed": noisy,
        "no nulls": unsuppressed,
        "uncovered rings": uncovered,
    }
    return {name: fit(make) for name, make in kinds.items()}


def with_cell(values: list[float], layer: int, seed: int = 0) -> torch.Tensor:
    """The same event again and again, with values in one cell of one layer."""
    energy = torch.from_numpy(make_energies(1, 0, 8)[0]).repeat(len(values), 1, 1, 1)
    energy[:, 1 - layer, *CELL] = 1.5
    energy[:, layer, *CELL] = torch.tensor(values)
    return energy


def mapped(
    calibration: CellCalibration, energy: torch.Tensor, source: int = 0, target: int = 1
) -> torch.Tensor:
    mu = MU.expand(len(energy))
    scores = calibration.encode(energy, source, mu, torch.full_like(energy, 0.5))
    return calibration.decode(scores, target, mu)


@pytest.mark.parametrize("kind", ["plain", "signed", "no nulls"])
@settings(deadline=None, max_examples=15)
@given(
    energies=st.lists(st.floats(60.0, 1e6, width=32), min_size=2, max_size=6, unique=True),
    layer=st.integers(0, 1),
    source=st.integers(0, 1),
)
def test_large_energies_keep_order_come_back_and_take_one_bounded_ratio(
    fitted, kind, energies, layer, source
):
    ordered = sorted(energies)
    energy = with_cell(ordered, layer)
    out = mapped(fitted[kind], energy, source, 1 - source)[:, layer, *CELL]
    assert bool((out.diff() > 0).all()) or np.min(np.diff(ordered) / ordered[:-1]) < 1e-5
    back = mapped(fitted[kind], energy, source, source)[:, layer, *CELL]
    torch.testing.assert_close(back, energy[:, layer, *CELL], rtol=1e-4, atol=0)
    # Data's largest training cells have a few hundred GeV: what lies beyond has one ratio.
    far = mapped(fitted[kind], with_cell([2e3, 2e4, 1e6], layer), source, 1 - source)
    ratio = far[:, layer, *CELL] / torch.tensor([2e3, 2e4, 1e6])
    torch.testing.assert_close(ratio, ratio[:1].expand(3), rtol=1e-3, atol=0)
    assert bool((ratio < 1.15 * MAX_RATIO).all())
    assert bool((ratio > 0.85 / MAX_RATIO).all())


@settings(deadline=None, max_examples=15)
@given(energies=st.lists(st.floats(-1e5, -1.0, width=32), min_size=2, max_size=5, unique=True))
def test_negative_energies_are_bounded_too(fitted, energies):
    energy = with_cell(sorted(energies), 1)
    out = mapped(fitted["signed"], energy)[:, 1, *CELL]
    ratio = out / energy[:, 1, *CELL]
    assert bool((out.diff() >= 0).all())
    assert bool((ratio > 0.9 / MAX_RATIO).all())
    assert bool((ratio < 1.1 * MAX_RATIO).all())
    back = mapped(fitted["signed"], energy, 0, 0)[:, 1, *CELL]
    torch.testing.assert_close(back, energy[:, 1, *CELL], rtol=2e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["no nulls", "uncovered rings"])
@settings(deadline=None, max_examples=15)
@given(
    energies=st.lists(st.floats(2**-20, 2**-5, width=32), min_size=2, max_size=5, unique=True),
    source=st.integers(0, 1),
)
def test_small_energies_are_bounded_where_nothing_is_suppressed(fitted, kind, energies, source):
    energy = with_cell(sorted(energies), 0)
    ratio = mapped(fitted[kind], energy, source, 1 - source)[:, 0, *CELL] / energy[:, 0, *CELL]
    assert bool((ratio > 0.9 / MAX_RATIO).all())
    assert bool((ratio < 1.1 * MAX_RATIO).all())
    back = mapped(fitted[kind], energy, source, source)[:, 0, *CELL]
    torch.testing.assert_close(back, energy[:, 0, *CELL], rtol=1e-4, atol=0)


@pytest.mark.parametrize("share", [0.005, 0.4])
def test_the_smallest_hits_beside_null_cells_become_null_or_the_smallest_of_the_target(share):
    """Their ratio has no bound, as that of a null cell has none; what they become has."""
    rng = np.random.default_rng(7)
    samples = []
    for domain in (0, 1):
        energy = rng.exponential(1 + 0.2 * domain, (400, 2, 8, 12))
        energy[rng.random(energy.shape) < share] = 0
        samples.append((energy.astype(np.float32), rng.poisson(60, 400).astype(np.float32)))
    calibration = CellCalibration(2, 8, 12, n_knots=128, n_mu_bins=2, n_layer_bins=4)
    calibration.fit([energy for energy, _ in samples], [mu for _, mu in samples])
    for source in (0, 1):
        hits = samples[1 - source][0]
        # Null cells are as many in both domains to some per mille.
        largest = float(np.quantile(hits[hits > 0], 0.02))
        for layer in (0, 1):
            energy = with_cell([1e-9, 1e-6, 1e-4], layer)
            out = mapped(calibration, energy, source, 1 - source)[:, layer, *CELL]
            assert bool((out >= 0).all())
            assert bool((out < largest).all())
            assert bool((out.diff() >= 0).all())


@pytest.mark.parametrize("kind", ["no nulls", "uncovered rings"])
@pytest.mark.parametrize("source", [0, 1])
def test_energies_keep_their_order_from_the_smallest_to_the_largest(fitted, kind, source):
    ladder = with_cell(torch.logspace(-6, 6, 600).tolist(), 0)
    out = mapped(fitted[kind], ladder, source, 1 - source)[:, 0, *CELL]
    assert bool((out.diff() > 0).all())


def test_an_excluded_cell_makes_no_null_cell_of_the_next_layer_where_nothing_is_suppressed():
    samples = [unsuppressed(domain, 3) for domain in (0, 1)]
    calibration = CellCalibration(2, 8, 12, n_knots=128, n_mu_bins=2, n_layer_bins=4)
    dead = np.zeros((2, 8, 12), dtype=bool)
    dead[1, *CELL] = True
    calibration.exclude(dead)
    calibration.fit([energy for energy, _ in samples], [mu for _, mu in samples])
    mc, mu = (torch.from_numpy(part) for part in samples[0])
    scores = calibration.encode(mc, 0, mu, torch.full_like(mc, 0.5))
    moved = calibration.decode(scores, 1, mu)
    assert not bool(moved[:, 1, *CELL].any())
    out = moved[:, 0]
    # The ring's own quantiles hold: those of data's lognormal distribution.
    assert float(out[:, *CELL].log().mean()) == pytest.approx(0.2, abs=0.15)
    assert float(out[:, *CELL].log().std()) == pytest.approx(1.0, abs=0.12)
    assert bool((out > 0).all())


def third_largest(energy: np.ndarray, mu: np.ndarray, ring: int, low: float, high: float) -> float:
    """Energy above which three cells of a table ring in layer 1 are left."""
    inside = (mu >= low) & (mu < high)
    cells = energy[inside][:, 1, [ring, 7 - ring]]
    return float(np.quantile(cells, 1 - 3 / cells.size))


def test_the_ratio_is_that_of_the_energies_beyond_which_three_hits_are_left():
    samples = [make_energies(4000, domain, 3) for domain in (0, 1)]
    edge = float(np.median(np.concatenate([mu for _, mu in samples])))
    for edges in ([0, 999], [0, edge, 999]):
        n_bins = len(edges) - 1
        calibration = CellCalibration(2, 8, 12, n_knots=128, n_mu_bins=n_bins, n_layer_bins=4)
        calibration.fit([energy for energy, _ in samples], [mu for _, mu in samples])
        ends = [
            [third_largest(*sample, ring, *part) for ring in range(4) for part in pairwise(edges)]
            for sample in samples
        ]
        # The median over the rings, all of which are neighbours here, and over the bins of μ.
        expected = np.exp(np.median(np.log(ends[1]) - np.log(ends[0])))
        out = mapped(calibration, with_cell([800.0], 1))[0, 1, *CELL]
        # Between two knots, ln E rises by 0.05, and is interpolated.
        assert float(out) / 800 == pytest.approx(expected, rel=0.025)


@pytest.mark.parametrize("factor", [0.8, 1.5])
def test_a_jet_of_two_tev_takes_the_factor_between_the_domains(factor):
    (mc, mc_mu), (data, data_mu) = (make_energies(1000, 0, seed) for seed in (1, 11))
    calibration = CellCalibration(2, 8, 12, n_knots=128, n_mu_bins=3, n_layer_bins=4)
    calibration.fit([mc, data * np.float32(factor)], [mc_mu, data_mu])
    energy, mu = (torch.from_numpy(part) for part in make_energies(8, 0, 99))
    # In every ring, 2 TeV over four cells of both layers.
    shares = torch.tensor([0.5, 0.2, 0.2, 0.1]).view(2, 2)
    for ring in range(8):
        energy[ring, :, ring, 3:5] += 2000 * shares
    scores = calibration.encode(energy, 0, mu, torch.full_like(energy, 0.5))
    jets = calibration.decode(scores, 1, mu)[range(8), :, range(8), 3:5].sum(dim=(1, 2))
    ratio = jets / (2000 * factor)
    assert float(ratio.min()) > 0.9
    assert float(ratio.max()) < 1.1


def test_a_ratio_beyond_the_limit_is_brought_back_to_it():
    calibration = fit(far_apart)
    inside = mapped(calibration, with_cell([5.0], 1))[0, 1, *CELL] / 5
    assert 25 < float(inside) < 100
    out = mapped(calibration, with_cell([1e4, 1e5, 1e6], 1))[:, 1, *CELL]
    ratio = out / torch.tensor([1e4, 1e5, 1e6])
    torch.testing.assert_close(ratio, torch.full((3,), MAX_RATIO), rtol=0.05, atol=0)
    ladder = torch.logspace(0, 6, 400).tolist()
    grown = mapped(calibration, with_cell(ladder, 1))[:, 1, *CELL]
    assert bool((grown.diff() > 0).all())


def test_a_cell_below_the_threshold_is_null_as_it_would_have_been_in_training(fitted):
    for value in (0.01, 0.3, 0.55):
        out = mapped(fitted["plain"], with_cell([value, 0.0], 1))
        assert torch.equal(out[0], out[1])
    kept = mapped(fitted["plain"], with_cell([0.601], 1), 0, 0)[0, 1, *CELL]
    assert float(kept) == pytest.approx(0.601, abs=0.01)
    assert not bool(fitted["no nulls"].threshold.any())


def test_networks_see_no_score_beyond_the_limit_and_change_no_cell_that_came_from_there():
    limits = torch.tensor([[-SCORE_LIMIT, SCORE_LIMIT]] * 2)
    source = torch.linspace(-30, 30, 24).view(1, 2, 3, 4)
    seen = visible(source, limits)
    assert float(seen.abs().max()) == SCORE_LIMIT
    assert torch.equal(seen[source.abs() < 5], source[source.abs() < 5])
    result = torch.full_like(source, -1.0)
    result[..., 0] = 300.0
    kept = kept_beyond(source, result, limits, 2)
    assert torch.equal(kept[source.abs() >= 5], source[source.abs() >= 5])
    assert torch.equal(kept[source.abs() < 4], result.clamp(-6, 6)[source.abs() < 4])
    assert float(kept_beyond(None, result, limits, 2).max()) == 6.0
    # A hit bit goes with its cell.
    wide = torch.tensor([[-5.0, 5.0], [-2.0, 2.0]])
    bits = torch.cat([torch.full((1, 1, 1, 1), 9.0), torch.ones(1, 1, 1, 1)], dim=1)
    off = kept_beyond(bits, -bits, wide, 1)
    assert torch.equal(off, bits)
