"""The operating point that a scan recommends for a run, which a translation takes by default."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from pileupgen.diffusion.settings import OPERATING_POINT, Settings
from pileupgen.errors import RunError
from pileupgen.files import write_whole
from pileupgen.workflow.model import model_identity
from pileupgen.workflow.run import Run

NAME = "operating_point.json"


def read_operating_point(run: Run, given: Collection[str]) -> dict[str, Any]:
    """Read the settings that a scan recommends, where nothing overrides them.

    Parameters
    ----------
    given : collection of str
        Settings of the translation that were given for this one call.

    Returns
    -------
    dict
        Settings in place of the config's; empty where there is no recommendation, it is for
        another model, a setting of it is given, or the config sets more of it than the number of
        steps.

    Raises
    ------
    RunError
        If the file is damaged.
    """
    path = run.directory.path / NAME
    if not path.is_file():
        return {}
    configured = sorted((run.configured - {"num_inference_steps"}) & OPERATING_POINT)
    options = OPERATING_POINT.intersection(given)
    if options or configured:
        by = "options given" if options else f"config sets translate.{configured[0]}"
        run.listener.tell("point", f"{path} not used: {by}")
        return {}
    try:
        point = json.loads(path.read_text(encoding="utf-8"))
        found, model = dict(point["settings"]), point["model"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} cannot be read: {error}.", "Delete it, or scan again.") from error
    if model != model_identity(run.directory):
        run.listener.warn(
            f"{path} was measured with another model and is not used; run 'pileupgen scan' again."
        )
        return {}
    settings = {key: found[key] for key in found.keys() & OPERATING_POINT}
    run.listener.tell("point", f"{path}: {Settings.from_dict(settings).describe()}")
    return settings


def write_operating_point(run: Run, model: str, point: dict[str, Any], rule: str) -> None:
    """Write the point that a scan recommends, with the rule by which it was chosen."""
    path = run.directory.path / NAME
    record = {"model": model, "settings": point["settings"], "rule": rule, "measured": point}
    write_whole(path, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    run.listener.wrote(path, "translate takes it by default")
