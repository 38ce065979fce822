"""A setting of a translation is one field: option, config key, schema and provenance follow."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import pytest
import typer
from typer.testing import CliRunner

from pileupgen.cli.main import app
from pileupgen.cli.ui import settings as options
from pileupgen.config import Config
from pileupgen.diffusion.settings import OPERATING_POINT, OPERATIONAL, Settings
from pileupgen.errors import ConfigError
from pileupgen.fields import setting, settings_of

NAMES = [one.name for one in settings_of(Settings)]


def test_every_setting_is_an_option_a_key_and_provenance(command):
    translate = typer.main.get_command(app).commands["translate"]  # type: ignore[attr-defined]
    assert set(NAMES) <= {parameter.name for parameter in translate.params}
    schema = json.loads(command("config", "schema"))
    # Fields that are no options are parts that 'validate --ladder' leaves out.
    every = [one.name for one in fields(Settings)]
    assert set(every) - set(NAMES) == {"network", "switch_class", "self_conditioning"}
    assert list(schema["$defs"]["Settings"]["properties"]) == every
    assert list(Config().to_dict()["translate"]) == every
    assert set(Settings().provenance()) == set(every) - OPERATIONAL
    assert set(Settings().operating_point()) == OPERATING_POINT < set(NAMES)
    assert Settings.from_dict(Settings(timesteps=(300, 10)).provenance()).timesteps == (300, 10)


def test_a_new_field_is_an_option_with_its_limits_and_words():
    @dataclass(frozen=True)
    class More(Settings):
        kernel: Literal["a", "b"] = setting("a", "shape of the kernel")
        reach: int | None = setting(None, "cells that it reaches", option="--far", ge=1)
        ring: tuple[int, int] | None = setting(None, "rings", metavar="LO,HI", example="1,2")

    found: dict[str, object] = {}

    @options.with_options_of(More, "translate")
    def show(given: Any = None) -> None:
        """Show."""
        found.update(given)

    small = typer.Typer()
    small.command()(show)
    result = CliRunner().invoke(small, ["--kernel", "b", "--far", "3", "--ring", "1,2"])
    assert result.exit_code == 0, result.output
    assert found == {"kernel": "b", "reach": 3, "ring": [1, 2]}
    error = CliRunner().invoke(small, ["--ring", "1"]).exception
    assert isinstance(error, ConfigError)
    assert (error.message, error.hint) == ("--ring takes LO,HI, not '1'.", "Try --ring 1,2.")
    assert CliRunner().invoke(small, ["--far", "0"]).exit_code == 2
    assert CliRunner().invoke(small, ["--kernel", "c"]).exit_code == 2
    shown = CliRunner().invoke(small, ["--help"], env={"COLUMNS": "200"}).output
    assert "Shape of the kernel." in " ".join(shown.split())


@pytest.mark.parametrize(("text", "value"), [("auto", "auto"), ("30", 30), ("early", None)])
def test_t_release_is_a_number_or_auto(text, value):
    found: dict[str, object] = {}

    @options.with_settings
    def show(given: Any = None) -> None:
        """Show."""
        found.update(given)

    small = typer.Typer()
    small.command()(show)
    error = CliRunner().invoke(small, ["--t-release", text]).exception
    if value is None:
        assert isinstance(error, ConfigError)
        assert "--t-release takes a whole number or 'auto'" in error.message
    else:
        assert found == {"t_release": value}


def test_limits_hold_for_settings_that_are_made_in_a_script():
    for bad, words in (
        (Settings(eta=1.5), "eta must be ≤ 1"),
        (Settings(w=-1.0), "w must be ≥ 0"),
        (Settings(log_weight_limit=0.0), "log_weight_limit must be > 0"),
        (Settings(w=float("inf")), "w must be finite"),
        (Settings(t_release="auto"), "no release scan has chosen"),
        (Settings(decode="mode"), "No decode 'mode'"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ConfigError, match=words):
            bad.check(1000)
    Settings(eta=1.0, w=0.0).check(1000)


def test_torchrun_leaves_the_run_s_option_alone():
    """torchrun's parser takes --run for a beginning of its own --run-path, --run-dir for ours."""
    from torch.distributed.run import get_args_parser

    parser = get_args_parser()
    given = ["--nproc-per-node", "2", "-m", "pileupgen", "train"]
    for name in ("--run-dir", "-r"):
        parsed = parser.parse_args([*given, name, "runs/x"])
        assert parsed.training_script_args == ["train", name, "runs/x"]
    train = typer.main.get_command(app).commands["train"]  # type: ignore[attr-defined]
    (run,) = (parameter for parameter in train.params if parameter.name == "run")
    assert {"--run", "--run-dir", "-r"} == set(run.opts)


def test_modes_of_the_command_are_those_of_the_settings():
    from pileupgen.diffusion.settings import Mode

    result = CliRunner().invoke(app, ["translate", "--mode", "sideways"])
    assert result.exit_code == 2
    for mode in get_args(Mode):
        assert mode in result.output
