"""The translation as a pipeline of diffusers."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

from diffusers import DDPMScheduler, DiffusionPipeline
from diffusers.utils import logging as diffusers_logging

from pileupgen import models
from pileupgen.calo.geometry import Grid
from pileupgen.diffusion.pipeline import INDEX, LOADING_ERRORS, TranslationPipeline, unloadable
from pileupgen.errors import RunError
from pileupgen.models.calibration.space import CellSpace
from pileupgen.models.event_check import EventCheck
from pileupgen.models.networks.autoencoder import Autoencoder
from pileupgen.models.networks.cell_patches import CellPatches
from pileupgen.models.networks.denoiser import FieldDenoiser
from pileupgen.models.networks.ratio import RatioClassifier

# diffusers loads classes of imported modules only, and a folder may hold a model of any of these.
for _module in walk_packages(models.__path__, f"{models.__name__}."):
    import_module(_module.name)


class PileupTranslationPipeline(TranslationPipeline, DiffusionPipeline):
    """MC events to data-like events, and, as a control, either domain to either.

    >>> pipeline = PileupTranslationPipeline.from_pretrained("runs/demo/model")  # doctest: +SKIP
    >>> translation = pipeline(energy, mu, event_id, seed=1)  # doctest: +SKIP

    Parameters
    ----------
    calibration, autoencoder, denoiser, ratio : models
        Trained networks; the autoencoder is a learned one or the lossless ``CellPatches``.
    scheduler : DDPMScheduler
        The noise schedule.
    grid : dict
        :meth:`Grid.to_dict` of the images that the networks know.
    calibrate_before : bool
        Whether mc events are encoded with their own quantiles, which calibrates them, or with those
        of data, which leaves the whole shift to the networks.
    event_check : EventCheck or None
        Tells events that are unlike those of training.
    """

    _optional_components = ["event_check"]  # noqa: RUF012 - diffusers' own attribute

    def __init__(
        self,
        calibration: CellSpace,
        autoencoder: Autoencoder | CellPatches,
        denoiser: FieldDenoiser,
        ratio: RatioClassifier,
        scheduler: DDPMScheduler,
        grid: dict[str, Any] | None = None,
        calibrate_before: bool = True,
        event_check: EventCheck | None = None,
    ) -> None:
        DiffusionPipeline.__init__(self)
        self.register_modules(
            calibration=calibration,
            autoencoder=autoencoder,
            denoiser=denoiser,
            ratio=ratio,
            scheduler=scheduler,
            event_check=event_check,
        )
        self.register_to_config(grid=grid, calibrate_before=calibrate_before)
        for module in (calibration, autoencoder, denoiser, ratio, event_check):
            if module is not None:
                module.eval().requires_grad_(False)

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str], **kwargs: Any) -> Any:
        """Load a trained run's ``model`` folder; keywords are those of diffusers.

        Raises
        ------
        RunError
            If the folder is missing, incomplete, damaged or of another version.
        """
        if not (Path(path) / INDEX).is_file():
            raise RunError(f"No trained model at {path}.", "Run 'pileupgen train' first.")
        diffusers_logging.disable_progress_bar()
        try:
            return super().from_pretrained(str(path), local_files_only=True, **kwargs)
        except LOADING_ERRORS as error:
            raise unloadable(Path(path), error) from error

    def save_pretrained(self, path: str | os.PathLike[str]) -> None:
        """Write the models and ``model_index.json`` to a folder."""
        for name, model in self.components.items():
            if model is not None:
                model.save_pretrained(Path(path) / name)
        self.save_config(str(path))

    @property
    def geometry(self) -> Grid:
        """Grid of the images that the networks know."""
        return Grid.from_dict(dict(self.config.grid))

    @property
    def calibrates_before(self) -> bool:
        """Whether mc events are encoded with their own quantiles, or with those of data."""
        return bool(self.config.calibrate_before)
