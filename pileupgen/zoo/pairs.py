"""Events of two samples that are the same events, seen by two detectors."""

from __future__ import annotations

import numpy as np

from pileupgen.errors import ConfigError
from pileupgen.samples.store import Images

N_LOOKED_AT = 400
N_ERRORS = 5.0
"""Errors by which events of the same number must be more alike than others."""
_HINT = (
    "Pairs are the same interactions in two responses: 'pileupgen simulate' with the same options "
    "but for --response. Without them leave --pairs away."
)


def paired_images(target: Images, source: Images) -> tuple[Images, Images]:
    """Events of both samples that have the same number, in one order.

    Parameters
    ----------
    target, source : Images

    Raises
    ------
    ConfigError
        If no numbers are the same, if μ of a pair differs, or if events of the same number are no
        more alike than others.
    """
    ids = [np.asarray(images.columns["event_id"]) for images in (target, source)]
    rows = np.intersect1d(ids[0], ids[1], return_indices=True)[1:]
    if not len(rows[0]):
        raise ConfigError("No event of one sample has the number of one of the other.", _HINT)
    both = tuple(
        Images(
            images.energy[own], images.grid, {name: v[own] for name, v in images.columns.items()}
        )
        for images, own in zip((target, source), rows, strict=True)
    )
    _require_alike(*both)
    return both[0], both[1]


def _require_alike(target: Images, source: Images) -> None:
    """Refuse events that only happen to have the same numbers."""
    if not np.array_equal(target.mu, source.mu, equal_nan=True):
        raise ConfigError("Events of the same number have another μ: they are no pairs.", _HINT)
    if target.grid != source.grid:
        return  # refused where systems learn
    n = min(len(target), N_LOOKED_AT)
    logs = [np.log1p(np.abs(images.energy[:n])) for images in (target, source)]
    flat = [(x - x.mean(axis=0)).reshape(n, -1) for x in logs]
    flat = [x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9) for x in flat]
    own = (flat[0] * flat[1]).sum(axis=1)
    others = (flat[0] * np.roll(flat[1], 1, axis=0)).sum(axis=1)
    more = own - others
    if n < 2 or more.mean() < N_ERRORS * more.std(ddof=1) / np.sqrt(n):
        raise ConfigError(
            "Events of the same number are no more alike than others: they are no pairs.", _HINT
        )
