"""Separation of the domains over t, as recorded when the density ratio was trained."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pileupgen.diffusion.release import ReleaseScan
from pileupgen.errors import UnreadableInputError

_KEYS = ("t", "auc", "auc_low", "auc_high", "ess")


@dataclass(frozen=True)
class ReleaseCurve:
    """Separation of the noised samples over t."""

    t: NDArray[np.float64]
    """Diffusion times, ascending. Shape (k,)."""
    auc: NDArray[np.float64]
    auc_low: NDArray[np.float64]
    auc_high: NDArray[np.float64]
    """AUC of the density-ratio classifier on held-out events, with its interval. Shape (k,)."""
    ess: NDArray[np.float64]
    """Effective sample size (Σr)² / (N Σr²). Shape (k,)."""

    @classmethod
    def of(cls, scan: ReleaseScan) -> ReleaseCurve:
        """The curve of a scan, whose times ascend."""
        return cls(**{key: np.asarray(getattr(scan, key), dtype=np.float64) for key in _KEYS})


def read_release_curve(path: Path) -> ReleaseCurve | None:
    """Read ``release.json`` of a model; None where there is none.

    Raises
    ------
    UnreadableInputError
        If it lacks a key, or its lists are not numbers of one length.
    """
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        columns = {key: np.asarray(values[key], dtype=np.float64) for key in _KEYS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreadableInputError(
            f"{path} cannot be read: {type(error).__name__} {error}.", "Train the ratio anew."
        ) from error
    shapes = {column.shape for column in columns.values()}
    if len(shapes) != 1 or columns["t"].ndim != 1 or not len(columns["t"]):
        raise UnreadableInputError(
            f"{path}: its lists are not of one length.", "Train the ratio anew."
        )
    order = np.argsort(columns["t"], kind="stable")
    return ReleaseCurve(**{key: column[order] for key, column in columns.items()})
