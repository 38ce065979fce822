"""How far a student is from its teacher, event by event and in the headline numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pileupgen.compare.pareto import ScanPoint
from pileupgen.diffusion.direction import Direction
from pileupgen.diffusion.events import EventKeys, Events
from pileupgen.fields import PlainRecord
from pileupgen.measure.bootstrap import Estimate
from pileupgen.parallel.threads import torch_threads
from pileupgen.progress import SILENT, Listener
from pileupgen.run import RunDirectory
from pileupgen.samples.store import ImageStore
from pileupgen.workflow.scan import judge_of, measure_point

if TYPE_CHECKING:
    from pileupgen.diffusion.pipeline import TranslationPipeline
    from pileupgen.diffusion.settings import Settings
    from pileupgen.workflow.student import KnownStudent


@dataclass(frozen=True)
class Agreement(PlainRecord):
    """Student and teacher on the same validation events with the same random numbers."""

    teacher: ScanPoint
    student: ScanPoint
    move: float
    """How far the teacher moves a normal score, root mean square over cells and events."""
    closed_form: float
    """How far the teacher without its network is from it."""
    distance: float
    """How far the student is from it."""
    log_ratio_spread: float
    log_ratio_distance: float
    """Standard deviation of the teacher's ln r at the release, and the student's distance, rms."""

    def rises(self) -> dict[str, Estimate]:
        """What W1/σ and AUC of the student are above the teacher's, with paired 68 % intervals."""
        pairs = {
            "w1": (self.student.w1.value - self.teacher.w1.value, "w1_draws"),
            "auc": (self.student.auc - self.teacher.auc, "auc_draws"),
        }
        found = {}
        for name, (rise, draws) in pairs.items():
            own, its = (getattr(point, draws) for point in (self.student, self.teacher))
            error = float(np.std(np.subtract(own, its), ddof=1))
            found[name] = Estimate(rise, rise - error, rise + error)
        return found


def compared(
    directory: RunDirectory,
    model: str,
    pipeline: TranslationPipeline,
    settings: Settings,
    student: KnownStudent,
    *,
    n_events: int,
    seed: int,
    listener: Listener = SILENT,
) -> Agreement:
    """Translate validation events by student and teacher, each with its correction, and compare.

    Parameters
    ----------
    n_events : int
        Validation events of mc and of data at most.
    """
    mc, data = (ImageStore(directory.images(domain)) for domain in ("mc", "data"))
    rows = mc.indices("validation", n_events)
    judge = judge_of(mc, data, n_events, seed)
    common = directory, pipeline, model, settings, mc, rows, judge, seed
    with listener.progress("comparison  ", 2, "translations") as advance:
        of_teacher = measure_point(*common)
        advance(1)
        of_student = measure_point(*common, student=student)
        advance(1)
    images = mc.read(rows)
    events = Events(images.energy, images.mu, EventKeys(np.asarray(images.event_id), seed))
    learned = pipeline.taught(student.load(str(pipeline.denoiser.device)))
    ends, logs = _ends(pipeline, events, settings)
    own, own_logs = _ends(learned, events, settings)
    plain, _ = _ends(pipeline, events, replace(settings, network=False))
    before, _ = _ends(pipeline, events, replace(settings, mode="calibrate"))
    return Agreement(
        of_teacher,
        of_student,
        move=_rms(ends - before),
        closed_form=_rms(ends - plain),
        distance=_rms(ends - own),
        log_ratio_spread=float(logs.std()),
        log_ratio_distance=_rms(logs - own_logs),
    )


def _ends(
    pipeline: TranslationPipeline, events: Events, settings: Settings
) -> tuple[Tensor, Tensor]:
    """Scores (N, L, n_eta, n_phi) before the correction, and ln r (N,)."""
    translator = pipeline.translator(Direction())
    with torch_threads(torch.get_num_threads()) as over:
        parts = list(translator.parts(events, settings, over))
    return torch.cat([part.scores for part in parts]), torch.cat([part.log_ratio for part in parts])


def _rms(values: Tensor) -> float:
    return float(values.double().square().mean().sqrt())
