"""Files take their name when they are whole, and not before."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import pytest

import pileupgen
from pileupgen.errors import OutputError, PileupgenError, StoreError
from pileupgen.files import (
    HINT,
    folder_written_whole,
    require_writable,
    write_whole,
    written_whole,
)

FULL = OSError(28, "No space left on device")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_its_name_when_whole_and_not_before(tmp_path):
    final = tmp_path / "new" / "table.csv"
    with written_whole(final) as aside:
        aside.write_text("1")
        assert aside.parent == final.parent
        assert not final.exists()
    assert final.read_text() == "1"
    assert names_in(final.parent) == ["table.csv"]


def test_a_folder_takes_its_name_when_whole_and_not_before(tmp_path):
    final = tmp_path / "model"
    for content in ("1", "2"):
        with folder_written_whole(final) as aside:
            (aside / content).write_text(content)
            assert not (final / content).exists()
        # The folder before is replaced, not added to.
        assert names_in(final) == [content]
    assert names_in(tmp_path) == ["model"]


@pytest.mark.parametrize("write", [written_whole, folder_written_whole])
@pytest.mark.parametrize("error", [FULL, StoreError("Wrong.")])
def test_what_was_there_stays_if_there_is_an_error(tmp_path, write, error):
    final = tmp_path / "model"
    with folder_written_whole(final) as aside:
        (aside / "a").write_text("1")
    expected = OutputError if error is FULL else StoreError
    with pytest.raises(PileupgenError) as raised, write(final) as aside:
        raise error
    assert type(raised.value) is expected
    assert (final / "a").read_text() == "1"
    assert names_in(tmp_path) == ["model"]


def test_a_folder_that_cannot_be_renamed_gives_the_one_before_back(tmp_path, monkeypatch):
    final = tmp_path / "model"
    with folder_written_whole(final) as aside:
        (aside / "a").write_text("1")

    def refuse(source: object, target: object) -> None:
        raise OSError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OutputError, match="Permission denied"), folder_written_whole(final):
        pass
    monkeypatch.undo()
    assert (final / "a").read_text() == "1"
    assert names_in(tmp_path) == ["model"]


def test_an_error_names_the_final_file_and_how_to_correct_it(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError) as raised:
        write_whole(tmp_path / "taken" / "a.json", "{}")
    assert raised.value.message == f"Cannot write {tmp_path / 'taken' / 'a.json'}: File exists."
    assert raised.value.hint == HINT


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    final = tmp_path / "a.json"
    with written_whole(final) as first, written_whole(final) as second:
        first.write_text("first")
        second.write_text("second")
    assert final.read_text() == "first"
    assert names_in(tmp_path) == ["a.json"]


def test_text_is_utf8_and_permission_is_as_for_any_file(tmp_path):
    mask = os.umask(0o027)
    try:
        write_whole(tmp_path / "a", "η")
        with folder_written_whole(tmp_path / "b"):
            pass
    finally:
        os.umask(mask)
    assert (tmp_path / "a").read_bytes() == "η".encode()
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o750


def test_no_other_module_writes_aside_by_itself():
    package = Path(pileupgen.__file__).parent
    for path in package.rglob("*.py"):
        if path.name == "files.py":
            continue
        code = ast.unparse(ast.parse(path.read_text()))
        assert not re.search(r"os\.(replace|rename)\(|\.rename\(", code), path


def test_a_folder_that_takes_no_files_is_refused_before_there_is_work(tmp_path: Path) -> None:
    require_writable(tmp_path / "new" / "folder")
    assert not list((tmp_path / "new" / "folder").iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"Cannot write .*file: File exists") as refused:
        require_writable(tmp_path / "file")
    assert refused.value.hint == HINT
