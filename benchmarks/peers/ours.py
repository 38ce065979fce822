"""The three ways of a trained run of pileupgen itself."""

from __future__ import annotations

import numpy as np

from benchmarks.peers.contract import Output, Problem
from pileupgen.diffusion.pipeline import PileupTranslationPipeline
from pileupgen.diffusion.settings import Settings
from pileupgen.run import RunDirectory
from pileupgen.samples.store import Images

N_RENEWAL_EVENTS = 400


class Ours:
    """A run's networks with given settings; what is learned here is the renewal after the decode.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.n_evaluations = settings.n_evaluations

    def fit(self, problem: Problem) -> None:
        self.seed = problem.seed
        self.pipeline = PileupTranslationPipeline.from_pretrained(problem.run.model)
        for network in (self.pipeline.autoencoder, self.pipeline.denoiser, self.pipeline.ratio):
            network.to(problem.device)
        n = min(N_RENEWAL_EVENTS, len(problem.mc))
        mc = problem.mc
        self.renewal = self.pipeline.fit_renewal(
            mc.energy[:n], mc.mu[:n], mc.event_id[:n], self.seed, self.settings, real=problem.data
        )
        self.trained_before = training_seconds(problem.run)

    def translate(self, images: Images) -> Output:
        translation = self.pipeline(
            images.energy,
            images.mu,
            np.asarray(images.event_id),
            self.seed,
            self.settings,
            self.renewal,
        )
        return Output(energy=translation.energy)

    @property
    def n_parameters(self) -> int:
        modules = (self.pipeline.autoencoder, self.pipeline.denoiser, self.pipeline.ratio)
        return sum(p.numel() for module in modules for p in module.parameters())


def training_seconds(run: RunDirectory) -> float | None:
    """Wall time that the run's training took, as its record tells; None where it does not."""
    seconds = run.details("train").get("seconds", {}).values()
    return None if not seconds or None in seconds else float(sum(seconds))
