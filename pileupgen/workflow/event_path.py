"""The path of the event that a validation shows, through the model that translated it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pileupgen.progress import SILENT, Listener
from pileupgen.workflow.model import load_pipeline, model_identity

if TYPE_CHECKING:
    from pileupgen.compare.display import Display
    from pileupgen.diffusion.event_path import EventPath
    from pileupgen.run import RunDirectory
    from pileupgen.samples.store import ImageStore


def event_path(
    directory: RunDirectory,
    source: ImageStore,
    translated: ImageStore,
    display: Display | None,
    listener: Listener = SILENT,
) -> EventPath | None:
    """Follow the displayed event as it was translated.

    Returns
    -------
    EventPath or None
        None where there is no path to show: no images or model, or another one's; no release; a
        student, which has none.
    """
    made_by, model = translated.provenance, directory.model
    if display is None or "model" not in made_by or not (model / "model_index.json").is_file():
        return None
    if model_identity(directory) != made_by["model"]:
        listener.warn(f"{translated.path} was made by another model than {model}: no path is drawn")
        return None

    from pileupgen.compare.selection import rows_of_events
    from pileupgen.diffusion.direction import Direction
    from pileupgen.diffusion.event_path import follow_event, has_path
    from pileupgen.diffusion.settings import Settings

    settings = Settings.from_dict(made_by)
    if (made_by.get("students") or [None])[0] is not None:
        return None
    if settings.release == "per-event":
        place = int(np.argmax(translated.columns["source_event"] == display.source_event))
        settings = settings.at(int(translated.columns["t_release"][place]))
    if not has_path(settings):
        return None
    row = rows_of_events(source, np.array([display.source_event]))
    event = source.read(row)
    return follow_event(
        load_pipeline(directory, "cpu"),
        event.energy[0],
        float(event.mu[0]),
        display.source_event,
        int(made_by["seed"]),
        settings,
        Direction(**made_by["direction"]),
    )
