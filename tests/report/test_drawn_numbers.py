"""Figures show the numbers that they are made from: values and errors are read back from them."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

from pileupgen.calo.geometry import Grid
from pileupgen.compare.records import ROWS
from pileupgen.compare.settings import ComparisonSettings
from pileupgen.compare.validation import Validation, validate_stores
from pileupgen.diffusion.release import scan_release
from pileupgen.measure.features import correlations
from pileupgen.measure.sample import measure_sample
from pileupgen.models.networks.ratio_calibration import Reliability
from pileupgen.report.figures import validation_figures
from pileupgen.report.figures.features import feature_correlation_figure
from pileupgen.report.figures.observables import common_edges, folded_histogram
from pileupgen.report.figures.pileup import profile
from pileupgen.report.figures.release import release_figure
from pileupgen.report.figures.reliability import reliability_figure
from pileupgen.report.figures.spectra import _Axis
from pileupgen.report.figures.style import Contents, draw_with_ratio
from pileupgen.samples.store import Images

EDGES = np.array([0.0, 1.0, 2.0, 4.0])
TARGET = Contents(np.array([4.0, 8.0, 2.0]), np.array([0.4, 0.6, 0.5]))
SOURCE = Contents(np.array([5.0, 6.0, 3.0]), np.array([0.5, 0.3, 0.6]))


def bars(container: ErrorbarContainer, axis: int = 1) -> np.ndarray:
    """Ends of error bars, shape (n, 2), of y or, with axis 0, of x."""
    columns = [
        np.array(lines.get_segments())[:, :, axis]
        for lines in container[2]
        if np.ptp(np.array(lines.get_segments())[:, :, axis], axis=1).max(initial=0) > 0
    ]
    return columns[0]


def points(container: ErrorbarContainer) -> tuple[np.ndarray, np.ndarray]:
    return container[0].get_xdata(), container[0].get_ydata()


def steps(axes: Axes) -> list[StepPatch]:
    return [patch for patch in axes.patches if isinstance(patch, StepPatch)]


@pytest.fixture(scope="module")
def validation(toy, tmp_path_factory) -> Validation:
    folder = tmp_path_factory.mktemp("drawn")
    mu = np.random.default_rng(1).poisson(60, 900).astype(np.float32)
    scale = (mu / 60)[:, None, None, None]
    before = (scale * toy.energies(900, seed=1)).astype(np.float32)
    source = toy.store(folder / "mc.h5", before, "mc", mu=mu)
    real = (scale * toy.energies(900, seed=2, scale=1.3)).astype(np.float32)
    target = toy.store(folder / "data.h5", real, "data", mu=mu)
    rows = source.indices("test")
    translated = toy.translated(
        folder / "t.h5", source, (1.2 * before[rows]).astype(np.float32), mu=mu[rows]
    )
    settings = ComparisonSettings(n_bootstrap=10, n_seeds=0, n_mu_bins=2)
    return validate_stores(target, source, translated, settings)


@pytest.fixture(scope="module")
def drawn(validation) -> dict[str, Figure]:
    wanted = ("mean_maps", "eta_profile", "observables_1", "correlations", "pileup", "distances")
    return {name: draw() for name, draw in validation_figures(validation) if name in wanted}


def test_histograms_and_their_ratios_carry_values_and_errors():
    main, below = Figure().subplots(2, 1)
    labels = {"target": "data", "source": "mc"}
    draw_with_ratio(main, below, EDGES, {"target": TARGET, "source": SOURCE}, labels)
    (container,) = main.containers
    x, y = points(container)
    assert x == pytest.approx([0.5, 1.5, 3.0])
    assert y == pytest.approx(TARGET.value)
    assert bars(container) == pytest.approx(
        np.stack([TARGET.value - TARGET.error, TARGET.value + TARGET.error], axis=1)
    )
    line, band = steps(main)
    assert line.get_data().values == pytest.approx(SOURCE.value)
    assert band.get_data().values == pytest.approx(SOURCE.value + SOURCE.error)
    assert band.get_data().baseline == pytest.approx(SOURCE.value - SOURCE.error)
    own, ratio, spread = steps(below)
    assert own.get_data().values == pytest.approx(1 + TARGET.error / TARGET.value)
    assert own.get_data().baseline == pytest.approx(1 - TARGET.error / TARGET.value)
    assert ratio.get_data().values == pytest.approx(SOURCE.value / TARGET.value)
    assert spread.get_data().values == pytest.approx((SOURCE.value + SOURCE.error) / TARGET.value)


def test_ratios_beyond_the_pane_are_marked_at_its_border():
    main, below = Figure().subplots(2, 1)
    far = Contents(np.array([40.0, 8.0, 0.0]), np.array([1.0, 0.6, 0.1]))
    draw_with_ratio(
        main, below, EDGES, {"target": TARGET, "source": far}, {"target": "", "source": ""}
    )
    marks = {
        line.get_marker(): list(line.get_xdata()) for line in below.lines if len(line.get_xdata())
    }
    assert marks["^"] == [0.5]


def test_distances_are_drawn_with_their_intervals(validation, drawn):
    (axes,) = drawn["distances"].axes
    comparison = validation.comparison
    for name, container in zip(ROWS, axes.containers, strict=True):
        row = comparison.rows[name]
        found = [row.observables[one].w1 for one in comparison.observables] + [row.mean_w1]
        x, y = points(container)
        assert x == pytest.approx([one.value for one in found])
        assert np.all(np.diff(y) < 0)
        ends = np.array(container[2][0].get_segments())[:, :, 0]
        assert ends == pytest.approx(np.array([[one.low, one.high] for one in found]))


def test_observables_are_histograms_of_the_samples(validation, drawn):
    samples = validation.samples
    name = next(iter(validation.comparison.observables))
    trio = [s.observables[name] for s in (samples.target, samples.source, samples.translated)]
    edges = common_edges(trio)
    main = drawn["observables_1"].axes[0]
    target = folded_histogram(trio[0], edges, samples.target.weight)
    filled = target.value > 0
    assert points(main.containers[0])[1] == pytest.approx(target.value[filled])
    ends = bars(main.containers[0])
    assert 0.5 * np.ptp(ends, axis=1) == pytest.approx(target.error[filled])
    shown = [patch.get_data().values for patch in steps(main)[::2]]
    for values, sample in zip(shown, (samples.source, samples.translated), strict=True):
        expected = folded_histogram(sample.observables[name], edges, sample.weight)
        assert values == pytest.approx(expected.value)


def test_profiles_in_eta_are_densities_with_their_errors(validation, drawn):
    target = validation.samples.target
    widths = np.diff(target.grid.eta_edges)
    for layer in range(target.grid.n_layers):
        container = drawn["eta_profile"].axes[layer].containers[0]
        assert points(container)[1] == pytest.approx(target.cells.ring_et[layer] / widths)
        errors = 0.5 * np.ptp(bars(container), axis=1)
        assert errors == pytest.approx(target.cells.ring_et_error[layer] / widths)


def test_maps_are_means_and_ratios_of_means(validation, drawn):
    samples = validation.samples
    trio = (samples.target, samples.source, samples.translated)
    means = [sample.cells.energy[0] for sample in trio]
    expected = [*means, *(mean / means[0] for mean in means[1:])]
    panes = [axes for axes in drawn["mean_maps"].axes if axes.get_label() != "<colorbar>"]
    for axes, values in zip(panes[:5], expected, strict=True):
        (mesh,) = (found for found in axes.collections if isinstance(found, QuadMesh))
        shown = np.ma.filled(mesh.get_array(), np.nan).reshape(values.T.shape)
        assert shown == pytest.approx(values.T)


def test_correlations_are_drawn_with_jackknife_errors(validation, drawn):
    target = validation.samples.target
    for column, what, first in ((0, "phi", 1), (1, "eta", 1), (2, "layers", 0)):
        container = drawn["correlations"].axes[column].containers[0]
        value = getattr(target.correlation, what)[0]
        error = getattr(target.correlation, f"{what}_error")[0]
        x, y = points(container)
        steps_apart = np.arange(first, first + len(x))
        assert x == pytest.approx(steps_apart)
        assert y == pytest.approx(value[steps_apart])
        assert 0.5 * np.ptp(bars(container), axis=1) == pytest.approx(error[steps_apart])


def test_the_bins_in_mu_are_drawn_where_they_are(validation, drawn):
    bins = validation.comparison.mu_bins
    assert len(bins) == 2
    containers = drawn["pileup"].axes[5].containers
    for number, role in enumerate(ROWS):
        for found, container in zip(bins, containers[2 * number : 2 * number + 2], strict=True):
            expected = found.mean_distance[role]
            assert points(container)[1] == pytest.approx([expected.value])
            across, upright = (np.array(lines.get_segments())[0] for lines in container[2])
            assert across[:, 0] == pytest.approx([found.low, found.high])
            assert upright[:, 1] == pytest.approx([expected.low, expected.high])


def test_growth_with_mu_is_drawn_with_errors_and_its_slope(validation, drawn):
    axes = drawn["pileup"].axes[1]
    target = validation.samples.target
    rho = target.observables["rho"]
    x, y = points(axes.containers[0])
    edges = np.quantile(
        np.concatenate(
            [s.mu for s in (target, validation.samples.source, validation.samples.translated)]
        ),
        np.linspace(0, 1, 8),
    )
    inside = (target.mu >= edges[1]) & (target.mu < edges[2])
    assert x[1] == pytest.approx(target.mu[inside].mean())
    assert y[1] == pytest.approx(rho[inside].mean())
    error = 0.5 * np.ptp(bars(axes.containers[0])[1])
    assert error == pytest.approx(rho[inside].std() / np.sqrt(inside.sum()))
    slope = validation.comparison.pileup["rho_slope"].values["target"]
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts[0] == f"slope {slope.value:.3f} ± {slope.error:.3f} GeV"


def test_the_random_cone_is_drawn_with_its_offset_and_spread(validation, drawn):
    legend = [text.get_text() for text in drawn["pileup"].axes[2].get_legend().get_texts()]
    pileup = validation.comparison.pileup
    for role in ("target", "source", "translated"):
        offset = pileup["cone_offset"].values[role].value
        sigma = pileup["cone_sigma"].values[role].value
        assert rf"{offset:.2f}, $\sigma$ = {sigma:.2f} GeV" in legend


def test_feature_correlations_are_differences_to_the_target():
    grid = Grid.of_features(("a", "b", "c"), ("", "", ""))
    rng = np.random.default_rng(3)
    samples = []
    for name, mix in (("target", 0.8), ("source", 0.0), ("translated", 0.6)):
        table = rng.normal(size=(500, 3))
        table[:, 1] += mix * table[:, 0]
        columns = {"weight": np.ones(500), "mu": np.zeros(500), "event_id": np.arange(500)}
        images = Images(table[:, :, None, None].astype(np.float32), grid, columns)
        samples.append(measure_sample(name, name, [images], grid))
    figure = feature_correlation_figure(*samples)
    (target, _), *others = (correlations(s.matrix(), s.weight) for s in samples)
    panes = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    for axes, expected in zip(panes, (target, *(o[0] - target for o in others)), strict=True):
        shown = np.ma.filled(axes.collections[0].get_array(), np.nan).reshape(3, 3)
        off = ~np.eye(3, dtype=bool)
        assert shown[off] == pytest.approx(expected[off])
    bold = [text.get_text() for text in panes[1].texts if text.get_fontweight() == "bold"]
    assert bold == [f"{(others[0][0] - target)[0, 1]:.2f}".replace("-", "−")] * 2


def test_the_release_curve_is_drawn_with_its_interval():
    rng = np.random.default_rng(1)
    pairs = [(rng.normal(-d, 1, 300), rng.normal(d, 1, 300)) for d in (2.0, 0.5, 0.2, 0.1)]
    curve = scan_release([0, 200, 500, 999], pairs, 1)
    top, bottom = release_figure(curve, 300).axes
    assert top.lines[0].get_ydata() == pytest.approx(curve.auc)
    assert bottom.lines[0].get_ydata() == pytest.approx(curve.ess)
    outline = top.collections[0].get_paths()[0].vertices[:, 1]
    assert (outline.min(), outline.max()) == pytest.approx(
        (min(curve.auc_low), max(curve.auc_high))
    )
    assert top.lines[-1].get_ydata()[0] == pytest.approx(np.interp(300, curve.t, curve.auc))


def test_spectra_hold_what_lies_beyond_the_bins_shown():
    value, error = np.arange(10.0), np.full(10, 2.0)
    folded = _Axis(2, 6, 2)._fold(value, error, 6)
    assert folded.value.tolist() == [0 + 1 + 2 + 3, 4, 5, 6 + 7 + 8 + 9]
    assert folded.error.tolist() == [4.0, 2.0, 2.0, 4.0]


def test_the_width_in_a_profile_has_the_error_of_a_width():
    y = np.random.default_rng(1).normal(0, 3.0, 40_000)
    _, width, error = profile(np.zeros(40_000), y, np.ones(40_000), np.array([-1.0, 1.0]), True)
    assert width[0] == pytest.approx(3.0, abs=5 * error[0])
    assert error[0] == pytest.approx(3.0 / np.sqrt(2 * 40_000), rel=0.03)


def test_reliability_is_drawn_at_its_times_with_its_errors():
    times = [0, 150, 300, 600, 999]
    shares = [[0.2 + 0.01 * i, 0.6 + 0.01 * i] for i in range(5)]
    errors = [[0.01 * (i + 1), 0.02 * (i + 1)] for i in range(5)]
    found = Reliability(times, shares, shares, errors, [0.6] * 5, [0.5] * 5)
    left = reliability_figure(found).axes[0]
    for i, container in enumerate(left.containers):
        assert points(container)[1].tolist() == shares[i]
        ends = np.add.outer(np.array(errors[i]), [0.0]) * [-1, 1] + np.array(shares[i])[:, None]
        assert bars(container) == pytest.approx(ends)
    assert len(left.containers) == 4
