"""A run trained for a few steps on made events, and the command line in this process.

Drawing takes more time than all else of a small run: commands draw next to nothing, unless a test
asks for ``all_figures``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import typer
import yaml
from typer.testing import CliRunner

from pileupgen.errors import PileupgenError
from pileupgen.report import figures
from pileupgen.report.figures.all import validation_figures
from pileupgen.report.figures.style import new_figure
from pileupgen.workflow import train
from tests.toys import SMALL_GRID

CONFIG = {
    "name": "tiny",
    "preprocess": {
        "geometry": {"eta_edges": [float(e) for e in SMALL_GRID.eta_edges], "n_phi": 12}
    },
    "calibration": {"n_knots": 32, "n_mu_bins": 1, "n_layer_bins": 3},
    "codec": "latent",
    "autoencoder": {"width": 8, "n_blocks": 1, "n_heads": 2, "steps": 2},
    "denoiser": {"width": 8, "n_blocks": 1, "steps": 2},
    "ratio": {"width": 8, "n_blocks": 1, "steps": 2},
    "training": {"batch_size": 16, "checkpoint_every": 2},
    "translate": {"num_inference_steps": 3, "n_correction_events": 50},
    "validate": {"n_bootstrap": 30, "n_seeds": 1},
}
Command = Callable[..., str]


@pytest.fixture(scope="session")
def command() -> Command:
    """Run a command; what it said, or the error it ended with."""
    from pileupgen.cli.main import app

    def run(
        *arguments: str | Path,
        error: type[PileupgenError] | None = None,
        program: typer.Typer = app,
    ) -> str:
        result = CliRunner().invoke(program, [str(argument) for argument in arguments])
        if error is not None:
            assert isinstance(result.exception, error), result.exception or result.output
            return f"{result.exception.message} {result.exception.hint}"
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    return run


def _one_empty_figure(*given: Any) -> list[tuple[str, Any]]:
    names = [name for name, _ in validation_figures(*given)]
    return [(name, partial(new_figure, 1.0, 1.0, arranged=False)) for name in names[:1]]


@pytest.fixture(scope="session", autouse=True)
def few_figures() -> Iterator[None]:
    """Let a validation write one figure of many, with nothing in it, and training none."""
    with (
        mock.patch.object(figures, "validation_figures", _one_empty_figure),
        mock.patch.object(train, "_write_figures"),
    ):
        yield


_WRITE_TRAINING_FIGURES = train._write_figures


@contextmanager
def all_figures() -> Iterator[None]:
    """A context in which commands draw what users see."""
    with (
        mock.patch.object(figures, "validation_figures", validation_figures),
        mock.patch.object(train, "_write_figures", _WRITE_TRAINING_FIGURES),
    ):
        yield


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, command: Command) -> Path:
    from tests.conftest import write_sample

    folder = tmp_path_factory.mktemp("tiny")
    run, config = folder / "run", folder / "tiny.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    for number, domain in enumerate(("mc", "data")):
        write_sample(run / "data" / f"{domain}.h5", 500, number)
    command("train", "--config", config, "--run", run, "--device", "cpu")
    return run
