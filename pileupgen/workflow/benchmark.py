"""Systems of the collection trained, used and judged on one run's events."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pileupgen.compare.systems import ControlCurve, SystemRow, SystemTable
from pileupgen.errors import (
    ConfigError,
    DependencyError,
    RunError,
    StoreError,
    TrainingError,
    did_you_mean,
)
from pileupgen.files import require_writable, write_whole
from pileupgen.run import fingerprint
from pileupgen.samples.weights import rows_by_weight
from pileupgen.workflow.tasks import PILEUP, TASKS, task_of
from pileupgen.zoo.registry import Entry

if TYPE_CHECKING:
    from pileupgen.compare.systems import AnyJudge
    from pileupgen.workflow.run import Run
    from pileupgen.zoo.base import FittedSystem
    from pileupgen.zoo.contract import EventConditions, ZooSample

FOLDER = "systems"
"""In the run directory."""
_WHAT = "systems, symmetries of the cards"
"""How systems are trained and judged: what other versions kept is done anew."""
_JUDGED = "with physics distances"
"""How rows are judged: those that other versions kept are judged anew, not trained."""
FEWEST_JUDGED = 8
"""Test events of either domain: two in each of the four folds of a two-sample test."""
N_TOGETHER = 100
"""Events of a batch whose time is taken, beside that of one alone."""
N_LIKELIHOOD = 200
"""Target events whose likelihood is taken, at most."""


@dataclass(frozen=True)
class BenchmarkPlan:
    """What is measured, beside the run and the systems."""

    task: str = PILEUP
    minutes: float = 2.0
    """CPU time of each training."""
    n_events: int | None = 500
    """Held-out events of each domain."""
    n_seeds: int = 3
    """Seeds of the two-sample test on observables."""
    on_cells: bool = True
    """Whether the two-sample test on cells is made."""
    is_paired: bool = False
    """Whether events of the same number in both domains are the same event."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ConfigError(
                f"There is no task '{self.task}'.", did_you_mean(self.task, list(TASKS))
            )
        if not 0 < self.minutes < math.inf:
            raise ConfigError(
                f"A budget of {self.minutes:g} minutes is not positive and finite.",
                "Give a number of more than 0.",
            )


def benchmark_systems(
    run: Run, entries: Sequence[Entry], plan: BenchmarkPlan
) -> tuple[SystemTable, list[Path]]:
    """Train systems, let them make or translate held-out events, and judge them.

    Trainings and judged rows are kept under their fingerprints: what has been made is not done
    again, and an interrupted training goes on. Writes ``systems.json``, ``systems.csv``, a figure
    and a page.

    Parameters
    ----------
    run : Run
        Preprocessed.
    entries : sequence of Entry
    plan : BenchmarkPlan

    Raises
    ------
    MissingInputError
        If the run has no images.
    TrainingError
        If a sample has too few training events, or no system can be trained; of several, one that
        cannot be is left out.
    RunError
        If a sample has fewer than ``FEWEST_JUDGED`` test events.
    ConfigError
        If events are said to be pairs and are not, or are of another task.
    DependencyError
        If the only system needs a package that is not installed; of several, it is left out.
    OutputError
        If the run's folder of systems cannot be written.
    """
    from pileupgen.report.systems import write_systems

    rows: list[SystemRow] = []
    failed: DependencyError | TrainingError | None = None
    work = _Benchmarking(run, plan)
    with run.listener.progress("benchmark   ", len(entries), "systems") as advance:
        for entry in entries:
            advance(0, f"{entry.name} …")
            try:
                rows += work.rows_of(entry)
            except (DependencyError, TrainingError) as error:
                if len(entries) == 1:
                    raise
                failed = error
                run.listener.warn(f"{entry.name} is left out. {error.message} {error.hint}")
            advance(1, entry.name)
    if failed is not None and not rows:
        raise failed
    table = SystemTable(
        task=plan.task,
        minutes=plan.minutes,
        n_train=work.n_train,
        reference=work.kept_quality("reference"),
        source=work.kept_quality("source"),
        rows=tuple(rows),
        yardstick=TASKS[plan.task].yardstick,
        simulation_ms=work.simulation_ms(),
    )
    return table, write_systems(table, work.folder)


class _Benchmarking:
    """Samples and judge, made when they are first needed."""

    def __init__(self, run: Run, plan: BenchmarkPlan) -> None:
        from pileupgen.training.data import require_events

        self.plan, self.task = plan, TASKS[plan.task]
        self.folder = run.directory.path / FOLDER
        self._sample: ZooSample | None = None
        self._stores = {domain: run.store(domain) for domain in ("mc", "data")}
        for store in self._stores.values():
            run.listener.read(store.path, f"{len(store)} events")
            suited = task_of(store.grid)
            if suited not in (PILEUP, plan.task):
                raise ConfigError(
                    f"The events of {store.path} are of the task '{suited}', not of '{plan.task}'.",
                    f"Give --task {suited}.",
                )
            require_events(store, "train")
            n = len(store.indices("test"))
            if n < FEWEST_JUDGED:
                raise RunError(
                    f"{store.path} has {n} test events; a two-sample test needs {FEWEST_JUDGED}.",
                    "Preprocess more events.",
                )
        require_writable(self.folder)
        provenance = [store.provenance for store in self._stores.values()]
        self._identity: list[Any] = [_WHAT, plan.seed, provenance]
        if plan.is_paired:
            self._identity.append("pairs")
            # What is no pair is refused before anything is trained.
            _ = self.sample
        self._made_judge: AnyJudge | None = None

    @property
    def n_train(self) -> int:
        if self.plan.is_paired:
            return len(self.sample.target)
        return len(self._stores["data"].indices("train"))

    @property
    def sample(self) -> ZooSample:
        from pileupgen.zoo.contract import ZooSample

        if self._sample is None:
            stores = self._stores["data"], self._stores["mc"]
            self._sample = ZooSample.of_stores(*stores, is_paired=self.plan.is_paired)
        return self._sample

    @property
    def judge(self) -> AnyJudge:
        if self._made_judge is None:
            plan, stores = self.plan, self._stores
            self._made_judge = self.task.judge_kind().of(
                stores["mc"], stores["data"], plan.n_events, plan.n_seeds, plan.seed
            )
        return self._made_judge

    def rows_of(self, entry: Entry) -> list[SystemRow]:
        """The rows of a system, measured or as they were kept."""
        path = self._row_path([entry.training, dict(entry.options)])
        found = _read(path, lambda values: [SystemRow.from_dict(row) for row in values])
        if found is None:
            # First what may be refused, then what takes long.
            _ = self.judge
            found = self._measured(entry, self._fitted(entry))
            write_whole(path, _json([row.to_dict() for row in found]))
        return [_renamed(row, entry) for row in found]

    def kept_quality(self, name: str) -> Any:
        """Quality of the reference or of the source, measured or as it was kept."""
        from pileupgen.compare.quality import MethodOutput

        path = self._row_path(name)
        found = _read(path, self.task.quality_kind().from_dict)
        if found is None:
            judge = self.judge
            found = (
                judge.reference_quality()
                if name == "reference"
                else judge.quality(
                    MethodOutput(judge.source_images.energy), on_cells=self.plan.on_cells
                )
            )
            write_whole(path, _json(found.to_dict()))
        return found

    def _row_path(self, what: Any) -> Path:
        plan = self.plan
        judged: list[Any] = [_JUDGED, plan.n_events, plan.n_seeds, plan.on_cells, plan.minutes]
        if plan.task != PILEUP:
            judged.append(plan.task)
        return self.folder / "rows" / f"{fingerprint([self._identity, judged, what])}.json"

    def _fitted(self, entry: Entry) -> FittedSystem:
        """The system as it was trained before, or trained now."""
        from pileupgen.zoo.contract import Budget, EventConditions

        key = fingerprint([self._identity, self.plan.minutes, entry.training])
        folder, state = self.folder / "models" / key, self.folder / f"training-{key}.safetensors"
        system = entry.make()
        conditions = EventConditions.of_images(self.sample.target)
        if folder.is_dir():
            with suppress(StoreError):
                system.load(folder)
                if system.options != dict(entry.options):
                    system.options = dict(entry.options)
                    system.fit_corrections(self.sample, conditions)
                return system
        budget = Budget(60 * self.plan.minutes, state=state)
        system.fit(self.sample, conditions, budget, self.plan.seed)
        system.save(folder)
        state.unlink(missing_ok=True)
        return system

    def _measured(self, entry: Entry, system: FittedSystem) -> list[SystemRow]:
        from pileupgen.compare.quality import MethodOutput
        from pileupgen.workflow.control import control_curves
        from pileupgen.zoo.contract import EventConditions, HasControl, HasLikelihood
        from pileupgen.zoo.image_system import rows_of

        judge, seed = self.judge, self.plan.seed
        images = judge.source_images
        conditions = EventConditions.of_images(judge.wanted)
        uses: dict[str, Callable[[], Any]] = {}
        if system.can_generate:
            uses["generate"] = lambda: system.generate(conditions, seed)
        if system.can_translate:
            uses["translate"] = lambda: system.translate(images, images.mu, seed)
        nats = error = exact = None
        if isinstance(system, HasLikelihood):
            target = judge.target_images
            n = min(N_LIKELIHOOD, len(target))
            few = rows_of(target, rows_by_weight(target.weight, n))
            each = system.nats_gained(few, few.mu, seed)
            nats, error = float(each.mean()), float(each.std() / np.sqrt(n))
            exact = system.is_exact
        alone = together = None
        if self.task.maker is not None and system.can_generate:
            alone, together = (_event_ms(system, conditions, n, seed) for n in (1, N_TOGETHER))
        controls: tuple[ControlCurve, ...] = ()
        if isinstance(system, HasControl):
            controls = control_curves(system, conditions, judge.target_images, seed)
        found = []
        for use, make in uses.items():
            begun = time.process_time()
            energy = make()
            event_ms = 1000 * (time.process_time() - begun) / len(images)
            quality = judge.quality(
                MethodOutput(energy),
                has_source=use == "translate",
                on_cells=self.plan.on_cells,
            )
            found.append(
                SystemRow(
                    name=entry.name,
                    family=entry.family,
                    what=entry.what,
                    citation=system.citation,
                    use=use,
                    quality=quality,
                    n_parameters=system.n_parameters,
                    n_evaluations=system.n_evaluations,
                    training_seconds=system.training_seconds,
                    training_steps=system.trained.steps,
                    event_ms=event_ms,
                    nats=nats,
                    nats_error=error,
                    nats_are_exact=exact,
                    single_ms=alone if use == "generate" else None,
                    batch_ms=together if use == "generate" else None,
                    controls=controls if use == "generate" else (),
                )
            )
        return found

    def simulation_ms(self) -> float | None:
        """CPU time of an event of the built-in simulation that made the target, in ms."""
        card = self._stores["data"].provenance.get("card", {})
        make = self.task.maker_of(card.get("generate") or {})
        if make is None:
            return None
        begun = time.process_time()
        n = make(N_TOGETHER)
        return 1000 * (time.process_time() - begun) / n


def _event_ms(system: FittedSystem, conditions: EventConditions, n: int, seed: int) -> float:
    """CPU time of an event, in ms, on one thread, made in batches of n; the least of three."""
    import torch

    usual, threads = system.batch, torch.get_num_threads()
    system.batch = n
    torch.set_num_threads(1)
    try:
        few, spent = conditions.taken(np.arange(n) % len(conditions)), []
        for _ in range(3):
            begun = time.process_time()
            system.generate(few, seed)
            spent.append(time.process_time() - begun)
    finally:
        system.batch = usual
        torch.set_num_threads(threads)
    return 1000 * min(spent) / n


def _renamed(row: SystemRow, entry: Entry) -> SystemRow:
    """A kept row with today's words."""
    return replace(row, name=entry.name, family=entry.family, what=entry.what)


def _read(path: Path, parse: Callable[[Any], Any]) -> Any:
    """What a kept file holds; None where there is none, or another version wrote it."""
    try:
        return parse(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _json(values: Any) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False)
