"""What `--t-release auto` takes by default: the release whose translated events are measured best.

A ratio classifier says how alike noised events are, not what becomes of them. Some release times
are tried on validation events, together with an inversion to the end and the translations that need
no diffusion, and the rule of `pileupgen scan` decides.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pileupgen.compare.pareto import recommend
from pileupgen.diffusion.settings import OPERATIONAL, Mode, Settings
from pileupgen.progress import SILENT, Listener
from pileupgen.run import RunDirectory
from pileupgen.workflow.scan import measure_points

if TYPE_CHECKING:
    from pileupgen.diffusion.pipeline import TranslationPipeline

FRACTIONS = (0.1, 0.2, 0.3, 0.45, 0.6, 0.8)
"""Release times tried, over the number of timesteps."""
TO_THE_END = (0.995, 0.8, 0.6, 0.45, 0.3, 0.18, 0.09, 0.03)
"""Timesteps of the inversion that is tried, over their number: crowded at the clean end, where even
ones leave too coarse a last step."""
N_EVENTS = 600
"""Validation events of mc and of data at most."""
MIN_SOURCE_CORRELATION = 0.9
"""Least source correlation of blocks of a recommended release, if no tolerance is given."""


def measured_release(
    directory: RunDirectory,
    model: str,
    pipeline: TranslationPipeline,
    settings: Settings,
    seed: int,
    listener: Listener = SILENT,
) -> Settings:
    """Settings with the measured release, or without diffusion where that is no worse.

    Parameters
    ----------
    directory : RunDirectory
        Measurements are kept in its folder scan/points.
    settings : Settings
        With ``t_release`` "auto".
    """
    tolerance = settings.tolerance
    lowest = MIN_SOURCE_CORRELATION if tolerance is None else tolerance
    times = sorted({round(part * pipeline.num_train_timesteps) for part in FRACTIONS})
    tried = [replace(settings, t_release=t, tolerance=None, timesteps=None) for t in times]
    steps = tuple(int(part * pipeline.num_train_timesteps) for part in TO_THE_END)
    if len(set(steps)) == len(steps):
        end = replace(tried[0], mode="invert", w=0.0, t_release=steps[0], timesteps=steps)
        tried.append(replace(end, release="common", map_scale=False, fresh_noise=1.0))
    without: tuple[Mode, ...] = ("calibrate", "transport")
    plain = [
        replace(Settings(mode=mode), t_release=0, n_correction_events=settings.n_correction_events)
        for mode in without
    ]
    candidates = [*plain, *tried]
    points, _ = measure_points(
        directory, model, pipeline, candidates, N_EVENTS, seed, "release     ", listener
    )
    best, rule = recommend(points, lowest)
    listener.tell("release", f"{best.label}: {rule}")
    chosen = candidates[points.index(best)]
    kept = (*OPERATIONAL, "n_draws", "micro_batch", "log_weight_limit", "calibrate_after")
    return replace(chosen, **{name: getattr(settings, name) for name in kept})
