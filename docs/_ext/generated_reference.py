"""Reference pages that are written from the code when the pages are built.

``reference/generated/commands.md`` comes from the typer application, ``config.md`` from the
pydantic model of the settings, ``results.md`` from that of the results: none can fall behind the
program.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

FOLDER = Path(__file__).parent.parent / "reference" / "generated"


# -- commands --------------------------------------------------------------------------------------


def commands_page() -> str:
    """Describe every command with its options."""
    import typer

    from pileupgen.cli.main import app

    root = typer.main.get_command(app)
    lines = [
        "# Commands",
        "",
        "This page is generated from the program; `pileupgen COMMAND --help` prints the same text.",
        "",
    ]
    for words, command in _leaves(("pileupgen",), root):
        lines += _command(" ".join(words), command)
    return "\n".join(lines) + "\n"


def _leaves(words: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not hasattr(command, "commands"):
        yield words, command
        return
    for name, inner in command.commands.items():
        yield from _leaves((*words, name), inner)


def _command(title: str, command: Any) -> list[str]:
    text, _, examples = (command.help or "").partition("Examples:")
    text = re.sub(r"\[/?[a-z ]*\]", "", text.replace("\b", "").replace("\f", ""))
    arguments = [p for p in command.params if not p.opts[0].startswith("-")]
    options = [p for p in command.params if p.opts[0].startswith("-") and not p.hidden]
    usage = " ".join([title, "[OPTIONS]", *(_argument(p) for p in arguments)])
    lines = [f"## {title}", "", "```text", usage, "```", ""]
    lines += [_markdown(paragraph) + "\n" for paragraph in re.split(r"\n\s*\n", text) if paragraph]
    shown = [line.strip() for line in examples.replace("\b", "").splitlines() if line.strip()]
    if shown:
        lines += ["```console", *(_prompt(line) for line in shown), "```", ""]
    if arguments:
        lines += ["| argument | meaning |", "|---|---|"]
        lines += [f"| `{_argument(p)}` | {_cell(p.help)} |" for p in arguments]
        lines += [""]
    if options:
        lines += ["| option | value | meaning |", "|---|---|---|"]
        lines += [f"| {_names(p)} | {_value(p)} | {_cell(p.help)}{_default(p)} |" for p in options]
        lines += [""]
    return lines


def _prompt(line: str) -> str:
    """Mark where a command begins; a line that begins with an option continues one."""
    return f"    {line}" if line.startswith("-") else f"$ {line}"


def _argument(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name.upper()).strip("[]…")
    name = f"{name}…" if parameter.nargs == -1 else name
    return name if parameter.required else f"[{name}]"


def _names(parameter: Any) -> str:
    names = [*parameter.opts, *parameter.secondary_opts]
    return ", ".join(f"`{name}`" for name in sorted(names, key=lambda n: (n.count("-") == 1, n)))


def _value(parameter: Any) -> str:
    if parameter.is_flag:
        return ""
    if parameter.metavar:
        return _cell(f"`{parameter.metavar}`")
    annotation = parameter.type_descriptor.annotation
    choices = _choices(annotation)
    if choices:
        return _cell(" or ".join(f"`{choice}`" for choice in choices))
    name = {"Path": "path", "int": "integer", "float": "number", "str": "text"}.get(
        getattr(annotation, "__name__", ""), "text"
    )
    low, high = parameter.min, parameter.max
    if low is not None and high is not None:
        return f"{name}, {low} to {high}"
    return f"{name} ≥ {low}" if low is not None else name


def _choices(annotation: Any) -> list[str]:
    if isinstance(annotation, type) and hasattr(annotation, "__members__"):
        return [member.value for member in annotation]  # type: ignore[attr-defined]
    return [str(value) for value in _literals(annotation)]


def _default(parameter: Any) -> str:
    default = getattr(parameter.default, "value", parameter.default)
    if not parameter.show_default or default in (None, "", (), [], False) or callable(default):
        return ""
    return f" Default: `{default}`."


# -- settings --------------------------------------------------------------------------------------


def config_page() -> str:
    """Describe every setting of a config."""
    from pileupgen.config import Config

    lines = [
        "# Configuration",
        "",
        "This page is generated from the program. A config is a YAML file with the sections below; "
        "what it leaves out takes the default. An unknown key is an error that names the nearest "
        "known one. The shipped configs are in `configs/`.",
        "",
        "## Top level",
        "",
    ]
    plain = {k: f for k, f in Config.model_fields.items() if not _section(f)}
    lines += _settings(plain)
    for key, field in Config.model_fields.items():
        section = _section(field)
        if section:
            about = (section.__doc__ or "").partition("\n\n")[0]
            lines += [f"## {field.alias or key}", "", _markdown(about), ""]
            lines += _settings(_fields(section))
    return "\n".join(lines) + "\n"


def _section(field: FieldInfo) -> Any:
    """Return the model or dataclass that a key's value is, or None for a plain value."""
    kind = field.annotation
    if isinstance(kind, type) and (issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind)):
        return kind
    return None


def _fields(section: Any) -> dict[str, FieldInfo]:
    if not dataclasses.is_dataclass(section):
        return dict(section.model_fields)
    hints = typing.get_type_hints(section)
    return {
        one.name: FieldInfo.from_annotated_attribute(hints[one.name], one)
        for one in dataclasses.fields(section)
    }


def _settings(fields: dict[str, FieldInfo]) -> list[str]:
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for key, field in fields.items():
        default = field.get_default(call_default_factory=True)
        shown = "`null`" if default is None else f"`{_yaml(default)}`"
        meaning = _cell(field.description or "")
        lines.append(f"| `{field.alias or key}` | {_cell(_kind(field))} | {shown} | {meaning} |")
    return [*lines, ""]


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{', '.join(map(str, value))}]" if isinstance(value, tuple | list) else str(value)


def _kind(field: FieldInfo) -> str:
    limits = []
    for constraint in field.metadata:
        for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<")):
            if getattr(constraint, name, None) is not None:
                limits.append(f"{sign} {getattr(constraint, name)}")
    return ", ".join([_type_name(field.annotation), *limits])


def _type_name(kind: Any) -> str:
    plain = {int: "integer", float: "number", str: "text", bool: "true or false", Any: "any"}
    if kind in plain:
        return plain[kind]
    origin = typing.get_origin(kind)
    arguments = typing.get_args(kind)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join("null" if a is type(None) else _type_name(a) for a in arguments)
    if origin is tuple and arguments and arguments[-1] is Ellipsis:
        return f"list of {_type_name(arguments[0])}"
    if origin is tuple:
        return f"{len(arguments)} × {_type_name(arguments[0])}"
    if origin is dict:
        return "mapping"
    if origin is typing.Annotated:
        return _type_name(arguments[0])
    return getattr(kind, "__name__", str(kind))


def _literals(kind: Any) -> tuple[Any, ...]:
    if typing.get_origin(kind) is Literal:
        return typing.get_args(kind)
    return tuple(value for inner in typing.get_args(kind) for value in _literals(inner))


# -- results ---------------------------------------------------------------------------------------


def results_page() -> str:
    """Describe the numbers and the records of ``metrics.json``."""
    from pileupgen.compare.headline import HEADLINE, TERMS
    from pileupgen.compare.results import Comparison

    lines = [
        "# Results: metrics.json",
        "",
        "This page is generated from the program. `pileupgen validate` writes `metrics.json` "
        "beside the report; in Python it is a `pileupgen.compare.results.Comparison`.",
        "",
        "## Headline numbers",
        "",
        "The key is that of `headline` in `metrics.json`, of the CSV of `pileupgen compare`, and "
        "of the conditions of `pileupgen validate --fail-if`. It stands for the translated sample; "
        "with the suffix `_source` or `_reference` it stands for the other two.",
        "",
        "| key | name | meaning |",
        "|---|---|---|",
        *(f"| `{n.name}` | {_cell(n.label)} | {_cell(n.definition)} |" for n in HEADLINE),
        "",
        "## Terms",
        "",
        "| term | meaning |",
        "|---|---|",
        *(f"| {_cell(term.label)} | {_cell(term.definition)} |" for term in TERMS),
        "",
        "## Records",
        "",
        "The JSON schema of the file is "
        '`pileupgen.compare.results.Comparison.model_json_schema(mode="serialization")`. '
        "An undefined number is `null`.",
        "",
    ]
    schema = Comparison.model_json_schema(mode="serialization")
    records = {"Comparison": schema, **schema["$defs"]}
    for name, record in records.items():
        if "properties" not in record:
            continue
        lines += [f"### {name}", "", _markdown(record.get("description", "")), ""]
        lines += ["| key | value | meaning |", "|---|---|---|"]
        for key, value in record["properties"].items():
            # A schema leaves out a description that is that of the record which it refers to.
            referred = records.get(value.get("$ref", "").rpartition("/")[2], {})
            meaning = _cell(value.get("description", referred.get("description", "")))
            lines.append(f"| `{key}` | {_cell(_json_type(value))} | {meaning} |")
        lines.append("")
    return "\n".join(lines) + "\n"


def _json_type(value: dict[str, Any]) -> str:
    if "$ref" in value:
        return value["$ref"].rpartition("/")[2]
    if "anyOf" in value:
        return " or ".join(_json_type(option) for option in value["anyOf"])
    if "enum" in value or "const" in value:
        return " or ".join(f"`{option}`" for option in value.get("enum", [value.get("const")]))
    if value.get("type") == "array" and "items" in value:
        return f"list of {_json_type(value['items'])}"
    if value.get("type") == "object" and isinstance(value.get("additionalProperties"), dict):
        return f"mapping to {_json_type(value['additionalProperties'])}"
    kind = value.get("type", "any")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


# -- text ------------------------------------------------------------------------------------------


def _markdown(text: str) -> str:
    """Join the lines of a docstring's paragraph; its double backquotes become single ones."""
    joined = " ".join(text.split()).replace("``", "`")
    named = re.sub(r":\w+:`~?[\w.]*?(\w+)`", r"`\1`", joined)
    # Names of options stand in running text too, where a line may end behind a hyphen.
    parts = re.split(r"(`[^`]*`)", named)
    parts[::2] = [re.sub(r"(?<![\w-])(--[a-z][a-z-]*)", r"`\1`", part) for part in parts[::2]]
    return "".join(parts).replace("<", "&lt;").replace("*", r"\*")


def _cell(text: str | None) -> str:
    """Prepare text for a table."""
    quoted = re.split(r"(`[^`]*`)", _markdown(text or "").replace("&lt;", "<"))
    plain = [
        part if part.startswith("`") else part.replace("<", "&lt;").replace("\\\\", "\\")
        for part in quoted
    ]
    return "".join(plain).replace("|", r"\|")


def _write(_app: Any) -> None:
    FOLDER.mkdir(exist_ok=True)
    pages = {"commands": commands_page, "config": config_page, "results": results_page}
    for name, page in ((f"{name}.md", make()) for name, make in pages.items()):
        path = FOLDER / name
        if not path.is_file() or path.read_text(encoding="utf-8") != page:
            path.write_text(page, encoding="utf-8")


def _keep_together(_app: Any, _name: str, source: list[str]) -> None:
    """Let no line end within a number with its error or before its unit."""
    joined = re.sub(r"(\d)\s±\s(\d)", "\\1\u00a0±\u00a0\\2", source[0])
    source[0] = re.sub(r"(\d)\s(σ|%|GeV|TeV|MeV|MB|GB|ms|mm)(?!\w)", "\\1\u00a0\\2", joined)


def setup(app: Any) -> dict[str, bool]:
    """Write the pages before Sphinx looks for its sources."""
    app.connect("builder-inited", _write)
    app.connect("source-read", _keep_together)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
