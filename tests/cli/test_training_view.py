from __future__ import annotations

import io

import pytest
from rich.console import Console

from pileupgen.cli.ui import training_view
from pileupgen.cli.ui.training_view import live_stage


@pytest.fixture
def shown(monkeypatch, request):
    text = io.StringIO()
    console = Console(file=text, force_terminal=request.param, width=140)
    monkeypatch.setattr(training_view, "console", console)
    return text


def train(n_steps: int, first: int = 0) -> None:
    with live_stage("denoiser", n_steps) as advance:
        advance(first)
        for _ in range(n_steps - first):
            advance(1, loss=0.25, held_out=0.5, samples_per_second=1234.0)


@pytest.mark.parametrize("shown", [False], indirect=True)
def test_without_a_terminal_there_are_a_few_plain_lines(shown):
    train(100)
    lines = shown.getvalue().splitlines()
    assert len(lines) == 5
    assert lines[0].startswith(
        "denoiser      20/100  loss 0.2500  held-out 0.5000  1,234 samples/s"
    )
    assert lines[-1].startswith("denoiser      100/100")
    assert lines[-1].endswith("0:00:00 left")
    assert "\x1b" not in shown.getvalue()


@pytest.mark.parametrize("shown", [True], indirect=True)
def test_a_terminal_shows_losses_rate_and_time_left(shown):
    train(100, first=40)
    text = shown.getvalue()
    for words in (
        "denoiser",
        "100/100",
        "loss 0.2500",
        "held-out 0.5000",
        "1,234 samples/s",
        "left",
    ):
        assert words in text
