"""A real event is worth one event; a generator's is worth what its errors say."""

from __future__ import annotations

from argparse import Namespace

import numpy as np
import pytest

from benchmarks import amplification, cathode
from pileupgen.compare.amplification import quantile_edges, quantile_error, worth_of
from pileupgen.errors import ConfigError

EDGES = quantile_edges(np.linspace(0.0, 1.0, 100_001), 10)


def errors_of(n: int, repeats: int, seed: int, edges: np.ndarray = EDGES) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.array([quantile_error(rng.random(n), edges) for _ in range(repeats)])


@pytest.mark.parametrize("n", [50, 400])
def test_real_events_are_worth_themselves(n):
    worth = worth_of(errors_of(n, 600, n), 10)
    # The error of one sample has the spread of a χ² with 9 degrees of freedom, 0.47.
    assert worth.events.value == pytest.approx(n, rel=4 * 0.47 / np.sqrt(600))
    assert worth.events.low < worth.events.value < worth.events.high
    assert worth.error.value == pytest.approx(0.09 / n, rel=0.08)


def test_intervals_hold_what_they_say():
    """Of many sets of 30 samples, two thirds have the truth in their interval."""
    inside = [
        found.low < 100 < found.high
        for seed in range(150)
        if (found := worth_of(errors_of(100, 30, seed), 10).events)
    ]
    assert np.mean(inside) == pytest.approx(0.66, abs=0.13)


def test_a_bias_limits_what_many_events_are_worth():
    """Parts of 0.12 and 0.08 in ten bins: δ² = 0.02², so 0.09 / 0.0004 = 225 events."""
    parts = np.tile([0.12, 0.08], 5)
    middles = (np.arange(10) + 0.5) / 10
    sample = np.repeat(middles, np.round(100_000 * parts).astype(int))
    error = quantile_error(sample, EDGES)
    assert error == pytest.approx(4e-4)
    assert worth_of(np.full(5, error), 10).events.value == pytest.approx(225)


def test_the_error_of_a_finite_truth_is_taken_off():
    rng, errors = np.random.default_rng(5), []
    for _ in range(400):
        edges = quantile_edges(rng.random(1000), 10)
        errors.append(quantile_error(rng.random(500), edges))
    found = np.array(errors)
    assert worth_of(found, 10, 1000).events.value == pytest.approx(500, rel=0.1)
    assert worth_of(found, 10).events.value == pytest.approx(1000 / 3, rel=0.1)
    # An error below that of the truth is as good as none.
    assert worth_of(np.full(3, 1e-9), 10, 1000).events.value == np.inf


def test_bins_that_cannot_be_made_are_refused():
    with pytest.raises(ConfigError, match="2 or more"):
        quantile_edges(np.arange(9.0), 1)
    with pytest.raises(ConfigError, match="coincide"):
        quantile_edges(np.array([0.0, 0.0, 0.0, 1.0]), 10)


def test_kept_rows_are_of_the_same_events_and_cuts(small_stores, tmp_path):
    """Rows of another run, other jets or another window are not taken from a file."""
    run, other = tmp_path / "run", tmp_path / "other"
    for folder, store in zip((run, other), small_stores, strict=True):
        (folder / "data").mkdir(parents=True)
        (folder / "data" / "data.h5").symlink_to(store.path)
    options = {"what": "run", "systems": "marginals", "observable": "sum_et", "train": 100}
    options |= {"generated": 1000, "seconds": 1.0, "seed": 1}
    keys = {amplification.key_of(Namespace(run=one, **options)) for one in (run, other, run)}
    assert len(keys) == 2
    files = [tmp_path / name for name in ("one.h5", "two.h5")]
    for path in files:
        path.write_text(path.name)
    jets = {"made": False, "features": "tau21", "injected": 9, "seconds": 6.0, "seed": 1}
    jets |= {"window": (40.0, 200.0), "region": (65.0, 105.0)}
    jets |= {"signal": files[0], "background": files[1]}
    changes = ({}, {"signal": files[1]}, {"background": files[0]}, {"region": (70.0, 105.0)})
    assert len({cathode.key_of(Namespace(**{**jets, **one})) for one in changes}) == 4


def test_repeats_on_the_same_jets_do_not_make_the_error_smaller(capsys):
    interval = {"value": 2.0, "low": 1.7, "high": 2.3}
    of = {"largest": interval, "at_efficiency": interval, "auc": 0.8}
    cathode.show(4 * [{"rows": {"CATHODE": of}, "density": [0.5, 0.01]}])
    assert "max SIC 2.00 ± 0.30" in capsys.readouterr().out
