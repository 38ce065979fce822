"""The three modes of a trained run of pileupgen itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from benchmarks.baselines.contract import Problem
from pileupgen.compare.quality import MethodOutput
from pileupgen.config import Config, load_config
from pileupgen.diffusion.direction import Direction
from pileupgen.diffusion.for_diffusers import PileupTranslationPipeline
from pileupgen.diffusion.pipeline import Correction
from pileupgen.diffusion.settings import Settings
from pileupgen.errors import RunError
from pileupgen.run import RunDirectory
from pileupgen.samples.store import Images
from pileupgen.workflow.correction import REAL_PER_CORRECTION_EVENT
from pileupgen.workflow.model import model_identity
from pileupgen.workflow.student import student_for
from pileupgen.workflow.translate import with_release


class Ours:
    """A run's networks with given settings; learned here: the correction after the decode.

    A batch of fewer events than a network is usually given at once goes through it as it is: who
    wants one event sets ``translate.micro_batch``.

    Parameters
    ----------
    choose : callable
        Settings from the run's config and directory.
    """

    is_slow = False

    def __init__(self, choose: Callable[[Config, RunDirectory], Settings]) -> None:
        self._choose = choose

    def fit(self, problem: Problem) -> None:
        self.seed = problem.seed
        self.pipeline = PileupTranslationPipeline.from_pretrained(problem.run.model)
        for network in (self.pipeline.autoencoder, self.pipeline.denoiser, self.pipeline.ratio):
            network.to(problem.device)
        config = load_config(problem.run.path / "config.yaml")
        self.settings = self._choose(config, problem.run)
        self.n_evaluations = self.settings.n_evaluations
        self._prepare(problem)
        mc = first_events(problem.mc, config.translate.n_correction_events)
        real = first_events(problem.data, REAL_PER_CORRECTION_EVENT * len(mc))
        self.correction = self.pipeline.fit_correction(
            mc.energy, mc.mu, np.asarray(mc.event_id), self.seed, self.settings, real=real
        )
        self.trained_before = training_seconds(problem.run)

    def _prepare(self, problem: Problem) -> None:
        """Nothing is to be done before the correction is learned."""

    def translate(self, images: Images) -> MethodOutput:
        return self._translated(images, self.correction)

    def translate_plain(self, images: Images) -> MethodOutput:
        return self._translated(images, None)

    def _translated(self, images: Images, correction: Correction | None) -> MethodOutput:
        translation = self.pipeline(
            images.energy,
            images.mu,
            np.asarray(images.event_id),
            self.seed,
            replace(self.settings, micro_batch=min(self.settings.micro_batch, len(images))),
            correction,
        )
        return MethodOutput(energy=translation.energy)

    @property
    def n_parameters(self) -> int:
        modules = (self.pipeline.autoencoder, self.pipeline.denoiser, self.pipeline.ratio)
        return sum(p.numel() for module in modules for p in module.parameters())


class Taught(Ours):
    """The student of a run's networks, distilled for the settings by 'pileupgen distill'."""

    def _prepare(self, problem: Problem) -> None:
        model = model_identity(problem.run)
        student = student_for(problem.run, model, self.settings, Direction())
        if student is None:
            raise RunError(
                f"No student in {problem.run.students} for {self.settings.describe()}.",
                f"Run 'pileupgen distill --run {problem.run.path}'.",
            )
        self.pipeline = self.pipeline.taught(student.load(problem.device))
        self.n_evaluations = 1


def as_configured(config: Config, run: RunDirectory) -> Settings:
    """What `pileupgen translate` does without options."""
    settings = config.translate
    if settings.t_release == "auto":
        pipeline = PileupTranslationPipeline.from_pretrained(run.model)
        identity = model_identity(run)
        return with_release(settings, run, run.translated, identity, pipeline, config.seed)
    return settings


def first_events(images: Images, n: int) -> Images:
    """At most so many of them."""
    columns = {name: values[:n] for name, values in images.columns.items()}
    return Images(images.energy[:n], images.grid, columns)


def training_seconds(run: RunDirectory) -> float | None:
    """Wall time that the run's training took, as its record tells; None where it does not."""
    seconds = run.details("train").get("seconds", {}).values()
    return None if not seconds or None in seconds else float(sum(seconds))
