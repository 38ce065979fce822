"""The way of one event is that of its translation, not another one."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest

from pileupgen.diffusion.direction import Direction
from pileupgen.diffusion.event_path import follow_event, has_path
from pileupgen.diffusion.settings import Settings
from pileupgen.errors import ConfigError
from pileupgen.report.figures import write_figure
from pileupgen.report.figures.displays import event_path_figure
from tests.conftest import SMALL_GRID

WAYS = [
    Settings("partial", 300, 1.0, 6),
    Settings("invert", 900, 0.0, 12),
    Settings("invert+sde", 400, 0.0, 8),
    Settings("partial", 300, 0.0, timesteps=(300, 120, 20)),
]


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.corrcoef(x.ravel(), y.ravel())[0, 1])


@pytest.mark.parametrize("settings", WAYS, ids=lambda s: f"{s.mode} {s.timesteps}")
@pytest.mark.parametrize("direction", [Direction(), Direction("data", "data")])
def test_it_begins_with_the_event_and_ends_with_its_translation(
    pipeline, events, settings, direction
):
    energy, mu, event_id = events
    path = follow_event(pipeline, energy[7], float(mu[7]), int(event_id[7]), 3, settings, direction)
    few = energy[7:8], mu[7:8], event_id[7:8]
    out = pipeline(*few, seed=3, settings=settings, **direction.to_dict()).energy[0]
    # A batch of one has other last bits, which rarely move a cell over a threshold.
    assert correlation(path.down[0], out) > 0.999
    assert correlation(path.up[0], energy[7]) > 0.999
    assert path.t[0] == -1
    assert path.t[-1] == settings.t_release
    assert list(path.t) == sorted(set(path.t))
    assert 3 <= len(path.t) <= 4


def test_noise_grows_on_the_way_up(pipeline, events):
    energy, mu, event_id = events
    kept = np.zeros(4)
    for k in range(8):
        path = follow_event(
            pipeline, energy[k], float(mu[k]), int(event_id[k]), 1, Settings("partial", 600, 0.0, 9)
        )
        kept += [correlation(image, energy[k]) / 8 for image in path.up]
    assert np.all(np.diff(kept) < -0.05)


def test_at_the_release_only_the_reading_differs(pipeline, events):
    energy, mu, event_id = (part[0] for part in events)
    path = follow_event(
        pipeline, energy, float(mu), int(event_id), 1, WAYS[0], Direction("mc", "mc")
    )
    assert np.array_equal(path.up[-1], path.down[-1])
    other = follow_event(pipeline, energy, float(mu), int(event_id), 1, WAYS[0])
    assert np.array_equal(other.up[-1], path.up[-1])
    assert not np.array_equal(other.down[-1], other.up[-1])


@pytest.mark.parametrize(
    "settings",
    [
        Settings("calibrate"),
        Settings("generate"),
        Settings("partial", 0),
        Settings("partial", 300, release="per-event"),
    ],
)
def test_where_there_is_no_way_it_is_said(pipeline, events, settings):
    energy, mu, event_id = (part[0] for part in events)
    assert not has_path(settings)
    with pytest.raises(ConfigError, match="no path to show"):
        follow_event(pipeline, energy, float(mu), int(event_id), 1, settings)


def test_the_figure_says_that_a_scale_was_mapped_before(pipeline, events):
    energy, mu, event_id = (part[0] for part in events)
    for is_mapped in (False, True):
        settings = Settings("partial", 300, 0.0, 4, map_scale=is_mapped)
        path = follow_event(pipeline, energy, float(mu), int(event_id), 1, settings)
        figure = event_path_figure(path, path.down[0], SMALL_GRID)
        titles = [axes.get_title() for axes in figure.axes]
        assert ("before, common scale mapped" in titles) == is_mapped
        assert ("before" in titles) != is_mapped


def test_the_figure_names_times_domains_and_units(pipeline, events, tmp_path):
    energy, mu, event_id = (part[0] for part in events)
    path = follow_event(pipeline, energy, float(mu), int(event_id), 1, WAYS[1])
    figure = event_path_figure(path, path.down[0], SMALL_GRID)
    said = " ".join(text.get_text() for text in figure.findobj(mpl.text.Text))
    times = [f"inverted to $t$ = {t}" for t in path.t[1:-1]]
    for words in (*times, "released at $t$ = 900", "read as mc", "read as data", "MeV", "[rad]"):
        assert words in said
    assert len(write_figure(figure, tmp_path, "path")) == 2
