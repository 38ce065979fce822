from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pileupgen.errors import CardError, MissingInputError
from pileupgen.resources import resource_folder
from pileupgen.samples.cards import DataCard, load_card
from pileupgen.samples.readers import FORMATS, MuSource

SHIPPED = sorted(resource_folder("data_cards").glob("*.yaml"))


def write_card(path: Path, values: dict[str, Any], **changes: Any) -> Path:
    path.write_text(yaml.safe_dump({**values, **changes}), encoding="utf-8")
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=[path.stem for path in SHIPPED])
def test_a_shipped_card_is_valid_and_names_no_machine(path: Path) -> None:
    card = load_card(path)
    assert card.name == path.stem
    assert card.format in FORMATS
    text = path.read_text(encoding="utf-8")
    assert not any(f" /{root}" in text or f'"/{root}' in text for root in ("home", "work", "tmp"))


def test_shipped_cards_find_the_real_files(shared_data: Path) -> None:
    paths = [path for path in SHIPPED if path.stem.startswith("delphes")]
    found = {path.stem: load_card(path).input_files() for path in paths}
    assert found["delphes_mc"][0].samefile(shared_data / "delphes" / "mc_a.root")
    assert all(len(files) == 1 for files in found.values())


def test_a_card_keeps_what_is_written_and_adds_defaults(
    tmp_path: Path, card_values: dict[str, Any]
) -> None:
    card = load_card(write_card(tmp_path / "c.yaml", card_values))
    written = card.to_dict()
    for key, value in card_values.items():
        if key != "detector":
            assert written[key] == value
    assert written["units"] == {"energy": "GeV"}
    assert written["detector"]["eta_symmetric"] is False
    assert str(tmp_path) not in str(written)
    assert DataCard.model_validate(written).to_dict() == written


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fils": ["a"]}, "unknown key 'fils'. Did you mean 'files'?"),
        ({"detector": {"text": "x", "phi_symetric": True}}, "Did you mean 'phi_symmetric' or"),
        ({"detector": {"text": "x", "grid": "atls"}}, "Did you mean 'atlas'"),
        ({"detector": {}}, "'detector.text' is missing"),
        ({"units": {"enrgy": "GeV"}}, "unknown key 'units.enrgy'. Did you mean 'energy'?"),
        ({"units": {"energy": "keV"}}, "units.energy"),
        ({"options": {"tre": "x"}}, "unknown key 'options.tre'. Did you mean 'tree'?"),
        ({"format": "delfes"}, "Did you mean 'delphes'?"),
        ({"domain": "real"}, "domain"),
        ({"mu": "Vertex size"}, "mu: must be a number, 'unknown', a branch"),
        ({"mu": float("inf")}, "mu"),
        ({"licence": None}, "licence"),
        ({"name": "a b"}, "name"),
        ({"files": []}, "give either files or generate"),
        ({"generate": {"seed": 1}}, "give either files or generate"),
        ({"checksum": {"sample.root": "abc"}}, "not a SHA-256"),
    ],
)
def test_a_fault_is_named_with_the_near_words(
    tmp_path: Path, card_values: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    path = write_card(tmp_path / "c.yaml", card_values, **changes)
    with pytest.raises(CardError) as caught:
        load_card(path)
    assert said in caught.value.message
    assert str(path) in caught.value.message
    assert caught.value.exit_code == 2


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(CardError) as caught:
        load_card(write_card(tmp_path / "c.yaml", {"name": "x"}))
    for heading in ("what", "domain", "detector", "how_made", "selection", "licence", "contact"):
        assert f"'{heading}' is missing" in caught.value.message


@pytest.mark.parametrize("text", ["[1, 2]", "just words", "", "a: b: c", "\0"])
def test_what_is_no_card_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CardError, match=r"c\.yaml"):
        load_card(path)


def test_a_missing_card_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"none\.yaml"):
        load_card(tmp_path / "none.yaml")


def test_globs_are_sorted_and_each_file_is_taken_once(
    tmp_path: Path, card_values: dict[str, Any]
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("b.root", "a.root", "c.txt", "in/d.root"):
        (tmp_path / name).touch()
    files = ["b.root", "*.root", "**/*.root"]
    card = load_card(write_card(tmp_path / "c.yaml", card_values, files=files))
    assert [path.name for path in card.input_files()] == ["b.root", "a.root", "d.root"]
    one = load_card(write_card(tmp_path / "c.yaml", card_values, files="a.root"))
    assert one.input_files() == [tmp_path / "a.root"]


def test_variables_are_replaced(
    tmp_path: Path, card_values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "far" / "x").mkdir(parents=True)
    (tmp_path / "far" / "x" / "a.root").touch()
    (tmp_path / "cards" / "here").mkdir(parents=True)
    (tmp_path / "cards" / "here" / "a.root").touch()
    values = {**card_values, "files": ["${PILEUPGEN_TEST_DATA:-here}/a.root"]}
    card = load_card(write_card(tmp_path / "cards" / "c.yaml", values))
    monkeypatch.delenv("PILEUPGEN_TEST_DATA", raising=False)
    assert card.input_files() == [tmp_path / "cards" / "here" / "a.root"]
    monkeypatch.setenv("PILEUPGEN_TEST_DATA", str(tmp_path / "far" / "x"))
    assert card.input_files() == [tmp_path / "far" / "x" / "a.root"]
    # Relative to the working directory, as a shell's user means it.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PILEUPGEN_TEST_DATA", "far/x")
    assert card.input_files()[0].samefile(tmp_path / "far" / "x" / "a.root")


def test_a_variable_that_is_not_set_is_named(
    tmp_path: Path, card_values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PILEUPGEN_TEST_DATA", raising=False)
    card = load_card(
        write_card(tmp_path / "c.yaml", card_values, files=["${PILEUPGEN_TEST_DATA}/a.root"])
    )
    with pytest.raises(CardError, match="PILEUPGEN_TEST_DATA, which is not set"):
        card.input_files()


def test_a_missing_file_is_named_with_the_near_ones(
    tmp_path: Path, card_values: dict[str, Any]
) -> None:
    (tmp_path / "sample1.root").touch()
    card = load_card(write_card(tmp_path / "c.yaml", card_values))
    with pytest.raises(MissingInputError) as caught:
        card.input_files()
    assert str(tmp_path / "sample.root") in caught.value.message
    assert "sample1.root" in caught.value.hint
    nowhere = load_card(write_card(tmp_path / "c.yaml", card_values, files=["no/such/x.root"]))
    with pytest.raises(MissingInputError, match=r"x\.root"):
        nowhere.input_files()


def test_a_glob_without_a_match_is_named_with_its_variable(
    tmp_path: Path, card_values: dict[str, Any]
) -> None:
    files = ["${PILEUPGEN_TEST_NONE:-none}/*.root"]
    card = load_card(write_card(tmp_path / "c.yaml", card_values, files=files))
    with pytest.raises(MissingInputError, match=r"Nothing matches .*\*\.root") as caught:
        card.input_files()
    assert "PILEUPGEN_TEST_NONE" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("Vertex_size - 1", MuSource("Vertex_size", -1.0)),
        ("Vertex_size-1", MuSource("Vertex_size", -1.0)),
        ("Pileup_nTrueInt", MuSource("Pileup_nTrueInt", 0.0)),
        ("n.pv + 2.5", MuSource("n.pv", 2.5)),
        (33, MuSource(None, 33.0)),
    ],
)
def test_where_mu_comes_from(text: str | float, source: MuSource) -> None:
    assert MuSource.parse(text) == source


def test_mu_may_be_unknown() -> None:
    assert np.isnan(MuSource.parse("unknown").offset)
