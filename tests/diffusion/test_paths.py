from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from pileupgen.diffusion.schedule import alpha_sigma, make_scheduler
from pileupgen.diffusion.settings import timesteps_between
from pileupgen.diffusion.solvers import solve
from pileupgen.jets.emergence import LEVELS, REACH, bin_edges, make_pane, score_density
from pileupgen.jets.figure import denoising_figure


def gaussian_predict(mean: float, deviation: float):
    """The perfect denoiser of N(mean, deviation²)."""
    scheduler = make_scheduler(1000)

    def predict(x_t: Tensor, t: int, x_0: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = (value.item() for value in alpha_sigma(scheduler, torch.tensor([t])))
        variance = alpha**2 * deviation**2 + sigma**2
        clean = mean + alpha * deviation**2 / variance * (x_t - alpha * mean)
        return (x_t - alpha * clean) / sigma, clean

    return scheduler, predict


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "dpmsolver++", "sde-dpmsolver++"])
def test_record_is_told_of_every_timestep(sampler) -> None:
    scheduler, predict = gaussian_predict(1.0, 0.5)
    rng = torch.Generator().manual_seed(1)
    start = torch.randn(8, 1, 1, 1, generator=rng)
    told: list[tuple[int, Tensor]] = []
    steps = timesteps_between(500, 10)
    end = solve(
        start,
        steps,
        predict,
        scheduler,
        sampler,
        lambda: torch.randn(8, 1, 1, 1, generator=rng),
        record=lambda t, x: told.append((t, x)),
    )
    assert [t for t, _ in told] == steps
    torch.testing.assert_close(told[0][1], start)
    torch.testing.assert_close(told[-1][1], end)


def test_recorded_path_has_the_marginals_of_the_noise_schedule() -> None:
    scheduler, predict = gaussian_predict(1.5, 0.4)
    rng = torch.Generator().manual_seed(2)
    told: dict[int, Tensor] = {}
    solve(
        torch.randn(4000, 1, 1, 1, generator=rng),
        [*range(999, -1, -10), -1],
        predict,
        scheduler,
        "ancestral",
        lambda: torch.randn(4000, 1, 1, 1, generator=rng),
        record=lambda t, x: told.update({t: x}),
    )
    for t in (899, 499, 99, -1):
        alpha, sigma = (value.item() for value in alpha_sigma(scheduler, torch.tensor([t])))
        assert told[t].mean().item() == pytest.approx(alpha * 1.5, abs=0.05)
        spread = np.hypot(alpha * 0.4, sigma)
        assert told[t].std().item() == pytest.approx(spread, rel=0.06)


def test_density_keeps_what_is_outside() -> None:
    scores = np.array([-9.0, 0.1, 0.2, 9.0])
    density = score_density(scores)
    assert np.sum(density * np.diff(bin_edges())) == pytest.approx(1)
    assert density[0] > 0
    assert density[-1] > 0


def test_pane_and_figure() -> None:
    from pileupgen.jets.emergence import PathFigure

    rng = np.random.default_rng(3)
    x_t = rng.normal(0, 1, (20, 300))
    values = tuple(np.exp(rng.normal(mean, 0.1, 300)) for mean in (0.0, 0.0, 0.5, 1.0))
    scores = tuple(rng.normal(0, 1, 300) for _ in range(3))
    times = np.array([*range(999, 49, -50), -1])
    pane = make_pane("top jets", times, x_t, rng.normal(0, 1, 300), scores, values)
    assert pane.distance < pane.switched_distance < pane.source_distance
    assert pane.noise_distance < 0.2
    # Between neighbouring contours lie equal shares.
    below = (x_t[3][:, None] < pane.contours[3]).mean(axis=0)
    np.testing.assert_allclose(below, LEVELS, atol=0.01)
    marks = np.column_stack([np.linspace(0, 2, 100), np.linspace(-REACH, REACH, 100)])
    figure = denoising_figure(PathFigure("mass", "GeV", [pane, pane], marks, 500))
    titles = [axes.get_title() for axes in figure.axes]
    assert any("emulated" in title and "GeV" in title for title in titles)
    assert any("W_1" in title for title in titles)
