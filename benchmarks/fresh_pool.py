"""A trained run on events of other interactions than its own.

python -m benchmarks.fresh_pool --run runs/demo [--events 2000] [--out FOLDER]

The demo's two cards are generated again with other seeds, translated by the run's model as typed,
in the recommended setting and by calibration alone, and compared with the fresh data. In the events
that are compared, and in those of the reference, every interaction is used once. The run's own test
events beside them say what other events of the same law differ by. If the run's own test events
share interactions with its training, they are nearer to data than fresh ones.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml

from pileupgen.compare.quality import MethodOutput, Quality, QualityJudge
from pileupgen.files import write_whole
from pileupgen.resources import resource_folder
from pileupgen.samples.store import ImageStore

SEEDS = {"mc": 21, "data": 22}
FRACTIONS = (0.4, 0.1, 0.5)
USES = {"mc": 20, "data": 1}
"""How often interactions of events are used that are not compared; those of data are the reference.
"""
WAYS = {
    "as typed": ("--t-release", "300", "--w", "2"),
    "recommended": ("--mode", "invert", "--w", "0", "--timesteps", "995,800,600,450,300,180,90,30"),
    "calibrate": ("--mode", "calibrate"),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--run", type=Path, default=Path("runs/demo"))
    options.add_argument("--events", type=int, default=2000, help="half of them are compared")
    options.add_argument("--out", type=Path, default=Path("runs/fresh_pool"))
    given = options.parse_args()
    fresh = draw(given.run, given.events, given.out)
    mc, data = (ImageStore(fresh / f"{domain}.h5") for domain in SEEDS)
    judge = QualityJudge.of(mc, data, None, n_seeds=3, seed=1)
    own = ImageStore(given.run / "data" / "data.h5")
    rows = {
        "fresh data, other events": judge.reference_quality(),
        "the run's own test events of data": judge.quality(
            MethodOutput(energy=own.read(own.indices("test", len(judge.source))).energy)
        ),
        "fresh mc, untranslated": judge.quality(MethodOutput(energy=judge.source_images.energy)),
    }
    for number, (name, way) in enumerate(WAYS.items()):
        path = given.out / f"translated_{number}.h5"
        pileupgen("translate", "--run", given.run, "--input", fresh / "mc.h5", *way, "-o", path)
        store = ImageStore(path)
        wanted = np.isin(store.columns["source_event"], judge.source_images.event_id)
        rows[name] = judge.quality(MethodOutput(energy=store.read(np.flatnonzero(wanted)).energy))
    print(table(rows))
    found = {name: quality.to_dict() for name, quality in rows.items()}
    write_whole(given.out / "fresh_pool.json", json.dumps(found, indent=2, ensure_ascii=False))


def draw(run: Path, n_events: int, out: Path) -> Path:
    """Folder of the image stores of the demo's cards with other seeds, drawn as the run's were."""
    config = yaml.safe_load((run / "config.yaml").read_text("utf-8"))
    out.mkdir(parents=True, exist_ok=True)
    for domain, seed in SEEDS.items():
        text = (resource_folder("data_cards") / f"demo_{domain}.yaml").read_text("utf-8")
        card = yaml.safe_load(text) | {"name": f"fresh_{domain}"}
        uses = (USES[domain], USES[domain], 1)
        pools = [list(pair) for pair in zip(FRACTIONS, uses, strict=True)]
        card["generate"] |= {"n_events": n_events, "seed": seed, "separate_pools": pools}
        (out / f"fresh_{domain}.yaml").write_text(yaml.safe_dump(card), "utf-8")
    shared = {key: config["preprocess"][key] for key in ("geometry", "zero_suppression")}
    own = {
        "name": "fresh",
        "samples": {domain: f"fresh_{domain}.yaml" for domain in SEEDS},
        "preprocess": {**shared, "fractions": list(FRACTIONS)},
    }
    (out / "fresh.yaml").write_text(yaml.safe_dump(own), "utf-8")
    pileupgen("preprocess", "--config", out / "fresh.yaml", "--run", out / "run")
    return out / "run" / "data"


def pileupgen(*arguments: str | Path) -> None:
    """Run a command."""
    command = [sys.executable, "-m", "pileupgen", *map(str, arguments)]
    subprocess.run(command, check=True)


def table(rows: dict[str, Quality]) -> str:
    """Rows as Markdown."""
    lines = ["| | W1/σ | AUC | source correlation, blocks |", "|---|---|---|---|"]
    for name, quality in rows.items():
        block = "–" if quality.block is None else f"{quality.block.value:.3f}"
        lines.append(
            f"| {name} | {quality.w1.value:.3f} ± {quality.w1.error:.3f} | {quality.auc:.3f} ± "
            f"{quality.auc_error:.3f} | {block} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
