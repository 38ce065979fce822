"""What a translation removes of the shift in bins of μ, on samples of flat μ far beyond training's.

python -m benchmarks.mu_closure --run runs/demo [--events 3000] [--mode calibrate] [--out FOLDER]

Simulates the demo's two cards again with flat μ from 10 to 100 and other seeds, draws their images
as the run's own were drawn, translates, and compares means in bins of μ. ± is the standard error
over events.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pileupgen.diffusion.for_diffusers import PileupTranslationPipeline
from pileupgen.diffusion.settings import Settings
from pileupgen.files import write_whole
from pileupgen.resources import resource_folder
from pileupgen.samples.store import Images, ImageStore

MU = (10, 100)
EDGES = (10, 20, 30, 40, 50, 60, 70, 80, 90, 101)
SEEDS = {"mc": 11, "data": 12}
NAMES = ("ΣE_T / GeV", "em", "had", "occupancy em", "occupancy had")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--run", type=Path, default=Path("runs/demo"))
    options.add_argument("--events", type=int, default=3000)
    options.add_argument("--mode", default="calibrate", help="of the translation")
    options.add_argument("--out", type=Path, default=Path("runs/mu_closure"))
    given = options.parse_args()
    stores = [ImageStore(path) for path in draw(given.run, given.events, given.out)]
    pipeline = PileupTranslationPipeline.from_pretrained(given.run / "model")
    mc, data = (store.read() for store in stores)
    settings = Settings(given.mode)
    moved = pipeline(mc.energy, mc.mu, mc.event_id, 1, settings).energy
    translated = Images(moved, mc.grid, mc.columns)
    rows = [table_row(mc, translated, data, *edges) for edges in pairwise(EDGES)]
    header = [f"{name}: source, translated over data" for name in NAMES]
    print("| μ | " + " | ".join(header) + " |")
    print("|" + "---|" * (1 + len(NAMES)))
    for row in rows:
        cells = [
            f"{row['source'][i]:.3f} → {row['translated'][i]:.3f} ± {row['error'][i]:.3f}"
            for i in range(len(NAMES))
        ]
        print(f"| {row['low']} to {row['high']} | " + " | ".join(cells) + " |")
    path = given.out / f"mu_closure_{given.mode}.json"
    write_whole(path, json.dumps(rows, indent=2))
    print(f"wrote {path}")


def draw(run: Path, n_events: int, out: Path) -> list[Path]:
    """Image stores of the demo's cards with flat μ, in the geometry and threshold of a run."""
    config = yaml.safe_load((run / "config.yaml").read_text("utf-8"))
    cards = resource_folder("data_cards")
    out.mkdir(parents=True, exist_ok=True)
    for domain, seed in SEEDS.items():
        card = yaml.safe_load((cards / f"demo_{domain}.yaml").read_text("utf-8"))
        card["name"] = f"flat_{domain}"
        profile = [[mu, 1.0] for mu in range(MU[0], MU[1] + 1)]
        card["generate"] |= {"mu_profile": profile, "n_events": n_events, "seed": seed}
        (out / f"flat_{domain}.yaml").write_text(yaml.safe_dump(card), "utf-8")
    own = {
        "name": "flat",
        "samples": {domain: f"flat_{domain}.yaml" for domain in SEEDS},
        "preprocess": {key: config["preprocess"][key] for key in ("geometry", "zero_suppression")},
    }
    (out / "flat.yaml").write_text(yaml.safe_dump(own), "utf-8")
    command = ["preprocess", "--config", str(out / "flat.yaml"), "--run", str(out / "run")]
    subprocess.run([sys.executable, "-m", "pileupgen", *command], check=True)
    return [out / "run" / "data" / f"{domain}.h5" for domain in SEEDS]


def table_row(
    source: Images, translated: Images, data: Images, low: int, high: int
) -> dict[str, Any]:
    """Means of source and translated events over data's in a bin of μ, and the latter's error."""
    found = [means(_inside(images, low, high)) for images in (source, translated, data)]
    (before, _), (after, error), (target, target_error) = found
    ratio = after / target
    spread = ratio * np.hypot(error / after, target_error / target)
    return {
        "low": low,
        "high": high - 1 if high == EDGES[-1] else high,
        "source": (before / target).tolist(),
        "translated": ratio.tolist(),
        "error": spread.tolist(),
    }


def _inside(images: Images, low: int, high: int) -> Images:
    """Events of a bin of μ."""
    rows = np.flatnonzero((images.mu >= low) & (images.mu < high))
    columns = {name: values[rows] for name, values in images.columns.items()}
    return Images(images.energy[rows], images.grid, columns)


def values(images: Images) -> np.ndarray:
    """Numbers of each event in the order of :data:`NAMES`, shape (N, 5)."""
    et = images.energy * images.grid.transverse_shares[:, None]
    layers = et.sum(axis=(2, 3))
    occupancy = (images.energy != 0).mean(axis=(2, 3))
    return np.concatenate([layers.sum(axis=1, keepdims=True), layers, occupancy], axis=1)


def means(images: Images) -> tuple[np.ndarray, np.ndarray]:
    """Means of :data:`NAMES` and their standard errors."""
    found = values(images)
    return found.mean(axis=0), found.std(axis=0) / len(found) ** 0.5


if __name__ == "__main__":
    main()
