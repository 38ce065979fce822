"""Fidelity and source correlation over settings of the translation, and a recommendation."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pileupgen.arrays import Ints
from pileupgen.compare.pareto import Judge, ScanPoint, recommend
from pileupgen.diffusion.production import Production
from pileupgen.diffusion.settings import UNRELEASED, WITHOUT_NETWORK, Settings
from pileupgen.diffusion.weights import WeightSummary
from pileupgen.errors import ConfigError
from pileupgen.files import write_whole
from pileupgen.progress import SILENT, Listener
from pileupgen.run import RunDirectory, fingerprint
from pileupgen.samples.store import Images, ImageStore
from pileupgen.workflow.correction import ready_member
from pileupgen.workflow.model import choose_device, load_pipeline, model_identity
from pileupgen.workflow.operating_point import write_operating_point
from pileupgen.workflow.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pileupgen.diffusion.pipeline import TranslationPipeline
    from pileupgen.measure.bootstrap import Estimate
    from pileupgen.workflow.student import KnownStudent

T_RELEASE = (150, 300, 600, 995)
W = (0.0, 2.0)
MODES = ("calibrate", "transport", "partial", "invert")


@dataclass(frozen=True)
class Scanned:
    """What a scan found."""

    points: tuple[ScanPoint, ...]
    """Every candidate, measured."""
    best: ScanPoint
    """The recommended one."""
    rule: str
    """How it was chosen, in words."""
    references: dict[str, Estimate]
    """Mean W1/σ of ``reference`` and ``source``."""

    def figures(self) -> dict[str, Figure]:
        """Draw fidelity against source correlation, and against cost where that differs."""
        from pileupgen.report.figures.pareto import cost_figure, pareto_figure

        reference = self.references["reference"]
        figures = {"pareto_front": pareto_figure(self.points, reference, self.best)}
        if len({point.n_evaluations for point in self.points if point.n_evaluations}) > 1:
            figures["cost"] = cost_figure(self.points, reference)
        return figures

    def to_csv(self) -> str:
        """Write one line a point: its settings, then its numbers."""
        keys = list(self.points[0].settings)
        numbers = ("w1", "w1_low", "w1_high", "block", "block_low", "block_high", "auc", "ess")
        lines: list[list[Any]] = [[*keys, "n_evaluations", "n_events", *numbers]]
        for point in self.points:
            values = [point.settings[key] for key in keys]
            values += [point.n_evaluations, point.n_events]
            values += [point.w1.value, point.w1.low, point.w1.high]
            values += [point.block.value, point.block.low, point.block.high, point.auc, point.ess]
            lines.append([f"{v:.6g}" if isinstance(v, float) else v for v in values])
        text = StringIO()
        csv.writer(text, lineterminator="\n").writerows(lines)
        return text.getvalue()


def scan(
    run: Run,
    *,
    t_release: Sequence[int] = T_RELEASE,
    w: Sequence[float] = W,
    modes: Sequence[str] = MODES,
    steps: Sequence[int] | None = None,
    timesteps: Sequence[int] | None = None,
    samplers: Sequence[str] | None = None,
    guidance: Sequence[str] | None = None,
    n_events: int = 300,
    min_source_correlation: float = 0.8,
    seed: int | None = None,
    device: str | None = None,
) -> Scanned:
    """Measure settings of the translation on validation events, and recommend one.

    A point once measured is kept. The recommendation is what a translation takes by default.

    Parameters
    ----------
    run : Run
        Trained.
    t_release, w, modes, steps, samplers, guidance : sequence
        Values of which all combinations are measured; of the last three the config's if not given.
        All other settings are the config's.
    timesteps : sequence of int, optional
        Timesteps of the network evaluations, descending from the release, in place of ``t_release``
        and ``steps``.
    n_events : int
        Validation events of mc and of data at most.
    min_source_correlation : float
        Block source correlation to recommend at least.
    seed : int, optional
        The config's if not given.
    device : str, optional

    Raises
    ------
    ConfigError
        If a value does not fit, or both ``steps`` and ``timesteps`` are given.
    RunError
        If there is no trained model.
    """
    directory, listener = run.directory, run.listener
    settings = run.config.translate
    if steps and timesteps:
        raise ConfigError("--steps and --timesteps exclude each other.", "Leave out one of them.")
    candidates = list(
        _combinations(
            settings,
            {
                "mode": modes,
                "t_release": timesteps[:1] if timesteps else t_release,
                "w": w,
                "num_inference_steps": steps or [settings.num_inference_steps],
                "timesteps": [tuple(timesteps) if timesteps else None],
                "sampler": samplers or [settings.sampler],
                "guidance": guidance or [settings.guidance],
            },
        )
    )
    model = model_identity(directory)
    run.adopt()
    for part in (run.store("mc").path, run.store("data").path, directory.model):
        listener.read(part)
    pipeline = load_pipeline(directory, choose_device(device))
    for candidate in candidates:
        pipeline.check(candidate)
    chosen = run.config.seed if seed is None else seed
    points, references = measure_points(
        directory, model, pipeline, candidates, n_events, chosen, "scan        ", listener
    )
    best, rule = recommend(points, min_source_correlation)
    found = Scanned(tuple(points), best, rule, references)
    _write(run, found)
    write_operating_point(run, model, best.to_dict(), rule)
    listener.tell("point", f"{best.label}: {rule}")
    return found


def _combinations(settings: Settings, axes: dict[str, Sequence[Any]]) -> Iterator[Settings]:
    """Every combination that differs in something that matters."""
    base = settings.to_dict()
    seen = set()
    for values in itertools.product(*axes.values()):
        fields = {**base, **dict(zip(axes, values, strict=True))}
        if fields["mode"] in UNRELEASED:
            fields |= {"t_release": 0, "timesteps": None}
        if fields["mode"] in WITHOUT_NETWORK:
            fields |= {"w": 0.0, "num_inference_steps": 1, "sampler": "dpmsolver++"}
        if fields["w"] == 0:
            fields["guidance"] = settings.guidance
        candidate = Settings.from_dict(fields)
        if candidate.mode == "invert":
            sampler = candidate.inversion_sampler
            candidate = Settings.from_dict({**fields, "sampler": sampler})
        if candidate not in seen:
            seen.add(candidate)
            yield candidate


def measure_points(
    directory: RunDirectory,
    model: str,
    pipeline: TranslationPipeline,
    candidates: Sequence[Settings],
    n_events: int,
    seed: int,
    title: str,
    listener: Listener = SILENT,
) -> tuple[list[ScanPoint], dict[str, Estimate]]:
    """Translate validation events by each candidate and measure them; known points are kept.

    Parameters
    ----------
    n_events : int
        Validation events of mc and of data at most.

    Returns
    -------
    points : list of ScanPoint
        One for each candidate.
    references : dict of Estimate
        Mean W1/σ of reference and source.
    """
    mc, data = (ImageStore(directory.images(domain)) for domain in ("mc", "data"))
    rows = mc.indices("validation", n_events)
    judge = judge_of(mc, data, n_events, seed)
    common = ["paired", model, mc.provenance, data.provenance, n_events, seed]
    points: list[ScanPoint] = []
    with listener.progress(title, len(candidates), "points") as advance:
        for candidate in candidates:
            name = f"{fingerprint([candidate.provenance(), common])}.json"
            path = directory.path / "scan" / "points" / name
            known = _kept_point(path)
            if known is not None:
                points.append(known)
                advance(1, f"{candidate.describe()} (kept)")
                continue
            point = measure_point(directory, pipeline, model, candidate, mc, rows, judge, seed)
            write_whole(path, json.dumps(point.to_dict(), indent=2, ensure_ascii=False))
            points.append(point)
            advance(1, candidate.describe())
    return points, judge.references()


def _kept_point(path: Path) -> ScanPoint | None:
    """A point that was measured before; None where there is none, or its file is damaged."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        return ScanPoint.from_dict(json.loads(path.read_text(encoding="utf-8")))
    return None


def judge_of(mc: ImageStore, data: ImageStore, n_events: int, seed: int) -> Judge:
    """The judge of validation events, its reference of training events of data."""
    source = mc.indices("validation", n_events)
    target = data.indices("validation", n_events)
    others = data.indices("train")
    n = min(len(source), len(others))
    reference = np.sort(np.random.default_rng([seed, 5]).permutation(others)[:n])
    return Judge.of(
        data.batches(target), data.batches(reference), mc.batches(source), data.grid, seed
    )


def measure_point(
    directory: RunDirectory,
    pipeline: TranslationPipeline,
    model: str,
    settings: Settings,
    mc: ImageStore,
    rows: Ints,
    judge: Judge,
    seed: int,
    student: KnownStudent | None = None,
) -> ScanPoint:
    """Translate events of a store, by a student if one is given, and measure them."""
    member = ready_member(directory, model, pipeline, settings, seed, student=student)
    parts = list(Production(mc, rows, [member], seed).translate(rows))
    columns = {key: np.concatenate([part[1][key] for part in parts]) for key in parts[0][1]}
    images = Images(np.concatenate([part[0] for part in parts]), mc.grid, columns)
    ess = WeightSummary.of(columns["log_ratio"], settings.log_weight_limit).ess
    point, label = settings.operating_point(), settings.describe()
    n_evaluations = settings.n_evaluations if student is None else 1
    return judge.measure([images], point, label, n_evaluations, ess)


def _write(run: Run, found: Scanned) -> None:
    from pileupgen.report.figures import write_figure

    folder = run.directory.path / "scan"
    write_whole(folder / "pareto_front.csv", found.to_csv())
    run.listener.wrote(folder / "pareto_front.csv", f"{len(found.points)} points")
    for name, figure in found.figures().items():
        for written in write_figure(figure, folder, name):
            run.listener.wrote(written)
