from __future__ import annotations

import numpy as np

from pileupgen.diffusion.release import scan_release
from pileupgen.report.figures.release import release_figure
from pileupgen.report.figures.style import write_figure
from pileupgen.report.figures.training import denoising_figure, loss_figure

ROWS = [
    {"step": 1, "loss": 2.0},
    {"step": 2, "loss": 1.5, "held_out": 1.6},
    {"step": 3, "loss": 1.2, "held_out": 1.7},
]
CURVE = {
    "t": [10, 500, 990],
    "trivial": [1.0, 1.0, 1.0],
    "closed_form": [0.99, 0.8, 0.99],
    "network": [0.98, 0.7, 0.99],
    "first_estimate": [0.98, 0.72, 0.99],
    "gain": [0.01, 0.125, 0.0],
    "gain_error": [0.001, 0.002, 0.001],
    "n_events": 256,
}


def test_losses_are_drawn_a_pane_a_network_with_the_lowest_marked(tmp_path):
    figure = loss_figure({"denoiser": ROWS, "ratio": ROWS, "autoencoder": []})
    assert [axes.get_title() for axes in figure.axes] == ["denoiser", "ratio"]
    lowest = figure.axes[0].lines[-1]
    assert (lowest.get_xdata()[0], lowest.get_ydata()[0]) == (2, 1.6)
    written = write_figure(figure, tmp_path, "losses")
    assert [path.name for path in written] == ["losses.png", "losses.pdf"]


def test_a_training_of_no_steps_can_be_drawn(tmp_path):
    assert write_figure(loss_figure({"denoiser": []}), tmp_path, "losses")


def test_the_denoising_figure_shows_the_gain_in_per_cent():
    figure = denoising_figure(CURVE)
    gain = figure.axes[1].lines[-1].get_ydata()
    assert gain.tolist() == [1.0, 12.5, 0.0]


def test_the_automatic_release_is_marked_on_the_curve():
    rng = np.random.default_rng(1)
    pairs = [(rng.normal(-d, 1, 300), rng.normal(d, 1, 300)) for d in (2.0, 0.5, 0.0, 0.0)]
    scan = scan_release([0, 300, 600, 999], pairs, 1)
    t = scan.choose(0.55).t
    figure = release_figure(scan, t, "automatic release")
    assert t == 600
    assert figure.axes[0].lines[-1].get_xdata()[0] == t
    assert figure.axes[0].texts[0].get_text().startswith("automatic release at $t$ = 600")
