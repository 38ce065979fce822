from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pileupgen.config import Config, load_config, parse_config
from pileupgen.errors import ConfigError, RunError
from pileupgen.resources import find_file, resource_folder
from pileupgen.run import RunDirectory, training_fingerprint


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
        ({"denoiser": {"focus": 999}}, "not one of the timesteps 1 … 998"),
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


def test_a_training_is_determined_by_what_binds_it_alone():
    def of(**changes: Any) -> str:
        return training_fingerprint(parse_config(changes, "x").to_dict(), [])

    assert of(translate={"w": 0.5}, training={"micro_batch": 7}, name="other") == of()
    assert of(training={"batch_size": 7}) != of()
    assert of(seed=7) != of()


def test_a_stage_is_current_only_for_the_same_inputs_and_existing_outputs(tmp_path):
    run, output = RunDirectory(tmp_path), tmp_path / "out"
    assert not run.is_current("train", "a", [])
    run.finish("train", "a", {})
    assert run.is_current("train", "a", [])
    assert not run.is_current("train", "b", [])
    assert not run.is_current("train", "a", [output])
    with pytest.raises(RunError, match="no finished 'translate'"):
        run.details("translate")


@pytest.mark.parametrize("text", ["", "[1]", "{}", "null", '{"made_from"'])
def test_a_damaged_record_is_of_no_finished_stage(tmp_path, text):
    run = RunDirectory(tmp_path)
    run.finish("train", "a", {"n": 1})
    assert run.details("train") == {"made_from": "a", "n": 1}
    (tmp_path / "stages" / "train.json").write_text(text)
    assert not run.is_current("train", "a", [])
    with pytest.raises(RunError, match="no finished 'train'"):
        run.details("train")


def test_no_shipped_file_names_an_absolute_path():
    for folder in (resource_folder("configs"), resource_folder("data_cards")):
        for path in Path(folder).glob("*.yaml"):
            for line in path.read_text().splitlines():
                assert not line.split(": ")[-1].strip().startswith("/"), (path, line)
