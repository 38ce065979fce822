"""The way of the event that `validate` shows, through the model that translated it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pileupgen.compare.display import Display
    from pileupgen.diffusion.event_path import EventPath
    from pileupgen.run import RunDirectory
    from pileupgen.samples.store import ImageStore


def event_path(
    run: RunDirectory, source: ImageStore, translated: ImageStore, display: Display | None
) -> EventPath | None:
    """Follow the displayed event as it was translated.

    Parameters
    ----------
    run : RunDirectory
        Of the model.
    source, translated : ImageStore
    display : Display or None
        The event.

    Returns
    -------
    EventPath or None
        None where there is no way to show: no images or model, or another one's; no release.
    """
    import numpy as np

    from pileupgen.cli.ui.console import warn
    from pileupgen.cli.ui.translation_options import model_identity

    made_by = translated.provenance
    if display is None or "model" not in made_by or not (run.model / "model_index.json").is_file():
        return None
    if model_identity(run) != made_by["model"]:
        warn(f"{translated.path} is of another model than {run.model}: no event's way is drawn")
        return None

    from pileupgen.cli.translation_job import load_pipeline
    from pileupgen.compare.selection import rows_of_events
    from pileupgen.diffusion.direction import Direction
    from pileupgen.diffusion.event_path import follow_event, has_path
    from pileupgen.diffusion.settings import Settings

    settings = Settings.from_dict(made_by)
    if settings.release == "per-event":
        place = int(np.argmax(translated.columns["source_event"] == display.source_event))
        own = int(translated.columns["t_release"][place])
        settings = settings.at(own)
    if not has_path(settings):
        return None
    row = rows_of_events(source, np.array([display.source_event]))
    event = source.read(row)
    return follow_event(
        load_pipeline(run, "cpu"),
        event.energy[0],
        float(event.mu[0]),
        display.source_event,
        int(made_by["seed"]),
        settings,
        Direction(**made_by["direction"]) if "direction" in made_by else None,
    )
