"""What the documentation says can be typed, and what it names is there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from pileupgen.cli.main import app

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "data_cards" / "FORMAT.md"]
    + [
        page
        for page in (ROOT / "docs").rglob("*.md")
        if not {"_build", "generated"} & set(page.parts)
    ]
)
COMMAND = re.compile(r"^(?: *\$ |    +)(?:\w+=\S+ )*(pileupgen [^\"\n]*)$", re.MULTILINE)


def commands_of(page: Path) -> list[str]:
    """Command lines of the page's blocks, and those quoted in its text that give options."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    found = [match.group(1) for match in COMMAND.finditer(text)]
    found += [quoted for quoted in re.findall(r"`(pileupgen [^`|…]+)`", text) if "--" in quoted]
    return [line.partition(" #")[0].strip() for line in found]


def examples_in_help(group: Any, *path: str) -> Iterator[str]:
    if isinstance(group, TyperGroup):
        for name, command in group.commands.items():
            yield from examples_in_help(command, *path, name)
        return
    text = group.help.partition("Examples:")[2].replace("\\\n", " ")
    yield from (line.strip() for line in text.splitlines() if "pileupgen " in line)


LINES = {
    "--help": list(examples_in_help(typer.main.get_command(app))),
    **{page.relative_to(ROOT).as_posix(): commands_of(page) for page in PAGES},
}


@pytest.mark.parametrize("where", [where for where, lines in LINES.items() if lines])
def test_every_command_line_can_be_typed(where: str) -> None:
    root = typer.main.get_command(app)
    for line in LINES[where]:
        words = shlex.split(line[line.index("pileupgen ") :])[1:]
        words = words[: words.index(">")] if ">" in words else words
        command: Any = root
        while isinstance(command, TyperGroup) and words and not words[0].startswith("-"):
            assert words[0] in command.commands, f"no command '{words[0]}' in '{line}'"
            command = command.commands[words.pop(0)]
        if not isinstance(command, TyperGroup):
            # Reads the options without running anything; an unknown one raises.
            command.make_context("pileupgen", words)


def test_the_documentation_has_command_lines() -> None:
    assert len(LINES["README.md"]) >= 4
    assert len(LINES["docs/how-to/own-files.md"]) >= 6
    assert len(LINES["--help"]) > 40


def test_every_benchmark_that_is_named_has_its_options() -> None:
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    found = [
        line for text in texts for line in re.findall(r"`python -m (benchmarks\.[^`]*)`", text)
    ]
    assert len(found) > 6
    for line in found:
        module, *words = shlex.split(line)
        path = ROOT / Path(*module.split("."))
        source = path.with_suffix(".py").read_text(encoding="utf-8")
        for word in words:
            assert not word.startswith("--") or f'"{word}"' in source, f"no {word} in '{line}'"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" in target or "generated/" in target:
            continue
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_settings_in_the_pages_exist() -> None:
    from pileupgen.config import Config

    sections = {f.alias or name: f.annotation for name, f in Config.model_fields.items()}
    checked = 0
    for page in PAGES:
        for section, key in re.findall(r"`(\w+)\.(\w+)(?::[^`]*)?`", page.read_text("utf-8")):
            model = sections.get(section)
            if model is not None and hasattr(model, "model_fields"):
                names = {f.alias or name for name, f in model.model_fields.items()}
                assert key in names, f"{page.name} names the setting {section}.{key}"
                checked += 1
    assert checked >= 5


def test_the_citation_names_this_version() -> None:
    import yaml

    from pileupgen import __version__

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    assert citation["license"] == "Apache-2.0"
