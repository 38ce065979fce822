"""A commented config and two data cards to start from, true to the schema they are checked by."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from pileupgen.config import Config
from pileupgen.errors import ConfigError, OutputError
from pileupgen.files import write_whole
from pileupgen.progress import SILENT, Listener

_WIDTH = 96
_CARD = """\
# A sample of {what}. Every heading is explained in data_cards/FORMAT.md.
name: {name}
what: {sentence}
domain: {domain}
{origin}format: delphes  # see 'pileupgen cards list' for cards of other formats
mu: Vertex_size - 1  # a branch ± a number, a number, or unknown
detector:
  text: {detector}
  grid: atlas  # the geometry preset whose cells are the towers; leave out if there is none
  phi_symmetric: true  # training may roll images in φ
  eta_symmetric: true  # training may mirror images in η
how_made: {how_made}
selection: none, every event is kept
units: {{energy: GeV}}
licence: to be stated
contact: to be stated
"""
_FILES = """\
files: "{domain}/*.root"  # paths and globs, from this card; ${{NAME:-default}} reads a variable
"""
_GENERATE = """\
generate:  # made and cached on first use; give 'files' instead for a sample of your own
  generator: pythia8
  process: inelastic
  tune: {tune}
  sqrt_s: 13600  # GeV
  n_events: {n_events}
  mu: 60
  response: {domain}
  seed: {seed}
"""
N_EVENTS = 400
"""Events of each generated sample."""
MEASURED = "demo"
"""The shipped config whose settings a new one begins with: the ladder says what each is worth."""
_OWN = ("name", "samples", "preprocess", "validate")
"""Sections of it that are about its samples, or about the comparison."""


def write_start(
    folder: Path, name: str, *, generate: bool = False, listener: Listener = SILENT
) -> Path:
    """Write ``<name>.yaml`` and ``cards/<name>_mc.yaml`` and ``cards/<name>_data.yaml``.

    Parameters
    ----------
    generate : bool
        Whether the cards ask for small samples to be generated, or name files.

    Returns
    -------
    Path
        The config.

    Raises
    ------
    ConfigError
        If the name is none for a run directory.
    OutputError
        If one of the files is there already, or cannot be written.
    """
    config = folder / f"{name}.yaml"
    cards = {domain: folder / "cards" / f"{name}_{domain}.yaml" for domain in ("mc", "data")}
    for path in (config, *cards.values()):
        if path.exists():
            raise OutputError(f"{path} is there already.", "Choose another name or folder.")
    text = config_text(name, {domain: f"cards/{path.name}" for domain, path in cards.items()})
    for domain, path in cards.items():
        write_whole(path, card_text(path.stem, domain, generate=generate))
        listener.wrote(path, "a data card; fill in what the sample is")
    write_whole(config, text)
    listener.wrote(config, f"settings of the config '{MEASURED}', all others commented out")
    listener.next(
        f"pileupgen preprocess --config {config}"
        if generate
        else f"put your files beside the cards, then pileupgen cards check {cards['mc']}"
    )
    return config


def config_text(name: str, samples: dict[str, str]) -> str:
    """Write a config that sets name, samples, and what ``MEASURED`` sets, all else commented out.

    Parameters
    ----------
    samples : dict
        Card of each domain, ``mc`` and ``data``.

    Raises
    ------
    ConfigError
        If they do not fit the schema.
    """
    from pileupgen.config import parse_config, read_config
    from pileupgen.resources import find_file

    parse_config({"name": name, "samples": samples}, "the new config")
    measured = read_config(find_file(MEASURED, "configs"))
    given = {key: value for key, value in measured.items() if key not in _OWN}
    lines = [
        "# Settings of a run. What is commented out has the default shown; take the '# ' away from",
        "# a setting and from the name of its section to change it. 'pileupgen config schema'",
        f"# prints the types and limits. What is set is as in the config '{MEASURED}'.",
        f"name: {name}",
        "samples:",
        *(f"  {domain}: {card}" for domain, card in samples.items()),
    ]
    for key, about, default in _settings(Config):
        if key in ("name", "samples"):
            continue
        own = given.get(key)
        if not _is_section(default):
            lines += [
                "",
                *_setting(key, about, default if own is None else own, "", own is not None),
            ]
            continue
        lines += ["", f"# {_first_line(default)}", f"{'# ' if own is None else ''}{key}:"]
        for inner, inner_about, inner_default in _settings(type(default)):
            is_set = inner in (own or {})
            value = own[inner] if own and is_set else inner_default
            lines += _setting(inner, inner_about, value, "  ", is_set)
    return "\n".join(lines) + "\n"


def card_text(name: str, domain: str, *, generate: bool) -> str:
    """Write a data card of a domain, with files or settings of a sample to be generated."""
    is_mc = domain == "mc"
    origin = _FILES.format(domain=domain)
    if generate:
        numbers = (14, 1) if is_mc else (21, 2)
        origin = _GENERATE.format(
            tune=numbers[0], n_events=N_EVENTS, domain=domain, seed=numbers[1]
        )
    return _CARD.format(
        what="simulated events" if is_mc else "recorded events",
        name=name,
        sentence=f"{'simulated' if is_mc else 'recorded'} pileup, to be described in one sentence",
        domain=domain,
        origin=origin,
        detector="the detector that recorded it, in words",
        how_made="generator, tune and detector simulation" if is_mc else "run, trigger and filters",
    )


def _settings(kind: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield key, description and default of each setting of a section."""
    if is_dataclass(kind):
        for one in fields(kind):
            yield one.name, one.metadata.get("description", ""), one.default
        return
    for name, one in kind.model_fields.items():
        if one.default is PydanticUndefined:
            raise ConfigError(f"The setting '{name}' has no default.")
        yield one.alias or name, one.description or "", one.default


def _setting(key: str, about: str, value: Any, indent: str, is_set: bool) -> list[str]:
    value = json.loads(json.dumps(value))
    shown = "null" if value is None else json.dumps(value, ensure_ascii=False)
    begin = indent if is_set else f"# {indent}"
    line = f"{begin}{key}: {shown}"
    if not about:
        return [line]
    if len(line) + len(about) + 4 <= _WIDTH:
        return [f"{line}  # {about}"]
    return [*(f"{begin}# {part}" for part in textwrap.wrap(about, _WIDTH - 8)), line]


def _is_section(default: Any) -> bool:
    return isinstance(default, BaseModel) or is_dataclass(default)


def _first_line(section: Any) -> str:
    return (type(section).__doc__ or "").strip().splitlines()[0]
