"""A model's config, and its folder in the layout of diffusers."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from pileupgen.models.networks.ratio import RatioClassifier
from pileupgen.models.saved import CONFIG, WEIGHTS, MissingTensorsError


@pytest.fixture
def network() -> RatioClassifier:
    torch.manual_seed(1)
    return RatioClassifier(2, 6, 4, width=8)


def test_the_config_holds_what_was_given_and_the_defaults(network):
    assert (network.config["n_channels"], network.config.width) == (2, 8)
    assert network.config["n_blocks"] == RatioClassifier(2, 6, 4, n_blocks=3).config.n_blocks == 3
    for one in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert dict(one.config) == dict(network.config)
    with pytest.raises(AttributeError, match="height_phi"):
        _ = network.config.height_phi
    network.register_to_config(width=9)
    assert network.config.width == 9


def test_a_loaded_model_is_the_saved_one_and_leaves_random_numbers_alone(network, tmp_path):
    network.save_pretrained(tmp_path)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    again = RatioClassifier.from_pretrained(tmp_path)
    assert torch.equal(torch.rand(3), expected)
    assert not again.training
    assert dict(again.config) == {**network.config, "patch": list(network.config.patch)}
    before, after = network.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert RatioClassifier.from_pretrained(tmp_path, torch_dtype=torch.float64).dtype == (
        torch.float64
    )


def test_what_a_file_lacks_is_named_and_what_it_has_beyond_is_passed_over(network, tmp_path):
    network.save_pretrained(tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps({**config, "of_a_later_version": 1}))
    tensors = load_file(tmp_path / WEIGHTS)
    save_file({**tensors, "later": torch.zeros(2)}, tmp_path / WEIGHTS)
    RatioClassifier.from_pretrained(tmp_path)
    left = dict(sorted(tensors.items())[4:])
    save_file(left, tmp_path / WEIGHTS)
    with pytest.raises(MissingTensorsError) as caught:
        RatioClassifier.from_pretrained(tmp_path)
    first = ", ".join(sorted(tensors)[:3])
    assert caught.value.missing == f"{first} and 1 more"
    save_file({**tensors, "slope": torch.zeros(7)}, tmp_path / WEIGHTS)
    with pytest.raises(RuntimeError, match="size mismatch for slope"):
        RatioClassifier.from_pretrained(tmp_path)
