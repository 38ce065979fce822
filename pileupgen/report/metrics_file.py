"""``metrics.json``: where it is, and reading it back."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from pileupgen.compare.results import SCHEMA, Comparison
from pileupgen.errors import MissingInputError, UnreadableInputError

MAKE_IT = "Run 'pileupgen validate --run {run}' to make it."


def read_metrics(path: Path) -> Comparison:
    """Read the numbers of a validation.

    Parameters
    ----------
    path : Path
        A run directory, a validation's folder, or a ``metrics.json``.

    Raises
    ------
    MissingInputError
        If there is none.
    UnreadableInputError
        If it is damaged, not ours, or of another version of pileupgen.
    """
    place = metrics_path(path)
    make_it = MAKE_IT.format(run=run_of(place))
    try:
        text = place.read_text(encoding="utf-8")
        values = json.loads(text)
    except FileNotFoundError as error:
        raise MissingInputError(f"No metrics at {place}.", make_it) from error
    except OSError as error:
        raise UnreadableInputError(f"{place} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UnreadableInputError(f"{place} is not JSON: {error}.", make_it) from error
    if not isinstance(values, dict) or values.get("schema") != SCHEMA:
        raise UnreadableInputError(f"{place} is not a metrics.json of pileupgen.", make_it)
    try:
        return Comparison.model_validate_json(text)
    except ValidationError as error:
        faults = error.errors()
        where = ".".join(map(str, faults[0]["loc"]))
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise UnreadableInputError(
            f"{place} does not fit this version of pileupgen: {where}: {faults[0]['msg']}{more}.",
            make_it,
        ) from error


def metrics_path(path: Path) -> Path:
    """Tell which file a run directory, a validation's folder or a file stands for."""
    if path.is_file() or (path.suffix == ".json" and not path.is_dir()):
        return path
    within = path / "validation" / "metrics.json"
    is_validation = "validation" in (path.name, path.parent.name) and not within.is_file()
    if (path / "metrics.json").is_file() or is_validation:
        return path / "metrics.json"
    return within


def run_of(path: Path) -> Path:
    """Tell which run directory a ``metrics.json`` is, or would be, in."""
    # A validation's folder, or one in it; a folder farther up may be called so by chance.
    for folder in path.parents[:2]:
        if folder.name == "validation":
            return folder.parent
    return path.parent
