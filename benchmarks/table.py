"""One table of all methods: quality and cost on the same held-out events.

python -m benchmarks [--run RUN] [--rows NAME,…] [--quick]

Every row is measured in a process of its own and kept in ``<run>/benchmark``; a row that is there
is not measured again.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pileupgen.errors import ConfigError, PileupgenError, did_you_mean
from pileupgen.files import write_whole
from pileupgen.run import RunDirectory, fingerprint, versions

if TYPE_CHECKING:
    from pileupgen.compare.quality import QualityJudge
    from pileupgen.samples.store import ImageStore

REFERENCE = "reference"
PRELOADED = [
    "torch",
    "diffusers",
    "sklearn.ensemble",
    "pileupgen.compare.quality",
    "benchmarks.cost",
]


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes
    ----------
    run : Path
        A trained run.
    n_events : int or None
        Held-out events of each domain; None takes all.
    n_slow_events : int
        For a baseline that takes minutes for a hundred.
    seconds : float
        That baselines without an end may train for.
    limit : float
        Seconds that one timed call may take.
    n_seeds : int
        Of the two-sample test.
    seed : int
    device : str
    """

    run: Path
    n_events: int | None
    n_slow_events: int
    seconds: float
    limit: float
    n_seeds: int
    seed: int
    device: str

    @classmethod
    def quick(cls, run: Path, seed: int, device: str) -> Plan:
        """Minutes in all: numbers are rough."""
        return cls(run, 200, 20, 20.0, 10.0, 1, seed, device)

    @classmethod
    def full(cls, run: Path, seed: int, device: str) -> Plan:
        """All held-out events."""
        return cls(run, None, 100, 180.0, 60.0, 3, seed, device)


def known_rows() -> list[str]:
    """Names of the rows, in their order."""
    from benchmarks.baselines import BASELINES

    return [REFERENCE, *BASELINES]


def chosen_rows(text: str | None) -> list[str]:
    """Rows from a list with commas; each name may be given by its beginning.

    Raises
    ------
    ConfigError
        If a name fits no row, or more than one.
    """
    known = known_rows()
    if text is None:
        return known
    found = []
    for part in (part.strip() for part in text.split(",")):
        fitting = [part] if part in known else [name for name in known if name.startswith(part)]
        if not part or len(fitting) != 1:
            raise ConfigError(f"'{part}' names no single row.", did_you_mean(part, known, n=5))
        found += fitting
    return [name for name in known if name in found]


def measure_row(plan: Plan, name: str, judge: QualityJudge) -> dict[str, Any]:
    """Fit a method, judge its output, time it; in the process it is called in."""
    import torch

    from benchmarks.baselines import make_baseline
    from benchmarks.baselines.contract import Corrected, Problem
    from benchmarks.cost import Rate, peak_memory, rates
    from pileupgen.zoo.contract import Symmetry

    if name == REFERENCE:
        return {
            "name": name,
            "quality": judge.reference_quality().to_dict(),
            "load": os.getloadavg(),
        }
    run = RunDirectory(plan.run)
    stores = _stores(run)
    mc_train, data_train = (store.read(store.indices("train")) for store in stores)
    baseline = make_baseline(name)
    before = peak_memory()
    begin, used = time.perf_counter(), time.process_time()
    settings = plan.device, plan.seconds, plan.seed, Symmetry.of_stores(*stores)
    baseline.fit(Problem(mc_train, data_train, run, *settings))
    fit = {"wall": time.perf_counter() - begin, "cpu": time.process_time() - used}
    begin, used = time.perf_counter(), time.process_time()
    output = baseline.translate(judge.source_images)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - used
    n = len(judge.source_images)
    known = Rate(n, torch.get_num_threads(), n / seconds, 1)
    plain = None
    if isinstance(baseline, Corrected):
        plain = judge.quality(baseline.translate_plain(judge.source_images)).to_dict()
    return {
        "name": name,
        "quality": judge.quality(output).to_dict(),
        "not_corrected": plain,
        "rates": [
            rate.to_dict() for rate in rates(baseline, judge.source_images, plan.limit, known)
        ],
        "cpu_ms_per_event": 1e3 * cpu / n,
        "fit_seconds": fit,
        "trained_before": getattr(baseline, "trained_before", None),
        "peak_memory_gb": peak_memory(),
        "memory_before_gb": before,
        "n_parameters": int(baseline.n_parameters),
        "n_evaluations": baseline.n_evaluations,
        "load": os.getloadavg(),
    }


def run_table(
    plan: Plan, rows: Sequence[str], tell: Callable[[int, str], None] = lambda n, note: None
) -> tuple[list[dict[str, Any]], list[Path]]:
    """Measure the rows that are not there yet, and write table, numbers and figure.

    Parameters
    ----------
    plan : Plan
    rows : sequence of str
        See :func:`known_rows`.
    tell : callable
        Called with how many more rows are there, and what is being done.

    Returns
    -------
    list of dict
        The rows.
    list of Path
        What was written.

    Raises
    ------
    PileupgenError
        If a row's process dies.
    """
    from benchmarks.quality_against_speed import table_figure
    from benchmarks.table_text import markdown
    from pileupgen.report.figures import write_figure

    folder = plan.run / "benchmark"
    identity = _identity(plan)
    measured = []
    judges: dict[int | None, QualityJudge] = {}
    for name in rows:
        path = folder / "rows" / f"{fingerprint([identity, name])}.json"
        kept = path.is_file()
        if not kept:
            tell(0, f"{name} …")
            n = plan.n_slow_events if _is_slow(name) else plan.n_events
            if n not in judges:
                judges[n] = _judge(plan, n)
            row = _in_own_process(plan, name, judges[n])
            write_whole(path, json.dumps(row, indent=2, ensure_ascii=False))
        measured.append(json.loads(path.read_text(encoding="utf-8")))
        tell(1, f"{name} (kept)" if kept else name)
    record = {"machine": machine(), "plan": _plain(plan), "rows": measured}
    table, numbers = folder / "table.md", folder / "table.json"
    write_whole(table, markdown(record))
    write_whole(numbers, json.dumps(record, indent=2, ensure_ascii=False))
    written = [table, numbers]
    if any("rates" in row for row in measured):
        written += write_figure(table_figure(measured), folder, "table")
    return measured, written


def machine() -> dict[str, Any]:
    """Where it was measured."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": [round(value, 1) for value in os.getloadavg()],
        "python": platform.python_version(),
        "versions": versions("torch", "diffusers", "numpy", "scikit-learn", "zuko"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _plain(plan: Plan) -> dict[str, Any]:
    return {**asdict(plan), "run": plan.run.name}


def _identity(plan: Plan) -> list[Any]:
    """What a row's numbers depend on, the machine's mood apart, and what it tells."""
    run = RunDirectory(plan.run)
    return [_plain(plan), run.details("train")["made_from"], "cpu_ms_per_event"]


def _stores(run: RunDirectory) -> tuple[ImageStore, ImageStore]:
    from pileupgen.samples.store import ImageStore

    return ImageStore(run.images("mc")), ImageStore(run.images("data"))


def _is_slow(name: str) -> bool:
    from benchmarks.baselines import make_baseline

    return name != REFERENCE and make_baseline(name).is_slow


def _judge(plan: Plan, n_events: int | None) -> QualityJudge:
    from pileupgen.compare.quality import QualityJudge

    mc, data = _stores(RunDirectory(plan.run))
    return QualityJudge.of(mc, data, n_events, plan.n_seeds, plan.seed)


def _in_own_process(plan: Plan, name: str, judge: QualityJudge) -> dict[str, Any]:
    """A fresh process for each row, so that its peak of memory is its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(plan, name, judge, sender))
    process.start()
    sender.close()
    try:
        result = receiver.recv()
    except EOFError:
        process.join()
        raise PileupgenError(
            f"The row '{name}' died (exit code {process.exitcode}).", "Is there enough memory?"
        ) from None
    finally:
        receiver.close()
    process.join()
    if isinstance(result, Exception):
        raise result
    return dict(result)


def _work(plan: Plan, name: str, judge: QualityJudge, sender: Any) -> None:
    try:
        sender.send(measure_row(plan, name, judge))
    except PileupgenError as error:
        sender.send(error)
    finally:
        sender.close()
