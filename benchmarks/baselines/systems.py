"""A translator of the collection as a row of the table."""

from __future__ import annotations

from benchmarks.baselines.contract import Problem
from pileupgen.compare.quality import MethodOutput
from pileupgen.samples.store import Images
from pileupgen.zoo.contract import Budget, EventConditions, ZooSample
from pileupgen.zoo.registry import find_system


class Translator:
    """A system by its name, trained for as many CPU seconds as the table gives.

    Parameters
    ----------
    name : str
        Of a system that translates.
    """

    is_slow = False

    def __init__(self, name: str) -> None:
        self.system = find_system(name).make()

    def fit(self, problem: Problem) -> None:
        self.seed = problem.seed
        sample = ZooSample(problem.data, problem.mc, problem.symmetry)
        conditions = EventConditions.of_pileup(problem.data)
        self.system.fit(sample, conditions, Budget(problem.seconds), problem.seed)
        self.n_evaluations = self.system.n_evaluations

    def translate(self, images: Images) -> MethodOutput:
        return MethodOutput(self.system.translate(images, images.mu, self.seed))

    @property
    def n_parameters(self) -> int:
        return self.system.n_parameters
