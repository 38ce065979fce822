from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pileupgen.config import Config, load_config, parse_config
from pileupgen.errors import ConfigError, OutputError, RunError
from pileupgen.resources import find_file, resource_folder
from pileupgen.run import (
    ADDED_LATER,
    RunDirectory,
    determining,
    folder_written_whole,
    training_fingerprint,
)

TRAINED: dict[str, tuple[dict[str, Any], str]] = {
    "defaults": ({}, "5d671220818f20fd"),
    "demo": (
        {
            "preprocess": {"zero_suppression": 0.6},
            "autoencoder": {"width": 24, "n_blocks": 1, "n_heads": 2, "steps": 40},
            "denoiser": {"width": 32, "n_blocks": 3, "steps": 250},
            "ratio": {"width": 24, "n_blocks": 2, "steps": 120},
        },
        "a1f0fb48a0491d7f",
    ),
    "nonlocal": (
        {
            "samples": {"mc": "delphes_mc", "data": "delphes_nonlocal"},
            "preprocess": {"zero_suppression": 0},
            "codec": "cells",
            "autoencoder": {"patch": [1, 1]},
            "denoiser": {
                "kind": "local",
                "width": 16,
                "n_blocks": 5,
                "label_dropout": 0.1,
                "self_conditioning": 0,
                "steps": 8000,
            },
            "ratio": {"width": 16, "n_blocks": 1, "steps": 300},
            "training": {
                "batch_size": 32,
                "learning_rate": 5.0e-3,
                "ema_decay": 0.998,
                "keep": "last",
            },
        },
        "6c6cbed177e65349",
    ),
    "jetnet": (
        {
            "samples": {"mc": "jetnet_top", "data": "jetnet_w"},
            "preprocess": {"geometry": "features"},
            "codec": "cells",
            "calibration": {"shared": True, "after": False},
            "denoiser": {"width": 64, "n_blocks": 3, "steps": 1500},
            "ratio": {"width": 48, "n_blocks": 2, "steps": 300},
            "training": {"batch_size": 256, "mixed_precision": "no"},
        },
        "907c95700159db31",
    ),
}
"""Configs that runs were trained with, and their fingerprints then."""


@pytest.mark.parametrize(
    "path", sorted(resource_folder("configs").glob("*.yaml")), ids=lambda p: p.stem
)
def test_shipped_configs_load_and_name_cards_that_exist(path):
    config = load_config(path)
    assert config.name
    for card in (config.samples.mc, config.samples.data):
        assert find_file(card, "data_cards").is_file()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trainig": {}}, "unknown key 'trainig'. Did you mean 'training'"),
        ({"training": {"batchsize": 3}}, "Did you mean 'batch_size'"),
        ({"seed": "x"}, "seed: "),
        ({"denoiser": {"kind": "local", "coarse_conditioning": True}}, "needs kind residual or"),
        ({"training": {"batch_size": 0}}, "greater than or equal to 2"),
        ({"preprocess": {"fractions": [0.5, 0.2, 0.2]}}, "sum to 1"),
        ([], "must be a mapping"),
    ],
)
def test_faults_are_named(values, message):
    with pytest.raises(ConfigError) as caught:
        parse_config(values, "config.yaml")
    assert message in str(caught.value)
    assert "config.yaml" in str(caught.value)


def test_a_config_survives_being_written(tmp_path):
    config = Config(seed=5)
    assert parse_config(config.to_dict(), "x") == config


def test_a_missing_config_is_named():
    with pytest.raises(ConfigError, match="Did you mean 'demo'"):
        find_file("dmo", "configs")


def test_a_run_refuses_another_config_but_not_other_operational_settings(tmp_path):
    import yaml

    run = RunDirectory(tmp_path / "run")

    def adopt(config: Config) -> None:
        run.adopt(config.to_dict(), yaml.safe_dump(config.to_dict()))

    adopt(Config())
    adopt(parse_config({"translate": {"w": 0.5}}, "x"))
    with pytest.raises(RunError, match=r"denoiser.width: 96 → 32"):
        adopt(parse_config({"denoiser": {"width": 32}}, "x"))


@pytest.mark.parametrize("name", TRAINED)
def test_runs_that_were_trained_stay_valid(name):
    """If this fails, a new setting is missing in ``run.ADDED_LATER``, or a default has changed."""
    values, then = TRAINED[name]
    assert training_fingerprint(parse_config(values, name).to_dict(), []) == then


def test_younger_settings_count_only_where_they_differ_from_their_default(monkeypatch):
    monkeypatch.setattr("pileupgen.run.ADDED_LATER", {"training.new": 1})
    before = {"training": {"keep": "last"}, "seed": 1}
    same, other = ({**before, "training": {"keep": "last", "new": new}} for new in (1, 2))
    assert determining(same) == before
    assert training_fingerprint(same, []) == training_fingerprint(before, [])
    assert training_fingerprint(other, []) != training_fingerprint(before, [])


def test_younger_settings_are_listed_with_their_default():
    for key, default in ADDED_LATER.items():
        value: Any = Config().to_dict()
        for part in key.split("."):
            value = value[part]
        assert value == default


def test_a_stage_is_current_only_for_the_same_inputs_and_existing_outputs(tmp_path):
    run, output = RunDirectory(tmp_path), tmp_path / "out"
    assert not run.is_current("train", "a", [])
    run.finish("train", "a", {})
    assert run.is_current("train", "a", [])
    assert not run.is_current("train", "b", [])
    assert not run.is_current("train", "a", [output])
    with pytest.raises(RunError, match="no finished 'translate'"):
        run.details("translate")


def test_a_folder_takes_its_name_when_whole_and_not_before(tmp_path):
    final = tmp_path / "model"
    with folder_written_whole(final) as aside:
        (aside / "a").write_text("1")
        assert not final.exists()

    def fail() -> None:
        with folder_written_whole(final) as aside:
            (aside / "a").write_text("2")
            raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left"):
        fail()
    assert (final / "a").read_text() == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_no_shipped_file_names_an_absolute_path():
    for folder in (resource_folder("configs"), resource_folder("data_cards")):
        for path in Path(folder).glob("*.yaml"):
            for line in path.read_text().splitlines():
                assert not line.split(": ")[-1].strip().startswith("/"), (path, line)
