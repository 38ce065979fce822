from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
import yaml

from pileupgen.calo.presets import get_grid
from pileupgen.cli import cards
from pileupgen.errors import CardError, ConfigError, MissingFieldError, MissingInputError
from pileupgen.samples.cards import load_card
from pileupgen.samples.check import check_card, draw_events
from tests.conftest import run_main

HEADINGS: dict[str, Any] = {
    "name": "two",
    "what": "two towers an event",
    "domain": "mc",
    "files": ["two_*.root"],
    "mu": 7,
    "detector": {"text": "none", "grid": "atlas"},
    "how_made": "numpy",
    "selection": "none",
    "licence": "Apache-2.0",
    "contact": "nobody",
}
ENERGY = {"Tower.Eem": [3.0, 2.0], "Tower.Ehad": [-1.0, 4.0]}


def write_file(path: Path, n_events: int = 4, without: str = "") -> None:
    # The centres of two cells; one tower lies outside |η| < 2.5.
    leaves = {"Tower.Eta": [0.05, 3.0], "Tower.Phi": [0.1, 0.1], **ENERGY}
    with uproot.recreate(path) as file:
        columns = {
            name: np.tile(np.array(values, dtype=np.float32), (n_events, 1))
            for name, values in leaves.items()
            if name != without
        }
        types = {name: np.dtype((np.float32, (2,))) for name in columns}
        file.mktree("Delphes", types).extend(columns)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for index in range(2):
        write_file(tmp_path / f"two_{index}.root")
    write_card(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def write_card(folder: Path, **changes: Any) -> None:
    (folder / "data_cards").mkdir(exist_ok=True)
    values = {**HEADINGS, "files": ["../two_*.root"], **changes}
    (folder / "data_cards" / "two.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_local_cards_come_before_the_shipped_ones(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cards.list_cards()
    lines = said(capsys).splitlines()
    ours = next(index for index, line in enumerate(lines) if "two towers an event" in line)
    shipped = next(index for index, line in enumerate(lines) if "demo_mc" in line)
    assert ours < shipped
    assert "2 found" in lines[ours]
    assert "generated" in lines[shipped]


def test_a_malformed_card_does_not_hide_the_others(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_card(folder, licens="x")
    cards.list_cards()
    captured = capsys.readouterr()
    assert "malformed" in captured.out
    assert "demo_mc" in captured.out
    assert "Did you mean 'licence'" in captured.err


def test_show_tells_headings_and_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cards.show_card("two")
    shown = said(capsys)
    assert "two towers an event" in shown
    assert "two_1.root" in shown
    assert "pileupgen cards check two" in shown


def test_an_unknown_card_names_the_near_one() -> None:
    with pytest.raises(ConfigError, match="demo_mc"):
        cards.show_card("demo_mcc")


def test_check_reads_events_and_draws_them(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cards.check_card("two", n_events=3, geometry=None, figure=None)
    shown = said(capsys)
    assert "2 files are there" in shown
    assert "8" in next(line for line in shown.splitlines() if "events in all files" in line)
    assert (folder / "runs/cards/two.png").read_bytes().startswith(b"\x89PNG")


def test_the_numbers_of_a_check(folder: Path) -> None:
    card = load_card(folder / "data_cards" / "two.yaml")
    found = check_card(card, card.input_files(), get_grid("atlas"), n_events=3)
    assert found.images.shape == (3, 2, 50, 36)
    assert found.n_towers == 6
    assert found.energy_outside == pytest.approx(6 / 8)
    np.testing.assert_allclose(found.sum_et, 2 / np.cosh(0.05), rtol=1e-6)
    assert found.mu.tolist() == [7, 7, 7]


def test_the_figure_has_axes_with_units_and_a_signed_scale(folder: Path) -> None:
    card = load_card(folder / "data_cards" / "two.yaml")
    found = check_card(card, card.input_files(), get_grid("atlas"), n_events=2)
    figure = draw_events(found, "two")
    panels = figure.axes[:4]
    assert {axis.get_xlabel() for axis in panels} == {"", "φ [rad]"}
    assert {axis.get_ylabel() for axis in panels} == {"", "η"}
    assert figure.axes[-1].get_ylabel() == "energy per cell [GeV]"
    assert panels[0].collections[0].norm.vmin < 0 < panels[0].collections[0].norm.vmax


def test_a_wrong_checksum_is_refused(folder: Path) -> None:
    write_card(folder, checksum={"two_0.root": hashlib.sha256(b"").hexdigest()})
    with pytest.raises(CardError, match=r"two_0\.root"):
        cards.check_card("two")


def test_every_file_is_tried(folder: Path) -> None:
    write_file(folder / "two_1.root", without="Tower.Ehad")
    with pytest.raises(MissingFieldError, match=r"two_1\.root.*Ehad"):
        cards.check_card("two")


def test_missing_files_are_named(folder: Path) -> None:
    write_card(folder, files=["../none.root"])
    with pytest.raises(MissingInputError, match=r"none\.root"):
        cards.check_card("two")


def test_the_settings_of_a_generated_sample_are_checked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cards.check_card("demo_mc")
    assert "not made yet" in said(capsys)
    write_card(folder, files=[], generate={"n_event": 10})
    with pytest.raises(CardError, match="n_event"):
        cards.check_card("two")


def test_help_names_the_commands() -> None:
    code, said = run_main("cards", "--help")
    assert code == 0
    for command in cards.COMMANDS:
        assert command in said
