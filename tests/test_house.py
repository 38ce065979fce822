"""Rules that the package keeps about itself."""

from __future__ import annotations

import ast
from collections import defaultdict
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

import pileupgen
from pileupgen.compare.results import Comparison
from pileupgen.config import Config

ROOT = Path(pileupgen.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))


def test_no_two_classes_have_one_name():
    found = defaultdict(list)
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(str(path.relative_to(ROOT)))
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


@pytest.mark.parametrize("path", sorted((ROOT / "cli").glob("*.py")), ids=lambda path: path.name)
def test_a_command_fits_its_page(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 150


def test_docstrings_begin_with_a_noun_or_a_verb():
    found = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                text = str(node.value.value).lstrip()
                if text.partition(" ")[0] in ("Of", "For", "By", "As", "With"):
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {text[:40]}")
    assert found == []


def descriptions(kind: Any, prefix: str = "") -> dict[str, str]:
    """The description of every setting of a section and of the sections in it."""
    if is_dataclass(kind):
        return {prefix + one.name: one.metadata.get("description", "") for one in fields(kind)}
    found = {}
    for name, one in kind.model_fields.items():
        inner = one.annotation
        if hasattr(inner, "model_fields") or is_dataclass(inner):
            found |= descriptions(inner, f"{prefix}{one.alias or name}.")
        else:
            found[prefix + (one.alias or name)] = one.description or ""
    return found


def test_every_setting_of_a_config_has_a_description():
    found = descriptions(Config)
    assert len(found) > 80
    assert [name for name, text in found.items() if len(text) < 5] == []


def test_every_number_of_the_results_has_a_description():
    schema = Comparison.model_json_schema(mode="serialization")
    records = {"Comparison": schema, **schema["$defs"]}
    missing = {
        f"{name}.{key}"
        for name, record in records.items()
        for key, value in record.get("properties", {}).items()
        if not value.get("description")
    }
    # Its description is that of the record it refers to, which a schema does not repeat.
    assert missing == {"Comparison.settings"}


def test_no_two_test_modules_have_one_name():
    """Where folders are no packages, pytest does not collect the second of them."""
    tests = Path(__file__).parent
    names = [
        path.name for path in tests.rglob("test_*.py") if not (path.parent / "__init__.py").exists()
    ]
    assert sorted(names) == sorted(set(names))
