"""Where a translation's time goes: seconds inside each of its parts."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pileupgen.diffusion.for_diffusers import PileupTranslationPipeline
from pileupgen.diffusion.pipeline import Correction
from pileupgen.models.codec import EventNoise

NETWORKS = ("denoiser", "closed forms", "autoencoder", "density ratio")
"""Parts that are the model at work; the closed form is the denoiser's larger half."""
PARTS = (*NETWORKS, "calibration", "correction", "random numbers")


class Parts:
    """Seconds inside the parts of a pipeline, summed over all threads.

    Parameters
    ----------
    pipeline : PileupTranslationPipeline
    correction : Correction or None
        The calibration after the decode.
    """

    def __init__(self, pipeline: PileupTranslationPipeline, correction: Correction | None) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._lock = threading.Lock()
        places = [
            (pipeline.denoiser, "residual", "denoiser"),
            (pipeline.denoiser, "closed_form", "closed forms"),
            (pipeline.denoiser, "closed_form_contrast", "closed forms"),
            (pipeline.autoencoder, "encode", "autoencoder"),
            (pipeline.autoencoder, "decode", "autoencoder"),
            (pipeline.ratio, "forward", "density ratio"),
            (pipeline.calibration, "encode", "calibration"),
            (pipeline.calibration, "decode", "calibration"),
            (correction, "forward", "correction"),
            (EventNoise, "normal", "random numbers"),
            (EventNoise, "uniform", "random numbers"),
        ]
        self._places = [place for place in places if hasattr(*place[:2])]

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Count within this context."""
        originals = [getattr(owner, name) for owner, name, _ in self._places]
        for (owner, name, part), method in zip(self._places, originals, strict=True):
            setattr(owner, name, self._timed(method, part))
        try:
            yield
        finally:
            for (owner, name, _), method in zip(self._places, originals, strict=True):
                if isinstance(owner, type):
                    setattr(owner, name, method)
                else:
                    delattr(owner, name)

    @property
    def of_networks(self) -> float:
        """Seconds in the model."""
        return sum(self.seconds[part] for part in NETWORKS)

    def _timed(self, method: Callable[..., Any], part: str) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                passed = time.perf_counter() - begin
                with self._lock:
                    self.seconds[part] += passed

        return run
