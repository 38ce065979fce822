"""The figure of a generator against measurements shows the numbers of the check."""

from __future__ import annotations

import numpy as np
from matplotlib.patches import StepPatch

from pileupgen.report.figures.measured import measured_figure
from pileupgen.simulate.measured.check import GeneratorCheck, judge
from pileupgen.simulate.measured.fill import Sums
from pileupgen.simulate.measured.table import shipped_tables


def made_up(label: str, scale: float) -> GeneratorCheck:
    """A generator that gives every measured number times ``scale``."""
    tables = []
    for table in shipped_tables():
        first = 1000 * scale * table.value
        second = 1.1 * np.outer(first, first) / 1000
        tables.append(judge(table, Sums(1200, 1000, first, second)))
    return GeneratorCheck(
        generator=label,
        process="inelastic",
        tune=None,
        sqrt_s=7000.0,
        n_events=1200,
        seed=1,
        version="1",
        fingerprint="0",
        tables=tuple(tables),
    )


def test_panes_show_ratios_and_measured_numbers_with_their_units() -> None:
    checks = [made_up("low", 0.9), made_up("high", 1.1)]
    for found in checks[0].tables:
        figure = measured_figure(checks, found.head.name)
        n_windows = len(np.unique(found.window, axis=0)) if found.head.is_windowed else 1
        assert len(figure.axes) == 2 * n_windows
        drawn = np.concatenate([axes.containers[0][0].get_ydata() for axes in figure.axes[::2]])
        np.testing.assert_allclose(drawn, found.measured)
        for main, below in zip(figure.axes[::2], figure.axes[1::2], strict=True):
            lines = [p for p in below.patches if isinstance(p, StepPatch) and not p.get_fill()]
            for line, scale in zip(lines, (0.9, 1.1), strict=True):
                np.testing.assert_allclose(line.get_data().values, scale, rtol=1e-9)
            low, high = below.get_ylim()
            assert low < 0.9 < 1.1 < high
            unit = found.head.unit
            assert ("GeV" in main.get_ylabel()) is (unit != "1")
            legend = main.get_legend()
            assert legend is not None
            texts = {text.get_text() for text in legend.get_texts()}
            assert texts == {"low", "high", "measured"}
