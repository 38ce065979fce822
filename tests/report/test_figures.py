from __future__ import annotations

import hashlib

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from pileupgen.calo.geometry import Grid
from pileupgen.compare.settings import ComparisonSettings
from pileupgen.compare.validation import Validation, validate_stores
from pileupgen.diffusion.release import ReleaseScan, scan_release
from pileupgen.report.figures import (
    event_display_figure,
    release_figure,
    validation_figures,
    write_figure,
)
from pileupgen.report.figures.observables import common_edges, folded_histogram
from pileupgen.report.figures.style import Contents, new_figure, ratio_half_width, style


@pytest.fixture(scope="module")
def validation(toy_stores) -> Validation:
    return validate_stores(**toy_stores, settings=ComparisonSettings(n_bootstrap=10, n_seeds=0))


@pytest.fixture
def curve() -> ReleaseScan:
    rng = np.random.default_rng(2)
    times = list(range(0, 1000, 50))
    pairs = [
        (rng.normal(-d, 1, 200), rng.normal(d, 1, 200)) for d in np.exp(-np.array(times) / 250)
    ]
    return scan_release(times, pairs, 1, n_bootstrap=5)


def texts(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.findobj(mpl.text.Text))


def test_every_figure_is_drawn_and_leaves_no_trace(validation, curve, tmp_path):
    before = dict(mpl.rcParams)
    names = []
    for name, draw in validation_figures(validation, curve, 300):
        names.append(name)
        if name in ("observables_2", "observables_3"):
            continue
        paths = write_figure(draw(), tmp_path, name)
        assert [path.suffix for path in paths] == [".png", ".pdf"]
        assert all(path.stat().st_size > 2000 for path in paths)
    assert dict(mpl.rcParams) == before
    assert names[:4] == ["event_display", "mean_maps", "eta_profile", "cell_spectrum"]
    assert names[-2:] == ["distances", "release"]
    assert sum(name.startswith("observables_") for name in names) == 3


def test_the_release_is_left_out_where_nothing_recorded_it(validation):
    assert "release" not in dict(validation_figures(validation))


def test_legends_state_the_numbers_of_events(validation):
    figures = dict(validation_figures(validation))
    assert "translated (150 events)" in texts(figures["observables_1"]())
    assert "data (150 events)" in texts(figures["cell_spectrum"]())
    assert "3 × 150 events" in texts(figures["distances"]())


def test_axes_carry_units(validation):
    figures = dict(validation_figures(validation))
    assert "[GeV]" in texts(figures["observables_1"]())
    display = texts(figures["event_display"]())
    assert "[rad]" in display
    assert "MeV" in display


def test_the_same_figure_is_written_to_the_same_bytes(validation, tmp_path):
    hashes = []
    for folder in ("a", "b"):
        draw = dict(validation_figures(validation))["cell_spectrum"]
        paths = write_figure(draw(), tmp_path / folder, "f")
        hashes.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in paths])
    assert hashes[0] == hashes[1]


def test_what_is_written_is_laid_out(tmp_path):
    figure = new_figure(3.0, 2.0)
    axes = figure.add_subplot()
    axes.set_ylabel("a label\nof several\nlines", fontsize=20)
    write_figure(figure, tmp_path, "laid_out")
    box = axes.get_tightbbox()
    assert box.x0 >= 0
    assert box.y0 >= 0


def test_the_release_is_marked(curve):
    assert "release at" in texts(release_figure(curve, 300))
    assert "release at" not in texts(release_figure(curve))


def test_empty_images_can_be_drawn(toy, tmp_path):
    empty = np.zeros(toy.grid.shape, dtype=np.float32)
    write_figure(event_display_figure([empty], ["nothing"], toy.grid), tmp_path, "empty")


def test_empty_samples_can_be_drawn(toy, tmp_path):
    blank = np.zeros((400, *toy.grid.shape), dtype=np.float32)
    source = toy.store(tmp_path / "mc.h5", blank, "mc")
    target = toy.store(tmp_path / "data.h5", blank, "data")
    translated = toy.translated(tmp_path / "t.h5", source, blank[source.indices("test")])
    result = validate_stores(
        target, source, translated, ComparisonSettings(n_bootstrap=10, n_seeds=0)
    )
    assert any("events of mc are empty" in note for note in result.comparison.notes)
    for name, draw in validation_figures(result):
        if name in ("observables_2", "observables_3"):
            continue
        figure = draw()
        with style():
            figure.draw_without_rendering()


def test_a_window_in_phi_with_one_layer_can_be_drawn(toy, tmp_path):
    grid = Grid((0.0, 0.3, 0.6), 5, ("one",), 0.0, 1.0)
    energy = toy.energies(2, grid=grid)
    write_figure(event_display_figure(list(energy), ["a", "b"], grid), tmp_path, "window")


def test_histograms_drop_nothing():
    values = np.array([-1e9, 0.1, 0.2, 1e9])
    edges = np.linspace(0.0, 1.0, 5)
    contents = folded_histogram(values, edges, np.ones(4))
    assert contents.value.sum() == pytest.approx(1.0)
    assert contents.value == pytest.approx([0.75, 0.0, 0.0, 0.25])
    assert contents.error[0] == pytest.approx(np.sqrt(3) / 4)


def test_edges_of_a_constant_have_width():
    edges = common_edges([np.zeros(5), np.zeros(3)])
    assert np.all(np.diff(edges) > 0)


def test_ratios_to_little_are_left_open():
    sample = Contents(np.array([2.0, 3.0]), np.array([0.2, 0.3]))
    ratio = sample.over(Contents(np.array([1.0, 1.0]), np.array([0.1, 1.0])))
    assert ratio.value[0] == 2.0
    assert np.isnan(ratio.value[1])


def test_ratio_panes_reach_as_far_as_they_must():
    assert ratio_half_width([np.array([1.0, 1.01, 0.99])]) == 0.05
    assert ratio_half_width([np.array([1.0, 5.0, np.nan])]) == 1.0
    assert ratio_half_width([np.array([np.nan])]) == 0.5


def test_cells_of_either_sign_are_drawn_with_both(toy, tmp_path):
    rng = np.random.default_rng(5)
    source, target = (
        toy.store(
            tmp_path / f"{seed}.h5",
            (toy.energies(400, seed) + rng.normal(0, 0.5, (400, *toy.grid.shape))).astype("f4"),
            domain,
        )
        for seed, domain in ((1, "mc"), (2, "data"))
    )
    after = source.read(source.indices("test")).energy
    translated = toy.translated(tmp_path / "t.h5", source, after)
    result = validate_stores(
        target, source, translated, ComparisonSettings(n_bootstrap=10, n_seeds=0)
    )
    drawn = ("event_display", "cell_spectrum", "mean_maps", "observables_3")
    figures = {name: draw() for name, draw in validation_figures(result) if name in drawn}
    with style():
        for name in drawn[:3]:
            figures[name].draw_without_rendering()
    assert "$-10^2$" in texts(figures["cell_spectrum"])
    assert "E<0" in texts(figures["observables_3"])
    # Every hit of the target is in its points.
    panes = figures["cell_spectrum"].axes[:2]
    cells = result.samples.target.cells
    for layer, pane in enumerate(panes):
        points = next(line for line in pane.lines if len(line.get_xdata()) > 5)
        drawn = float(np.sum(points.get_ydata()))
        assert drawn == pytest.approx(cells.spectrum[layer].sum() + cells.negative[layer].sum())
        assert np.min(points.get_xdata()) < 0
