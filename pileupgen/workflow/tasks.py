"""What systems can be asked to make: by which judge, and beside which simulation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pileupgen.calo.constituents import n_constituents
from pileupgen.calo.geometry import Grid
from pileupgen.calo.presets import FIBRES, PRESETS
from pileupgen.errors import DependencyError
from pileupgen.simulate.generators import JET_PROCESSES
from pileupgen.simulate.shower_spec import SHOWER, ShowerSpec
from pileupgen.simulate.showers import make_shower
from pileupgen.simulate.zdc import make_zdc_event
from pileupgen.simulate.zdc_spec import ZDC, ZdcSpec
from pileupgen.zoo.registry import POINT_YARDSTICK, YARDSTICK

if TYPE_CHECKING:
    from pileupgen.compare.systems import AnyJudge, AnyQuality


Maker = Callable[[int], int]
"""Makes at least so many events of the built-in simulation, and says how many."""


@dataclass(frozen=True)
class Task:
    """What is made, and all that depends on it."""

    name: str
    module: str
    """In :mod:`pileupgen.compare`."""
    judge: str
    quality: str
    """Classes in it."""
    yardstick: str = YARDSTICK
    """System that others are compared with."""
    processes: tuple[str, ...] = ()
    """What the built-in simulation calls such events; empty where systems stand for none."""
    maker: Callable[[Mapping[str, Any]], Maker] | None = None
    """Initialises that simulation with the settings of a card."""

    def judge_kind(self) -> type[AnyJudge]:
        """Class of the judge."""
        return getattr(import_module(f"pileupgen.compare.{self.module}"), self.judge)

    def quality_kind(self) -> type[AnyQuality]:
        """Class of what it gives."""
        return getattr(import_module(f"pileupgen.compare.{self.module}"), self.quality)

    def maker_of(self, settings: Mapping[str, Any]) -> Maker | None:
        """The simulation that a card's ``generate`` describes; None where it is not this task's."""
        if self.maker is None or settings.get("process") not in self.processes:
            return None
        try:
            return self.maker(settings)
        except DependencyError:
            # Its events are there; it need not be, too.
            return None


def _of_events(kind: Any, make: Callable[[Any, int], Any], settings: Mapping[str, Any]) -> Maker:
    spec = kind.parse(settings, "the card of the sample")

    def made(n: int) -> int:
        for number in range(n):
            make(spec, number)
        return n

    return made


def _of_jets(settings: Mapping[str, Any]) -> Maker:
    from pileupgen.jets.generate import HardJets
    from pileupgen.jets.produce import CHUNK
    from pileupgen.jets.spec import JetSpec

    jets = HardJets(JetSpec.parse(settings, "the card of the sample"))

    def made(n: int) -> int:
        # Two a collision at most.
        chunks = -(-n // (2 * CHUNK))
        return sum(len(jets.generate(CHUNK, seed)["jet_features"]) for seed in range(chunks))

    return made


PILEUP, SHOWERS, JETS = "pileup", "showers", "jets"
TASKS = {
    task.name: task
    for task in (
        Task(PILEUP, "quality", "QualityJudge", "Quality"),
        Task(
            SHOWERS,
            "shower_quality",
            "ShowerJudge",
            "ShowerQuality",
            processes=(SHOWER,),
            maker=partial(_of_events, ShowerSpec, make_shower),
        ),
        Task(
            ZDC,
            "zdc_quality",
            "ZdcJudge",
            "ZdcQuality",
            processes=(ZDC,),
            maker=partial(_of_events, ZdcSpec, make_zdc_event),
        ),
        Task(
            JETS,
            "jet_quality",
            "JetJudge",
            "JetQuality",
            yardstick=POINT_YARDSTICK,
            processes=JET_PROCESSES,
            maker=_of_jets,
        ),
    )
}
"""All tasks, by name."""


def task_of(grid: Grid) -> str:
    """Name of the task that images on a grid are for; of features that are no constituents pileup.

    >>> from pileupgen.calo.presets import get_grid
    >>> task_of(get_grid("atlas")), task_of(get_grid("calochallenge_2"))
    ('pileup', 'showers')
    """
    if any(PRESETS[name] == grid for name in FIBRES):
        return ZDC
    if grid.is_shower:
        return SHOWERS
    return JETS if n_constituents(grid) else PILEUP
