from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pileupgen.errors import CardError
from pileupgen.simulate.response import RESPONSES, load_response, response_names


def write(folder: Path, **changes: object) -> Path:
    values = yaml.safe_load((RESPONSES / "mc.yaml").read_text())
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump({**values, **changes}))
    return path


def test_all_shipped_cards_load() -> None:
    assert {"mc", "data"} <= set(response_names())
    for name in response_names():
        assert load_response(name).description


def test_domains_have_the_same_towers() -> None:
    assert load_response("mc").towers == load_response("data").towers


def test_own_card_is_read_by_path(tmp_path: Path) -> None:
    assert load_response(str(write(tmp_path, description="mine"))).description == "mine"


def test_fingerprint_is_of_values_not_of_text(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert load_response(str(path)).fingerprint() == load_response("mc").fingerprint()
    path = write(tmp_path, field={"bz": 3.8, "radius": 1.29, "half_length": 3.0})
    assert load_response(str(path)).fingerprint() != load_response("mc").fingerprint()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"beamspot": {}}, "unknown key 'beamspot'. Did you mean 'beam_spot'?"),
        ({"em": {"resolution": [], "energy_mn": 1}}, "Did you mean 'energy_min'?"),
        ({"em": {"resolution": [{"abs_eta_mx": 1}]}}, "Did you mean 'abs_eta_max'?"),
        ({"em": {"resolution": [], "leakage": {"fraction": 1.5}}}, "em.leakage.fraction"),
        ({"em": {"resolution": [{"abs_eta_max": 2}, {"abs_eta_max": 1}]}}, "must ascend"),
        ({"energy_fractions": {0: [0.5, 0.6]}}, "0: em and had sum to 1.1"),
        ({"energy_fractions": {11: [1, 0]}}, "key 0"),
        ({"energy_fractions": {0: [0, 1], -11: [1, 0]}}, "absolute value"),
        ({"towers": [{"eta": [0, 1], "width": 0.3, "n_phi": 4}]}, "whole number of rings"),
        ({"towers": [{"eta": [1, 2], "width": 0.5, "n_phi": 4}]}, "must begin at η = 0"),
        ({"towers": [{"eta": [0, 6], "width": 0.5, "n_phi": 4}]}, "at most 5.5"),
        ({"dead": [{"eta": [1, 0]}]}, "must ascend"),
        ({"dead": [{"eta": [0, 1], "layers": ["hda"]}]}, "dead.0.layers.0"),
        ({"field": {"bz": 2.0}}, "field.radius"),
    ],
)
def test_faults_are_named(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(CardError) as caught:
        load_response(str(path))
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_missing_card_names_the_near_one() -> None:
    with pytest.raises(CardError, match="Did you mean 'data'"):
        load_response("dat")


def test_a_key_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text((RESPONSES / "mc.yaml").read_text() + "\nsigned: true\nsigned: false\n")
    with pytest.raises(CardError, match="'signed' is there twice"):
        load_response(str(path))


@pytest.mark.parametrize("text", ["a: [1", "- 1\n- 2\n", ""])
def test_what_is_no_card_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(CardError, match=r"bad\.yaml"):
        load_response(str(path))
