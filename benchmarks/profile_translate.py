"""Where the time of `translate` goes, part by part, as a table and a figure.

python -m benchmarks.profile_translate [--run runs/demo] [--events 500] [--before OTHER.json]

Store to store in one process, partial diffusion with the run's number of steps; wall time, shared
out among the parts by what each thread spends in them. A record of another version, made by the
same command, can stand beside it. A flame graph of the whole command, imports included, is made by
`py-spy record -o flame.svg -- pileupgen translate --force`.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

# As the command line has it, and before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from benchmarks.parts import PARTS, Parts
from benchmarks.translate_speed import fit_correction, ours, timed
from pileupgen.config import load_config
from pileupgen.diffusion.for_diffusers import PileupTranslationPipeline
from pileupgen.diffusion.production import Member
from pileupgen.diffusion.settings import Settings
from pileupgen.files import write_whole
from pileupgen.run import RunDirectory
from pileupgen.samples.store import ImageStore

REST = "the rest"
N_CORRECTION_EVENTS = 200


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--run", type=Path, default=Path("runs/demo"))
    options.add_argument("--events", type=int, default=500)
    options.add_argument("--repeat", type=int, default=3, help="the fastest counts")
    options.add_argument("--lanes", type=int, help="micro-batches side by side (default: threads)")
    options.add_argument("--before", type=Path, help="record of another version")
    options.add_argument("--out", type=Path, default=Path("runs/profile"))
    given = options.parse_args()
    record = measure(given.run, given.events, given.repeat, given.lanes)
    columns = {"now": record}
    if given.before is not None:
        columns = {"before": json.loads(given.before.read_text()), **columns}
    print(table(columns))
    write_whole(given.out / "profile.json", json.dumps(record, indent=2))
    from pileupgen.report.figures import write_figure

    for path in [given.out / "profile.json", *write_figure(figure_of(columns), given.out, "parts")]:
        print(f"wrote {path}")


def measure(path: Path, n_events: int, repeat: int, lanes: int | None) -> dict[str, Any]:
    """Milliseconds per event of each part, of the fastest try."""
    run = RunDirectory(path)
    config = load_config(run.path / "config.yaml").translate
    pipeline = PileupTranslationPipeline.from_pretrained(run.model)
    mc, data = (ImageStore(run.images(domain)) for domain in ("mc", "data"))
    settings = Settings("partial", 300, 2.0, config.num_inference_steps)
    training = mc.read(mc.indices("train", N_CORRECTION_EVENTS))
    real = data.read(data.indices("train", 4 * N_CORRECTION_EVENTS))
    correction = fit_correction(pipeline, training, real, settings, 1)
    rows = mc.indices("all", n_events)
    tries = []
    for number in range(repeat):
        parts = Parts(pipeline, correction)
        with tempfile.TemporaryDirectory() as folder, parts.watched():
            target = Path(folder) / f"{number}.h5"
            member = Member(pipeline, settings, correction)
            seconds = timed(partial(ours, mc, rows, member, 1, target))
        tries.append((seconds, dict(parts.seconds)))
    seconds, found = min(tries, key=lambda each: each[0])
    lanes = lanes or torch.get_num_threads()
    per_event = {part: 1e3 * found.get(part, 0.0) / len(rows) / lanes for part in PARTS}
    per_event[REST] = 1e3 * seconds / len(rows) - sum(per_event.values())
    return {
        "events": len(rows),
        "threads": torch.get_num_threads(),
        "lanes": lanes,
        "steps": settings.num_inference_steps,
        "load": os.getloadavg()[0],
        "events_per_s": len(rows) / seconds,
        "ms_per_event": per_event,
    }


def table(columns: dict[str, dict[str, Any]]) -> str:
    """The records side by side, in Markdown."""
    lines = [
        "| ms per event | " + " | ".join(columns) + " |",
        "|---" * (1 + len(columns)) + "|",
    ]
    for part in (*PARTS, REST):
        values = [record["ms_per_event"].get(part, 0.0) for record in columns.values()]
        lines.append(f"| {part} | " + " | ".join(f"{value:.2f}" for value in values) + " |")
    rates = [f"{record['events_per_s']:.0f}" for record in columns.values()]
    lines.append("| **events/s** | " + " | ".join(rates) + " |")
    return "\n".join(lines)


def figure_of(columns: dict[str, dict[str, Any]]) -> Any:
    """A bar for each record, made of its parts."""
    from pileupgen.report.figures.style import new_figure, style

    with style():
        figure = new_figure(9.0, 1.4 + 0.9 * len(columns))
        axes = figure.subplots()
        names = list(columns)[::-1]
        lefts = [0.0] * len(names)
        for number, part in enumerate((*PARTS, REST)):
            widths = [columns[name]["ms_per_event"].get(part, 0.0) for name in names]
            colour = "0.8" if part == REST else f"C{number}"
            axes.barh(names, widths, left=lefts, color=colour, label=part, height=0.6)
            lefts = [left + width for left, width in zip(lefts, widths, strict=True)]
        for name, end in zip(names, lefts, strict=True):
            axes.annotate(
                f" {columns[name]['events_per_s']:.0f} events/s", (end, name), va="center"
            )
        axes.set_xlim(0, 1.25 * max(lefts))
        axes.set_xlabel("wall time per event [ms]")
        figure.legend(loc="outside upper center", ncols=4, frameon=False)
    return figure


if __name__ == "__main__":
    main()
