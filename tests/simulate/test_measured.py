"""Measured tables: what they hold, how predictions are filled, and how they are judged."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from pileupgen.errors import CardError, GeneratorError, InputError, UnreadableInputError
from pileupgen.simulate.interactions import Interactions
from pileupgen.simulate.measured.check import GeneratorCheck, check_generator, judge
from pileupgen.simulate.measured.fill import Particles, Sums, fill, one_entry
from pileupgen.simulate.measured.record import cached_path, last_check, read_check, write_check
from pileupgen.simulate.measured.table import TABLES, MeasuredTable, read_table, shipped_tables
from pileupgen.simulate.spec import SampleSpec

HEAD = """\
# name: mine
# title: my density
# source: a test
# quantity: et_density
# unit: GeV
# sqrt_s: 7000
# events: {n_charged: 1, pt_min: 0.25, abs_eta: [0, 2.5]}
# errors: total
"""
ROWS = "low,high,value,error_down,error_up\n0,0.8,0.7,0.02,0.03\n0.8,1.6,0.8,0.04,0.04\n"


def by_name(name: str) -> MeasuredTable:
    return next(table for table in shipped_tables() if table.head.name == name)


def toy_events(n: int, seed: int, scale: float = 1.0) -> Interactions:
    """Events whose multiplicity and mean momentum fluctuate; all momenta times ``scale``."""
    rng = np.random.default_rng([seed, 99])
    counts = rng.negative_binomial(2, 2 / (2 + 60), n)
    size = int(counts.sum())
    pt = scale * rng.exponential(np.repeat(rng.gamma(4, 0.15, n), counts))
    eta, phi = rng.uniform(-5.5, 5.5, size), rng.uniform(-np.pi, np.pi, size)
    charge = rng.integers(-1, 2, size)
    return Interactions.select(
        counts,
        pid=np.where(charge == 0, 22, 211 * charge),
        charge=charge,
        px=pt * np.cos(phi),
        py=pt * np.sin(phi),
        pz=pt * np.sinh(eta),
        energy=pt * np.cosh(eta),
    )


def events_of(*events: list[tuple[int, int, float, float]]) -> Interactions:
    """Events of massless particles (PDG code, charge, p_T, η)."""
    rows = np.array([particle for event in events for particle in event], dtype=float)
    pid, charge, pt, eta = rows.T
    return Interactions.select(
        np.array([len(event) for event in events]),
        pid=pid,
        charge=charge,
        px=pt,
        py=np.zeros_like(pt),
        pz=pt * np.sinh(eta),
        energy=pt * np.cosh(eta),
    )


# ── the shipped tables ────────────────────────────────────────────────────────────────────────


def test_spectra_that_ship_are_consistent_with_the_densities_that_ship() -> None:
    spectra, density = by_name("atlas_2012_sum_et"), by_name("atlas_2012_et_density")
    middle, width = 0.5 * (spectra.low + spectra.high), spectra.high - spectra.low
    for low, high, value in zip(density.low, density.high, density.value, strict=True):
        rows = spectra.window[:, 0] == low
        probability = spectra.value[rows] * width[rows]
        assert probability.sum() == pytest.approx(1.0, abs=0.006)
        mean = np.sum(probability * middle[rows])
        assert mean / (2 * (high - low) * 2 * np.pi) == pytest.approx(value, rel=0.04)


def test_multiplicities_that_ship_have_the_mean_of_the_densities_that_ship() -> None:
    number, density = by_name("atlas_2010_charged_multiplicity"), by_name("atlas_2010_charged_eta")
    pt = by_name("atlas_2010_charged_pt")
    probability = number.value * (number.high - number.low)
    assert probability.sum() == pytest.approx(1.0, abs=1e-3)
    mean = np.sum(density.value * (density.high - density.low))
    assert np.sum(probability * 0.5 * (number.low + number.high)) == pytest.approx(mean, rel=0.02)
    # The spectrum falls within a bin, so that its middle overestimates a little.
    particles = pt.value * 2 * np.pi * 0.5 * (pt.low + pt.high) * (pt.high - pt.low) * 5
    assert particles.sum() == pytest.approx(mean, rel=0.03)


def test_tables_that_ship_are_those_of_the_reference_files() -> None:
    folder = Path(__file__).parents[3] / "shared" / "data" / "measured"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data/measured beside the checkout")
    for name, file, columns in (
        ("atlas_2012_et_density", "atlas_2012_i1183818_et_density.csv", 5),
        ("atlas_2012_sum_et", "atlas_2012_i1183818_sum_et.csv", 7),
    ):
        table = by_name(name)
        lines = (folder / file).read_text().splitlines()
        rows = np.array([line.split(",") for line in lines if line[0].isdigit()], dtype=float)
        assert rows.shape == (len(table), columns)
        own = np.array([table.value, table.down, table.up]).T
        np.testing.assert_array_equal(rows[:, -3:], own)


# ── reading ───────────────────────────────────────────────────────────────────────────────────

SCATTER = """\
BEGIN YODA_SCATTER2D_V2 /REF/X/d01-x01-y01
Path: /REF/X/d01-x01-y01
Type: Scatter2D
---
# xval\t xerr-\t xerr+\t yval\t yerr-\t yerr+
4.0e-01\t4.0e-01\t4.0e-01\t7.0e-01\t2.0e-02\t3.0e-02
1.2e+00\t4.0e-01\t4.0e-01\t8.0e-01\t4.0e-02\t4.0e-02
END YODA_SCATTER2D_V2
"""
ESTIMATE = """\
BEGIN YODA_ESTIMATE1D_V3 /REF/X/d01-x01-y01
Path: /REF/X/d01-x01-y01
Title: ""
Type: Estimate1D
---
Edges(A1): [0.000000e+00, 8.000000e-01,
 1.600000e+00]
ErrorLabels: ["stat", "sys,scale"]
# value\terrDn(1)\terrUp(1)\terrDn(2)\terrUp(2)
nan\t---\t---\t---\t---
7.0e-01\t-2.0e-02\t3.0e-02\t-7.0e-02\t7.0e-02
8.0e-01\t-4.0e-02\t4.0e-02\t-8.0e-02\t8.0e-02
nan\t---\t---\t---\t---
END YODA_ESTIMATE1D_V3
"""


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("numbers", [ROWS, SCATTER, ESTIMATE], ids=["csv", "yoda2", "yoda3"])
def test_csv_and_yoda_are_read_alike(tmp_path: Path, numbers: str) -> None:
    table = read_table(written(tmp_path / "mine.txt", HEAD + numbers))
    np.testing.assert_allclose(table.low, [0, 0.8], atol=1e-12)
    np.testing.assert_allclose(table.high, [0.8, 1.6])
    np.testing.assert_allclose(table.value, [0.7, 0.8])
    np.testing.assert_allclose(table.down, [0.02, 0.04])
    np.testing.assert_allclose(table.up, [0.03, 0.04])
    shared = [[0.07, 0.08]] if numbers == ESTIMATE else np.zeros((0, 2))
    np.testing.assert_allclose(table.correlated, shared)


def test_one_object_of_several_is_named_in_the_head(tmp_path: Path) -> None:
    both = SCATTER + SCATTER.replace("d01", "d02").replace("7.0e-01", "9.0e-01")
    with pytest.raises(UnreadableInputError, match="several objects") as caught:
        read_table(written(tmp_path / "two.yoda", HEAD + both))
    assert "yoda_path" in caught.value.hint
    head = HEAD + "# yoda_path: /REF/X/d02-x01-y01\n"
    assert read_table(written(tmp_path / "one.yoda", head + both)).value[0] == 0.9


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + ROWS.replace("0.02", "small"), "line 10, 'error_down': 'small' is not a finite"),
        (HEAD + ROWS.replace("0.02", "nan"), "line 10"),
        (HEAD + ROWS.replace("value", "values"), "unknown column 'values'. Did you mean 'value'"),
        (HEAD + ROWS.replace(",0.03", ""), "line 10, 'error_up'"),
        (HEAD + ROWS.replace("0.03", "0.03,1"), "more entries"),
        (HEAD + ROWS.replace("0.8,1.6", "1.8,1.6"), "row 2 of the numbers: low must be below high"),
        (HEAD + ROWS.replace("0.02,0.03", "0,0"), "row 1 of the numbers: the measured error"),
        (HEAD + ROWS.replace("0.7", "-0.7"), "value must be above zero"),
        (HEAD + ROWS.replace("0.04,0.04", "-0.04,0.04"), "must not be negative"),
        (HEAD + ROWS.replace("1.6", "16"), "|η| is at most 6"),
        (HEAD + "low,high,value,error\n", "no numbers"),
        (HEAD.replace("GeV", "MeV") + ROWS, "'GeV' here, not in 'MeV'"),
        (HEAD.replace("et_density", "et_dens") + ROWS, "quantity"),
        (HEAD.replace("errors", "error") + ROWS, "unknown key 'error'. Did you mean 'errors'"),
        (HEAD.replace("[0, 2.5]", "[2.5, 2.5]") + ROWS, "must ascend"),
        (HEAD.replace("# name", "# name: [") + ROWS, "no YAML"),
        (
            HEAD.replace("et_density", "sum_et_spectrum").replace("GeV", "1/GeV") + SCATTER,
            "abs_eta",
        ),
        (
            HEAD + SCATTER.replace("4.0e-02\t4.0e-02", "4.0e-02"),
            "every line of numbers must hold 6",
        ),
        (HEAD + SCATTER.replace("SCATTER2D", "HISTO1D"), "kind HISTO1D"),
        (HEAD + ESTIMATE.replace(" 1.600000e+00", " 1.6, 2.4"), "do not fit 3 bins"),
        (HEAD + ESTIMATE.replace("8.0e-01\t-4", "nan\t-4"), "not finite"),
        ("", "missing"),
    ],
)
def test_faults_are_told_with_their_place(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises((InputError, CardError)) as caught:
        read_table(written(tmp_path / "faulty.csv", text))
    assert words in str(caught.value)
    assert "faulty.csv" in str(caught.value)


def test_files_that_are_no_text_are_told(tmp_path: Path) -> None:
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    for name in ("binary.csv", "absent.csv", ""):
        with pytest.raises(InputError, match="measured table"):
            read_table(tmp_path / name)


# ── selections ────────────────────────────────────────────────────────────────────────────────


def test_atlas_density_counts_what_its_selection_says() -> None:
    table = by_name("atlas_2012_et_density")
    two = [(211, 1, 0.3, 1.0), (-211, -1, 0.3, -1.0)]
    found = fill(
        table,
        Particles(
            events_of(
                # Counts: two charged ones, whose momenta p = 0.46 are below 0.5; photons on both
                # sides of |η| = 2, one below p = 0.2 at η = 0.4; a neutrino counts as any neutral.
                [*two, (22, 0, 1.5, 2.0), (12, 0, 0.5, -2.0), (22, 0, 0.18, 0.4)],
                # Does not: one charged particle of p_T > 0.25 is too soft or too far forward.
                [(211, 1, 0.3, 1.0), (211, 1, 0.24, 0.0), (211, 1, 9.0, 2.6), (22, 0, 5.0, 2.0)],
                # Counts, with a charged particle of p_T < 0.25 but p > 0.5 at |η| = 4.5.
                [*two, (211, 1, 0.1, 4.5)],
            )
        ),
    )
    assert (found.n_generated, found.n_selected) == (3, 2)
    area = 2 * 0.8 * 2 * np.pi
    expected = np.zeros(6)
    expected[2], expected[5] = 2.0 / area, 0.1 / area
    np.testing.assert_allclose(found.first, expected, rtol=1e-6)
    np.testing.assert_allclose(np.diag(found.second), expected**2, rtol=1e-6)


def test_cms_flow_wants_both_sides_and_leaves_out_muons_and_neutrinos() -> None:
    table = by_name("cms_2011_energy_flow_7000")
    both = [(211, 1, 0.05, 4.0), (13, -1, 0.05, -4.0)]
    left = [(211, 1, 0.05, -4.0), (211, 1, 0.05, -4.3), (22, 0, 0.05, 4.0)]
    right = [(code, charge, pt, -eta) for code, charge, pt, eta in left]
    counts = [*both, (14, 0, 1.0, 4.8), (22, 0, 1.0, -4.8)]
    found = fill(table, Particles(events_of(counts, left, right)))
    assert found.n_selected == 1
    width = 0.3502
    # The muon makes the event count, but its energy does not; half of the sum of both sides.
    expected = np.array([0, 0, 0.05 * np.cosh(4.0), 0, np.cosh(4.8)]) / (2 * width)
    np.testing.assert_allclose(found.first, expected, rtol=1e-3)


def test_charged_tables_count_particles() -> None:
    events = Particles(
        events_of(
            [(211, 1, 0.6, -2.45), (-211, -1, 2.0, 0.05), (22, 0, 9.0, 0.0), (211, 1, 0.4, 0.0)],
            [(211, 1, 0.4, 0.0)],
        )
    )
    density = fill(by_name("atlas_2010_charged_eta"), events)
    assert density.n_selected == 1
    assert density.first.sum() * 0.1 == pytest.approx(2)
    assert density.first[[0, 25]].tolist() == pytest.approx([10, 10])
    number = by_name("atlas_2010_charged_multiplicity")
    assert fill(number, events).first[:4].tolist() == [0, 1, 0, 0]
    pt = by_name("atlas_2010_charged_pt")
    found = fill(pt, events).first
    bins = np.searchsorted(pt.low, [0.6, 2.0], side="right") - 1
    assert np.flatnonzero(found).tolist() == bins.tolist()
    expected = 1 / (2 * np.pi * np.array([0.6, 2.0]) * 5 * (pt.high - pt.low)[bins])
    np.testing.assert_allclose(found[bins], expected, rtol=1e-6)
    np.testing.assert_allclose(one_entry(pt)[bins], expected, rtol=0.1)


def test_sums_do_not_depend_on_how_the_events_are_parted() -> None:
    table = by_name("atlas_2012_sum_et")
    parts = [toy_events(200, seed) for seed in (1, 2)]
    joined = fill(table, Particles(Interactions.join([part.arrays() for part in parts])))
    added = fill(table, Particles(parts[0])) + fill(table, Particles(parts[1]))
    assert joined.n_selected == added.n_selected
    np.testing.assert_allclose(joined.first, added.first)
    np.testing.assert_allclose(joined.second, added.second)


# ── errors and χ² ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["atlas_2012_et_density", "cms_2011_energy_flow_7000"])
def test_statistical_error_is_the_spread_over_seeds(name: str) -> None:
    table = by_name(name)
    sums = [fill(table, Particles(toy_events(150, seed))) for seed in range(120)]
    means = np.array([one.mean() for one in sums])
    quoted = np.mean([one.covariance() for one in sums], axis=0)
    spread = np.cov(means.T)
    # The relative error of a standard deviation from 120 samples is 1/√240 = 6.5 %.
    np.testing.assert_allclose(np.sqrt(np.diag(spread) / np.diag(quoted)), 1.0, atol=0.26)
    correlation = quoted / np.sqrt(np.outer(np.diag(quoted), np.diag(quoted)))
    assert correlation[0, 1] > 0.2, "an event that is busy is busy everywhere"
    np.testing.assert_allclose(np.corrcoef(means.T)[0, 1], correlation[0, 1], atol=0.25)


def test_error_of_a_spectrum_is_multinomial() -> None:
    table = by_name("atlas_2010_charged_multiplicity")
    sums = fill(table, Particles(toy_events(3000, 3)))
    width = table.high - table.low
    p, n = sums.mean() * width, sums.n_selected
    scaled = sums.covariance() * np.outer(width, width) * (n - 1)
    np.testing.assert_allclose(np.diag(scaled), p * (1 - p), atol=1e-12)
    np.testing.assert_allclose(scaled[0, 1], -p[0] * p[1], atol=1e-12)


@cache
def toy_truth() -> np.ndarray:
    table = by_name("atlas_2012_et_density")
    return fill(table, Particles(toy_events(20_000, 1000))).mean()


@cache
def toy_sums(scale: float = 1.0) -> Sums:
    return fill(by_name("atlas_2012_et_density"), Particles(toy_events(4000, 1, scale)))


def pseudo_data(scale_error: float, own_error: float, seed: int) -> MeasuredTable:
    """A table measured on the toy generator itself, fluctuated by its errors."""
    table = by_name("atlas_2012_et_density")
    truth = toy_truth()
    rng = np.random.default_rng([seed, 5])
    own, shared = own_error * truth, scale_error * truth
    value = truth + own * rng.normal(size=len(truth)) + shared * rng.normal()
    correlated = shared[None] if scale_error else np.zeros((0, len(truth)))
    return replace(table, value=value, down=own, up=own, correlated=correlated)


def test_planted_ten_percent_is_flagged_and_none_is_not() -> None:
    plain = toy_sums()
    planted = toy_sums(1.1)
    # ATLAS' errors are of 5 to 9 %, those of the pseudo-data of 3 %; 50 measurements of the same.
    tables = [pseudo_data(0, 0.03, seed) for seed in range(50)]
    assert sum(judge(table, plain).differs for table in tables) <= 3
    assert sum(judge(table, planted).differs for table in tables) >= 45


def test_chi2_of_the_right_generator_has_the_mean_of_its_law() -> None:
    sums = toy_sums()
    for scale_error in (0.0, 0.1):
        found = [judge(pseudo_data(scale_error, 0.03, seed), sums).chi2 for seed in range(60)]
        assert np.mean(found) == pytest.approx(6, abs=4 * np.sqrt(12 / 60))


def test_an_error_that_bins_share_excuses_a_common_scale_only() -> None:
    sums = toy_sums()
    exact = replace(
        pseudo_data(0, 0.02, 0), value=sums.mean(), down=0.02 * sums.mean(), up=0.02 * sums.mean()
    )
    shifted = replace(exact, value=exact.value / 1.1)
    tilted = replace(exact, value=exact.value * np.linspace(0.9, 1.1, 6))
    assert judge(exact, sums).chi2 == pytest.approx(0, abs=1e-12)
    assert judge(shifted, sums).differs
    for table, differs in ((shifted, False), (tilted, True)):
        assert judge(replace(table, correlated=0.1 * exact.value[None]), sums).differs is differs


def test_asymmetric_errors_count_on_the_side_of_the_prediction() -> None:
    sums = toy_sums()
    mean = sums.mean()
    narrow, wide = np.full(6, 1e-3), np.full(6, 1e3)
    above = replace(by_name("atlas_2012_et_density"), value=0.9 * mean, down=narrow, up=wide)
    below = replace(above, value=1.1 * mean)
    assert judge(above, sums).chi2 < 1
    assert judge(below, sums).chi2 > 25
    assert judge(above, sums).n_within == 6


def test_bins_without_an_entry_have_the_error_of_what_was_measured() -> None:
    table = by_name("atlas_2010_charged_multiplicity")
    sums = fill(table, Particles(toy_events(300, 3)))
    empty = sums.first == 0
    assert empty.any()
    found = judge(table, sums)
    width = (table.high - table.low)[empty]
    entries = table.value[empty] * width * sums.n_selected
    np.testing.assert_allclose(found.error[empty] * width * sums.n_selected, np.sqrt(entries))


def test_too_few_events_are_an_error() -> None:
    table = by_name("atlas_2012_et_density")
    few = Sums(5, 1, np.zeros(6), np.zeros((6, 6)))
    with pytest.raises(GeneratorError, match="1 of 5 generated events pass"):
        judge(table, few)


# ── running and remembering ───────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> tuple[SampleSpec, GeneratorCheck]:
    pytest.importorskip("chromo")
    values = {"generator": "pythia6", "sqrt_s": 7000, "pool_size": 700, "seed": 3}
    spec = SampleSpec.parse(values, "test")
    paths = [TABLES / "atlas_2012_et_density.csv", TABLES / "atlas_2012_sum_et.csv"]
    tables = {path: read_table(path) for path in paths}
    seen: list[int] = []
    found = [
        check_generator(spec, tables, tmp_path_factory.mktemp("scratch"), workers, seen.append)
        for workers in (1, 2)
    ]
    assert seen == [500, 200, 500, 200]
    assert found[0].to_dict() == found[1].to_dict()
    return spec, found[0]


def test_untuned_pythia_6_is_too_soft(checked: tuple[SampleSpec, GeneratorCheck]) -> None:
    density, spectra = checked[1].tables
    assert density.n_generated == 700
    assert 0.5 < density.ratio.mean() < 0.8
    assert density.differs
    assert spectra.differs
    assert density.n_within == 0
    np.testing.assert_allclose(density.ratio_error, density.error / density.measured)


def test_result_is_remembered_and_named(
    tmp_path: Path, checked: tuple[SampleSpec, GeneratorCheck]
) -> None:
    spec, check = checked
    at_13 = spec.model_copy(update={"sqrt_s": 13000.0})
    assert "pileupgen simulate --check -g pythia6" in last_check(at_13, tmp_path)
    path = cached_path(spec, tmp_path)
    write_check(check, path)
    again = read_check(path)
    assert again is not None
    assert again.to_dict() == check.to_dict()
    line = last_check(at_13, tmp_path)
    assert line.startswith("pythia6 at 7 TeV, not checked at 13 TeV: E_T density, 7 TeV, generated")
    assert "differs in atlas_2012_et_density, atlas_2012_sum_et" in line
    lower = replace(check, sqrt_s=900.0, tables=check.tables[:1])
    write_check(lower, cached_path(spec.model_copy(update={"sqrt_s": 900.0}), tmp_path))
    assert last_check(at_13, tmp_path) == line, "the nearest energy is named"
    path.write_text("{")
    assert "0.9 TeV" in last_check(at_13, tmp_path), "a damaged record is none"
