from __future__ import annotations

import itertools
import subprocess
import sys
from typing import Any

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from pileupgen.cli.main import app

HEAVY = ("torch", "matplotlib", "diffusers", "uproot", "awkward", "h5py", "sklearn", "scipy")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pileupgen", *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("what", ["import pileupgen", "import pileupgen.cli.main"])
def test_importing_loads_nothing_heavy(what):
    code = f"{what}, sys; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_help_lists_the_commands():
    done = run("--help")
    assert done.returncode == 0
    for command in ("simulate", "preprocess", "cards", "train", "translate", "validate", "export"):
        assert command in done.stdout


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


def test_version():
    from pileupgen import __version__

    assert run("--version").stdout.strip() == f"pileupgen {__version__}"


def test_an_unknown_option_is_named():
    done = run("translate", "--t-relase", "300")
    assert done.returncode == 2
    assert "--t-relase" in done.stderr
    assert "Traceback" not in done.stderr
