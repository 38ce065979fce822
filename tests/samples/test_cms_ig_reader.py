from __future__ import annotations

import json
import logging
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pileupgen.errors import (
    InputError,
    MissingFieldError,
    MissingInputError,
    UnreadableInputError,
)
from pileupgen.samples.readers import MuSource
from pileupgen.samples.readers.cms_ig import CmsIgOptions, CmsIgReader, to_json

CORNERS = ["front_1", "front_2", "front_3", "front_4"]
NAME = "CaloTowers_V2"


def point(eta: float, phi: float) -> list[float]:
    return [float(np.cos(phi)), float(np.sin(phi)), float(np.sinh(eta))]


def tower(eta: float, phi: float, em: float, had: float, corners: bool = True) -> list[Any]:
    """A tower of 0.1 × 0.1 around a direction."""
    row: list[Any] = [(em + had) / np.cosh(eta), eta, phi, 1, had, em]
    if corners:
        row += [
            point(eta + a, phi + b)
            for a, b in ((-0.05, -0.05), (-0.05, 0.05), (0.05, 0.05), (0.05, -0.05))
        ]
    return row


def event(*towers: list[Any], corners: bool = True, name: str = NAME) -> str:
    columns = ["et", "eta", "phi", "iphi", "hadEnergy", "emEnergy", *(CORNERS if corners else [])]
    types = {name: [[column, "double"] for column in columns]}
    return json.dumps({"Types": types, "Collections": {name: towers}})


def write(path: Path, *events: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("Header", "{}")
        for number, text in enumerate(events):
            file.writestr(f"Events/Run_1/Event_{number}", text)
    return path


def read(path: Path, mu: str | float = "unknown", **options: Any) -> Any:
    reader = CmsIgReader([path], CmsIgOptions.model_validate(options), MuSource.parse(mu))
    return list(reader.chunks())


def test_towers_lie_where_their_corners_are(tmp_path: Path) -> None:
    path = write(
        tmp_path / "f.ig",
        event(tower(0.5, 1.0, 3, 4), tower(-2.0, 3.14, 1, 0)),
        event(),
        event(tower(1.0, -3.0, -0.5, 2)),
    )
    (part,) = read(path, mu=3)
    assert part.offsets.tolist() == [0, 2, 2, 3]
    np.testing.assert_allclose(part.edges[0], [0.45, 0.55, 0.95, 1.05], atol=1e-9)
    np.testing.assert_allclose(part.edges[1, 3] - part.edges[1, 2], 0.1, atol=1e-9)
    assert part.energy.tolist() == [[3, 4], [1, 0], [-0.5, 2]]
    assert part.layers == ("em", "had")
    assert part.mu.tolist() == [3, 3, 3]


def test_nan_tuples_and_single_quotes_are_read(tmp_path: Path) -> None:
    text = event(tower(0.5, 1.0, 3, 4)).replace('"', "'")
    text = text[:-1] + ", 'Notes': [(nan, -inf, inf), 'a (nan) of 1']}"
    text = text.replace("[[", "[(", 1).replace("],", "),", 1)
    (part,) = read(write(tmp_path / "f.ig", text))
    assert part.energy.tolist() == [[3, 4]]
    assert json.loads(to_json('["(a) nan \\" inf", (1, 2)]')) == ['(a) nan " inf', [1, 2]]


def test_without_corners_directions_stand_for_towers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "f.ig", event(tower(0.5, 1.0, 3, 4, corners=False), corners=False))
    with caplog.at_level(logging.WARNING, "pileupgen"):
        (part,) = read(path)
    np.testing.assert_allclose(part.edges, [[0.5, 1.0]])
    assert "no corners" in caplog.text


@pytest.mark.parametrize("energy", ["nan", "inf", "1e7", "-1e40"])
def test_energies_that_no_calorimeter_has(tmp_path: Path, energy: str) -> None:
    text = event(tower(0.5, 1.0, 3.25, 4)).replace("3.25", energy)
    path = write(tmp_path / "f.ig", event(), text)
    with pytest.raises(UnreadableInputError, match="event 1: CaloTowers_V2/emEnergy"):
        read(path)


def test_a_corner_on_the_beam(tmp_path: Path) -> None:
    row = tower(0.5, 1.0, 3, 4)
    row[-1] = [0, 0, 1]
    with pytest.raises(UnreadableInputError, match="event 0: a tower at"):
        read(write(tmp_path / "f.ig", event(row)))


def test_what_is_not_there(tmp_path: Path) -> None:
    path = write(tmp_path / "f.ig", event(tower(0.5, 1.0, 3, 4)))
    with pytest.raises(MissingFieldError, match="CaloTowers_V2"):
        read(path, collection="CaloTowers_V3")
    with pytest.raises(MissingFieldError, match="emEnergy"):
        read(path, layers={"em": "emEnergi"})
    with pytest.raises(MissingFieldError, match="'n_vertices', from which μ"):
        read(path, mu="n_vertices")
    with pytest.raises(MissingInputError):
        read(tmp_path / "none.ig")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not a collection",
        "[1, 2]",
        "{}",
        '{"Types": 1, "Collections": 2}',
        '{"Types": {"CaloTowers_V2": [["emEnergy"], ["hadEnergy"], ["eta"], ["phi"]]}, '
        '"Collections": {"CaloTowers_V2": [["x", 1, 2, 3]]}}',
        '{"Types": {"CaloTowers_V2": [["emEnergy"], ["hadEnergy"], ["eta"], ["phi"]]}, '
        '"Collections": {"CaloTowers_V2": [[1, 2]]}}',
        '{"Types": {"CaloTowers_V2": [3]}, "Collections": {"CaloTowers_V2": 3}}',
        "__import__('os').abort()",
        "[" * 100_000,
    ],
)
def test_an_event_that_is_no_table(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "f.ig", event(tower(0.5, 1.0, 3, 4)), text)
    with pytest.raises((UnreadableInputError, MissingFieldError), match=r"f\.ig, event 1"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"PK", b"\x89HDF\r\n\x1a\n"])
def test_a_file_that_is_no_zip(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "f.ig"
    path.write_bytes(content)
    with pytest.raises(UnreadableInputError, match=r"f\.ig"):
        read(path)


def test_a_display_without_events(tmp_path: Path) -> None:
    assert read(write(tmp_path / "f.ig")) == []


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("cut") / "f.ig"
    write(path, event(tower(0.5, 1.0, 3, 4)), event(tower(0.4, 1.0, 3, 4)))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    said = ""
    try:
        read(path)
    except InputError as error:
        said = error.message
    assert not said or "f.ig" in said


def test_real_collisions(shared_data: Path) -> None:
    parts = read(shared_data / "public" / "cms_minimum_bias_2010.ig")
    assert sum(part.n_events for part in parts) == 25
    edges = np.concatenate([part.edges for part in parts])
    # HCAL's towers: 72, 36 or 18 to a turn, and to |η| = 5.191.
    widths = 2 * np.pi / (edges[:, 3] - edges[:, 2])
    assert set(np.round(widths).astype(int)) == {72, 36, 18}
    np.testing.assert_allclose(np.abs(edges[:, :2]).max(), 5.191, atol=1e-3)
    energy = np.concatenate([part.energy for part in parts])
    assert np.isfinite(energy).all()
    assert 1 < energy.sum(axis=1).mean() < 100
