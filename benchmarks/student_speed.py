"""Speed and quality of a student beside its teacher, and beside another version of pileupgen.

python -m benchmarks.student_speed --run runs/demo [--events 4000] [--repeat 3]
    [--before CHECKOUT --before-run RUN]
    [--setting "--mode invert --t-release 300 --w 2.0 --steps 8"]

A student has been distilled for each setting by 'pileupgen distill' with the same options. Every
row is the command `pileupgen translate` in a process of its own, store to store, on the same
events; the rows take turns, so that what else the machine does hits them alike. The rate is that of
the translation without start and correction; their CPU time, that of a call on one micro-batch, is
taken off too. The best of the repeats counts. Quality is that of the test events, in the same row,
and compared with the teacher's on the same events and draws of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pileupgen.compare.ladder import AS_ASKED, Variant, compare_variants
from pileupgen.compare.quality import QualityJudge
from pileupgen.compare.records import Difference, Rung
from pileupgen.compare.resampling import Samples
from pileupgen.diffusion.settings import MICRO_BATCH
from pileupgen.measure.sample import measure_sample
from pileupgen.samples.store import Images, ImageStore, create_store

SETTINGS = (
    "--t-release 300 --w 2.0",
    "--mode invert --w 0 --timesteps 995,800,600,450,300,180,90,30",
)
"""The demo's command as it is typed in its tutorial, and its recommended one."""


@dataclass(frozen=True)
class Row:
    """Who translates: a run by a version, and options beside those of the setting."""

    name: str
    run: Path
    checkout: Path
    options: tuple[str, ...] = ()


@dataclass
class Cost:
    """The best of a row's repeats."""

    events_per_s: float = 0.0
    cpu_ms: float = float("inf")
    """CPU time of an event beyond that of a call on one micro-batch."""
    peak_mb: float = float("inf")

    def take(self, rate: float, cpu_ms: float, peak_mb: float) -> None:
        self.events_per_s = max(self.events_per_s, rate)
        self.cpu_ms, self.peak_mb = min(self.cpu_ms, cpu_ms), min(self.peak_mb, peak_mb)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--run", type=Path, default=Path("runs/demo"))
    options.add_argument("--before", type=Path, help="checkout of another version")
    options.add_argument("--before-run", type=Path, help="its run of the same model and events")
    options.add_argument("--events", type=int, default=4000)
    options.add_argument("--repeat", type=int, default=3)
    options.add_argument("--setting", action="append", help="options of one setting; repeatable")
    given = options.parse_args()
    here = Path(__file__).parents[1]
    rows = [Row("teacher", given.run, here, ("--exact",)), Row("student", given.run, here)]
    if given.before is not None:
        rows.insert(0, Row("before", given.before_run, given.before.absolute()))
    mc, data = (ImageStore(given.run / "data" / f"{domain}.h5") for domain in ("mc", "data"))
    judge = QualityJudge.of(mc, data, None, 1, 1)
    record: dict[str, Any] = {"load_before": os.getloadavg(), "rows": []}
    with tempfile.TemporaryDirectory() as folder:
        few, many = Path(folder) / "few.h5", Path(folder) / "many.h5"
        write_events(mc, few, MICRO_BATCH)
        n_events = write_events(mc, many, given.events)
        for setting in given.setting or SETTINGS:
            costs = {row.name: Cost() for row in rows}
            for repeat in range(given.repeat + 1):
                for row in rows:
                    target = Path(folder) / f"{row.name}.h5"
                    if repeat == 0:
                        # Fits the correction, which is then kept, and makes what is judged.
                        translate(row, setting, mc.path, target, "test")
                        continue
                    start, _, _ = translate(row, setting, few, target)
                    cpu, peak, rate = translate(row, setting, many, target)
                    cpu_ms = 1e3 * (cpu - start) / (n_events - MICRO_BATCH)
                    costs[row.name].take(rate, cpu_ms, peak)
                if repeat == 0:
                    judged = quality(
                        judge, {row.name: Path(folder) / f"{row.name}.h5" for row in rows}
                    )
            for row in rows:
                rung, cost = judged[row.name], costs[row.name]
                found = {"setting": setting, "name": row.name, **asdict(cost)}
                record["rows"].append({**found, "quality": rung.model_dump(mode="json")})
                print(
                    f"{setting:50} {row.name:8} {cost.events_per_s:8.1f} events/s "
                    f"{cost.cpu_ms:7.2f} CPU ms/event {cost.peak_mb:6.0f} MB; {in_words(rung)}",
                    flush=True,
                )
    record["load_after"] = os.getloadavg()
    print(json.dumps(record))


def quality(judge: QualityJudge, stores: dict[str, Path]) -> dict[str, Rung]:
    """How near the translated test events of each row are to data, beside those of the teacher."""
    samples = Samples(judge.target, judge.reference, judge.source, judge.source)
    variants = [Variant("source", "source", judge.source)]
    for name, path in stores.items():
        source = judge.source_images
        images = Images(ImageStore(path).read().energy, source.grid, source.columns)
        key = AS_ASKED if name == "teacher" else name
        sample = measure_sample("translated", name, [images], source.grid)
        variants.append(Variant(key, name, sample))
    ladder = compare_variants(samples, variants, settings={}, n_seeds=2, seed=judge.seed)
    return {rung.label: rung for rung in ladder.rungs}


def in_words(rung: Rung) -> str:
    """The quality of a row in one line."""

    def over_teacher(rise: Difference | None) -> str:
        return "" if rise is None else f" (rise {rise.value.value:+.4f} ± {rise.value.error:.4f})"

    correlations = rung.families["correlations"]
    return (
        f"W1/σ {rung.mean_w1.value:.4f} ± {rung.mean_w1.error:.4f}{over_teacher(rung.w1_rise)}, "
        f"AUC {rung.auc.value:.4f} ± {rung.auc.error:.4f}{over_teacher(rung.auc_rise)}, source "
        f"correlation {rung.block.value:.4f} ± {rung.block.error:.4f}, correlations' W1/σ "
        f"{correlations.value:.3f} ± {correlations.error:.3f}, most significant "
        f"{rung.significance:.1f} σ ({rung.finding})"
    )


def write_events(store: ImageStore, path: Path, n: int) -> int:
    """Write the first events of a store as another one."""
    images = store.read(np.arange(min(n, len(store))))
    with create_store(path, store.grid, store.domain, store.provenance) as writer:
        writer.append(images.energy, images.columns)
    return len(images)


def translate(
    row: Row, setting: str, source: Path, target: Path, split: str = "all"
) -> tuple[float, float, float]:
    """CPU seconds and peak memory in MB of the command, events per second of the translation."""
    command = [sys.executable, "-m", "pileupgen", "translate", "--run", str(row.run.absolute())]
    command += [*setting.split(), *row.options, "--input", str(source.absolute())]
    command += ["--output", str(target), "--split", split, "--force"]
    environment = {**os.environ, "PYTHONPATH": str(row.checkout)}
    begun = time.time()
    process = subprocess.Popen(
        command, cwd=row.checkout, env=environment, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {status}; is there a student?")
    stages = (row.run / "stages").glob("translate*.json")
    latest = max(stages, key=lambda path: path.stat().st_mtime)
    if latest.stat().st_mtime < begun - 1:
        raise SystemExit(f"{latest} is older than the translation that it should be of.")
    rate = json.loads(latest.read_text())["rate"]
    return (
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss / 1024,
        rate["n_events"] / rate["seconds"],
    )


if __name__ == "__main__":
    main()
