"""pileupgen: translate simulated pileup into what a zero-bias trigger records.

Towers become images, images become latents, latents are noised and denoised into the other
domain, images become observables, observables become a report. See ``pileupgen --help``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pileupgen.diffusion.for_diffusers import PileupTranslationPipeline
    from pileupgen.diffusion.settings import Settings
    from pileupgen.parallel.farm import Farm
    from pileupgen.progress import Listener
    from pileupgen.samples.store import ImageStore
    from pileupgen.workflow.run import Run

__version__ = "0.1.0"
__all__ = [
    "Farm",
    "ImageStore",
    "Listener",
    "PileupTranslationPipeline",
    "Run",
    "Settings",
    "__version__",
]

_LAZY = {
    "Farm": "pileupgen.parallel.farm",
    "Listener": "pileupgen.progress",
    "Run": "pileupgen.workflow.run",
    "Settings": "pileupgen.diffusion.settings",
    "PileupTranslationPipeline": "pileupgen.diffusion.for_diffusers",
    "ImageStore": "pileupgen.samples.store",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'pileupgen' has no attribute {name!r}")
