"""Recorded calorimeter towers beside generated ones: towers, occupancy and ΣE_T against vertices.

python -m benchmarks.real_towers [--events 600] [--out FOLDER]

Reads the three event displays of CMS of 2010 and counts what lies in the barrel, by the number of
reconstructed vertices of an event. Beside them stand events of as many interactions, generated with
Pythia 8 (Monash, inelastic, 7 TeV) in the calorimeter of the response card `cms_like`, which is no
simulation of CMS. ± is half of the 68 % interval of a bootstrap over events.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pileupgen.calo.imaging import Imager
from pileupgen.calo.presets import get_grid
from pileupgen.files import write_whole
from pileupgen.measure.bootstrap import estimate, resample
from pileupgen.resources import find_file
from pileupgen.samples.cards import DataCard, load_card
from pileupgen.samples.readers.cms_ig import IgFile
from pileupgen.simulate.produce import default_cache, make_sample
from pileupgen.simulate.spec import SampleSpec

CARDS = ("cms_minimum_bias_2010", "cms_muon_2010", "cms_electron_2010")
THRESHOLDS = {"em": 0.2, "had": 0.7}
"""GeV, on both sides: those of `cms_like`. Below 0.7 GeV the displays hold no hadronic energy."""
VERTICES = {"0": (0, 0), "1": (1, 1), "2": (2, 2), "≥ 3": (3, 99)}
NAMES = ("towers", "occupancy em / %", "occupancy had / %", "ΣE_T / GeV")

Numbers = NDArray[np.float64]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--events", type=int, default=600, help="generated, for each multiplicity")
    options.add_argument("--out", type=Path, default=Path("runs/real_towers"))
    given = options.parse_args()
    found: dict[str, Mapping[str, object]] = {}
    print("| sample | vertices | events | " + " | ".join(NAMES) + " |")
    print("|" + "---|" * (3 + len(NAMES)))
    for name in CARDS:
        card = load_card(find_file(name, "data_cards"))
        path = Path(str(card.input_files()[0]))
        numbers, n_vertices = barrel(card, path), vertices(path)
        rows = {"all": np.ones(len(numbers), dtype=bool)}
        for label, (low, high) in VERTICES.items():
            rows[label] = (n_vertices >= low) & (n_vertices <= high)
        for label, chosen in rows.items():
            if not chosen.any():
                continue
            found[f"{name} {label}"] = line(name, label, numbers[chosen])
    for n in (1, 2, 3):
        numbers = generated(n, given.events, given.out)
        found[f"generated {n}"] = line("generated", str(n), numbers)
    path = given.out / "real_towers.json"
    write_whole(path, json.dumps(found, indent=1, ensure_ascii=False))
    print(f"wrote {path}")


def barrel(card: DataCard, path: Path) -> Numbers:
    """Numbers of each event in |η| < 1.653 in the order of ``NAMES``, shape (n, 4)."""
    grid, images = get_grid("cms_barrel"), draw_barrel(card, path)
    occupancy = 100 * np.mean(images > 0, axis=(2, 3))
    towers = np.count_nonzero(images.any(axis=1), axis=(1, 2))
    sum_et = images.sum(axis=(1, 3), dtype=np.float64) @ grid.transverse_shares
    return np.column_stack([towers, occupancy, sum_et])


def draw_barrel(card: DataCard, path: Path) -> NDArray[np.float32]:
    """Images in |η| < 1.653 above the thresholds, GeV, shape (n, 2, n_eta, n_phi)."""
    grid = get_grid("cms_barrel")
    imager = Imager(grid)
    images = np.concatenate([imager.draw(towers)[0] for towers in card.open([path]).chunks()])
    least = np.array([THRESHOLDS[layer] for layer in grid.layers])[:, None, None]
    return np.where(images >= least, images, np.float32(0.0))


def vertices(path: Path) -> NDArray[np.int64]:
    """Reconstructed vertices of each event, without the stand-in of events that have none."""
    file = IgFile(path)
    counts = []
    for entry in range(file.n_entries):
        event = file.event(entry)
        names = [column[0] for column in event["Types"]["Vertices_V1"]]
        rows = event["Collections"].get("Vertices_V1", [])
        is_fake, is_valid = names.index("isFake"), names.index("isValid")
        counts.append(sum(bool(row[is_valid]) and not row[is_fake] for row in rows))
    return np.array(counts)


def generated(n_interactions: int, n_events: int, folder: Path) -> Numbers:
    """Events of exactly so many interactions in the calorimeter `cms_like`."""
    card = load_card(find_file("cms_like_mc", "data_cards"))
    values = {**(card.generate or {}), "process": "inelastic", "pool_size": 4000}
    values |= {"mu": n_interactions, "n_events": n_events, "seed": 100}
    path = folder / f"generated_{n_interactions}.root"
    make_sample(SampleSpec.parse(values, "real_towers"), path, cache=default_cache())
    return barrel(card, path)


def line(sample: str, label: str, numbers: Numbers) -> Mapping[str, object]:
    """Print one line of the table; the mean of each number with its interval."""
    n = len(numbers)
    draws = resample(n, 1000, np.random.default_rng(1))
    found = [estimate(float(column.mean()), column @ draws / n) for column in numbers.T]
    print(
        f"| {sample} | {label} | {n} | "
        + " | ".join(f"{one.value:.4g} ± {one.error:.2g}" for one in found)
        + " |"
    )
    return {"events": n, **dict(zip(NAMES, map(asdict, found), strict=True))}


if __name__ == "__main__":
    main()
