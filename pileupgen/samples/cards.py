"""Data cards: what a sample is, where it lies, and how to read it.

A card is a YAML file with the headings of :class:`DataCard`; ``data_cards/FORMAT.md`` explains
them one by one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, Field, PrivateAttr, field_validator, model_validator

from pileupgen.calo.geometry import Grid
from pileupgen.calo.presets import PRESETS
from pileupgen.errors import CardError, ConfigError, MissingInputError, did_you_mean
from pileupgen.faults import StrictModel, parse_model, read_yaml
from pileupgen.samples.columns import PARTICLE
from pileupgen.samples.readers import FORMATS, InputFile, MuSource, Reader
from pileupgen.samples.readers.base import GEV, EventColumn
from pileupgen.samples.readers.collection import Collection
from pileupgen.samples.readers.remote import RemoteFile, is_pattern, is_url, match_url

_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\}")
_WILD = re.compile(r"[*?\[]")

M = TypeVar("M", bound=BaseModel)


class Detector(StrictModel):
    """The detector that recorded the sample, and what may be done with its images."""

    text: str = Field(min_length=1, description="in words")
    grid: str | None = Field(None, description="geometry preset whose cells are the towers")
    phi_symmetric: bool = Field(False, description="alike in φ: training may roll images")
    eta_symmetric: bool = Field(False, description="alike in ±η: training may mirror images")
    period: str | None = Field(None, description="data-taking period whose conditions it has")
    suppressed: bool | None = Field(None, description="cells below a threshold are emptied")

    @field_validator("grid")
    @classmethod
    def _grid_is_known(cls, name: str | None) -> str | None:
        if name is not None and name not in PRESETS:
            raise ValueError(f"no geometry preset '{name}'. {did_you_mean(name, PRESETS)}")
        return name


class Units(StrictModel):
    """Units of the files; pileupgen's own are GeV and rad."""

    energy: Literal["GeV", "MeV", "TeV"] | None = Field(
        None, description="where a format does not say it itself, the card has to"
    )


class DataCard(StrictModel):
    """What a sample is, where it lies, and how to read it.

    Parameters are the card's headings. Exactly one of ``files`` and ``generate`` is given.
    """

    name: str = Field(min_length=1, pattern=r"^[\w.-]+$")
    what: str = Field(min_length=1, description="the sample in one sentence")
    domain: Literal["mc", "data"]
    files: tuple[str, ...] = Field((), description="paths and globs, relative to the card")
    generate: dict[str, Any] | None = Field(None, description="settings of pileupgen simulate")
    format: str = "delphes"
    options: dict[str, Any] = Field({}, description="names in the files, depending on the format")
    mu: str | float | None = Field(None, description="a branch ± a number, a number, 'unknown'")
    weight: str | None = Field(None, description="a branch with event weights, or 'none'")
    group: str | None = Field(
        None, description="a branch whose events of one number lie in one split, or 'none'"
    )
    conditions: tuple[str, ...] = Field(
        (), description="further numbers of each event that generators are conditioned on"
    )
    detector: Detector
    how_made: str = Field(min_length=1)
    selection: str = Field(min_length=1)
    units: Units = Units()
    licence: str = Field(min_length=1)
    contact: str = Field(min_length=1)
    checksum: dict[str, str] = Field({}, description="file name: SHA-256")

    _path: Path = PrivateAttr(default=Path())

    @field_validator("files", mode="before")
    @classmethod
    def _one_file_is_a_list(cls, files: Any) -> Any:
        return (files,) if isinstance(files, str) else files

    @field_validator("format")
    @classmethod
    def _format_is_known(cls, name: str) -> str:
        if name not in FORMATS:
            raise ValueError(f"no format '{name}'. {did_you_mean(name, FORMATS)}")
        return name

    @field_validator("mu")
    @classmethod
    def _mu_is_readable(cls, mu: str | float | None) -> str | float | None:
        if mu is not None:
            MuSource.parse(mu)
        return mu

    @field_validator("conditions")
    @classmethod
    def _conditions_are_known(cls, conditions: tuple[str, ...]) -> tuple[str, ...]:
        for name in conditions:
            if name not in PARTICLE:
                raise ValueError(f"no condition '{name}'. {did_you_mean(name, PARTICLE)}")
        return tuple(dict.fromkeys(conditions))

    @field_validator("checksum")
    @classmethod
    def _checksums_are_sha256(cls, checksum: dict[str, str]) -> dict[str, str]:
        for name, digest in checksum.items():
            if not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
                raise ValueError(f"'{digest}' of {name} is not a SHA-256 of 64 hex digits")
        return {name: digest.lower() for name, digest in checksum.items()}

    @model_validator(mode="after")
    def _has_one_origin(self) -> DataCard:
        if bool(self.files) == (self.generate is not None):
            raise ValueError("give either files or generate")
        return self

    @property
    def path(self) -> Path:
        """The file this card was read from."""
        return self._path

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as written in the card, with defaults."""
        values = self.model_dump(mode="json")
        # Named only where they say something: cards without them keep their fingerprints.
        if values["group"] is None:
            del values["group"]
        if not values["conditions"]:
            del values["conditions"]
        for name in ("period", "suppressed"):
            if values["detector"][name] is None:
                del values["detector"][name]
        return values

    def input_files(self) -> list[InputFile]:
        """Find the card's files: variables expanded, globs sorted, each file once.

        Files on a server (``root://…``) are asked for when they are read; globs there are expanded.

        Raises
        ------
        CardError
            If a variable without a default is not set.
        MissingInputError
            If a file is missing or a glob matches nothing.
        """
        found: dict[InputFile, None] = {}
        for pattern in self.files:
            found.update(dict.fromkeys(self._matches(pattern)))
        return list(found)

    def _matches(self, pattern: str) -> Sequence[InputFile]:
        expanded = _expand(pattern, self._path)
        if is_url(expanded):
            if not is_pattern(expanded):
                return [RemoteFile(expanded)]
            hits = match_url(expanded)
            if not hits:
                raise MissingInputError(
                    f"Nothing matches {expanded} (card '{self.name}').",
                    f"Correct 'files' in {self._path}.",
                )
            return hits
        path = self._path.parent / Path(expanded).expanduser()
        if path.is_file():
            return [path]
        hint = f"Correct 'files' in {self._path}."
        variables = [match["name"] for match in _VARIABLE.finditer(pattern)]
        if variables:
            hint = f"Set {' and '.join(variables)} to where it lies, or correct it in {self._path}."
        if not _WILD.search(expanded):
            there = path.parent.is_dir() and [near.name for near in path.parent.iterdir()]
            near = did_you_mean(path.name, there) if there else ""
            raise MissingInputError(f"No input file {path} (card '{self.name}').", f"{near} {hint}")
        wild = next(index for index, part in enumerate(path.parts) if _WILD.search(part))
        folder, rest = Path(*path.parts[:wild]), str(Path(*path.parts[wild:]))
        matched = sorted(hit for hit in folder.glob(rest) if hit.is_file())
        if not matched:
            raise MissingInputError(f"Nothing matches {path} (card '{self.name}').", hint)
        return matched

    @property
    def unit(self) -> Literal["GeV", "MeV", "TeV"]:
        """Unit of the files' energies: the card's, else the format's."""
        unit = self.units.energy or FORMATS[self.format].unit
        if unit is None:
            raise CardError(
                f"{self.path}: 'units.energy' is missing; files of format {self.format} do not say "
                "in which unit their energies are.",
                "Write units: {energy: GeV} or {energy: MeV} into the card.",
            )
        return unit

    @property
    def grid(self) -> Grid | None:
        """Grid that the card itself sets: that of its features; None for images."""
        kind = FORMATS[self.format]
        if not kind.sets_grid:
            return None
        grid: Grid = kind.options(**self.options).grid  # type: ignore[attr-defined]
        return grid

    def position_files(self) -> list[Path]:
        """Find other files that the options name for the cells' positions.

        Raises
        ------
        MissingInputError
            If one is missing.
        """
        options = self._options()
        paths = [Path(name) for name in getattr(options, "position_files", tuple)()]
        for path in paths:
            if not path.is_file():
                raise MissingInputError(
                    f"No file {path} with the cells' positions (card '{self.name}').",
                    f"Correct positions.file in {self._path}.",
                )
        return paths

    def collections(self) -> tuple[Collection, ...]:
        """Collections of cells that the options describe; none in formats without such."""
        options = self._options()
        return tuple(options.parts().values()) if hasattr(options, "parts") else ()

    def _options(self) -> BaseModel:
        def resolve(name: str) -> str:
            return str(self._path.parent / Path(_expand(name, self._path)).expanduser())

        kind = FORMATS[self.format].options
        return kind.model_validate(self.options, context={"resolve": resolve})

    def open(self, files: Sequence[InputFile]) -> Reader:
        """Reader of the card's format for the given files; nothing is opened yet."""
        kind = FORMATS[self.format]
        mu = MuSource.parse(kind.mu if self.mu is None else self.mu)
        reader: Reader = kind.open(files, self._options(), mu, GEV[self.unit])
        reader.weigh_by(EventColumn.parse(self.weight, kind.weights))
        reader.group_by(EventColumn.parse(self.group, kind.groups))
        reader.number_by(kind.ids)
        reader.know(self.conditions)
        return reader


def default_suppression(cards: Iterable[DataCard]) -> float:
    """Threshold in GeV that cells have where the config gives none: that of the cards' formats.

    Raises
    ------
    ConfigError
        If the formats differ in it, since both domains are cut alike.
    """
    known = {card.format: FORMATS[card.format].zero_suppression for card in cards}
    if len(set(known.values())) > 1:
        said = " and ".join(f"{limit:g} GeV for {name}" for name, limit in known.items())
        raise ConfigError(
            "The config gives no preprocess.zero_suppression, and the cards' formats differ in "
            f"theirs: {said}.",
            "Both domains are cut alike: set it, in GeV; 0 leaves everything as it is.",
        )
    return next(iter(known.values()))


def load_card(path: Path) -> DataCard:
    """Read and check a data card.

    Raises
    ------
    CardError
        If the file is not YAML or a heading does not fit; names every fault and, for an unknown
        key, the near ones.
    MissingInputError
        If there is no such file.
    """
    if not path.is_file():
        raise MissingInputError(f"No data card at {path}.", "See data_cards/ for examples.")
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CardError(f"{path} is not YAML: {error}.") from error
    if not isinstance(values, dict):
        raise CardError(f"{path} is not a data card: it must be a mapping of headings.")
    card = _check(DataCard, values, path)
    _check(FORMATS[card.format].options, card.options, path, "options")
    card._path = path
    # Written out for the provenance; a card without one is refused before a file is opened.
    known = card.model_copy(update={"units": Units(energy=card.unit)})
    known._path = path
    return known


def _check(model: type[M], values: dict[str, Any], path: Path, section: str = "") -> M:
    hint = "data_cards/FORMAT.md explains the headings."
    return parse_model(model, values, str(path), hint=hint, section=section)


def _expand(pattern: str, card: Path) -> str:
    """Replace ``${NAME}`` and ``${NAME:-default}``.

    A relative path in a variable is taken from the working directory, all else from the card.
    """

    def value(match: re.Match[str]) -> str:
        default, found = match["default"], os.environ.get(match["name"])
        if found:
            is_path = match.start() == 0 and not Path(found).is_absolute() and not is_url(found)
            return str(Path.cwd() / found) if is_path else found
        if default is None:
            raise CardError(
                f"{card}: '{pattern}' uses {match['name']}, which is not set.",
                f"Set it, or give a default: ${{{match['name']}:-path}}.",
            )
        return default

    return _VARIABLE.sub(value, pattern)
