from __future__ import annotations

import itertools
import subprocess
import sys
from typing import Any

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from pileupgen.cli.main import app, main
from tests.conftest import run_main

HEAVY = ("torch", "matplotlib", "diffusers", "uproot", "awkward", "h5py", "sklearn", "scipy")


def test_importing_loads_nothing_heavy():
    """The package, and what its command line begins with."""
    shown = f"print([m for m in {HEAVY} if m in sys.modules])"
    code = f"import sys, pileupgen; {shown}; import pileupgen.cli.main; {shown}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "[]"]


def test_help_lists_the_commands():
    code, said = run_main("--help")
    assert code == 0
    for command in ("simulate", "preprocess", "cards", "train", "translate", "validate", "export"):
        assert command in said


def commands(group: Any, *path: str) -> list[tuple[str, ...]]:
    if not isinstance(group, TyperGroup):
        return [path]
    inner = group.commands.items()
    return [found for name, command in inner for found in commands(command, *path, name)]


@pytest.mark.parametrize("path", commands(typer.main.get_command(app)), ids=" ".join)
def test_every_command_has_help_with_examples(path):
    done = CliRunner().invoke(app, [*path, "--help"])
    assert done.exit_code == 0
    examples = done.output.partition("Examples")[2]
    assert f"pileupgen {' '.join(path)} " in examples
    if path[0] in ("simulate", "preprocess", "train", "translate", "validate"):
        assert "--seed" in done.output


@pytest.mark.parametrize("width", ["80", "120"])
def test_paragraphs_of_help_fill_the_terminal_and_examples_keep_their_lines(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", width)
    written = CliRunner().invoke(app, ["merge", "--help"]).output
    text, _, examples = written.partition("Examples:")
    lines = [line.strip() for line in text.splitlines()[3:]]
    for line, following in itertools.pairwise(lines):
        if line and following:
            assert len(line) + 1 + len(following.split()[0]) > int(width) - 2
    assert "pileupgen merge" in examples.splitlines()[1]


def test_version_as_a_module():
    from pileupgen import __version__

    command = [sys.executable, "-m", "pileupgen", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"pileupgen {__version__}"


def test_an_unknown_option_is_named(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pileupgen", "translate", "--t-relase", "300"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    errors = capsys.readouterr().err
    assert "--t-relase" in errors
    assert "Traceback" not in errors
