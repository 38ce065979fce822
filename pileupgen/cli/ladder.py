"""What `pileupgen validate --ladder` translates anew, and its table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pileupgen.cli.ui.session import Session
    from pileupgen.compare.resampling import Samples
    from pileupgen.compare.results import Ladder
    from pileupgen.compare.validation import ComparisonSettings
    from pileupgen.run import RunDirectory
    from pileupgen.samples.store import ImageStore


def is_ours(run: RunDirectory, stores: Mapping[str, ImageStore]) -> bool:
    """Whether the translated store was made from mc to data by the run's model, and by it alone."""
    from pileupgen.cli.ui.translation_options import model_identity
    from pileupgen.errors import PileupgenError

    provenance = stores["translated"].provenance
    try:
        identity = model_identity(run)
    except PileupgenError:
        return False
    way = provenance.get("direction") == {"source": "mc", "target": "data"}
    return way and provenance.get("ensemble") == [identity]


def ladder_of(
    session: Session,
    stores: Mapping[str, ImageStore],
    samples: Samples,
    settings: ComparisonSettings,
) -> Ladder:
    """Make and compare the variants of a translation; its settings are those of the store.

    Parameters
    ----------
    session : Session
    stores : mapping
        By role; the translated one passes :func:`is_ours`.
    samples : Samples
        As they were validated.
    settings : ComparisonSettings
        Of the validation.
    """
    import numpy as np

    from pileupgen.cli.translation_job import load_pipeline
    from pileupgen.cli.ui.console import progress
    from pileupgen.compare.selection import rows_of_events
    from pileupgen.diffusion.settings import Settings
    from pileupgen.workflow.ladder import MAX_EVENTS, climb, n_translated

    provenance = stores["translated"].provenance
    way = Settings.from_dict(provenance)
    mc = stores["source"]
    kept = np.arange(min(len(samples.source), MAX_EVENTS))
    source = samples.source.take(kept)
    rows = rows_of_events(mc, source.event_id)
    training = mc.read(mc.indices("train", session.config.translate.n_correction_events))
    pipeline = load_pipeline(session.run, settings.device)
    total = n_translated(pipeline, way, len(rows), len(training))
    with progress("ladder      ", total) as advance:
        return climb(
            pipeline,
            mc.read(rows),
            training,
            replace(samples, source=source, translated=source),
            way,
            seed=int(provenance["seed"]),
            n_bootstrap=settings.n_bootstrap,
            n_seeds=settings.n_seeds,
            advance=advance,
        )
