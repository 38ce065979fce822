"""A run directory: its paths, its config, what each stage was made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

from pileupgen import __version__
from pileupgen.errors import RunError
from pileupgen.files import write_whole

OPERATIONAL = (
    "name",
    "preprocess.allow",
    "distill",
    "translate",
    "validate",
    "training.micro_batch",
    "training.checkpoint_every",
    "training.keep_checkpoints",
    "training.tensorboard",
)
"""Config sections and settings that may change between two commands on the same run."""


def fingerprint(values: object) -> str:
    """SHA-256 (first 16 hex digits) of anything JSON can hold, independent of key order.

    >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    True
    """
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def training_fingerprint(
    config: Mapping[str, Any], provenances: Sequence[Mapping[str, Any]]
) -> str:
    """What a training's result is determined by: its settings and its image stores."""
    return fingerprint([determining(config), list(provenances)])


def determining(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leave out of a config what is operational.

    >>> determining({"name": "demo", "seed": 1, "training": {"tensorboard": True, "keep": "last"}})
    {'seed': 1, 'training': {'keep': 'last'}}
    """
    return {
        key: determining(value, f"{prefix}{key}.") if isinstance(value, Mapping) else value
        for key, value in config.items()
        if f"{prefix}{key}" not in OPERATIONAL
    }


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hash_stream(file)


def hash_stream(file: IO[bytes]) -> str:
    """SHA-256 of what is left to read of an open file, in hex."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of pileupgen and the named packages."""
    found = {package: _version(package) for package in packages}
    known = {package: number for package, number in found.items() if number is not None}
    return {"pileupgen": __version__, **known}


@cache
def _version(package: str) -> str | None:
    with suppress(PackageNotFoundError):
        return version(package)
    return None


class RunDirectory:
    """Paths and records of one run.

    Layout::

        config.yaml              resolved config
        stages/<stage>.json      what a stage was made from, written when it is done
        data/<domain>.h5         image stores
        model/                   the trained pipeline (diffusers layout, safetensors)
        students/<setting>/      distilled from it, with a description
        checkpoints/             training state
        logs/                    loss curves
        translated/<name>.h5     translated stores
        validation/              metrics.json, report.html and figures
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def config_path(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def model(self) -> Path:
        """The trained pipeline."""
        return self.path / "model"

    @property
    def students(self) -> Path:
        """Students of the model, a folder for each setting of the translation."""
        return self.path / "students"

    @property
    def checkpoints(self) -> Path:
        """Training state."""
        return self.path / "checkpoints"

    @property
    def latents(self) -> Path:
        """Encoded training events, while there is training to do."""
        return self.path / "checkpoints" / "latents"

    @property
    def logs(self) -> Path:
        """Loss curves."""
        return self.path / "logs"

    @property
    def validation(self) -> Path:
        """Metrics and figures."""
        return self.path / "validation"

    def images(self, domain: str) -> Path:
        """Image store of a domain."""
        return self.path / "data" / f"{domain}.h5"

    @property
    def translated(self) -> Path:
        """Default store of translated events."""
        return self.translation("mc_to_data")

    def translation(self, direction: str) -> Path:
        """Store of events translated from one domain to one, ``<source>_to_<target>``."""
        return self.path / "translated" / f"{direction}.h5"

    def adopt(
        self,
        config: Mapping[str, Any],
        dump: str,
    ) -> None:
        """Bind the run to a config, or check that it is bound to the same one.

        Parameters
        ----------
        config : mapping
            Resolved config as plain values.
        dump : str
            The same as YAML, written where the run has no config yet.

        Raises
        ------
        RunError
            If the run was begun with other settings; names up to five that differ.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"{self.path} is a file, not a run directory.", "Choose another --run.")
        if not self.config_path.is_file():
            write_whole(self.config_path, dump)
            return
        differing = differing_keys(self.load_config(), config)
        if differing:
            shown = "; ".join(differing[:5])
            more = f"; and {len(differing) - 5} more" if len(differing) > 5 else ""
            raise RunError(
                f"{self.path} belongs to another config: {shown}{more}.",
                "Choose another --run, or delete this one to start again.",
            )

    def load_config(self) -> dict[str, Any]:
        """The config this run is bound to, as plain values.

        Raises
        ------
        RunError
            If it is missing or damaged.
        """
        import yaml

        try:
            values = yaml.safe_load(self.config_path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise RunError(f"{self.config_path} cannot be read: {error}.") from error
        if not isinstance(values, dict):
            raise RunError(
                f"{self.config_path} does not hold a config.", "Delete it and start again."
            )
        return values

    def is_current(self, stage: str, made_from: str, outputs: Sequence[Path]) -> bool:
        """Whether a stage was finished from these inputs and its outputs are there."""
        record = self._recorded(stage)
        if record is None or record["made_from"] != made_from:
            return False
        return all(path.exists() for path in outputs)

    def finish(self, stage: str, made_from: str, details: Mapping[str, Any]) -> None:
        """Record that a stage is done."""
        record = {"made_from": made_from, **details}
        write_whole(self._record(stage), json.dumps(record, indent=2, sort_keys=True, default=str))

    def details(self, stage: str) -> dict[str, Any]:
        """What :meth:`finish` recorded.

        Raises
        ------
        RunError
            If the stage has not been run, or its record is damaged.
        """
        record = self._recorded(stage)
        if record is None:
            raise RunError(
                f"{self.path} has no finished '{stage}'.",
                f"Run 'pileupgen {stage.split('_')[0]} --run {self.path}' first, or correct --run.",
            )
        return record

    def _recorded(self, stage: str) -> dict[str, Any] | None:
        """Read a stage's record, if there is a whole one."""
        with suppress(OSError, ValueError):
            record = json.loads(self._record(stage).read_text())
            if isinstance(record, dict) and "made_from" in record:
                return record
        return None

    def _record(self, stage: str) -> Path:
        return self.path / "stages" / f"{stage}.json"


def differing_keys(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Settings that differ, as ``section.key: old → new``; operational ones are left out.

    >>> differing_keys({"a": {"b": 1}}, {"a": {"b": 2}})
    ['a.b: 1 → 2']
    """
    found = []
    for key in sorted({*old, *new}):
        if f"{prefix}{key}" in OPERATIONAL:
            continue
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differing_keys(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append(f"{prefix}{key}: {before} → {after}")
    return found
