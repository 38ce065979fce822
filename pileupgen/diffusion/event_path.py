"""One event on its path to the release and back, as cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pileupgen.diffusion.direction import Direction
from pileupgen.diffusion.events import EventKeys, Events
from pileupgen.diffusion.pipeline import TranslationPipeline
from pileupgen.diffusion.settings import Settings
from pileupgen.errors import ConfigError

N_BETWEEN = 2
"""Stops between the clean end and the release, in each direction."""


@dataclass(frozen=True)
class EventPath:
    """Images of one event at the same times in both directions."""

    event: int
    """Its number."""
    t: tuple[int, ...]
    """Ascending from −1, the clean end, to the release."""
    up: NDArray[np.float32]
    down: NDArray[np.float32]
    """GeV at these times: noised or inverted, read as the source; and denoised, read as the target.
    At the release both are the same latents. Shape (K, L, n_eta, n_phi)."""
    direction: Direction
    mode: str
    is_scale_mapped: bool = False
    """Whether modes that events have in common were mapped before: the first image upwards is then
    the event after that map."""


def follow_event(
    pipeline: TranslationPipeline,
    energy: NDArray[np.float32],
    mu: float,
    event_id: int,
    seed: int,
    settings: Settings,
    direction: Direction | None = None,
) -> EventPath:
    """Follow one event through its translation, with the random numbers it has there.

    Parameters
    ----------
    energy : float32 array, shape (L, n_eta, n_phi)
        GeV.
    mu : float
        NaN where it is not known.
    settings : Settings
        With a common release above 0.
    direction : Direction, optional
        mc to data, if not given.

    Raises
    ------
    ConfigError
        If these settings have no release, or do not fit the model.
    """
    pipeline.check(settings)
    if not has_path(settings):
        raise ConfigError(
            f"Mode {settings.mode} at t = {settings.t_release} releases no event: no path to show.",
            "Choose partial or invert, and one release above 0 for all.",
        )
    direction = direction or Direction()
    translator = pipeline.translator(direction)
    mus = np.array([mu], dtype=np.float32)
    keys = EventKeys(np.array([event_id], dtype=np.int64), seed)
    trace = translator.trace(Events(energy[None], mus, keys), settings)
    common = translator.common_modes(settings)
    up, down = dict(trace.up), dict(trace.down)
    stops = _stops(sorted(up.keys() & down.keys()))

    def images(found: dict[int, Tensor], label: int) -> NDArray[np.float32]:
        mus_there = torch.from_numpy(mus)
        parts = []
        for t in stops:
            x_t = found[t]
            scores = pipeline.codec.decode_scores(x_t, label, mus_there.to(x_t.device)).cpu()
            tables = translator.tables(label, settings)
            parts.append(pipeline.calibration.decode(scores, tables, mus_there).numpy()[0])
        return np.where(pipeline.geometry.is_dead, np.float32(0.0), np.stack(parts))

    return EventPath(
        event_id,
        tuple(stops),
        images(up, direction.source_label),
        images(down, direction.target_label),
        direction,
        settings.mode,
        is_scale_mapped=common is not None and common.n_modes > 0,
    )


def has_path(settings: Settings) -> bool:
    """Whether events go up to one release and down again."""
    return (
        settings.mode in ("partial", "invert", "invert+sde")
        and settings.release_timestep > 0
        and settings.release == "common"
    )


def _stops(times: list[int]) -> list[int]:
    """Both ends and, of the times between, those nearest to even ones."""
    first, last = times[0], times[-1]
    even = np.linspace(first, last, N_BETWEEN + 2)
    nearest = {min(times, key=lambda t: abs(t - wanted)) for wanted in even}
    return sorted(nearest)
